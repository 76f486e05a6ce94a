"""How far each lane of each epoch is, in memory: what was given out and what the center has.

Here: the index that answers whatever is asked often. Not here: rows on disk (tables, writer).

Lanes are numbered on disk in the order of their birth, so epochs are ordered without a clock.
Any thread may ask; the writer alone adds lanes and gives out numbers.
"""

import threading
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from wire.events import LANES, OPEN_END, Lane
from wire.messages import MAX_EPOCHS, Held

KEEP_DRAINED = 4096
"""Drained lanes that are remembered as evidence for a restored center,"""
KEEP_DRAINED_MS = 90 * 86_400_000
"""and for how long."""
_PLAUSIBLE_MS = 1_577_836_800_000
"""2020: a time before it was told by a clock that was not set, and says nothing of an age."""


@dataclass(slots=True)
class LaneState:
    """One lane of one epoch. Changed under the lock of `Lanes` only."""

    number: int
    epoch: int
    lane: Lane
    acked: int = 0
    """The center's watermark."""
    high: int = 0
    """The highest number given out; `OPEN_END` where nobody knows any more."""
    told: int = 0
    """The highest watermark ever heard: what is missing below was forgotten, not damaged."""
    told_ms: int = 0
    """When the center last acknowledged, wall time."""
    told_turn: int = 0
    """In which turn since this process began it did; 0 for what an earlier one heard."""
    saved: int = 0
    """The watermark as it lies on disk."""
    open_from: int = 0
    """Where an open-ended gap begins; 0 if there is none."""
    on_disk: bool = False
    refused: set[int] = field(default_factory=set)
    """Numbers that the center cannot read, until they are a gap on disk."""

    @property
    def seed(self) -> int:
        """What the checksums of this lane's rows start from."""
        return zlib.crc32(b"%d %s" % (self.epoch, self.lane.encode()))

    @property
    def pending(self) -> int:
        """How many numbers wait for an ack; an open end counts as one."""
        if self.open_from and self.acked < self.high:
            return max(0, self.open_from - 1 - self.acked) + 1
        return self.high - self.acked


