"""One transaction of the outbox: what it writes, and what it changes in memory once committed.

Here: numbers for events, watermarks to disk, what goes when room is needed. Not here: the thread,
commits and what is done about errors (writer), the shape of rows (tables).
"""

import logging
import secrets
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from itertools import pairwise

from edge.clock import Clock
from edge.store import tables
from edge.store.lanes import Lanes, LaneState
from edge.store.tables import Stored
from wire.events import Event, Lane, lane_of

log = logging.getLogger("forecourt.outbox")

_ORDER_OF_LOSS: tuple[Lane, ...] = ("bulk", "alarm")
_CHUNK_EVENTS = 200
"""Rows that are dropped at once when room is needed."""
_FORGET_EVENTS = 2000
_KEEP_STORED = 1000
"""The newest events stay for the display whatever their age."""
_MARKS = 48
"""How finely the age of acknowledgements is known, in parts of the time they are kept."""
_JUMP_MS = 5000
_KEEP_SHED = 1000
_KEEP_REFUSED = 100
_KEEP_INCIDENTS = 4096

_ANY = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Append:
    """Events with their bytes, to be stored together."""

    events: Sequence[tuple[Event, bytes]]
    size_bytes: int
    future: "Future[list[Stored]]"


@dataclass(frozen=True, slots=True)
class Refuse:
    """A number that the center cannot read."""

    epoch: int
    lane: Lane
    seq: int


@dataclass(frozen=True, slots=True)
class Setting:
    """What an outbox was told."""

    clock: Clock
    quota_bytes: int
    keep_acked_ms: int


@dataclass(slots=True)
class Now:
    """Where this process is with giving out numbers."""

    epoch: int
    """0 before the first event of an epoch."""
    high: dict[Lane, int]
    offset_ms: int | None
    """Wall time less boot time at the last append."""
    totals: tables.Totals


