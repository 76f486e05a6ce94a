"""Ingest: batches -> one transaction -> acks.

Here: the rule by which a batch is accepted. Not here: rows (events, ledger), the thread and its
queue (inbox), hellos and documents (downlink).

A batch is stored, its lane's watermark moved, the transaction committed; only then is the worker
answered, and only then the broker. Several batches may share a transaction. Nothing blocks a lane:
a single bad event becomes a gap, an unreadable batch is put aside.
"""

import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from sqlalchemy import Connection

from center import events, ledger, presence
from center.clock import Clock
from center.db import Database
from center.inbox import Inbox
from center.ledger import Place
from center.live import Bell
from center.logs import Seldom
from center.metrics import Metrics
from center.presence import Presence
from center.replies import LinkLike, Reply, revoked, send, unknown_session
from wire import codec, topics
from wire.codec import WireError
from wire.events import (
    MAX_BATCH_EVENTS,
    MAX_EVENT_BYTES,
    MAX_NUMBER,
    MAX_WORD,
    Ack,
    Batch,
    Event,
    Gap,
    Rewind,
    Watermark,
    decode_event,
)
from wire.link import Received
from wire.topics import UpTopic

MAX_GROUP = 10
MAX_WAITING = 200

_log = logging.getLogger("forecourt.ingest")


def reached(watermark: int, first: int, last: int, gaps: Iterable[Gap]) -> int:
    """How far a lane comes with the events `first`..`last` (none if last < first) and the gaps."""
    spans = sorted([*((gap.first, gap.last) for gap in gaps), (first, last)])
    for low, high in spans:
        if low <= high and low <= watermark + 1:
            watermark = max(watermark, high)
    return watermark


def leaves_hole(watermark: int, first: int, last: int, gaps: Iterable[Gap]) -> bool:
    """Whether numbers are missing below the batch's events, or below a gap that comes alone."""
    far = reached(watermark, first, last, gaps)
    if last >= first:
        return far < last
    return far == watermark and any(gap.first > watermark + 1 for gap in gaps)


@dataclass(frozen=True, slots=True)
class Refused:
    """An event that cannot be stored."""

    seq: int
    reason: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Turn:
    """One transaction: it reads each worker and each lane once, and moves each lane once."""

    connection: Connection
    now_ms: int
    counts: Counter[str] = field(default_factory=Counter)
    _held: dict[str, Presence | None] = field(default_factory=dict)
    _marks: dict[Place, int] = field(default_factory=dict)
    _moved: set[Place] = field(default_factory=set)

    def held(self, worker: str) -> Presence | None:
        """The worker's presence; None if it is not registered."""
        if worker not in self._held:
            self._held[worker] = presence.of_worker(self.connection, worker)
        return self._held[worker]

    def watermark(self, place: Place) -> int:
        """How far a lane has come, this turn included."""
        if place not in self._marks:
            self._marks[place] = ledger.mark(self.connection, place).seq
        return self._marks[place]

    def move(self, place: Place, to: int) -> None:
        """The lane has come further."""
        if to > self._marks[place]:
            self._marks[place] = to
            self._moved.add(place)

    def close(self) -> None:
        """Write down how far each lane has come."""
        moved = {place: self._marks[place] for place in self._moved}
        ledger.advance(self.connection, moved, self.now_ms)


