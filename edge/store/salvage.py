"""What can be saved from a damaged outbox, and gaps for all that cannot.

Here: rows that prove themselves by their checksum go into a fresh file under the same numbers. Not
here: reading pages (pages), when it happens (writer).

Each lane that was not drained ends in an open-ended gap: nobody knows what was there.
"""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from edge.store import pages, tables
from edge.store.lanes import LaneState
from edge.store.roster import Roster
from wire.events import OPEN_END

_GROUP_ROWS = 2000


@dataclass(frozen=True, slots=True)
class Salvaged:
    """How many events were saved, and in how many gaps the rest is."""

    events: int
    gaps: int


@dataclass(slots=True)
class _Found:
    """What a damaged file still says, apart from events."""

    lanes: dict[int, LaneState]
    gaps: dict[tuple[int, int], tuple[int, str]]
    incidents: dict[str, tuple[int, int, int, int, bytes]]


def salvage(damaged: Path | None, fresh: sqlite3.Connection, roster: Roster | None) -> Salvaged:
    """Bring into `fresh`, an empty outbox, what is sound in a damaged file (None: nothing is left).

    Raises sqlite3.Error and OSError where the fresh file cannot be written.
    """
    found = _index(damaged, roster)
    saved = 0
    _begin(fresh)
    for state in found.lanes.values():
        fresh.execute(tables.INSERT_LANE, tables.lane_row(state, state.acked))
    if damaged is not None:
        events = _events(damaged, found.lanes)
        while group := list(islice(events, _GROUP_ROWS)):
            saved += fresh.executemany(tables.SAVE_EVENT, group).rowcount
            fresh.execute("COMMIT")
            _begin(fresh)
    gaps = 0
    for state in found.lanes.values():
        declared = {
            first: gap for (number, first), gap in found.gaps.items() if number == state.number
        }
        gaps += _close(fresh, state, declared, roster is None or state.number in roster)
    for incident, (number, seq, row, crc, body) in found.incidents.items():
        fresh.execute(tables.INSERT_INCIDENT, (incident, number, seq, row, crc, body))
    fresh.execute("COMMIT")
    return Salvaged(saved, gaps)


def _begin(fresh: sqlite3.Connection) -> None:
    fresh.execute("BEGIN IMMEDIATE")


def _is_event(row: pages.Row) -> bool:
    return len(row) == 5 and isinstance(row[4], bytes) and isinstance(row[2], int)


def _index(damaged: Path | None, roster: Roster | None) -> _Found:
    """Lanes, gaps and open incidents; of several copies of a row the one that holds more."""
    found = _Found({}, {}, {})
    gaps: list[tuple[int, int, int, str, int]] = []
    incidents: list[tuple[str, int, int, int, int, bytes]] = []
    if damaged is not None:
        for values in pages.rows(damaged, lambda row: not _is_event(row)):
            match values:
                case (int(number), int(first), int(last), str(why), int(crc)):
                    gaps.append((number, first, last, why, crc))
                case (str(name), int(number), int(seq), int(row_id), int(crc), bytes(body)):
                    incidents.append((name, number, seq, row_id, crc, body))
                case _ if (state := tables.lane_from(values)) is not None:
                    _merge(found.lanes, state)
    for number, (epoch, lane) in (roster or {}).items():
        found.lanes.setdefault(number, LaneState(number=number, epoch=epoch, lane=lane))
    for number, first, last, why, crc in gaps:
        state = found.lanes.get(number)
        if state is not None and crc == tables.seal_gap(state.seed, first, last, why):
            known = found.gaps.get((number, first))
            if known is None or known[0] < last:
                found.gaps[number, first] = (last, why)
    for incident, number, seq, row_id, crc, body in incidents:
        state = found.lanes.get(number)
        if state is not None and tables.sound(state.seed, seq, row_id, crc, body):
            latest = found.incidents.get(incident)
            if latest is None or latest[2] < row_id:
                found.incidents[incident] = (number, seq, row_id, crc, body)
    return found


def _merge(lanes: dict[int, LaneState], state: LaneState) -> None:
    known = lanes.setdefault(state.number, state)
    if known is not state:
        known.acked = min(known.acked, state.acked)
        known.high = max(known.high, state.high)
        known.told = max(known.told, state.told)
        known.told_ms = max(known.told_ms, state.told_ms)


def _events(damaged: Path, lanes: dict[int, LaneState]) -> Iterator[pages.Row]:
    """Rows of events that are what was once written."""
    seeds = {number: state.seed for number, state in lanes.items()}
    for row in pages.rows(damaged, _is_event):
        number, seq, row_id, crc, body = row
        seed = seeds.get(number) if isinstance(number, int) else None
        if seed is not None and tables.sound(seed, seq, row_id, crc, body):
            yield row


def _close(
    fresh: sqlite3.Connection,
    state: LaneState,
    declared: dict[int, tuple[int, str]],
    undrained: bool,
) -> int:
    """Declare what is missing in a lane; how many gaps it has then."""
    gaps = _apart(declared)
    position = state.acked
    spans = sorted((first, last) for first, (last, _) in gaps.items())
    for first, last in spans:
        fresh.execute("DELETE FROM events WHERE lane = ? AND seq BETWEEN ? AND ?",
                      (state.number, first, last))  # fmt: skip
    for first, last in _merged(fresh, state, spans):
        if first > position + 1:
            gaps[position + 1] = (first - 1, "corrupt")
        position = max(position, last)
    if (undrained or position > state.acked) and position < OPEN_END:
        gaps[position + 1] = (OPEN_END, "corrupt")
    for first, (last, why) in gaps.items():
        crc = tables.seal_gap(state.seed, first, last, why)
        fresh.execute(tables.INSERT_GAP, (state.number, first, last, why, crc))
    return len(gaps)


def _apart(declared: dict[int, tuple[int, str]]) -> dict[int, tuple[int, str]]:
    """The same gaps without overlaps: old copies of rows lie under newer, larger ones."""
    gaps: dict[int, tuple[int, str]] = {}
    position = 0
    for first, (last, why) in sorted(declared.items()):
        if last > position:
            gaps[max(first, position + 1)] = (last, why)
            position = last
    return gaps


def _merged(
    fresh: sqlite3.Connection, state: LaneState, gaps: list[tuple[int, int]]
) -> Iterator[tuple[int, int]]:
    """Numbers above the watermark that are there or declared, in order."""
    rest = [(first, last) for first, last in reversed(gaps) if last > state.acked]
    for (seq,) in fresh.execute(
        "SELECT seq FROM events WHERE lane = ? AND seq > ? ORDER BY seq",
        (state.number, state.acked),
    ):
        while rest and rest[-1][0] < seq:
            yield rest.pop()
        yield seq, seq
    while rest:
        yield rest.pop()
