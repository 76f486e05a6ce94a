"""The worker's side of a session, against a center that a test plays by hand over a real broker."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge.clock import SystemClock
from edge.store.desired import DesiredStore, digest_of
from edge.store.outbox import Outbox
from edge.uplink import Identity, Report, Uplink
from tests.parts.brokers import embedded
from tests.parts.links import Heard, linked
from tests.waiting import wait_for
from wire import codec, topics
from wire.events import Ack, Batch, Event, Rewind, Watermark
from wire.link import Broker, Link, Received, Up
from wire.messages import Bye, Deny, Desired, Hello, Observed, Welcome
from wire.messages import Down as Said
from wire.messages import Up as Told

NAME = "w1"
PATIENCE_S = 10.0


@dataclass
class Stage:
    """A worker's uplink, and the center that the test plays."""

    uplink: Uplink
    outbox: Outbox
    desired: DesiredStore
    link: Link
    heard: Heard

    def told(self) -> list[Told]:
        """Everything that the worker has said."""
        return [
            codec.decode_up(topic, message.payload)
            for message in self.heard.all(Received)
            if isinstance(topic := topics.parse(message.topic), topics.UpTopic)
        ]

    def batches(self) -> list[Batch]:
        """The batches that the worker has sent."""
        return [message for message in self.told() if isinstance(message, Batch)]

    def say(self, message: Said) -> None:
        """Say something as the center."""
        assert self.link.connection is not None
        channel: topics.DownChannel = "desired" if isinstance(message, Desired) else "ack"
        payload = codec.encode(message)
        assert self.link.publish(self.link.connection, topics.down(NAME, channel), payload)

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait for a condition with a deadline, letting the uplink work meanwhile."""
        await asyncio.to_thread(wait_for, condition, PATIENCE_S, what, 0.01)

    async def hello(self) -> Hello:
        """The worker's latest hello."""
        await self.until(lambda: any(isinstance(m, Hello) for m in self.told()), "a hello")
        return [message for message in self.told() if isinstance(message, Hello)][-1]

    async def welcome(self, *marks: Watermark, window: int = 2) -> Hello:
        """Welcome the worker on its present session."""
        hello = await self.hello()
        self.say(
            Welcome(
                session=hello.session, fence=5, generation=1, watermarks=list(marks),
                heartbeat_s=60, window=window,
            )
        )  # fmt: skip
        await self.until(lambda: self.uplink.online, "the welcome is heard")
        return hello

    async def append(self, count: int, severity: str = "info") -> None:
        """Store events as a shard would have them stored."""
        events = [
            Event(kind="t", t_ms=n, camera="c", severity=severity, label="x" * 300)
            for n in range(count)
        ]
        await asyncio.wrap_future(self.outbox.append(events))


@asynccontextmanager
async def stage(folder: Path, ack_within_s: float = 15.0) -> AsyncIterator[Stage]:
    """An uplink at work over the embedded broker."""
    clock = SystemClock()
    uplinks: list[Uplink] = []
    with embedded() as broker, linked(broker.url, subscribe=("fc/v1/up/+/#",)) as (link, heard):
        heard.wait(Up)
        outbox = Outbox(folder / "outbox.db", clock, on_stored=lambda _: uplinks[0].wake())
        desired = DesiredStore(folder / "desired.db", clock)
        uplink = Uplink(
            Identity(NAME, "instance", "boot"), [Broker.parse(broker.url)], outbox, desired, clock,
            ack_within_s=ack_within_s, on_desired=lambda: None, report=lambda: Report([], []),
        )  # fmt: skip
        uplinks.append(uplink)
        running = asyncio.create_task(uplink.run())
        try:
            yield Stage(uplink, outbox, desired, link, heard)
        finally:
            await uplink.finish(0.1)
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
            outbox.close()
            desired.close()


def scenario(play: Callable[[Stage], Awaitable[None]]) -> Callable[[Path], None]:
    """A test that plays a coroutine on a stage."""

    def test(tmp_path: Path) -> None:
        async def run() -> None:
            async with stage(tmp_path, ack_within_s=0.5) as made:
                await play(made)

        asyncio.run(run())

    test.__doc__ = play.__doc__
    return test