class Ingest:
    """The accept rule on a thread of its own."""

    def __init__(
        self, database: Database, link: LinkLike, clock: Clock, bell: Bell, metrics: Metrics
    ) -> None:
        self._database = database
        self._link = link
        self._clock = clock
        self._bell = bell
        self._metrics = metrics
        self._seldom = Seldom(_log, clock)
        self._inbox = Inbox(
            "ingest", self.take, link.ack, metrics, max_waiting=MAX_WAITING, max_group=MAX_GROUP
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
        answers: dict[tuple[object, ...], tuple[int, Reply]] = {}
        with self._database.transaction() as connection:
            turn = Turn(connection, self._clock.now_ms())
            for message in group:
                reply = self._accept(turn, message)
                if reply is not None:
                    # A later answer of the same sort for the same lane says all of the earlier.
                    answers[_about(reply)] = (message.connection, reply)
            turn.close()
        for name, by in turn.counts.items():
            self._metrics.count(name, by)
        for number, reply in answers.values():
            send(self._link, number, reply)
        self._bell.ring()

    def _accept(self, turn: Turn, message: Received) -> Reply | None:
        topic = topics.parse(message.topic)
        assert isinstance(topic, UpTopic)
        held = turn.held(topic.worker)
        try:
            batch = codec.decode_up(topic, message.payload)
            assert isinstance(batch, Batch)
            _require_sound(batch)
        except WireError as error:
            turn.counts["unreadable_messages_total"] += 1
            text = f"worker {topic.worker}: an unreadable batch is put aside: {error}"
            self._seldom.warn(f"unreadable {topic.worker}", text)
            if held is not None:
                letter = (topic.worker, topic.channel, str(error), message.payload)
                ledger.bury(turn.connection, *letter, turn.now_ms)
            return None
        if held is None:
            turn.counts["strangers_total"] += 1
            return Reply(topic.worker, revoked(topic.worker, batch.session))
        if (batch.session, batch.fence) != (held.session, held.fence):
            turn.counts["stale_messages_total"] += 1
            return Reply(topic.worker, unknown_session(batch.session))
        return Reply(topic.worker, self._store(turn, held, batch))

    def _store(self, turn: Turn, held: Presence, batch: Batch) -> Ack | Rewind:
        place: Place = (held.worker, batch.epoch, batch.lane)
        old = turn.watermark(place)
        last = batch.first + len(batch.events) - 1
        if leaves_hole(old, batch.first, last, batch.gaps):
            turn.counts["rewinds_total"] += 1
            mark = Watermark(epoch=batch.epoch, lane=batch.lane, seq=old)
            return Rewind(session=batch.session, watermark=mark)
        self._compare_known(turn, place, batch, old)
        rows, refused = _rows(held, batch, old, turn.now_ms)
        far = reached(old, batch.first, last, batch.gaps)
        gaps = _new_gaps(batch, old, far)
        events.store(turn.connection, rows)
        ledger.declare(turn.connection, place, gaps, turn.now_ms)
        self._refuse(turn, place, refused)
        turn.move(place, far)
        turn.counts.update(batches_total=1, events_stored_total=len(rows), gaps_total=len(gaps))
        mark = Watermark(epoch=batch.epoch, lane=batch.lane, seq=far)
        return Ack(session=batch.session, watermark=mark)

    def _compare_known(self, turn: Turn, place: Place, batch: Batch, old: int) -> None:
        """Events that were stored already must be the same; another body under a number is kept."""
        known = batch.events[: max(0, old - batch.first + 1)]
        if not known:
            return
        turn.counts["events_duplicate_total"] += len(known)
        last = batch.first + len(known) - 1
        stored = events.bodies(turn.connection, *place, batch.first, last)
        for seq, raw in enumerate(known, batch.first):
            body = bytes(raw)
            if seq in stored and stored[seq] != body:
                turn.counts["identity_conflicts_total"] += 1
                self._bury(
                    turn, place, Refused(seq, "it was stored before, with another body", body)
                )

    def _refuse(self, turn: Turn, place: Place, refused: list[Refused]) -> None:
        """Events that cannot be stored are declared lost, so that the lane goes on."""
        gaps = [Gap(first=one.seq, last=one.seq, why="refused") for one in refused]
        ledger.declare(turn.connection, place, gaps, turn.now_ms)
        turn.counts["events_refused_total"] += len(refused)
        for one in refused:
            self._bury(turn, place, one)

    def _bury(self, turn: Turn, place: Place, refused: Refused) -> None:
        worker, epoch, lane = place
        text = f"event {refused.seq} of {lane}, epoch {epoch}, is put aside: {refused.reason}"
        self._seldom.warn(f"refused {worker}", f"worker {worker}: {text}")
        letter = (worker, f"ev/{lane}", refused.reason, refused.body)
        ledger.bury(turn.connection, *letter, turn.now_ms, (epoch, lane, refused.seq))


def _about(reply: Reply) -> tuple[object, ...]:
    message = reply.message
    if isinstance(message, Ack | Rewind):
        mark = message.watermark
        return type(message), reply.worker, message.session, mark.epoch, mark.lane
    return type(message), reply.worker, message.session


def _require_sound(batch: Batch) -> None:
    """What the types do not say. Raises WireError."""
    numbers = [batch.first, *(number for gap in batch.gaps for number in (gap.first, gap.last))]
    if not all(1 <= number <= MAX_NUMBER - MAX_BATCH_EVENTS for number in numbers):
        raise WireError("an event's number is not within 1..2^53")
    if not 1 <= batch.epoch <= MAX_NUMBER:
        raise WireError("the epoch is not within 1..2^53")
    if any(gap.first > gap.last for gap in batch.gaps):
        raise WireError("a gap ends before it begins")
    if len(batch.events) > MAX_BATCH_EVENTS:
        raise WireError(f"{len(batch.events)} events; a batch holds at most {MAX_BATCH_EVENTS}")


def _rows(
    held: Presence, batch: Batch, old: int, now_ms: int
) -> tuple[list[dict[str, object]], list[Refused]]:
    """The rows of the events above the watermark, and those that cannot be rows."""
    rows: list[dict[str, object]] = []
    refused: list[Refused] = []
    for seq, raw in enumerate(batch.events, batch.first):
        if seq <= old:
            continue
        body = bytes(raw)
        try:
            event = _event(body)
        except ValueError as error:
            refused.append(Refused(seq, str(error)[:300], body))
            continue
        place = (held.worker, held.station, batch.epoch, batch.lane, seq)
        rows.append(events.row(event, body, place, now_ms, batch.backfill))
    return rows, refused


def _event(body: bytes) -> Event:
    """The event, if it can be stored. Raises ValueError (as msgspec's errors are)."""
    if len(body) > MAX_EVENT_BYTES:
        raise ValueError(f"{len(body)} bytes; an event holds at most {MAX_EVENT_BYTES}")
    event = decode_event(body)
    if not -MAX_NUMBER <= event.t_ms <= MAX_NUMBER:
        raise ValueError("t_ms is no time")
    words = (event.kind, event.camera, event.task, event.rule, event.severity, event.incident or "")
    if max(map(len, words)) > MAX_WORD:
        raise ValueError(f"a word of it is longer than {MAX_WORD} characters")
    if b"\\u0000" in body and "\0" in "".join(words):
        raise ValueError("a word of it holds a NUL")
    return event


def _new_gaps(batch: Batch, old: int, far: int) -> list[Gap]:
    """The declared gaps between the old watermark and the new one."""
    return [
        Gap(first=max(gap.first, old + 1), last=gap.last, why=gap.why)
        for gap in batch.gaps
        if old < gap.last <= far
    ]
