"""What goes into one batch, read from disk: the hot path of draining.

Not here: who asks, and what a batch looks like on the wire.
"""

import sqlite3
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from edge.store.lanes import LaneState
from wire.events import Gap


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


def slice_of(
    reader: sqlite3.Connection, state: LaneState, after: int, max_bytes: int, max_events: int
) -> Slice | None:
    """What follows number `after` of a lane; None if nothing does."""
    high, told, seed, refused = state.high, state.told, state.seed, state.refused
    position, gaps = _declared(reader, state.number, after)
    bodies: list[bytes] = []
    size_bytes = 0
    crc32 = zlib.crc32
    for seq, row, crc, body in reader.execute(
        "SELECT seq, id, crc, body FROM events WHERE lane = ? AND seq > ? ORDER BY seq LIMIT ?",
        (state.number, position, max_events),
    ):
        if seq > high:  # on disk, and not yet given out in memory
            break
        good = (
            type(body) is bytes
            and crc == crc32(body, crc32(b"%d %d" % (seq, row), seed))
            and not (refused and seq in refused)
        )
        if bodies:
            size_bytes += len(body) if good else 0
            if not good or seq != position + 1 + len(bodies) or size_bytes > max_bytes:
                break
            bodies.append(body)
            continue
        gaps += _missing(position + 1, seq - 1, told)
        position = seq - 1
        if good:
            size_bytes = len(body)
            bodies.append(body)
        else:
            gaps.append(Gap(first=seq, last=seq, why="refused" if seq in refused else "corrupt"))
            position = seq
    if not bodies and not gaps:
        gaps += _missing(position + 1, high, told)
        position = max(position, high)
    if not bodies and not gaps:
        return None
    return Slice(position + 1, tuple(bodies), tuple(gaps))


def _declared(reader: sqlite3.Connection, number: int, after: int) -> tuple[int, list[Gap]]:
    """The gaps on disk that follow `after` without a break, and the number they reach.

    Files of earlier versions may have gaps inside others: those say nothing new.
    """
    gaps: list[Gap] = []
    position = after
    for first, last, why in reader.execute(
        "SELECT first, last, why FROM gaps WHERE lane = ? AND last > ? ORDER BY first",
        (number, after),
    ):
        if first > position + 1:
            break
        if last <= position:
            continue
        gaps.append(Gap(first=position + 1, last=last, why=why))
        position = last
    return position, gaps


def _missing(first: int, last: int, told: int) -> Iterator[Gap]:
    """Gaps for numbers that are not on disk any more; none if `last` is before `first`."""
    if first <= min(last, told):
        yield Gap(first=first, last=min(last, told), why="forgotten")
    if max(first, told + 1) <= last:
        yield Gap(first=max(first, told + 1), last=last, why="corrupt")
