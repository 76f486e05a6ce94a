"""Events on this worker's disk, from the moment they are confirmed until the center has them.

Here: what others ask of the outbox. Not here: how it is written (writer), sending (uplink), showing
(display), desired state (another file, so that losing one does not lose both).

An event's identity is (worker, epoch, lane, seq). The epoch is a random number born with this
process's first event, so no restored disk or cloned image uses a number twice.

What is asked often is answered from memory. Rows are read by a connection of its own.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from itertools import groupby
from pathlib import Path
from typing import Any

from edge.clock import Clock
from edge.store.lanes import LaneState
from edge.store.slices import Slice
from edge.store.tables import LANES_WITH_ROWS, SHED_LEDGER, Shed, Stored, sound
from edge.store.transaction import Append, Refuse, Setting
from edge.store.writer import Renew, Save, Writer
from wire.events import (
    MAX_BATCH_EVENTS,
    MAX_EVENT_BYTES,
    Event,
    Lane,
    decode_event,
    encode_event,
)  # fmt: skip
from wire.messages import Held

__all__ = ["Outbox", "Shed", "Slice", "Stored"]

log = logging.getLogger("forecourt.outbox")


class Outbox:
    """The outbox in one file. `on_stored` is called on the writer's thread after each commit."""

    def __init__(
        self,
        path: Path,
        clock: Clock,
        *,
        quota_bytes: int = 256 * 1024 * 1024,
        keep_acked_s: float = 86_400.0,
        ballast_bytes: int = 8 * 1024 * 1024,
        on_stored: Callable[[list[Stored]], None] = lambda stored: None,
    ) -> None:
        self._clock = clock
        self._writer = Writer(
            path,
            Setting(clock, quota_bytes, int(keep_acked_s * 1000)),
            ballast_bytes=ballast_bytes,
            on_stored=on_stored,
        )
        self._lanes = self._writer.lanes
        self._reader = self._writer.reader

    # --- what comes and goes ---

    def append(self, events: Sequence[Event]) -> "Future[list[Stored]]":
        """Store events; the future resolves once they are on disk, or carries the error.

        Raises ValueError for an event above `MAX_EVENT_BYTES`; none of the list is stored then.
        """
        encoded = [(event, encode_event(event)) for event in events]
        size_bytes = 0
        for _, body in encoded:
            if len(body) > MAX_EVENT_BYTES:
                raise ValueError(f"an event of {len(body)} bytes is above {MAX_EVENT_BYTES}")
            size_bytes += len(body)
        future: Future[list[Stored]] = Future()
        self._writer.do(Append(encoded, size_bytes, future))
        return future

    def acked(self, epoch: int, lane: Lane, seq: int) -> None:
        """The center has everything up to `seq`: it may be forgotten. Older news is ignored.

        Counts at once; the disk hears of it in groups, so a crash only makes that more is held.
        """
        self._lanes.acknowledge(epoch, lane, seq, self._clock.wall_ms())
        self._writer.watermark_moved()

    def reopened(self, epoch: int, lane: Lane, seq: int) -> None:
        """A restored center has only up to `seq`: what follows is held again, if still on disk."""
        if self._lanes.reopen(epoch, lane, seq):
            self._writer.do(Save())

    def refuse(self, epoch: int, lane: Lane, seq: int) -> None:
        """The center cannot read this event: it becomes a gap, and a dead letter here."""
        state = self._lanes.get(epoch, lane)
        if state is not None and state.acked < seq <= state.high:
            state.refused.add(seq)
            self._writer.do(Refuse(epoch, lane, seq))

    def renew_epoch(self) -> None:
        """The next event begins a new epoch; the present one stays as it is."""
        self._writer.do(Renew())

    # --- answered from memory ---

    def held(self) -> tuple[list[Held], int]:
        """Undrained epochs, oldest first, and how many there are beyond the first `MAX_EPOCHS`."""
        return self._lanes.held()

    def held_from(self, offset: int, limit: int) -> list[Held]:
        """Undrained epochs, oldest first, without the first `offset`; at most `limit`."""
        return self._lanes.held_from(offset, limit)

    def drained(self, offset: int = 0, limit: int = 32) -> list[Held]:
        """Drained lanes of the last 90 days, last acknowledged first; `low` is `high` + 1."""
        return self._lanes.drained(offset, limit, self._clock.wall_ms())

    def undrained(self, lane: Lane) -> list[tuple[int, int, int]]:
        """(epoch, acked, high) of a lane's undrained epochs, newest first."""
        return [(s.epoch, s.acked, s.high) for s in self._lanes.undrained(lane)]

    def high(self) -> tuple[int, dict[str, int]]:
        """The epoch of this process, 0 before its first event, and its highest number by lane."""
        return self._writer.current

    def pending(self) -> dict[str, int]:
        """How many events wait for an ack, by lane; gaps count as they must be told too."""
        return self._lanes.pending()

    def watermarks(self) -> dict[tuple[int, Lane], int]:
        """The center's watermark of each known epoch and lane."""
        return self._lanes.watermarks()

    def open_incidents(self) -> list[Event]:
        """The latest event of each incident that has begun and not ended."""
        return [decode_event(stored.body) for stored in self._open()]

    def newest_open_alarm(self) -> Stored | None:
        """The latest event of the newest open alarm that the center does not have yet."""
        alarms = [stored for stored in self._open() if stored.lane == "alarm"]
        newest = max(alarms, key=lambda stored: stored.id, default=None)
        if newest is None:
            return None
        state = self._lanes.get(newest.epoch, newest.lane)
        return newest if state is not None and newest.seq > state.acked else None

    def _open(self) -> list[Stored]:
        with self._lanes.lock:
            return list(self._writer.open_incidents.values())

    @property
    def shed(self) -> int:
        """Events given up since the process began; each is in a gap."""
        return self._writer.shed

    # --- read from disk ---

    def slice(
        self,
        epoch: int,
        lane: Lane,
        after: int,
        max_bytes: int,
        max_events: int = MAX_BATCH_EVENTS,
    ) -> Slice | None:
        """What follows number `after`; None if nothing does. At least one event if there is one.

        A number that was given out and is not on disk any more becomes a gap: `forgotten` where
        the center had acknowledged it (a restored center asks again), else `corrupt`.
        """
        state = self._lanes.get(epoch, lane)
        if state is None:
            return None
        return self._reader.slice(state, after, max_bytes, max_events)

    def find(self, epoch: int, lane: Lane, seq: int) -> Stored | None:
        """One event, if it is still on disk and sound."""
        state = self._lanes.get(epoch, lane)
        if state is None:
            return None
        rows = self._reader.rows(
            "SELECT seq, id, crc, body FROM events WHERE lane = ? AND seq = ?", state.number, seq
        )
        return next(_stored(state, rows), None)

    def recent(self, limit: int) -> list[Stored]:
        """The newest events of all epochs in order of append."""
        found: list[Stored] = []
        for states in self._epochs_with_rows():
            for state in states:
                rows = self._reader.rows(
                    "SELECT seq, id, crc, body FROM events WHERE lane = ? ORDER BY seq DESC"
                    " LIMIT ?",
                    state.number, limit,
                )  # fmt: skip
                found += _stored(state, rows)
            if len(found) >= limit:
                break
        return sorted(found, key=_place)[-limit:] if limit > 0 else []

    def after(self, after_id: int, limit: int) -> list[Stored]:
        """The oldest events that were appended after `after_id`."""
        found: list[Stored] = []
        for states in self._epochs_with_rows():
            of_epoch: list[Stored] = []
            for state in states:
                rows = self._reader.rows(
                    "SELECT seq, id, crc, body FROM events WHERE lane = ? AND seq >= ?"
                    " ORDER BY seq LIMIT ?",
                    state.number, self._first_after(state, after_id), limit,
                )  # fmt: skip
                of_epoch += _stored(state, rows)
            if not of_epoch:
                break
            found = [*sorted(of_epoch, key=_place)[:limit], *found][:limit]
        return found

    def _epochs_with_rows(self) -> Iterator[list[LaneState]]:
        """Lanes that have rows by epoch, newest first: every id of an epoch is above older ones."""
        known = {state.number: state for state in self._lanes.ordered()}
        numbers = [n for (n,) in self._reader.rows(LANES_WITH_ROWS) if n in known]
        for _, states in groupby((known[n] for n in reversed(numbers)), key=lambda s: s.epoch):
            yield list(states)

    def _first_after(self, state: LaneState, after_id: int) -> int:
        """The first number of a lane whose id is above `after_id`: ids rise within a lane."""
        low, high = 1, state.high + 1
        while low < high:
            middle = (low + high) // 2
            rows = self._reader.rows(
                "SELECT seq, id FROM events WHERE lane = ? AND seq >= ? ORDER BY seq LIMIT 1",
                state.number, middle,
            )  # fmt: skip
            if rows and rows[0][1] <= after_id:
                low = rows[0][0] + 1
            else:
                high = middle
        return low

    def shed_ledger(self) -> list[Shed]:
        """What was given up for want of room, newest first."""
        return [Shed(*row) for row in self._reader.rows(SHED_LEDGER)]

    def close(self) -> None:
        """Write what was handed over, then close the file."""
        self._writer.close()


def _stored(state: LaneState, rows: list[Any]) -> Iterator[Stored]:
    """The events of a lane's rows that are as they were written."""
    for seq, row, crc, body in rows:
        if sound(state.seed, seq, row, crc, body):
            yield Stored(row, state.epoch, state.lane, seq, body)


def _place(stored: Stored) -> int:
    return stored.id
