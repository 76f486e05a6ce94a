"""The center's side of a worker's session: hello, welcome, presence, the desired document.

Here: what is answered to each message but a batch. Not here: batches (ingest), the thread and its
queue (inbox), rows (presence, dispatch).

Messages are worked through in groups, each group in one transaction, so that ten thousand beating
workers cost a few commits a second. What is said follows the commit.
"""

import logging
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sqlalchemy import Connection

from center import db, dispatch, ledger, presence
from center.clock import Clock
from center.db import Database
from center.inbox import Inbox
from center.logs import Seldom
from center.metrics import Metrics
from center.presence import Presence, Refusal
from center.replies import LinkLike, Reply, revoked, send, unknown_session
from wire import codec, topics
from wire.codec import WireError
from wire.events import MAX_NUMBER, MAX_WORD
from wire.link import Received
from wire.messages import (
    MAX_EPOCHS,
    PROTOCOL,
    Bye,
    Deny,
    Heartbeat,
    Hello,
    Known,
    Observed,
    Up,
    Welcome,
    Will,
)
from wire.topics import UpTopic

MAX_STRANGERS = 100
LINGER_S = 0.05
MAX_GROUP = 200

_log = logging.getLogger("forecourt.downlink")


@dataclass(frozen=True, slots=True)
class Terms:
    """What a welcome fixes: seconds between heartbeats, batches of a lane in flight."""

    heartbeat_s: float = 60.0
    window: int = 4


