"""Events on this worker's disk, from the moment they are confirmed until the center has them.

Here: numbering, group commit, what is pending, what was acked, what was shed. Not here: sending
(uplink), showing (display), desired state (another file, so that losing one does not lose both).

An event's identity is (worker, epoch, lane, seq). The epoch is a random number born with this
process's first event, so no restored disk or cloned image uses a number twice.

One thread writes. Whatever waits when it comes round goes into one transaction (group commit), and
a caller's future resolves after that commit. Readers have connections of their own.
"""

import logging
import queue
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from edge.clock import Clock
from edge.store import sqlite
from wire.events import (
    LANES,
    MAX_BATCH_EVENTS,
    MAX_EVENT_BYTES,
    Event,
    Gap,
    Lane,
    decode_event,
    encode_event,
    lane_of,
)  # fmt: skip
from wire.messages import MAX_EPOCHS, Held

log = logging.getLogger("forecourt.outbox")

_KEEP_STORED = 1000
_MAX_WAITING = 10_000
_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
  id    INTEGER PRIMARY KEY AUTOINCREMENT,  -- order of append, for the display
  epoch INTEGER NOT NULL,
  lane  TEXT    NOT NULL CHECK (lane IN ('alarm', 'bulk')),
  seq   INTEGER NOT NULL CHECK (seq > 0),
  body  BLOB    NOT NULL,                   -- JSON, byte for byte what is sent
  UNIQUE (epoch, lane, seq)
);
CREATE TABLE IF NOT EXISTS lanes (
  epoch  INTEGER NOT NULL,
  lane   TEXT    NOT NULL,
  high   INTEGER NOT NULL,                  -- highest number given out
  acked  INTEGER NOT NULL,                  -- the center's watermark
  born_ms INTEGER NOT NULL,
  PRIMARY KEY (epoch, lane)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS gaps (           -- declared loss, until the watermark is past it
  epoch INTEGER NOT NULL,
  lane  TEXT    NOT NULL,
  first INTEGER NOT NULL,
  last  INTEGER NOT NULL,
  why   TEXT    NOT NULL,
  PRIMARY KEY (epoch, lane, first)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS incidents (      -- begun and not ended: what a crash leaves open
  incident TEXT PRIMARY KEY,
  body     BLOB NOT NULL                    -- its latest event
) WITHOUT ROWID;
"""


def _readable(body: bytes) -> bool:
    """Whether an event's bytes are still an event; a disk may rot."""
    try:
        decode_event(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False
    return True


def _missing(first: int, last: int, acked: int) -> Iterator[Gap]:
    """Gaps for numbers that are not on disk any more; none if `last` is before `first`."""
    if first <= min(last, acked):
        yield Gap(first=first, last=min(last, acked), why="forgotten")
    if max(first, acked + 1) <= last:
        yield Gap(first=max(first, acked + 1), last=last, why="corrupt")


@dataclass(frozen=True, slots=True)
class Stored:
    """An event on disk. `id` is its place in the order of append."""

    id: int
    epoch: int
    lane: Lane
    seq: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Slice:
    """What goes into one batch: gaps first, then contiguous events from `first`."""

    first: int
    events: tuple[bytes, ...]
    gaps: tuple[Gap, ...]

    @property
    def last(self) -> int:
        """The highest number that this slice accounts for."""
        return self.first + len(self.events) - 1


_Append = tuple[list[tuple[Event, bytes]], "Future[list[Stored]]"]
_Acked = tuple[int, Lane, int]


class Outbox:
    """The outbox in one file. `on_stored` is called on the writer's thread after each commit."""

    def __init__(
        self,
        path: Path,
        clock: Clock,
        *,
        quota_bytes: int = 256 * 1024 * 1024,
        on_stored: Callable[[list[Stored]], None] = lambda stored: None,
    ) -> None:
        self._path = path
        self._clock = clock
        self._quota_bytes = quota_bytes
        self._on_stored = on_stored
        try:
            self._writer = sqlite.open_writer(path, _SCHEMA)
        except sqlite.CorruptError as error:
            aside = sqlite.set_aside(path, clock.wall_ms())
            log.error("outbox damaged (%s); set aside as %s, starting a new one", error, aside.name)
            self._writer = sqlite.open_writer(path, _SCHEMA)
        self._reader = sqlite.open_reader(path)
        self._reading = threading.Lock()
        self._epoch: int | None = None
        self._high: dict[Lane, int] = dict.fromkeys(LANES, 0)
        (self._bytes,) = self._writer.execute(
            "SELECT coalesce(sum(length(body)), 0) FROM events"
        ).fetchone()
        self.shed = 0
        self._work: queue.Queue[_Append | _Acked | None] = queue.Queue(_MAX_WAITING)
        self._thread = threading.Thread(target=self._write, name="outbox", daemon=True)
        self._thread.start()

    # --- what others ask for ---

    def append(self, events: Sequence[Event]) -> "Future[list[Stored]]":
        """Store events; the future resolves once they are on disk, or carries the error.

        Raises ValueError for an event above `MAX_EVENT_BYTES`; none of the list is stored then.
        """
        encoded = [(event, encode_event(event)) for event in events]
        for _, body in encoded:
            if len(body) > MAX_EVENT_BYTES:
                raise ValueError(f"an event of {len(body)} bytes is above {MAX_EVENT_BYTES}")
        future: Future[list[Stored]] = Future()
        self._work.put((encoded, future))
        return future

    def acked(self, epoch: int, lane: Lane, seq: int) -> None:
        """The center has everything up to `seq`: it may be forgotten. Older news is ignored."""
        self._work.put((epoch, lane, seq))

    def held(self) -> tuple[list[Held], int]:
        """Undrained epochs, oldest first, and how many there are beyond the first `MAX_EPOCHS`."""
        rows = self._read(
            "SELECT epoch, lane, acked + 1, high FROM lanes WHERE acked < high"
            " ORDER BY born_ms, epoch, lane"
        )
        held = [Held(epoch=e, lane=lane, low=low, high=high) for e, lane, low, high in rows]
        return held[:MAX_EPOCHS], max(0, len(held) - MAX_EPOCHS)

    def undrained(self, lane: Lane) -> list[tuple[int, int, int]]:
        """(epoch, acked, high) of a lane's undrained epochs, newest first."""
        return [
            (epoch, acked, high)
            for epoch, acked, high in self._read(
                "SELECT epoch, acked, high FROM lanes WHERE lane = ? AND acked < high"
                " ORDER BY born_ms DESC, epoch DESC",
                lane,
            )
        ]

    def slice(self, epoch: int, lane: Lane, after: int, max_bytes: int) -> Slice | None:
        """What follows number `after`, at most `MAX_BATCH_EVENTS` events; None if nothing does.

        A number that was given out and is not on disk any more becomes a gap: `forgotten` where
        the center had acknowledged it (a restored center asks again), else `corrupt`.
        """
        of_lane = self._read(
            "SELECT acked, high FROM lanes WHERE epoch = ? AND lane = ?", epoch, lane
        )
        acked, high = of_lane[0] if of_lane else (0, 0)
        gaps: list[Gap] = []
        position = after
        for first, last, why in self._read(
            "SELECT first, last, why FROM gaps WHERE epoch = ? AND lane = ? AND last > ?"
            " ORDER BY first",
            epoch, lane, after,
        ):  # fmt: skip
            if first > position + 1:
                break
            gaps.append(Gap(first=position + 1, last=last, why=why))
            position = last
        bodies: list[bytes] = []
        size_bytes = 0
        for seq, body in self._read(
            "SELECT seq, body FROM events WHERE epoch = ? AND lane = ? AND seq > ?"
            " ORDER BY seq LIMIT ?",
            epoch, lane, position, MAX_BATCH_EVENTS,
        ):  # fmt: skip
            following = position + 1 + len(bodies)
            size_bytes += len(body)
            if bodies and (seq != following or size_bytes > max_bytes or not _readable(body)):
                break
            if not bodies:
                gaps += _missing(following, seq - 1, acked)
                position = seq - 1
                if not _readable(body):
                    gaps.append(Gap(first=seq, last=seq, why="corrupt"))
                    position = seq
                    continue
            bodies.append(body)
        if not bodies and not gaps:
            gaps += _missing(position + 1, high, acked)
            position = max(position, high)
        if not bodies and not gaps:
            return None
        return Slice(position + 1, tuple(bodies), tuple(gaps))

    def recent(self, limit: int) -> list[Stored]:
        """The newest events of all epochs in order of append."""
        rows = self._read(
            "SELECT id, epoch, lane, seq, body FROM events ORDER BY id DESC LIMIT ?", limit
        )
        return [Stored(*row) for row in reversed(rows)]

    def after(self, after_id: int, limit: int) -> list[Stored]:
        """The oldest events that were appended after `after_id`."""
        rows = self._read(
            "SELECT id, epoch, lane, seq, body FROM events WHERE id > ? ORDER BY id LIMIT ?",
            after_id, limit,
        )  # fmt: skip
        return [Stored(*row) for row in rows]

    def open_incidents(self) -> list[Event]:
        """The latest event of each incident that has begun and not ended."""
        return [
            decode_event(body)
            for (body,) in self._read("SELECT body FROM incidents")
            if _readable(body)
        ]

    def pending(self) -> dict[str, int]:
        """How many events wait for an ack, by lane; gaps count as they must be told too."""
        counts = dict.fromkeys(LANES, 0)
        for lane, count in self._read("SELECT lane, sum(high - acked) FROM lanes GROUP BY lane"):
            counts[lane] = count
        return {str(lane): count for lane, count in counts.items()}

    def watermarks(self) -> dict[tuple[int, Lane], int]:
        """The center's watermark of each known epoch and lane."""
        return {(e, lane): acked for e, lane, acked in self._read(
            "SELECT epoch, lane, acked FROM lanes"
        )}  # fmt: skip

    def close(self) -> None:
        """Write what was handed over, then close the file."""
        self._work.put(None)
        self._thread.join()
        self._reader.close()
        self._writer.close()

    def _read(self, sql: str, *values: object) -> list[Any]:
        with self._reading:
            return self._reader.execute(sql, values).fetchall()

    # --- the writer's thread ---

    def _write(self) -> None:
        stopping = False
        while not stopping:
            waiting = [self._work.get()]
            while len(waiting) < MAX_BATCH_EVENTS:
                try:
                    waiting.append(self._work.get_nowait())
                except queue.Empty:
                    break
            stopping = None in waiting
            self._commit([work for work in waiting if work is not None])

    def _commit(self, waiting: Iterable[_Append | _Acked]) -> None:
        """One transaction for all that waits; each future hears of the same commit."""
        # A caller that has given up waiting is not told, and its events are not stored.
        alive = [w for w in waiting if len(w) == 3 or w[1].set_running_or_notify_cancel()]
        stored: list[tuple[Future[list[Stored]], list[Stored]]] = []
        before = (dict(self._high), self._epoch, self._bytes, self.shed)
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            for work in alive:
                if len(work) == 2:
                    stored.append((work[1], self._insert(work[0])))
                else:
                    self._advance(*work)
            self._writer.execute("COMMIT")
        except Exception as error:  # whatever it was: the writer lives on, and nobody waits in vain
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            self._high, self._epoch, self._bytes, self.shed = before
            log.error("outbox cannot write: %s", error)
            for work in alive:
                if len(work) == 2:
                    work[1].set_exception(error)
            return
        for future, rows in stored:
            future.set_result(rows)
        if stored:
            self._on_stored([row for _, rows in stored for row in rows])

    def _insert(self, events: Sequence[tuple[Event, bytes]]) -> list[Stored]:
        if self._epoch is None:
            self._epoch = secrets.randbelow(2**53 - 1) + 1
        epoch = self._epoch
        rows = []
        for event, body in events:
            self._make_room(len(body))
            lane = lane_of(event)
            seq = self._high[lane] + 1
            cursor = self._writer.execute(
                "INSERT INTO events (epoch, lane, seq, body) VALUES (?, ?, ?, ?)",
                (epoch, lane, seq, body),
            )
            self._writer.execute(
                "INSERT INTO lanes (epoch, lane, high, acked, born_ms) VALUES (?, ?, ?, 0, ?)"
                " ON CONFLICT (epoch, lane) DO UPDATE SET high = excluded.high",
                (epoch, lane, seq, self._clock.wall_ms()),
            )
            self._high[lane] = seq
            self._bytes += len(body)
            rows.append(Stored(cursor.lastrowid or 0, epoch, lane, seq, body))
            self._note_incident(event, body)
        return rows

    def _note_incident(self, event: Event, body: bytes) -> None:
        if event.phase == "end":
            self._writer.execute("DELETE FROM incidents WHERE incident = ?", (event.incident,))
        elif event.phase is not None and event.incident is not None:
            self._writer.execute(
                "INSERT INTO incidents VALUES (?, ?)"
                " ON CONFLICT (incident) DO UPDATE SET body = excluded.body",
                (event.incident, body),
            )

    def _advance(self, epoch: int, lane: Lane, seq: int) -> None:
        """Move a watermark up, and forget in groups what the center has.

        A center that has more than this disk (which was restored) has at least all of this.
        """
        moved = self._writer.execute(
            "UPDATE lanes SET acked = min(high, ?)"
            " WHERE epoch = ? AND lane = ? AND acked < min(high, ?)",
            (seq, epoch, lane, seq),
        ).rowcount
        if not moved:
            return
        self._writer.execute(
            "DELETE FROM gaps WHERE epoch = ? AND lane = ? AND last <= ?", (epoch, lane, seq)
        )
        self._forget_stored(epoch, lane, _KEEP_STORED)

    def _forget_stored(self, epoch: int, lane: str, keep: int) -> None:
        """Drop a lane's acked events but for the newest `keep` rows, which the display shows."""
        gone = self._writer.execute(
            "DELETE FROM events WHERE epoch = ? AND lane = ?"
            " AND seq <= (SELECT acked FROM lanes WHERE epoch = ? AND lane = ?)"
            " AND id <= (SELECT max(id) FROM events) - ? RETURNING length(body)",
            (epoch, lane, epoch, lane, keep),
        ).fetchall()
        self._bytes -= sum(size for (size,) in gone)
        self._writer.execute(
            "DELETE FROM lanes WHERE acked = high AND epoch != ? AND NOT EXISTS"
            " (SELECT 1 FROM events WHERE events.epoch = lanes.epoch AND events.lane = lanes.lane)",
            (self._epoch or 0,),
        )

    def _make_room(self, needed_bytes: int) -> None:
        """Keep the quota: first what the center has, then the oldest bulk, alarms last.

        What the center does not have is shed with a gap, never silently.
        """
        if self._bytes + needed_bytes <= self._quota_bytes:
            return
        for epoch, lane in self._writer.execute("SELECT epoch, lane FROM lanes").fetchall():
            self._forget_stored(epoch, lane, 0)
        for lane in ("bulk", "alarm"):
            while self._bytes + needed_bytes > self._quota_bytes:
                oldest = self._writer.execute(
                    "SELECT epoch, min(seq), max(seq), sum(length(body)), count(*) FROM ("
                    "  SELECT epoch, seq, body FROM events WHERE lane = ? AND epoch ="
                    "    (SELECT epoch FROM events WHERE lane = ? ORDER BY id LIMIT 1)"
                    "  ORDER BY seq LIMIT 100)",
                    (lane, lane),
                ).fetchone()
                epoch, first, last, size_bytes, count = oldest
                if not count:
                    break
                self._writer.execute(
                    "DELETE FROM events WHERE epoch = ? AND lane = ? AND seq <= ?",
                    (epoch, lane, last),
                )
                self._declare(epoch, lane, first, last, "shed")
                self._bytes -= size_bytes
                self.shed += count
                log.error("outbox full: shed %d %s events %d..%d", count, lane, first, last)

    def _declare(self, epoch: int, lane: str, first: int, last: int, why: str) -> None:
        """Record declared loss, joined to the gap that ends just before it."""
        joined = self._writer.execute(
            "UPDATE gaps SET last = ? WHERE epoch = ? AND lane = ? AND last = ? AND why = ?",
            (last, epoch, lane, first - 1, why),
        ).rowcount
        if not joined:
            self._writer.execute(
                "INSERT INTO gaps (epoch, lane, first, last, why) VALUES (?, ?, ?, ?, ?)",
                (epoch, lane, first, last, why),
            )
