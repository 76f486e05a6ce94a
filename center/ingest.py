"""Ingest: batches -> one transaction -> acks.

Here: what becomes of a batch. Not here: what it says (batches), rows (events, ledger), the thread
and its queue (inbox), hellos and documents (downlink).

A batch is stored, its lane's watermark moved, the transaction committed; only then is the worker
answered, and only then the broker. Several batches may share a transaction. Nothing blocks a lane:
a single bad event becomes a gap, an unreadable batch is put aside and asked for in halves.
"""

import logging
from collections import Counter
from dataclasses import dataclass, field
from operator import attrgetter

import msgspec
from sqlalchemy import Connection

from center import batches, clocks, events, ledger, notify, presence
from center.batches import Unfit
from center.clock import Clock
from center.credit import Brake, Credit
from center.db import Database
from center.events import EventRow
from center.inbox import Inbox
from center.ledger import Place
from center.live import Bell
from center.logs import Seldom
from center.metrics import Metrics
from center.presence import Presence
from center.replies import LinkLike, Reply, revoked, send, unknown_session
from wire import codec, topics
from wire.codec import WireError
from wire.events import Ack, Batch, Gap, Refused, Rewind, Watermark, batch_name
from wire.link import Received
from wire.topics import UpTopic

MAX_GROUP = 20
MAX_WAITING = 200
MAX_REASON = 300

_log = logging.getLogger("forecourt.ingest")


@dataclass(frozen=True, slots=True)
class Turn:
    """One transaction: it reads each worker and each lane once, and moves each lane once."""

    connection: Connection
    now_ms: int
    counts: Counter[str] = field(default_factory=Counter)
    came: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How far the backlog of lane `bulk` has come, by worker and session."""
    _rows: list[EventRow] = field(default_factory=list)
    _bodies: dict[Place, dict[int, bytes]] = field(default_factory=dict)
    _held: dict[str, Presence | None] = field(default_factory=dict)
    _clocks: dict[str, clocks.Reader] = field(default_factory=dict)
    _marks: dict[Place, int] = field(default_factory=dict)
    _moved: dict[Place, int] = field(default_factory=dict)

    def held(self, worker: str) -> Presence | None:
        """The worker's presence; None if it is not registered."""
        if worker not in self._held:
            self._held[worker] = presence.of_worker(self.connection, worker)
        return self._held[worker]

    def clock(self, worker: str) -> clocks.Reader:
        """What reads the times of the worker's events."""
        if worker not in self._clocks:
            self._clocks[worker] = clocks.reader(self.connection, worker)
        return self._clocks[worker]

    def mark(self, place: Place) -> int:
        """How far a lane has come, and may come, this turn included."""
        if place not in self._marks:
            self._marks[place] = ledger.mark(self.connection, place, self.now_ms)
        return self._marks[place]

    def move(self, place: Place, to: int) -> None:
        """The lane has come further."""
        if to > self._marks[place]:
            self._marks[place] = to
            self._moved[place] = to

    def take_back(self, place: Place, first: int, last: int) -> int:
        """The events `first`..`last` of a lane have come: how far it has, if they belie a gap."""
        reached = self.mark(place)
        taken = max(self._bodies.get(place, {}), default=0)
        now = ledger.take_back(self.connection, place, reached, first, last, taken)
        if now < reached:
            self._marks[place] = self._moved[place] = now
        return now

    def bodies(self, place: Place, first: int, last: int) -> dict[int, bytes]:
        """The bytes of the events `first`..`last` that are stored, this turn included."""
        found = events.bodies(self.connection, *place, first, last)
        new = self._bodies.get(place, {})
        if new:
            found.update((seq, new[seq]) for seq in range(first, last + 1) if seq in new)
        return found

    def store(self, place: Place, rows: list[EventRow]) -> None:
        """These events of a lane are new."""
        self._rows.extend(rows)
        self._bodies.setdefault(place, {}).update((row.seq, row.body) for row in rows)

    def close(self) -> None:
        """Write down the events, what is to be told, and how far each lane has come."""
        events.store(self.connection, self._rows)
        news = [row for row in self._rows if row.lane == "alarm" and row.phase != "end"]
        alarms = list(map(msgspec.structs.asdict, news))
        notify.enqueue(self.connection, alarms, self.now_ms)
        ledger.advance(self.connection, self._moved, self.now_ms)