class Lanes:
    """All lanes that are known, drained ones included."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._all: dict[tuple[int, Lane], LaneState] = {}
        self._undrained: dict[Lane, dict[int, LaneState]] = {lane: {} for lane in LANES}
        self._unsaved: dict[int, LaneState] = {}
        self._turn = 0
        self.unsaved_numbers = 0
        """How many numbers were acknowledged since the watermarks were last written."""

    # --- the writer's part ---

    def put(self, state: LaneState) -> None:
        """A lane from disk, or a new one."""
        with self.lock:
            self._all[state.epoch, state.lane] = state
            self._sort(state)

    def drop(self, state: LaneState) -> None:
        """A lane of which nothing is left."""
        with self.lock:
            self._all.pop((state.epoch, state.lane), None)
            self._undrained[state.lane].pop(state.number, None)
            self._unsaved.pop(state.number, None)

    def adopt(self, states: Iterable[LaneState]) -> None:
        """Lanes as they lie on disk, in place of all others; what memory knows of acks stays."""
        with self.lock:
            before = self._all
            self._all = {}
            self._unsaved.clear()
            for undrained in self._undrained.values():
                undrained.clear()
            for state in states:
                was = before.get((state.epoch, state.lane))
                if was is not None and was.told:
                    state.acked = min(was.acked, state.high)
                    state.told, state.told_ms = was.told, was.told_ms
                    state.told_turn = was.told_turn
                self.put(state)
                self._mark(state)

    def give(self, state: LaneState, high: int) -> None:
        """Numbers up to `high` are on disk."""
        with self.lock:
            state.high = max(state.high, high)
            self._sort(state)

    @property
    def has_unsaved(self) -> bool:
        """Whether a watermark on disk is not that in memory."""
        return bool(self._unsaved)

    def unsaved(self) -> list[tuple[LaneState, int]]:
        """Lanes whose watermark on disk is not that in memory, and the one to write."""
        with self.lock:
            self.unsaved_numbers = 0
            return [(state, state.acked) for state in self._unsaved.values()]

    def saved(self, state: LaneState, acked: int) -> None:
        """This watermark lies on disk now."""
        with self.lock:
            state.saved = acked
            if state.acked == acked:
                self._unsaved.pop(state.number, None)

    def ordered(self) -> list[LaneState]:
        """All lanes, oldest first."""
        with self.lock:
            return sorted(self._all.values(), key=_number)

    def may_hold(self) -> list[LaneState]:
        """Lanes that were not drained when they were last written, oldest first."""
        return [s for s in self.ordered() if s.acked < s.high or s.saved < s.high]

    def outdated(self, now_ms: int) -> list[LaneState]:
        """Drained lanes that need not be remembered any more."""
        with self.lock:
            states = sorted(self._all.values(), key=_heard, reverse=True)
        drained = [s for s in states if s.on_disk and s.acked >= s.high]
        return drained[KEEP_DRAINED:] + [
            s for s in drained[:KEEP_DRAINED]
            if _PLAUSIBLE_MS < s.told_ms < now_ms - KEEP_DRAINED_MS
        ]  # fmt: skip

    # --- what the center says ---

    def acknowledge(self, epoch: int, lane: Lane, seq: int, now_ms: int) -> None:
        """Raise a watermark; older news and unknown lanes change nothing.

        A center that has more than this disk (which was restored) has at least all of this.
        """
        with self.lock:
            state = self._all.get((epoch, lane))
            if state is None or min(seq, state.high) <= state.acked:
                return
            before = state.pending
            state.acked = min(seq, state.high)
            state.told = max(state.told, state.acked)
            state.told_ms = now_ms
            self._turn += 1
            state.told_turn = self._turn
            self.unsaved_numbers += before - state.pending
            self._sort(state)
            self._mark(state)

    def reopen(self, epoch: int, lane: Lane, seq: int) -> bool:
        """Lower a watermark to what a restored center has. False if there is nothing to lower."""
        with self.lock:
            state = self._all.get((epoch, lane))
            if state is None or seq >= state.acked or seq < 0:
                return False
            state.acked = seq
            self._sort(state)
            self._mark(state)
            return True

    def _mark(self, state: LaneState) -> None:
        if state.acked == state.saved:
            self._unsaved.pop(state.number, None)
        else:
            self._unsaved[state.number] = state

    def _sort(self, state: LaneState) -> None:
        if state.acked < state.high:
            self._undrained[state.lane][state.number] = state
        else:
            self._undrained[state.lane].pop(state.number, None)

    # --- what others ask ---

    def get(self, epoch: int, lane: Lane) -> LaneState | None:
        """A lane, if it is known."""
        with self.lock:
            return self._all.get((epoch, lane))

    def undrained(self, lane: Lane) -> list[LaneState]:
        """A lane's undrained epochs, newest first."""
        with self.lock:
            return sorted(self._undrained[lane].values(), key=_number, reverse=True)

    def held(self) -> tuple[list[Held], int]:
        """Undrained epochs, oldest first, and how many there are beyond `MAX_EPOCHS`."""
        with self.lock:
            count = sum(len(undrained) for undrained in self._undrained.values())
            return self.held_from(0, MAX_EPOCHS), max(0, count - MAX_EPOCHS)

    def held_from(self, offset: int, limit: int) -> list[Held]:
        """Undrained epochs, oldest first, without the first `offset`."""
        with self.lock:
            states = sorted((s for lane in LANES for s in self._undrained[lane].values()),
                            key=_number)  # fmt: skip
            return [
                Held(epoch=s.epoch, lane=s.lane, low=s.acked + 1, high=s.high)
                for s in states[offset : offset + limit]
            ]

    def drained(self, offset: int, limit: int, now_ms: int) -> list[Held]:
        """Drained lanes that are remembered, those first that were acknowledged last.

        The newest epochs drain first, so what a center forgot when it was restored may well be old.
        """
        outdated = {state.number for state in self.outdated(now_ms)}
        with self.lock:
            states = [
                s for s in sorted(self._all.values(), key=_heard, reverse=True)
                if 0 < s.high <= s.acked and s.number not in outdated
            ]  # fmt: skip
            return [
                Held(epoch=s.epoch, lane=s.lane, low=s.high + 1, high=s.high)
                for s in states[offset : offset + limit]
            ]

    def pending(self) -> dict[str, int]:
        """How many numbers wait for an ack, by lane."""
        with self.lock:
            return {
                str(lane): sum(s.pending for s in self._undrained[lane].values()) for lane in LANES
            }

    def watermarks(self) -> dict[tuple[int, Lane], int]:
        """The watermark of each epoch and lane."""
        with self.lock:
            return {key: s.acked for key, s in self._all.items() if s.high}


def _number(state: LaneState) -> int:
    return state.number


def _heard(state: LaneState) -> tuple[int, int, int]:
    return state.told_turn, state.told_ms, state.number


def open_end(last: int) -> bool:
    """Whether a gap that ends there has no end."""
    return last >= OPEN_END
