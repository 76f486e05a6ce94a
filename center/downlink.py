"""The center's side of a worker's session: hello, welcome, heartbeat, what is asked and told.

Here: what is answered to each message but a batch. Not here: batches (ingest), the thread and its
queue (inbox), rows (presence, observed, ledger), who is let in (fencing), documents on their way
(documents).

Messages are worked through in groups, each group in one transaction, so that ten thousand beating
workers cost a few commits a second. What is said follows the commit.
"""

import logging
import random
import secrets
import threading
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from sqlalchemy import Connection

from center import clocks, db, dispatch, fencing, healing, hellos, ledger, observed, presence
from center.admission import HELLOS_A_S, Door, Sluice
from center.clock import Clock
from center.credit import Credit
from center.db import Database
from center.documents import Documents
from center.fencing import SILENT_HEARTBEATS, Accepted, Challenged, Fenced
from center.healing import Step
from center.inbox import Inbox
from center.logs import Seldom
from center.metrics import Metrics
from center.presence import Presence
from center.replies import LinkLike, Reply, busy, challenged, revoked, send, unknown_session
from wire import codec, topics
from wire.codec import WireError
from wire.events import MAX_NUMBER, MAX_WORD, Watermark
from wire.link import Received
from wire.messages import (
    MAX_EPOCHS,
    Ask,
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
from wire.messages import Credit as Leave
from wire.topics import UpTopic

MAX_STRANGERS = 100
LINGER_S = 0.05
TICK_S = 0.25
"""How often what was held back is looked at, when nothing else happens."""
MAX_GROUP = 200

_log = logging.getLogger("forecourt.downlink")


@dataclass(frozen=True, slots=True)
class Terms:
    """What a welcome fixes."""

    heartbeat_s: float = 60.0
    window: int = 4
    """Batches of a lane in flight."""
    brokers: tuple[str, ...] = ()
    """Where workers meet this center, without credentials; none: where they were told."""


class Downlink:
    """Answers workers, on a thread of its own."""

    def __init__(
        self,
        database: Database,
        link: LinkLike,
        clock: Clock,
        terms: Terms,
        metrics: Metrics,
        *,
        credit: Credit | None = None,
        door: Door | None = None,
        sluice: Sluice | None = None,
        ended: Sequence[tuple[str, str]] = (),
    ) -> None:
        """`ended` are workers with sessions of an earlier life of this center."""
        self._database = database
        self._link = link
        self._clock = clock
        self._terms = terms
        self._metrics = metrics
        self._credit = credit or Credit(clock)
        self._door = door or Door()
        self._documents = Documents(database, link, clock, metrics, sluice or Sluice())
        self._ended = deque(ended)
        self._ended_spread_s = len(ended) / HELLOS_A_S
        self._seldom = Seldom(_log, clock)
        self._strangers: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()  # of the strangers, which other threads see
        self._inbox = Inbox(
            "downlink",
            self.take,
            link.ack,
            metrics,
            max_group=MAX_GROUP,
            linger_s=LINGER_S,
            tick_s=TICK_S,
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
        self._documents.due(workers)
        self._inbox.nudge()

    def connected(self) -> None:
        """The link is up: what could not be sent before is sent now."""
        self._inbox.nudge()

    def take(self, group: list[Received]) -> None:
        """Handle a group of messages in one transaction, and answer; then send what is due.

        Raises one of `db.UNAVAILABLE` with nothing kept of the group and nobody answered.
        """
        if group:
            self._handle(group)
        current = self._link.connection
        if current is None:
            return
        for worker, session, seconds in self._credit.take_granted():
            send(self._link, current, Reply(worker, Leave(session=session, credit_s=seconds)))
        self._call_back(current)
        try:
            if self._documents.send(current):
                self._inbox.nudge()
        except db.UNAVAILABLE:
            if not group:
                raise
            self._inbox.nudge()  # the group was answered, and must not be handled again

    def _call_back(self, number: int) -> None:
        """Ask the workers of ended sessions for a hello, so that none waits for its heartbeat."""
        for _ in range(min(MAX_GROUP, len(self._ended))):
            worker, session = self._ended.popleft()
            deny = unknown_session(session, random.uniform(0, self._ended_spread_s))
            if not send(self._link, number, Reply(worker, deny)):
                self._ended.appendleft((worker, session))
                return
        if self._ended:
            self._inbox.nudge()

    def _handle(self, group: list[Received]) -> None:
        answers: list[tuple[int, Reply]] = []
        repaired = self._documents.repaired()
        with self._database.transaction() as connection:
            # So that two centers do not hold what the other waits for.
            presence.hold(connection, {*repaired, *_speakers(group)})
            for worker, (session, digest) in repaired.items():
                presence.repaired(connection, worker, session, digest)
            for message in group:
                answers += ((message.connection, r) for r in self._answer(connection, message))
        self._documents.noted(repaired)
        for number, reply in answers:
            send(self._link, number, reply)

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
        if isinstance(said, Hello) and not _is_in(held, said):
            wait_s = self._door.wait_s(self._clock.elapsed_s())
            if wait_s > 0:
                self._metrics.count("hellos_deferred_total")
                yield Reply(topic.worker, busy(said.session, wait_s))
                return
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

    # --- hello ---

    def _answer_hello(
        self, connection: Connection, held: Presence, hello: Hello
    ) -> Iterator[Reply]:
        now_ms = self._clock.now_ms()
        impossible = hellos.impossible(held.worker, hello)
        if impossible is not None:
            yield self._denied(connection, held, impossible, clone=False)
            return
        heartbeat_s, nonce = self._terms.heartbeat_s, secrets.token_hex(8)
        match fencing.judge(held.worker, held.identity, hello, now_ms, heartbeat_s, nonce):
            case Fenced() as fenced:
                deny = Deny(
                    session=hello.session,
                    code="fenced",
                    reason=fenced.reason,
                    retry_after_s=fenced.retry_after_s,
                )
                yield self._denied(connection, held, deny, clone=fenced.clone)
            case Challenged(identity=identity, nonce=nonce):
                self._metrics.count("challenges_total")
                presence.challenge(connection, held.worker, identity)
                yield Reply(held.worker, challenged(hello.session, nonce))
            case Accepted() as accepted:
                yield from self._welcome(connection, held, hello, accepted, now_ms)

    def _denied(self, connection: Connection, held: Presence, deny: Deny, *, clone: bool) -> Reply:
        self._metrics.count("denials_total")
        self._seldom.warn(f"denied {held.worker}", f"worker {held.worker}: {deny.reason}")
        healed = held.healing
        if clone:
            healed = healed.troubled("clone", _TWO_LIVE, self._clock.now_ms())
        presence.deny(connection, held.worker, deny, healed)
        return Reply(held.worker, deny)

    def _welcome(
        self,
        connection: Connection,
        held: Presence,
        hello: Hello,
        accepted: Accepted,
        now_ms: int,
    ) -> Iterator[Reply]:
        worker, identity, before = held.worker, accepted.identity, held.identity
        self._metrics.count("hellos_total")
        fresh = held.healing.begun_anew()
        if accepted.clone:
            self._metrics.count("clones_total")
            self._seldom.warn(f"clone {worker}", f"worker {worker}: {_TWO_LIVE}")
            fresh = fresh.troubled("clone", _TWO_LIVE, now_ms)
        clocks.note(connection, worker, hello.boot, hello.clock, now_ms)
        epochs = hello.epochs[:MAX_EPOCHS]
        ledger.uphold(connection, worker, epochs, now_ms)
        watermarks = ledger.of_epochs(connection, worker, epochs)
        wanted = self._wanted(connection, held, hello, watermarks)
        # Who has to do with another generation tells its drained lanes next: they may be undrained.
        tells_all = hello.desired.generation in (0, wanted.generation)
        if tells_all and (identity.instance, identity.boot) != (before.instance, before.boot):
            ledger.settle(connection, worker, hello, now_ms)
        step = healing.step(
            fresh, wanted, held.observed_digest, hello.desired, hello.observed, now_ms
        )
        presence.welcome(connection, worker, hello, identity, step.healing, now_ms)
        yield Reply(
            worker,
            Welcome(
                session=hello.session,
                fence=identity.fence,
                generation=wanted.generation,
                watermarks=watermarks,
                heartbeat_s=self._terms.heartbeat_s,
                window=self._terms.window,
                now_ms=now_ms,
                credit_s=self._leave(held, hello),
                brokers=list(self._terms.brokers),
            ),
        )
        if step.send:
            self._documents.due([worker])
        yield from self._asked(worker, hello.session, step)

    def _leave(self, held: Presence, hello: Hello) -> float:
        """Seconds of credit. A hello that is said again names other lanes, and ends no lease."""
        backlog = hellos.backlog(hello)
        if not backlog and _is_in(held, hello):
            return self._credit.restate(held.worker, hello.session)
        return self._credit.ask(held.worker, hello.session, backlog)

    def _wanted(
        self,
        connection: Connection,
        held: Presence,
        hello: Hello,
        watermarks: Sequence[Watermark],
    ) -> Known:
        """The document the worker is to have, of a new generation if this database was restored.

        Then every worker takes this database's word again. It is renewed once: who comes later has
        a document of the old generation, and proves nothing any more.
        """
        wanted = dispatch.known(connection, held.worker)
        if hello.desired.generation != wanted.generation:
            return wanted
        evidence = hellos.evidence(held, hello, wanted, watermarks)
        if evidence is None:
            return wanted
        if db.renew_generation(connection, wanted.generation):
            self._metrics.count("generations_renewed_total")
            _log.warning(
                "worker %s %s: this database was restored from a backup; it begins a new "
                "generation",
                *(held.worker, evidence),
            )
        return dispatch.known(connection, held.worker)

    # --- a session that counts ---

    def _answer_session(self, connection: Connection, held: Presence, said: Up) -> Iterator[Reply]:
        """A message of the session that counts."""
        now_ms = self._clock.now_ms()
        match said:
            case Heartbeat():
                yield from self._answer_heartbeat(connection, held, said, now_ms)
            case Observed():
                self._keep(connection, held, said, now_ms)
            case Will() | Bye():
                presence.leave(connection, held.worker, said)
                self._credit.release(held.worker)

    def _answer_heartbeat(
        self, connection: Connection, held: Presence, beat: Heartbeat, now_ms: int
    ) -> Iterator[Reply]:
        worker = held.worker
        if beat.fence != held.fence:
            self._metrics.count("stale_messages_total")
            yield Reply(worker, unknown_session(beat.session))
            return
        if beat.clock.boot_ms <= held.beat_boot_ms:
            self._metrics.count("stale_messages_total")  # it came twice, or to two centers
            return
        self._metrics.count("heartbeats_total")
        clocks.note(connection, worker, held.identity.boot, beat.clock, now_ms)
        if beat.epoch:
            ledger.claim(connection, worker, beat.epoch, beat.high, now_ms)
        self._give_up(connection, held, now_ms)
        wanted = dispatch.known(connection, worker)
        step = healing.step(
            held.healing, wanted, held.observed_digest, beat.desired, beat.observed, now_ms
        )
        presence.beat(connection, worker, beat, step.healing, now_ms)
        if step.send:
            self._documents.due([worker], repair=True)
        elif beat.desired == wanted:
            self._documents.arrived(worker)
        yield from self._asked(worker, beat.session, step)
        credit_s = self._credit.ask(worker, beat.session, beat.backlog)
        if credit_s > 0:
            yield Reply(worker, Leave(session=beat.session, credit_s=credit_s))

    def _give_up(self, connection: Connection, held: Presence, now_ms: int) -> None:
        """Declare what no disk holds any more: not while another one with this identity lives.

        An elder of whose disk this is a copy would have come within the heartbeats of grace.
        """
        if "clone" in held.healing.troubles:
            return
        before_ms = now_ms - round(SILENT_HEARTBEATS * self._terms.heartbeat_s * 1000)
        lost = ledger.give_up(connection, held.worker, before_ms, now_ms)
        if lost:
            self._metrics.count("gaps_total", lost)
            text = "worker %s: its disk has lost events; %d gaps declared"
            _log.warning(text, held.worker, lost)

    def _asked(self, worker: str, session: str, step: Step) -> Iterator[Reply]:
        if step.stuck is not None:
            self._metrics.count(f"{step.stuck}_stuck_total")
            sentence, _ = step.healing.troubles[step.stuck]
            self._seldom.warn(f"stuck {worker} {step.stuck}", f"worker {worker}: {sentence}")
        if step.ask:
            self._metrics.count("observed_asked_total")
            yield Reply(worker, Ask(session=session, what="observed"))

    def _keep(self, connection: Connection, held: Presence, said: Observed, now_ms: int) -> None:
        """What became of items. Who has followed, but not to the end, is sent the rest."""
        wanted = dispatch.wanted_keys(connection, held.worker)
        digest = observed.store(connection, held.worker, said.items, wanted, now_ms)
        presence.report(connection, held.worker, said, held.healing.answered(digest), now_ms)
        if said.desired != held.known:
            self._documents.due([held.worker])


def _is_in(held: Presence | None, hello: Hello) -> bool:
    """Whether it is said again on the session that counts."""
    return held is not None and (hello.session, hello.boot) == (held.session, held.identity.boot)


def _speakers(group: Iterable[Received]) -> Iterator[str]:
    for message in group:
        with suppress(ValueError):  # it is counted when its turn comes
            yield topics.parse(message.topic).worker


_TWO_LIVE = (
    "two agents with copies of one data folder live; the elder keeps the name and the other is "
    "turned away; stop it and give it a worker name and an empty data folder of its own, or say "
    "replace to keep it instead of the elder"
)


def _require_sound(said: Up) -> None:
    """What the types do not say, so that every value fits its column. Raises WireError."""
    words = [said.session]
    numbers: list[int] = []
    if isinstance(said, Hello):
        words += [said.instance, said.boot, said.software, said.observed, said.challenge]
        numbers += [said.fence, said.clock.boot_ms]
        for held in said.epochs:
            numbers += [held.epoch, held.low, held.high]
    if isinstance(said, Hello | Heartbeat | Observed):
        words.append(said.desired.digest)
        numbers += [said.desired.generation, said.desired.revision]
    if isinstance(said, Heartbeat):
        words += [said.observed, *said.high]
        numbers += [said.shed, *said.pending.values(), said.epoch, *said.high.values()]
        numbers += [said.fence, said.backlog, said.clock.boot_ms]
    if isinstance(said, Observed):
        numbers += [item.revision for item in said.items]
    if any(len(word) > MAX_WORD or "\0" in word for word in words):
        raise WireError(f"a word is longer than {MAX_WORD} characters, or holds a NUL")
    if not all(0 <= number <= MAX_NUMBER for number in numbers):
        raise WireError("a number is not within 0..2^53 - 1")