class Ingest:
    """The accept rule on a thread of its own."""

    def __init__(
        self,
        database: Database,
        link: LinkLike,
        clock: Clock,
        bell: Bell,
        metrics: Metrics,
        credit: Credit | None = None,
    ) -> None:
        self._database = database
        self._link = link
        self._clock = clock
        self._bell = bell
        self._metrics = metrics
        self._credit = credit
        self._brake = Brake()
        self._seldom = Seldom(_log, clock)
        self._inbox = Inbox(
            "ingest",
            self.take,
            link.ack,
            metrics,
            max_waiting=MAX_WAITING,
            max_group=MAX_GROUP,
            urgent=lambda message: message.topic.endswith("/ev/alarm"),
        )
        self.offer = self._inbox.offer
        self.start = self._inbox.start
        self.stop = self._inbox.stop

    @property
    def waiting(self) -> int:
        """How many batches wait."""
        return self._inbox.waiting

    def take(self, group: list[Received]) -> None:
        """Store a group of batches in one transaction, then answer each lane once.

        Raises one of `db.UNAVAILABLE` with nothing stored and nobody answered.
        """
        answers: Answers = {}
        began_s = self._clock.elapsed_s()
        try:
            with self._database.transaction() as connection:
                turn = Turn(connection, self._clock.now_ms())
                # In one order of lanes, so that centers do not hold what the other waits for.
                for message in sorted(group, key=attrgetter("topic")):
                    reply = self._accept(turn, message)
                    if reply is not None:
                        _add(answers, message.connection, reply)
                turn.close()
        finally:
            self._feel(self._clock.elapsed_s() - began_s)
        for name, by in turn.counts.items():
            self._metrics.count(name, by)
        leave = self._restate(turn)
        for number, reply in answers.values():
            send(self._link, number, _with_credit(reply, leave))
        self._bell.ring()

    def _feel(self, turn_s: float) -> None:
        """Backlog waits while turns take long, or too many batches wait."""
        if self._credit is not None:
            self._credit.brake(self._brake.felt(turn_s, self.waiting / MAX_WAITING))

    def _restate(self, turn: Turn) -> dict[tuple[str, str], float]:
        """For how many seconds each worker and session that sent backlog may go on."""
        if self._credit is None:
            return {}
        renew = self._credit.renew
        return {(worker, name): renew(worker, name, n) for (worker, name), n in turn.came.items()}

    def _accept(self, turn: Turn, message: Received) -> Reply | None:
        topic = topics.parse(message.topic)
        assert isinstance(topic, UpTopic)
        held = turn.held(topic.worker)
        try:
            batch = codec.decode_up(topic, message.payload)
            assert isinstance(batch, Batch)
            batches.require_sound(batch)
        except WireError as error:
            return self._put_aside(turn, topic, held, message.payload, error)
        if held is None:
            turn.counts["strangers_total"] += 1
            return Reply(topic.worker, revoked(topic.worker, batch.session))
        if (batch.session, batch.fence) != (held.session, held.fence):
            turn.counts["stale_messages_total"] += 1
            return Reply(topic.worker, unknown_session(batch.session))
        if batch.express:
            self._store_ahead(turn, held, batch)
            return None
        return Reply(topic.worker, self._store(turn, held, batch))

    def _put_aside(
        self, turn: Turn, topic: UpTopic, held: Presence | None, payload: bytes, error: WireError
    ) -> Reply | None:
        """Keep what cannot be read as a dead letter, and ask the session that counts for halves."""
        turn.counts["unreadable_messages_total"] += 1
        text = f"worker {topic.worker}: an unreadable batch is put aside: {error}"
        self._seldom.warn(f"unreadable {topic.worker}", text)
        if held is None:
            return None
        letter = (topic.worker, topic.channel, str(error), payload)
        ledger.bury(turn.connection, *letter, turn.now_ms)
        if not held.session:
            return None
        name, reason = batch_name(payload), str(error)[:MAX_REASON]
        return Reply(topic.worker, Refused(session=held.session, batch=name, reason=reason))

    def _store(self, turn: Turn, held: Presence, batch: Batch) -> Ack | Rewind:
        place: Place = (held.worker, batch.epoch, batch.lane)
        mark = turn.mark(place)
        last = batch.first + len(batch.events) - 1
        if batch.first <= min(last, mark):
            # Acknowledged as lost, the rest would be forgotten there before it was sent.
            mark = turn.take_back(place, batch.first, last)
        if batches.leaves_hole(mark, batch.first, last, batch.gaps):
            turn.counts["rewinds_total"] += 1
            known = Watermark(epoch=batch.epoch, lane=batch.lane, seq=mark)
            return Rewind(session=batch.session, watermark=known)
        unfit = self._store_events(turn, held, batch, mark)
        far = batches.reached(mark, batch.first, last, batch.gaps)
        gaps = batches.new_gaps(batch, mark, far)
        ledger.declare(turn.connection, place, gaps, turn.now_ms)
        refused = [Gap(first=one.seq, last=one.seq, why="refused") for one in unfit]
        ledger.declare(turn.connection, place, refused, turn.now_ms)
        turn.move(place, far)
        turn.counts.update(batches_total=1, gaps_total=len(gaps))
        turn.counts["events_refused_total"] += len(unfit)
        if batch.backfill and batch.lane == "bulk":
            turn.came[held.worker, batch.session] += far - mark
        here = Watermark(epoch=batch.epoch, lane=batch.lane, seq=far)
        return Ack(session=batch.session, watermark=here)

    def _store_ahead(self, turn: Turn, held: Presence, batch: Batch) -> None:
        """An alarm that overtakes its lane is stored under its number, and that is all."""
        turn.counts["batches_total"] += 1
        place: Place = (held.worker, batch.epoch, batch.lane)
        self._store_events(turn, held, batch, turn.mark(place))

    def _store_events(self, turn: Turn, held: Presence, batch: Batch, old: int) -> list[Unfit]:
        """Take over what is not there yet; those that cannot be stored are put aside.

        At or below the watermark an event is there, or it was declared lost. Where that was a
        mistake it is stored all the same. Above it, only alarms may be there already (express).
        """
        place: Place = (held.worker, batch.epoch, batch.lane)
        last = batch.first + len(batch.events) - 1
        there: dict[int, bytes] = {}
        if batch.events and (batch.lane == "alarm" or batch.first <= old):
            there = turn.bodies(place, batch.first, last)
        lost: list[Gap] = []
        if batch.first <= min(last, old) and any(
            seq not in there for seq in range(batch.first, min(last, old) + 1)
        ):
            lost = ledger.lost_within(turn.connection, place, batch.first, min(last, old))
        clock = turn.clock(held.worker)
        origin = (held.worker, held.station)
        rows: list[EventRow] = []
        unfit: list[Unfit] = []
        for seq, raw in enumerate(batch.events, batch.first):
            body = bytes(raw)
            if seq in there:
                if there[seq] != body:
                    turn.counts["identity_conflicts_total"] += 1
                    other = "it was stored before, with another body"
                    self._bury(turn, place, Unfit(seq, other, body))
                continue
            if seq <= old and not any(gap.first <= seq <= gap.last for gap in lost):
                continue
            try:
                rows.append(batches.row(body, seq, batch, origin, clock, turn.now_ms))
            except ValueError as error:
                unfit.append(Unfit(seq, str(error)[:MAX_REASON], body))
        turn.store(place, rows)
        for one in unfit:
            self._bury(turn, place, one)
        turn.counts["events_stored_total"] += len(rows)
        turn.counts["events_duplicate_total"] += len(batch.events) - len(rows) - len(unfit)
        return unfit

    def _bury(self, turn: Turn, place: Place, unfit: Unfit) -> None:
        worker, epoch, lane = place
        text = f"event {unfit.seq} of {lane}, epoch {epoch}, is put aside: {unfit.reason}"
        self._seldom.warn(f"refused {worker}", f"worker {worker}: {text}")
        letter = (worker, f"ev/{lane}", unfit.reason, unfit.body)
        ledger.bury(turn.connection, *letter, turn.now_ms, (epoch, lane, unfit.seq))


