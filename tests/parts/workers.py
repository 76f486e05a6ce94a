"""A worker for tests: what it says, and one that says it over a real link.

It keeps nothing and does nothing by itself; each test speaks for it.
"""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import msgspec

from tests.parts.links import WAIT_S, Heard, linked
from tests.waiting import wait_for
from wire import codec, topics
from wire.events import Batch, Event, Gap, Lane, encode_event
from wire.link import Link, Received, Up
from wire.messages import (
    PROTOCOL,
    Clock,
    Down,
    Heartbeat,
    Held,
    Hello,
    ItemObserved,
    ItemState,
    Known,
    Observed,
    Welcome,
    Will,
)
from wire.messages import Up as Said
from wire.topics import DownTopic, UpChannel

CLOCK = Clock(wall_ms=1_800_000_000_000, boot_ms=1000)
_BEATS = itertools.count()  # no two heartbeats are said at the same time
EPOCH = 4_503_599_627_370_497
NOTHING = Known()
MessageT = TypeVar("MessageT", bound=Down)


@dataclass(frozen=True)
class Voice:
    """One session of a worker: everything that its messages have in common."""

    worker: str = "w1"
    instance: str = "disk-1"
    boot: str = "boot-1"
    session: str = "session-1"
    fence: int = 0
    desired: Known = NOTHING

    def hello(self, **changes: Any) -> Hello:
        words: dict[str, Any] = {
            "worker": self.worker,
            "instance": self.instance,
            "boot": self.boot,
            "session": self.session,
            "fence": self.fence,
            "versions": [PROTOCOL],
            "software": "test 1",
            "clock": CLOCK,
            "desired": self.desired,
            "epochs": [],
        }
        return Hello(**{**words, **changes})

    def heartbeat(self, **changes: Any) -> Heartbeat:
        words: dict[str, Any] = {
            "session": self.session,
            "fence": self.fence,
            "clock": Clock(wall_ms=CLOCK.wall_ms, boot_ms=CLOCK.boot_ms + next(_BEATS)),
            "desired": self.desired,
            "pending": {"alarm": 1, "bulk": 2},
        }
        return Heartbeat(**{**words, **changes})

    def observed(self, kind: str, name: str, revision: int, state: ItemState) -> Observed:
        item = ItemObserved(kind=kind, id=name, revision=revision, state=state)
        return Observed(session=self.session, desired=self.desired, items=[item])

    def batch(
        self,
        first: int,
        events: Sequence[Event | bytes],
        *,
        epoch: int = EPOCH,
        lane: Lane = "bulk",
        gaps: Sequence[Gap] = (),
        backfill: bool = False,
    ) -> Batch:
        bodies = [one if isinstance(one, bytes) else encode_event(one) for one in events]
        return Batch(
            session=self.session,
            fence=self.fence,
            epoch=epoch,
            lane=lane,
            first=first,
            events=[msgspec.Raw(body) for body in bodies],
            gaps=list(gaps),
            backfill=backfill,
        )


def crossing(number: int = 0, **changes: Any) -> Event:
    """A moment, told apart by its track."""
    words: dict[str, Any] = {
        "kind": "crossing",
        "t_ms": CLOCK.wall_ms + number,
        "camera": "c1",
        "severity": "info",
        "task": "t1",
        "rule": "drive-out",
        "track": number,
    }
    return Event(**{**words, **changes})


def crossings(count: int, first: int = 1) -> list[Event]:
    return [crossing(number) for number in range(first, first + count)]


def held(low: int, high: int, epoch: int = EPOCH, lane: Lane = "bulk") -> Held:
    return Held(epoch=epoch, lane=lane, low=low, high=high)


@dataclass
class FakeWorker:
    """A worker on a real link; `voice` is the session that it speaks in."""

    link: Link
    heard: Heard
    voice: Voice
    _read: int = field(default=0)

    def say(self, channel: UpChannel, said: Said | bytes) -> None:
        payload = said if isinstance(said, bytes) else codec.encode(said)
        connection = wait_for(lambda: self.link.connection, WAIT_S, "the worker's connection")
        assert connection is not None
        assert self.link.publish(connection, topics.up(self.voice.worker, channel), payload)

    def wait_for(self, kind: type[MessageT]) -> MessageT:
        """The next message of that kind; others before it are passed over."""
        return wait_for(lambda: self._next(kind), WAIT_S, f"{kind.__name__} for the worker")[0]

    def join(self) -> Welcome:
        """Say hello until welcomed: the center may not have subscribed yet."""

        def welcomed() -> list[Welcome]:
            self.say("hello", self.voice.hello())
            return self._next(Welcome)

        (welcome,) = wait_for(welcomed, WAIT_S, "a welcome", every_s=0.2)
        self.voice = replace(self.voice, fence=welcome.fence)
        return welcome

    def _next(self, kind: type[MessageT]) -> list[MessageT]:
        """The next message of that kind for its session, if it is there."""
        messages = self.heard.all(Received)
        while self._read < len(messages):
            received = messages[self._read]
            self._read += 1
            self.link.ack(received)
            topic = topics.parse(received.topic)
            assert isinstance(topic, DownTopic)
            said = codec.decode_down(topic, received.payload)
            if isinstance(said, kind) and said.session == self.voice.session:
                return [said]
        return []


@contextmanager
def fake_worker(url: str, voice: Voice, *others: str) -> Iterator[FakeWorker]:
    """A connected worker that has not said hello yet; `others` are further brokers."""

    def will(_session: str) -> tuple[str, bytes]:
        return topics.up(voice.worker, "will"), codec.encode(Will(session=voice.session))

    with linked(url, *others, subscribe=(topics.all_down(voice.worker),), will=will) as (
        link,
        heard,
    ):
        heard.wait(Up)
        yield FakeWorker(link, heard, voice)