async def _an_ack_that_never_comes(made: Stage) -> None:
    """A batch without an ack is sent again, also while new events keep coming."""
    await made.welcome()

    def first_again() -> bool:
        made.outbox.append([Event(kind="t", t_ms=1, camera="c", severity="info")])
        return sum(batch.first == 1 for batch in made.batches()) >= 2

    await made.until(first_again, "the first batch comes again")


async def _nothing_before_the_welcome(made: Stage) -> None:
    """Without a welcome no event is sent; a denied worker says why and asks again."""
    await made.append(3, "critical")
    hello = await made.hello()
    deny = Deny(session=hello.session, code="retry", reason="not now", retry_after_s=0.0)
    made.say(deny)
    await made.until(lambda: made.uplink.denied == "not now", "the reason is known")
    hellos = len([m for m in made.told() if isinstance(m, Hello)])
    await made.until(
        lambda: len([m for m in made.told() if isinstance(m, Hello)]) > hellos, "hello again"
    )
    assert made.batches() == []
    await made.welcome()
    await made.until(made.batches, "events after the welcome")
    assert made.batches()[0].backfill is True


async def _windows_and_acks(made: Stage) -> None:
    """At most `window` batches are unanswered; an ack makes room; a rewind sends again."""
    await made.append(1000)
    await made.welcome(window=2)
    await made.until(lambda: len(made.batches()) >= 2, "a full window")
    one, two = made.batches()[:2]
    assert two.first == one.first + len(one.events)
    mark = Watermark(epoch=one.epoch, lane="bulk", seq=two.first - 1)
    made.say(Ack(session=one.session, watermark=mark))
    follows = two.first + len(two.events)
    await made.until(lambda: made.batches()[-1].first >= follows, "the next batch")
    before = len(made.batches())
    made.say(Rewind(session=one.session, watermark=mark))
    await made.until(
        lambda: any(b.first == two.first for b in made.batches()[before:]), "again from the mark"
    )


async def _another_session_is_ignored(made: Stage) -> None:
    """What names another session changes nothing: no ack, no document, no denial."""
    await made.append(2)
    hello = await made.welcome()
    await made.until(made.batches, "a batch")
    (epoch, _, high) = made.outbox.undrained("bulk")[0]
    mark = Watermark(epoch=epoch, lane="bulk", seq=high)
    before = made.uplink.ignored
    made.say(Ack(session="elsewhere", watermark=mark))
    made.say(Deny(session="elsewhere", code="revoked", reason="no"))
    made.say(
        Desired(
            session="elsewhere", generation=1, revision=9, digest=digest_of([]), items=[],
            empty=True,
        )
    )  # fmt: skip
    await made.until(lambda: made.uplink.ignored == before + 3, "all three are ignored")
    assert made.uplink.online
    assert made.outbox.pending()["bulk"] == 2
    assert made.desired.known().revision == 0
    made.say(Ack(session=hello.session, watermark=mark))
    await made.until(lambda: made.outbox.pending()["bulk"] == 0, "the true ack counts")


async def _a_document_is_taken_and_told(made: Stage) -> None:
    """A sound document is stored and observed; a false one is refused and the session goes on."""
    hello = await made.welcome()
    false = Desired(session=hello.session, generation=1, revision=2, digest="0" * 32, items=[])
    made.say(false)
    made.say(
        Desired(
            session=hello.session, generation=1, revision=3, digest=digest_of([]), items=[],
            empty=True,
        )
    )  # fmt: skip
    await made.until(lambda: made.desired.known().revision == 3, "the document on disk")
    await made.until(
        lambda: any(isinstance(m, Observed) and m.desired.revision == 3 for m in made.told()),
        "observed speaks of it",
    )
    await made.uplink.finish(1.0)
    await made.until(lambda: any(isinstance(m, Bye) for m in made.told()), "a bye at the end")


test_an_ack_that_never_comes = scenario(_an_ack_that_never_comes)
test_nothing_before_the_welcome = scenario(_nothing_before_the_welcome)
test_windows_and_acks = scenario(_windows_and_acks)
test_another_session_is_ignored = scenario(_another_session_is_ignored)
test_a_document_is_taken_and_told = scenario(_a_document_is_taken_and_told)
pytestmark = pytest.mark.timeout(60)