Answers = dict[tuple[object, ...], tuple[int, Reply]]
"""Connection and answer, by what it is about."""


def _add(answers: Answers, connection: int, reply: Reply) -> None:
    """A later answer of the same sort for the same lane says all of the earlier, in its place.

    An ack that comes after a rewind and reaches further says that its hole is closed.
    """
    about, message = _about(reply), reply.message
    answers.pop(about, None)
    answers[about] = (connection, reply)
    if isinstance(message, Ack):
        sent_back = (Rewind, *about[1:])
        match answers.get(sent_back):
            case (_, Reply(message=Rewind(watermark=hole))) if hole.seq < message.watermark.seq:
                del answers[sent_back]


def _about(reply: Reply) -> tuple[object, ...]:
    message = reply.message
    match message:
        case Ack() | Rewind():
            mark = message.watermark
            return type(message), reply.worker, message.session, mark.epoch, mark.lane
        case Refused():
            return type(message), reply.worker, message.session, message.batch
        case _:
            return type(message), reply.worker, message.session


def _with_credit(reply: Reply, leave: dict[tuple[str, str], float]) -> Reply:
    """An ack of lane `bulk` restates the leave of a worker that sent backlog."""
    message = reply.message
    if not isinstance(message, Ack) or message.watermark.lane != "bulk":
        return reply
    credit_s = leave.get((reply.worker, message.session))
    return Reply(reply.worker, msgspec.structs.replace(message, credit_s=credit_s))
