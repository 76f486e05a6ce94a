"""The outbox's one writing thread: group commit, watermarks to disk, what goes when room is needed.

Here: transactions. Not here: what others ask (outbox, lanes), the shape of rows (tables).

Whatever waits when the thread comes round goes into one transaction, and a caller's future resolves
after that commit. Watermarks are written in groups: until then the disk holds more than it must.
"""

import logging
import queue
import secrets
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

from edge.clock import Clock
from edge.store import sqlite, tables
from edge.store.lanes import Lanes, LaneState
from edge.store.tables import Stored
from wire.events import Event, Lane, lane_of

log = logging.getLogger("forecourt.outbox")

_MAX_WAITING = 10_000
_GROUP_EVENTS = 2000
_GROUP_BYTES = 1024 * 1024
_CHUNK_EVENTS = 200
"""Rows that are dropped at once when room is needed."""
_KEEP_STORED = 1000
"""The newest events stay for the display whatever their age."""
_SAVE_NUMBERS = 2000
_SAVE_WITHIN_S = 30.0
_LOOK_S = 5.0
"""How often an idle thread looks whether watermarks have waited long enough."""
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
class Renew:
    """The next event begins a new epoch."""


@dataclass(frozen=True, slots=True)
class Save:
    """Watermarks are to be written now."""


Work = Append | Refuse | Renew | Save


@dataclass(slots=True)
class _Draft:
    """What a transaction changes in memory once it is committed."""

    epoch: int
    high: dict[Lane, int]
    totals: tables.Totals
    born: list[LaneState] = field(default_factory=list)
    given: dict[int, tuple[LaneState, int]] = field(default_factory=dict)
    saved: dict[int, tuple[LaneState, int]] = field(default_factory=dict)
    outdated: list[LaneState] = field(default_factory=list)
    refused: list[tuple[LaneState, int]] = field(default_factory=list)
    incidents: dict[str, Stored | None] = field(default_factory=dict)
    answers: list[tuple["Future[list[Stored]]", list[Stored]]] = field(default_factory=list)