class Downlink:
    """Answers workers, on a thread of its own."""

    def __init__(
        self, database: Database, link: LinkLike, clock: Clock, terms: Terms, metrics: Metrics
    ) -> None:
        self._database = database
        self._link = link
        self._clock = clock
        self._terms = terms
        self._metrics = metrics
        self._seldom = Seldom(_log, clock)
        self._strangers: OrderedDict[str, int] = OrderedDict()
        self._woken: set[str] = set()
        self._lock = threading.Lock()  # of what other threads see: the strangers, the woken
        self._inbox = Inbox(
            "downlink", self.take, link.ack, metrics, max_group=MAX_GROUP, linger_s=LINGER_S
        )
        self.offer = self._inbox.offer
        self.start = self._inbox.start
        self.stop = self._inbox.stop

    @property
    def waiting(self) -> int:
        """How many messages wait."""
        return self._inbox.waiting

    def strangers(self) -> dict[str, int]:
        """Names that spoke without being registered, with the time of the last word in UTC ms."""
        with self._lock:
            return dict(self._strangers)

    def wake(self, workers: Iterable[str]) -> None:
        """The documents of these workers have changed. Any thread may call it, after the commit."""
        with self._lock:
            self._woken.update(workers)
        self._inbox.nudge()

    def connected(self) -> None:
        """The link is up: what could not be sent before is sent now."""
        self._inbox.nudge()

    def take(self, group: list[Received]) -> None:
        """Send woken documents; then handle a group of messages in one transaction, and answer.

        Raises one of `db.UNAVAILABLE` with nothing kept of the group and nobody answered.
        """
        current = self._link.connection
        if current is not None:
            self._send_woken(current)
        if group:
            answers: list[tuple[int, Reply]] = []
            with self._database.transaction() as connection:
                for message in group:
                    answers += ((message.connection, r) for r in self._answer(connection, message))
            for number, reply in answers:
                send(self._link, number, reply)

    def _send_woken(self, number: int) -> None:
        """In order, up to the first that the link does not take; who is left stays woken."""
        with self._lock:
            woken, self._woken = sorted(self._woken, reverse=True), set()
        if not woken:
            return
        try:
            with self._database.reading() as connection:
                while woken and self._is_told(connection, number, woken[-1]):
                    woken.pop()
        finally:
            with self._lock:
                self._woken.update(woken)

    def _is_told(self, connection: Connection, number: int, worker: str) -> bool:
        """Send a worker its document, unless it is away; false if the link did not take it."""
        held = presence.of_worker(connection, worker)
        if held is None or not held.session or held.gone:
            return True
        return send(self._link, number, self._document(connection, held))

    def _document(self, connection: Connection, held: Presence) -> Reply:
        self._metrics.count("desired_sent_total")
        return Reply(held.worker, dispatch.message(connection, held.worker, held.session))

    # --- one message ---------------------------------------------------------------------------

    def _answer(self, connection: Connection, message: Received) -> Iterator[Reply]:
        try:
            topic = topics.parse(message.topic)
            if not isinstance(topic, UpTopic):
                raise WireError("not a topic on which workers speak")
            said = codec.decode_up(topic, message.payload)
            _require_sound(said)
        except ValueError as error:
            self._metrics.count("unreadable_messages_total")
            shown = repr(message.topic[:200])
            self._seldom.warn(f"unreadable {shown}", f"unreadable on {shown}: {error}")
            return
        held = presence.of_worker(connection, topic.worker, lock=True)
        if held is None:
            yield from self._answer_stranger(topic.worker, said)
        elif isinstance(said, Hello):
            yield from self._answer_hello(connection, held, said)
        elif said.session != held.session:
            self._metrics.count("stale_messages_total")
            if isinstance(said, Heartbeat | Observed):
                yield Reply(held.worker, unknown_session(said.session))
        else:
            yield from self._answer_session(connection, held, said)

    def _answer_stranger(self, worker: str, said: Up) -> Iterator[Reply]:
        self._metrics.count("strangers_total")
        with self._lock:
            self._strangers.pop(worker, None)
            self._strangers[worker] = self._clock.now_ms()
            while len(self._strangers) > MAX_STRANGERS:
                self._strangers.popitem(last=False)
        self._seldom.warn("stranger", f"worker {worker} speaks, but is not registered")
        if not isinstance(said, Will | Bye):
            yield Reply(worker, revoked(worker, said.session))

    def _answer_hello(
        self, connection: Connection, held: Presence, hello: Hello
    ) -> Iterator[Reply]:
        now_ms = self._clock.now_ms()
        fence = self._fence(held, hello, now_ms)
        if isinstance(fence, Deny):
            self._metrics.count("denials_total")
            self._seldom.warn(f"denied {held.worker}", f"worker {held.worker}: {fence.reason}")
            presence.deny(connection, held.worker, fence)
            yield Reply(held.worker, fence)
            return
        self._metrics.count("hellos_total")
        presence.welcome(connection, held, hello, fence, now_ms)
        wanted = self._wanted(connection, held.worker, hello.desired)
        yield Reply(
            held.worker,
            Welcome(
                session=hello.session,
                fence=fence,
                generation=wanted.generation,
                watermarks=ledger.of_epochs(connection, held.worker, hello.epochs[:MAX_EPOCHS]),
                heartbeat_s=self._terms.heartbeat_s,
                window=self._terms.window,
            ),
        )
        if hello.desired != wanted:
            self._metrics.count("desired_sent_total")
            yield Reply(held.worker, dispatch.message(connection, held.worker, hello.session))

    def _fence(self, held: Presence, hello: Hello, now_ms: int) -> int | Deny:
        if hello.worker != held.worker:
            reason = (
                f"a hello of worker {hello.worker[:63]!r} came on the topic of {held.worker}; "
                "give the agent the name that its certificate has"
            )
            return Deny(session=hello.session, code="revoked", reason=reason)
        if PROTOCOL not in hello.versions:
            spoken = ", ".join(repr(version[:20]) for version in hello.versions[:5])
            reason = (
                f"this center speaks protocol {PROTOCOL}, the worker {spoken or 'none'}; "
                "upgrade the older of the two"
            )
            return Deny(session=hello.session, code="upgrade", reason=reason)
        judged = presence.judge(held, hello, now_ms, self._terms.heartbeat_s)
        if isinstance(judged, Refusal):
            return Deny(
                session=hello.session,
                code=judged.code,
                reason=judged.reason,
                retry_after_s=judged.retry_after_s,
            )
        return judged

    def _wanted(self, connection: Connection, worker: str, claimed: Known) -> Known:
        """The document the worker is to have; a later one in its hands means a restored database.

        Then the generation is renewed, so that every worker takes this database's word again.
        """
        wanted = dispatch.known(connection, worker)
        if claimed.generation == wanted.generation and claimed.revision > wanted.revision:
            db.renew_generation(connection)
            self._metrics.count("generations_renewed_total")
            _log.warning(
                "worker %s has revision %d of its document, and this database has %d: it was "
                "restored from a backup; it begins a new generation",
                *(worker, claimed.revision, wanted.revision),
            )
            return dispatch.known(connection, worker)
        return wanted

    def _answer_session(self, connection: Connection, held: Presence, said: Up) -> Iterator[Reply]:
        """A message of the session that counts."""
        now_ms = self._clock.now_ms()
        match said:
            case Heartbeat():
                if said.fence != held.fence:
                    self._metrics.count("stale_messages_total")
                    yield Reply(held.worker, unknown_session(said.session))
                    return
                self._metrics.count("heartbeats_total")
                presence.beat(connection, held.worker, said, now_ms)
                if said.desired != dispatch.known(connection, held.worker):
                    yield self._document(connection, held)
            case Observed():
                wanted = dispatch.wanted_keys(connection, held.worker)
                presence.observe(connection, held.worker, said, wanted, now_ms)
            case Will() | Bye():
                presence.leave(connection, held.worker, said)


def _require_sound(said: Up) -> None:
    """What the types do not say, so that every value fits its column. Raises WireError."""
    words = [said.session]
    numbers: list[int] = []
    if isinstance(said, Hello):
        words += [said.instance, said.boot, said.software]
        numbers += [said.fence, *(held.epoch for held in said.epochs)]
    if isinstance(said, Hello | Heartbeat | Observed):
        words.append(said.desired.digest)
        numbers += [said.desired.generation, said.desired.revision]
    if isinstance(said, Heartbeat):
        numbers += [said.shed, *said.pending.values()]
    if isinstance(said, Observed):
        numbers += [item.revision for item in said.items]
    if any(len(word) > MAX_WORD or "\0" in word for word in words):
        raise WireError(f"a word is longer than {MAX_WORD} characters, or holds a NUL")
    if not all(0 <= number <= MAX_NUMBER for number in numbers):
        raise WireError("a number is not within 0..2^53 - 1")