class Transaction:
    """Between BEGIN and COMMIT. After the commit, `publish` tells it to memory."""

    def __init__(
        self,
        db: sqlite3.Connection,
        setting: Setting,
        now: Now,
        lanes: Lanes,
        open_incidents: dict[str, Stored],
    ) -> None:
        self._db = db
        self._setting = setting
        self._now = now
        self._lanes = lanes
        self._open_incidents = open_incidents
        self.epoch = now.epoch
        self.high = dict(now.high)
        self.offset_ms = now.offset_ms
        self.totals = replace(now.totals)
        self.born: list[LaneState] = []
        self.may_hold: list[LaneState] = []
        """Lanes that are in the roster before this is committed."""
        self.given: dict[int, tuple[LaneState, int]] = {}
        self.saved: dict[int, tuple[LaneState, int]] = {}
        self.outdated: list[LaneState] = []
        self.refused: list[tuple[LaneState, int]] = []
        self.incidents: dict[str, Stored | None] = {}

    def publish(self) -> None:
        """What is on disk now is so in memory."""
        with self._lanes.lock:
            for state in self.born:
                state.on_disk = True
                self._lanes.put(state)
            for state, high in self.given.values():
                self._lanes.give(state, high)
            for state, acked in self.saved.values():
                self._lanes.saved(state, acked)
            for state, seq in self.refused:
                state.refused.discard(seq)
            for state in self.outdated:
                self._lanes.drop(state)
            for incident, stored in self.incidents.items():
                self._open_incidents.pop(incident, None)
                if stored is not None:
                    self._open_incidents[incident] = stored
            now = self._now
            now.epoch, now.high, now.offset_ms = self.epoch, self.high, self.offset_ms
            now.totals = self.totals

    def renew(self) -> None:
        """The next event begins a new epoch."""
        self.epoch, self.high = 0, {}

    def append(self, work: Append) -> list[Stored]:
        """Give the events their numbers and store them, making room first."""
        if not work.events:
            return []
        self._notice_jump()
        if not self.epoch:
            self.epoch = secrets.randbelow(2**53 - 1) + 1
        stored: list[Stored] = []
        for chunk in self._chunks(work):
            self._make_room(sum(len(body) for _, body in chunk))
            stored += self._insert(chunk)
        return stored

    def _chunks(self, work: Append) -> list[Sequence[tuple[Event, bytes]]]:
        """Pieces that are small beside the quota."""
        if work.size_bytes * 4 <= self._setting.quota_bytes:
            return [work.events]
        cuts = [0]
        size_bytes = 0
        for index, (_, body) in enumerate(work.events):
            if size_bytes and (size_bytes + len(body)) * 16 > self._setting.quota_bytes:
                cuts.append(index)
                size_bytes = 0
            size_bytes += len(body)
        return [work.events[a:b] for a, b in pairwise([*cuts, len(work.events)])]

    def _notice_jump(self) -> None:
        """A resumed memory image would give out numbers twice: it begins a new epoch."""
        offset_ms = self._setting.clock.wall_ms() - self._setting.clock.boot_ms()
        if self.offset_ms is not None and abs(offset_ms - self.offset_ms) > _JUMP_MS:
            self.renew()
        self.offset_ms = offset_ms

    def _insert(self, events: Sequence[tuple[Event, bytes]]) -> list[Stored]:
        epoch, totals = self.epoch, self.totals
        states: dict[Lane, LaneState] = {}
        seeds: dict[Lane, int] = {}
        rows = []
        stored = []
        incidents: dict[str, tuple[Event, Stored, int] | None] = {}
        for event, body in events:
            lane = lane_of(event)
            if lane not in states:
                states[lane] = self._lane(lane)
                seeds[lane] = states[lane].seed
            seq = self.high.get(lane, 0) + 1
            self.high[lane] = seq
            totals.last_id += 1
            totals.size_bytes += len(body)
            crc = tables.seal(seeds[lane], seq, totals.last_id, body)
            rows.append((states[lane].number, seq, totals.last_id, crc, body))
            one = Stored(totals.last_id, epoch, lane, seq, body)
            stored.append(one)
            if event.phase is not None and event.incident is not None:
                incidents[event.incident] = None if event.phase == "end" else (event, one, crc)
        self._db.executemany(tables.INSERT_EVENT, rows)
        for lane, state in states.items():
            self.given[state.number] = (state, self.high[lane])
        for incident, latest in incidents.items():
            self._note_incident(states, incident, latest)
        return stored

    def _lane(self, lane: Lane) -> LaneState:
        """This epoch's lane, born now if it has no number yet."""
        state = self._lanes.get(self.epoch, lane)
        if state is not None:
            return state
        for born in self.born:
            if (born.epoch, born.lane) == (self.epoch, lane):
                return born
        self.totals.last_lane += 1
        state = LaneState(number=self.totals.last_lane, epoch=self.epoch, lane=lane)
        self._db.execute(tables.INSERT_LANE, tables.lane_row(state, 0))
        self.born.append(state)
        self.may_hold.append(state)
        return state

    def _note_incident(
        self,
        states: dict[Lane, LaneState],
        incident: str,
        latest: tuple[Event, Stored, int] | None,
    ) -> None:
        if latest is None:
            if self.incidents.get(incident) or incident in self._open_incidents:
                self._db.execute("DELETE FROM incidents WHERE incident = ?", (incident,))
            self.incidents[incident] = None
            return
        _, one, crc = latest
        if len(self._open_incidents) >= _KEEP_INCIDENTS and incident not in self._open_incidents:
            oldest = next(iter(self._open_incidents))
            log.error("more than %d incidents are open: %s is not followed any more",
                      _KEEP_INCIDENTS, oldest)  # fmt: skip
            self._db.execute("DELETE FROM incidents WHERE incident = ?", (oldest,))
            self.incidents[oldest] = None
        self._db.execute(
            tables.INSERT_INCIDENT,
            (incident, states[one.lane].number, one.seq, one.id, crc, one.body),
        )
        self.incidents[incident] = one

    def replace_incidents(self, known: dict[str, Stored]) -> None:
        """These incidents are open, and no others."""
        self._db.execute("DELETE FROM incidents")
        self.incidents = dict.fromkeys(self._open_incidents)
        for incident, one in known.items():
            state = self._lanes.get(one.epoch, one.lane)
            if state is not None:
                crc = tables.seal(state.seed, one.seq, one.id, one.body)
                self._db.execute(
                    tables.INSERT_INCIDENT,
                    (incident, state.number, one.seq, one.id, crc, one.body),
                )
                self.incidents[incident] = one

    def save(self) -> None:
        """Write the watermarks that moved."""
        now_ms = self._setting.clock.wall_ms()
        for state, acked in self._lanes.unsaved():
            if not state.on_disk or state.number in self.saved:
                continue
            if acked < state.saved:
                self.may_hold.append(state)
            low, up = sorted((state.saved, acked))
            (moved,) = self._db.execute(
                "SELECT coalesce(sum(length(body)), 0) FROM events"
                " WHERE lane = ? AND seq > ? AND seq <= ?",
                (state.number, low, up),
            ).fetchone()
            self.totals.acked_bytes += moved if acked > state.saved else -moved
            self._db.execute(tables.INSERT_LANE, tables.lane_row(state, acked))
            self._db.execute("DELETE FROM gaps WHERE lane = ? AND last <= ?", (state.number, acked))
            self._mark(state, acked, now_ms)
            self.saved[state.number] = (state, acked)

    def _mark(self, state: LaneState, acked: int, now_ms: int) -> None:
        """Remember when the watermark was there, finely enough to know how old an ack is."""
        self._db.execute("DELETE FROM marks WHERE lane = ? AND seq > ?", (state.number, acked))
        (latest_ms,) = self._db.execute(
            "SELECT max(at_ms) FROM marks WHERE lane = ?", (state.number,)
        ).fetchone()
        if latest_ms is None or abs(now_ms - latest_ms) >= self._setting.keep_acked_ms // _MARKS:
            self._db.execute(
                "INSERT OR REPLACE INTO marks VALUES (?, ?, ?)", (state.number, acked, now_ms)
            )

    def _acked(self, state: LaneState) -> int:
        """The watermark as this transaction leaves it on disk."""
        return self.saved[state.number][1] if state.number in self.saved else state.saved

    def _with_rows(self, lane: Lane | None = None) -> list[LaneState]:
        """Lanes that have rows, oldest first."""
        known = {s.number: s for s in [*self._lanes.ordered(), *self.born]}
        numbers = [n for (n,) in self._db.execute(tables.LANES_WITH_ROWS)]
        return [known[n] for n in numbers if n in known and lane in (None, known[n].lane)]

    def _drop(
        self, number: int, above: int, up_to: int, limit: int, below_id: int = _ANY
    ) -> tuple[int, int, int, int]:
        """Delete a lane's oldest rows: (first, last, bytes, rows); rows is 0 if there are none."""
        first, last, size_bytes, rows = self._db.execute(
            "SELECT coalesce(min(seq), 0), coalesce(max(seq), 0), coalesce(sum(length(body)), 0),"
            " count(*) FROM (SELECT seq, body FROM events WHERE lane = ? AND seq > ? AND seq <= ?"
            " AND id <= ? ORDER BY seq LIMIT ?)",
            (number, above, up_to, below_id, limit),
        ).fetchone()
        if rows:
            self._db.execute(
                "DELETE FROM events WHERE lane = ? AND seq BETWEEN ? AND ?", (number, first, last)
            )
        return first, last, size_bytes, rows

    def forget(self) -> None:
        """Drop what was acknowledged long ago, and more where it takes half of the quota."""
        now_ms = self._setting.clock.wall_ms()
        totals = self.totals
        for state in self._with_rows():
            (old,) = self._db.execute(
                "SELECT coalesce(max(seq), 0) FROM marks WHERE lane = ? AND at_ms <= ?",
                (state.number, now_ms - self._setting.keep_acked_ms),
            ).fetchone()
            old = min(old, self._acked(state))
            if old:
                dropped = self._drop(state.number, 0, old, _FORGET_EVENTS,
                                     totals.last_id - _KEEP_STORED)  # fmt: skip
                self._forgot(dropped[2])
                self._db.execute(
                    "DELETE FROM marks WHERE lane = ? AND seq < ?", (state.number, old)
                )
        self._trim_acked(lambda: totals.acked_bytes * 2 <= self._setting.quota_bytes)
        self._forget_lanes(now_ms)

    def _forgot(self, size_bytes: int) -> None:
        self.totals.size_bytes -= size_bytes
        self.totals.acked_bytes -= size_bytes

    def _trim_acked(self, enough: Callable[[], bool]) -> None:
        """Drop acknowledged rows, oldest epoch first, until it is enough."""
        if enough() or self.totals.acked_bytes <= 0:
            return
        for state in self._with_rows():
            acked = self._acked(state)
            while not enough():
                _, _, size_bytes, rows = self._drop(state.number, 0, acked, _CHUNK_EVENTS)
                if not rows:
                    break
                self._forgot(size_bytes)

    def _forget_lanes(self, now_ms: int) -> None:
        """Drop drained lanes that need not be remembered, with what is left of them."""
        for state in self._lanes.outdated(now_ms):
            if state.epoch == self.epoch or state.number in self.saved:
                continue
            _, _, size_bytes, _ = self._drop(state.number, 0, _ANY, _ANY)
            self._forgot(size_bytes)
            self._db.execute("DELETE FROM marks WHERE lane = ?", (state.number,))
            self._db.execute("DELETE FROM gaps WHERE lane = ?", (state.number,))
            self._db.execute("DELETE FROM lanes WHERE number = ?", (state.number,))
            self.outdated.append(state)

    def _make_room(self, needed_bytes: int) -> None:
        """Keep the quota: first what the center has, then the oldest bulk, alarms last."""
        totals = self.totals

        def enough() -> bool:
            return totals.size_bytes + needed_bytes <= self._setting.quota_bytes

        if enough():
            return
        self.save()
        self._trim_acked(enough)
        for lane in _ORDER_OF_LOSS:
            self._shed(lane, enough)

    def relieve(self, size_bytes: int) -> bool:
        """Give up so much because the disk itself is full, in the same order. False: nothing."""
        before = self.totals.size_bytes

        def enough() -> bool:
            return before - self.totals.size_bytes >= size_bytes

        self.save()
        self._trim_acked(enough)
        for lane in _ORDER_OF_LOSS:
            self._shed(lane, enough)
        return self.totals.size_bytes < before

    def _shed(self, lane: Lane, enough: Callable[[], bool]) -> None:
        """Give up a lane's oldest events, declared by a gap, never silently."""
        if enough():
            return
        for state in self._with_rows(lane):
            acked = self._acked(state)
            while not enough():
                first, last, size_bytes, rows = self._drop(state.number, acked, _ANY, _CHUNK_EVENTS)
                if not rows:
                    break
                self._declare(state, first, last, "shed")
                self._note_shed(state, first, last, size_bytes)
                self.totals.size_bytes -= size_bytes
                self.totals.shed += rows
                log.error("outbox full: shed %d %s events %d..%d", rows, lane, first, last)

    def _declare(self, state: LaneState, first: int, last: int, why: str) -> None:
        """Record declared loss: gaps inside it give way to it, those of its cause join it.

        So the gaps of a lane never overlap, and no number is told twice.
        """
        touching = []
        for gap in self._db.execute(
            "SELECT first, last, why FROM gaps WHERE lane = ? AND first <= ? ORDER BY first DESC",
            (state.number, last + 1),
        ):
            if gap[1] < first - 1:
                break
            touching.append(gap)
        same = [(first, last), *((low, high) for low, high, cause in touching if cause == why)]
        begin, end = min(low for low, _ in same), max(high for _, high in same)
        gaps = [(begin, end, why)]
        for low, high, cause in touching:
            self._db.execute("DELETE FROM gaps WHERE lane = ? AND first = ?", (state.number, low))
            if cause != why:
                gaps += [(low, min(high, begin - 1), cause), (max(low, end + 1), high, cause)]
        for low, high, cause in gaps:
            if low <= high:
                crc = tables.seal_gap(state.seed, low, high, cause)
                self._db.execute(tables.INSERT_GAP, (state.number, low, high, cause, crc))

    def _note_shed(self, state: LaneState, first: int, last: int, size_bytes: int) -> None:
        """The ledger of what was given up, for people."""
        latest = self._db.execute(
            "SELECT id, epoch, lane, first, last, size_bytes FROM shed ORDER BY id DESC LIMIT 1"
        ).fetchone() or (0, 0, "", 0, 0, 0)
        row, epoch, lane, begin, end, size = latest
        if (epoch, lane, end + 1) != (state.epoch, state.lane, first):
            row, begin, size = row + 1, first, 0
        now_ms = self._setting.clock.wall_ms()
        self._db.execute(
            "INSERT OR REPLACE INTO shed VALUES (?, ?, ?, ?, ?, 'shed', ?, ?)",
            (row, state.epoch, state.lane, begin, last, size + size_bytes, now_ms),
        )
        self._db.execute("DELETE FROM shed WHERE id <= ?", (row - _KEEP_SHED,))

    def refuse(self, work: Refuse) -> None:
        """Keep the event as a dead letter, and a gap in its place."""
        state = self._lanes.get(work.epoch, work.lane)
        if state is None:
            return
        self.refused.append((state, work.seq))
        if work.seq <= self._acked(state):
            return
        found = self._db.execute(
            "SELECT body FROM events WHERE lane = ? AND seq = ?", (state.number, work.seq)
        ).fetchone()
        if found is None:
            return
        self._db.execute(
            "INSERT INTO refused SELECT coalesce(max(id), 0) + 1, ?, ?, ?, ? FROM refused",
            (work.epoch, work.lane, work.seq, found[0]),
        )
        self._db.execute(
            "DELETE FROM refused WHERE id <= (SELECT max(id) FROM refused) - ?", (_KEEP_REFUSED,)
        )
        self._db.execute("DELETE FROM events WHERE lane = ? AND seq = ?", (state.number, work.seq))
        self.totals.size_bytes -= len(found[0])
        self._declare(state, work.seq, work.seq, "refused")