class Writer:
    """The writing connection and its thread."""

    def __init__(
        self,
        path: Path,
        clock: Clock,
        *,
        quota_bytes: int,
        keep_acked_s: float,
        on_stored: Callable[[list[Stored]], None],
    ) -> None:
        self._path = path
        self._clock = clock
        self._quota_bytes = quota_bytes
        self._keep_acked_ms = int(keep_acked_s * 1000)
        self._on_stored = on_stored
        self.lanes = Lanes()
        self.open_incidents: dict[str, Stored] = {}
        """The latest event of each open incident; replaced by key, under the lock of `lanes`."""
        self._epoch = 0
        self._high: dict[Lane, int] = {}
        self._offset_ms: int | None = None
        self._unsaved_since_s: float | None = None
        self._save_asked = False
        self._work: queue.Queue[Work | None] = queue.Queue(_MAX_WAITING)
        self._db = self._open()
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self._thread.start()

    # --- any thread ---

    @property
    def shed(self) -> int:
        """Events given up since the process began."""
        return self._totals.shed

    @property
    def current(self) -> tuple[int, dict[str, int]]:
        """The epoch of this process, 0 before its first event, and its highest numbers."""
        with self.lanes.lock:
            return self._epoch, {str(lane): high for lane, high in self._high.items()}

    def do(self, work: Work) -> None:
        """Hand something over; waits where too much is waiting already."""
        self._work.put(work)

    def watermark_moved(self) -> None:
        """Write watermarks soon if many numbers were acknowledged. Never waits."""
        if self.lanes.unsaved_numbers >= _SAVE_NUMBERS and not self._save_asked:
            self._save_asked = True
            try:
                self._work.put_nowait(Save())
            except queue.Full:  # then the thread is busy, and looks by itself
                self._save_asked = False

    def close(self) -> None:
        """Write what was handed over, then close the file."""
        self._work.put(None)
        self._thread.join()
        self._db.close()

    # --- the thread ---

    def _open(self) -> sqlite3.Connection:
        try:
            return self._load()
        except sqlite.CorruptError as error:
            aside = sqlite.set_aside(self._path, self._clock.wall_ms())
            log.error("outbox damaged (%s); set aside as %s, starting a new one", error, aside.name)
            return self._load()

    def _load(self) -> sqlite3.Connection:
        connection = sqlite.open_writer(self._path, "", wal_bytes=4 * 1024 * 1024)
        try:
            connection.text_factory = sqlite.readable
            moved = tables.migrate(connection)
            if moved:
                log.info("outbox brought to version %d: %d events", tables.VERSION, moved)
            connection.executescript(tables.SCHEMA)
            self._totals = tables.load(connection, self.lanes, self.open_incidents)
        except sqlite.CorruptError:
            connection.close()
            raise
        except sqlite3.DatabaseError as error:
            connection.close()
            if sqlite.is_corrupt(error):
                raise sqlite.CorruptError(f"{self._path}: {error}") from None
            raise
        return connection

    def _run(self) -> None:
        stopping = False
        while not stopping:
            try:
                first = self._work.get(timeout=_LOOK_S)
            except queue.Empty:
                if self._save_due([]):
                    self._commit([Save()])
                continue
            group: list[Work] = []
            events = size_bytes = 0
            following: Work | None = first
            while True:
                if following is None:
                    stopping = True
                    group.append(Save())
                    break
                group.append(following)
                if isinstance(following, Append):
                    events += len(following.events)
                    size_bytes += following.size_bytes
                if events >= _GROUP_EVENTS or size_bytes >= _GROUP_BYTES:
                    break
                try:
                    following = self._work.get_nowait()
                except queue.Empty:
                    break
            self._commit(group)

    def _commit(self, group: Sequence[Work]) -> None:
        """One transaction for all that waits; each future hears of the same commit."""
        # A caller that has given up waiting is not told, and its events are not stored.
        alive = [
            work for work in group
            if not isinstance(work, Append) or work.future.set_running_or_notify_cancel()
        ]  # fmt: skip
        try:
            draft = self._transact(alive)
        except Exception as error:  # whatever it was: the writer lives on, and nobody waits in vain
            log.error("outbox cannot write: %s", error)
            for work in alive:
                if isinstance(work, Append):
                    work.future.set_exception(error)
            return
        rows: list[Stored] = []
        for future, stored in draft.answers:
            future.set_result(stored)
            rows += stored
        if draft.answers:
            self._on_stored(rows)

    def _transact(self, group: Sequence[Work]) -> _Draft:
        draft = _Draft(self._epoch, dict(self._high), replace(self._totals))
        self._db.execute("BEGIN IMMEDIATE")
        try:
            if self._save_due(group):
                self._save(draft)
                self._forget(draft)
            for work in group:
                match work:
                    case Append():
                        draft.answers.append((work.future, self._append(draft, work)))
                    case Refuse():
                        self._refuse(draft, work)
                    case Renew():
                        draft.epoch, draft.high = 0, {}
                    case Save():
                        pass
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        self._publish(draft)
        return draft

    def _publish(self, draft: _Draft) -> None:
        """What is on disk now is so in memory."""
        with self.lanes.lock:
            for state in draft.born:
                state.on_disk = True
                self.lanes.put(state)
            for state, high in draft.given.values():
                self.lanes.give(state, high)
            for state, acked in draft.saved.values():
                self.lanes.saved(state, acked)
            for state, seq in draft.refused:
                state.refused.discard(seq)
            for state in draft.outdated:
                self.lanes.drop(state)
            for incident, stored in draft.incidents.items():
                self.open_incidents.pop(incident, None)
                if stored is not None:
                    self.open_incidents[incident] = stored
            self._epoch, self._high, self._totals = draft.epoch, draft.high, draft.totals

    # --- events come ---

    def _append(self, draft: _Draft, work: Append) -> list[Stored]:
        if not work.events:
            return []
        self._notice_jump(draft)
        if not draft.epoch:
            draft.epoch = secrets.randbelow(2**53 - 1) + 1
        stored: list[Stored] = []
        for chunk in self._chunks(work):
            self._make_room(draft, sum(len(body) for _, body in chunk))
            stored += self._insert(draft, chunk)
        return stored

    def _chunks(self, work: Append) -> list[Sequence[tuple[Event, bytes]]]:
        """Pieces that are small beside the quota."""
        if work.size_bytes * 4 <= self._quota_bytes:
            return [work.events]
        cuts = [0]
        size_bytes = 0
        for index, (_, body) in enumerate(work.events):
            if size_bytes and (size_bytes + len(body)) * 16 > self._quota_bytes:
                cuts.append(index)
                size_bytes = 0
            size_bytes += len(body)
        return [work.events[a:b] for a, b in pairwise([*cuts, len(work.events)])]

    def _notice_jump(self, draft: _Draft) -> None:
        """A resumed memory image would give out numbers twice: it begins a new epoch."""
        offset_ms = self._clock.wall_ms() - self._clock.boot_ms()
        if self._offset_ms is not None and abs(offset_ms - self._offset_ms) > _JUMP_MS:
            draft.epoch, draft.high = 0, {}
        self._offset_ms = offset_ms

    def _insert(self, draft: _Draft, events: Sequence[tuple[Event, bytes]]) -> list[Stored]:
        epoch, totals = draft.epoch, draft.totals
        states: dict[Lane, LaneState] = {}
        seeds: dict[Lane, int] = {}
        rows = []
        stored = []
        incidents: dict[str, tuple[Event, Stored, int] | None] = {}
        for event, body in events:
            lane = lane_of(event)
            if lane not in states:
                states[lane] = self._lane(draft, lane)
                seeds[lane] = states[lane].seed
            seq = draft.high.get(lane, 0) + 1
            draft.high[lane] = seq
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
            draft.given[state.number] = (state, draft.high[lane])
        for incident, latest in incidents.items():
            self._note_incident(draft, states, incident, latest)
        return stored

    def _lane(self, draft: _Draft, lane: Lane) -> LaneState:
        """This epoch's lane, born now if it has no number yet."""
        state = self.lanes.get(draft.epoch, lane)
        if state is not None:
            return state
        for born in draft.born:
            if (born.epoch, born.lane) == (draft.epoch, lane):
                return born
        draft.totals.last_lane += 1
        state = LaneState(number=draft.totals.last_lane, epoch=draft.epoch, lane=lane)
        self._db.execute(tables.INSERT_LANE, tables.lane_row(state, 0))
        draft.born.append(state)
        return state

    def _note_incident(
        self,
        draft: _Draft,
        states: dict[Lane, LaneState],
        incident: str,
        latest: tuple[Event, Stored, int] | None,
    ) -> None:
        if latest is None:
            if draft.incidents.get(incident) or incident in self.open_incidents:
                self._db.execute("DELETE FROM incidents WHERE incident = ?", (incident,))
            draft.incidents[incident] = None
            return
        _, one, crc = latest
        if len(self.open_incidents) >= _KEEP_INCIDENTS and incident not in self.open_incidents:
            oldest = next(iter(self.open_incidents))
            log.error("more than %d incidents are open: %s is not followed any more",
                      _KEEP_INCIDENTS, oldest)  # fmt: skip
            self._db.execute("DELETE FROM incidents WHERE incident = ?", (oldest,))
            draft.incidents[oldest] = None
        self._db.execute(
            tables.INSERT_INCIDENT,
            (incident, states[one.lane].number, one.seq, one.id, crc, one.body),
        )
        draft.incidents[incident] = one

    # --- events go ---

    def _save_due(self, group: Sequence[Work]) -> bool:
        """Whether watermarks are to be written now."""
        if any(isinstance(work, Save) for work in group):
            return True
        if self.lanes.unsaved_numbers >= _SAVE_NUMBERS:
            return True
        now_s = self._clock.monotonic_s()
        if self._unsaved_since_s is None or not self.lanes.has_unsaved:
            self._unsaved_since_s = now_s if self.lanes.has_unsaved else None
            return False
        return now_s - self._unsaved_since_s >= _SAVE_WITHIN_S

    def _save(self, draft: _Draft) -> None:
        """Write the watermarks that moved."""
        self._save_asked = False
        self._unsaved_since_s = None
        now_ms = self._clock.wall_ms()
        for state, acked in self.lanes.unsaved():
            if not state.on_disk or state.number in draft.saved:
                continue
            low, up = sorted((state.saved, acked))
            (moved,) = self._db.execute(
                "SELECT coalesce(sum(length(body)), 0) FROM events"
                " WHERE lane = ? AND seq > ? AND seq <= ?",
                (state.number, low, up),
            ).fetchone()
            draft.totals.acked_bytes += moved if acked > state.saved else -moved
            self._db.execute(tables.INSERT_LANE, tables.lane_row(state, acked))
            self._db.execute("DELETE FROM gaps WHERE lane = ? AND last <= ?", (state.number, acked))
            self._mark(state, acked, now_ms)
            draft.saved[state.number] = (state, acked)

    def _mark(self, state: LaneState, acked: int, now_ms: int) -> None:
        """Remember when the watermark was there, finely enough to know how old an ack is."""
        self._db.execute("DELETE FROM marks WHERE lane = ? AND seq > ?", (state.number, acked))
        (latest_ms,) = self._db.execute(
            "SELECT max(at_ms) FROM marks WHERE lane = ?", (state.number,)
        ).fetchone()
        if latest_ms is None or abs(now_ms - latest_ms) >= self._keep_acked_ms // _MARKS:
            self._db.execute(
                "INSERT OR REPLACE INTO marks VALUES (?, ?, ?)", (state.number, acked, now_ms)
            )

    def _acked(self, draft: _Draft, state: LaneState) -> int:
        """The watermark as this transaction leaves it on disk."""
        return draft.saved[state.number][1] if state.number in draft.saved else state.saved

    def _with_rows(self, draft: _Draft, lane: Lane | None = None) -> list[LaneState]:
        """Lanes that have rows, oldest first."""
        known = {s.number: s for s in [*self.lanes.ordered(), *draft.born]}
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

    def _forget(self, draft: _Draft) -> None:
        """Drop what was acknowledged long ago, and more where it takes half of the quota."""
        now_ms = self._clock.wall_ms()
        totals = draft.totals
        for state in self._with_rows(draft):
            (old,) = self._db.execute(
                "SELECT coalesce(max(seq), 0) FROM marks WHERE lane = ? AND at_ms <= ?",
                (state.number, now_ms - self._keep_acked_ms),
            ).fetchone()
            old = min(old, self._acked(draft, state))
            if old:
                dropped = self._drop(state.number, 0, old, _GROUP_EVENTS,
                                     totals.last_id - _KEEP_STORED)  # fmt: skip
                self._forgot(draft, dropped[2])
                self._db.execute(
                    "DELETE FROM marks WHERE lane = ? AND seq < ?", (state.number, old)
                )
        self._trim_acked(draft, lambda: totals.acked_bytes * 2 <= self._quota_bytes)
        self._forget_lanes(draft, now_ms)

    def _forgot(self, draft: _Draft, size_bytes: int) -> None:
        draft.totals.size_bytes -= size_bytes
        draft.totals.acked_bytes -= size_bytes

    def _trim_acked(self, draft: _Draft, enough: Callable[[], bool]) -> None:
        """Drop acknowledged rows, oldest epoch first, until it is enough."""
        if enough() or draft.totals.acked_bytes <= 0:
            return
        for state in self._with_rows(draft):
            acked = self._acked(draft, state)
            while not enough():
                _, _, size_bytes, rows = self._drop(state.number, 0, acked, _CHUNK_EVENTS)
                if not rows:
                    break
                self._forgot(draft, size_bytes)

    def _forget_lanes(self, draft: _Draft, now_ms: int) -> None:
        """Drop drained lanes that need not be remembered, with what is left of them."""
        for state in self.lanes.outdated(now_ms):
            if state.epoch == draft.epoch or state.number in draft.saved:
                continue
            _, _, size_bytes, _ = self._drop(state.number, 0, _ANY, _ANY)
            self._forgot(draft, size_bytes)
            self._db.execute("DELETE FROM marks WHERE lane = ?", (state.number,))
            self._db.execute("DELETE FROM gaps WHERE lane = ?", (state.number,))
            self._db.execute("DELETE FROM lanes WHERE number = ?", (state.number,))
            draft.outdated.append(state)

    def _make_room(self, draft: _Draft, needed_bytes: int) -> None:
        """Keep the quota: first what the center has, then the oldest bulk, alarms last."""
        totals = draft.totals

        def enough() -> bool:
            return totals.size_bytes + needed_bytes <= self._quota_bytes

        if enough():
            return
        self._save(draft)
        self._trim_acked(draft, enough)
        for lane in ("bulk", "alarm"):
            self._shed(draft, lane, enough)

    def _shed(self, draft: _Draft, lane: Lane, enough: Callable[[], bool]) -> None:
        """Give up a lane's oldest events, declared by a gap, never silently."""
        if enough():
            return
        for state in self._with_rows(draft, lane):
            acked = self._acked(draft, state)
            while not enough():
                first, last, size_bytes, rows = self._drop(state.number, acked, _ANY, _CHUNK_EVENTS)
                if not rows:
                    break
                self._declare(state, first, last, "shed")
                self._note_shed(state, first, last, size_bytes)
                draft.totals.size_bytes -= size_bytes
                draft.totals.shed += rows
                log.error("outbox full: shed %d %s events %d..%d", rows, lane, first, last)

    def _declare(self, state: LaneState, first: int, last: int, why: str) -> None:
        """Record declared loss, joined to the gap that ends just before it."""
        before = self._db.execute(
            "SELECT first FROM gaps WHERE lane = ? AND first < ? AND last = ? AND why = ?"
            " ORDER BY first DESC LIMIT 1",
            (state.number, first, first - 1, why),
        ).fetchone()
        begin = before[0] if before else first
        crc = tables.seal_gap(state.seed, begin, last, why)
        self._db.execute(tables.INSERT_GAP, (state.number, begin, last, why, crc))

    def _note_shed(self, state: LaneState, first: int, last: int, size_bytes: int) -> None:
        """The ledger of what was given up, for people."""
        latest = self._db.execute(
            "SELECT id, epoch, lane, first, last, size_bytes FROM shed ORDER BY id DESC LIMIT 1"
        ).fetchone() or (0, 0, "", 0, 0, 0)
        row, epoch, lane, begin, end, size = latest
        if (epoch, lane, end + 1) != (state.epoch, state.lane, first):
            row, begin, size = row + 1, first, 0
        self._db.execute(
            "INSERT OR REPLACE INTO shed VALUES (?, ?, ?, ?, ?, 'shed', ?, ?)",
            (row, state.epoch, state.lane, begin, last, size + size_bytes, self._clock.wall_ms()),
        )
        self._db.execute("DELETE FROM shed WHERE id <= ?", (row - _KEEP_SHED,))

    def _refuse(self, draft: _Draft, work: Refuse) -> None:
        """Keep the event as a dead letter, and a gap in its place."""
        state = self.lanes.get(work.epoch, work.lane)
        if state is None:
            return
        draft.refused.append((state, work.seq))
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
        draft.totals.size_bytes -= len(found[0])
        self._declare(state, work.seq, work.seq, "refused")
