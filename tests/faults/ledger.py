"""The judge: a station's ledger of confirmed events against what the center has stored.

Here: pure comparison over the center's tables, SQLite or PostgreSQL, read only. Not here: the rig.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, select

from center.tables import events, gaps, watermarks

Place = tuple[int, str, int]
"""Epoch, lane and number."""
SHOWN = 5


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was promised and what was kept."""

    confirmed: int = 0
    """Events in the ledger."""
    stored: int = 0
    """Events of the worker at the center."""
    lost: int = 0
    """Confirmed, and neither stored nor covered by a gap."""
    duplicated: int = 0
    """Stored more than once, under one number or under two."""
    undeclared_gaps: int = 0
    """Numbers below a watermark that are neither stored nor covered by a gap."""
    altered: int = 0
    """Stored with another body than was confirmed."""
    given_up: dict[str, int] = field(default_factory=dict)
    """Confirmed events that are not stored but covered by a gap, by its reason."""
    examples: tuple[str, ...] = ()

    @property
    def clean(self) -> bool:
        """Nothing lost, nothing doubled, nothing skipped."""
        return not (self.lost or self.duplicated or self.undeclared_gaps or self.altered)

    @property
    def complete(self) -> bool:
        """Every confirmed event is stored, or covered by a gap."""
        return not self.lost

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Stored:
    """What the center has of one worker."""

    hashes: list[tuple[Place, str]]
    gaps: list[tuple[int, str, int, int, str]]
    watermarks: list[tuple[int, str, int]]


def read_ledger(*paths: Path) -> dict[Place, str]:
    """Hash of the body of each confirmed event. A torn last line was not yet promised."""
    confirmed: dict[Place, str] = {}
    for entry in entries(*paths):
        confirmed[entry["epoch"], entry["lane"], entry["seq"]] = entry["sha256"]
    return confirmed


def entries(*paths: Path) -> Iterator[dict[str, Any]]:
    """The ledgers' lines."""
    for path in paths:
        if path.exists():
            for line in path.read_text().splitlines(keepends=True):
                if line.endswith("\n"):
                    yield json.loads(line)


def url_of(data: Path) -> str:
    """The database of a center with its data in this folder."""
    return f"sqlite:///{data / 'center.db'}"


def read_center(database_url: str, worker: str) -> Stored:
    """What the center has of a worker."""
    engine = create_engine(database_url)
    try:
        with engine.connect() as connection:
            return _read(connection, worker)
    finally:
        engine.dispose()


def _read(connection: Connection, worker: str) -> Stored:
    of_events = select(events.c.epoch, events.c.lane, events.c.seq, events.c.body)
    of_gaps = select(gaps.c.epoch, gaps.c.lane, gaps.c.first, gaps.c.last, gaps.c.why)
    of_marks = select(watermarks.c.epoch, watermarks.c.lane, watermarks.c.seq)
    return Stored(
        [
            ((epoch, lane, seq), sha256(bytes(body)).hexdigest())
            for epoch, lane, seq, body in connection.execute(
                of_events.where(events.c.worker == worker)
            )
        ],
        [tuple(row) for row in connection.execute(of_gaps.where(gaps.c.worker == worker))],
        [tuple(row) for row in connection.execute(of_marks.where(watermarks.c.worker == worker))],
    )


def compare(confirmed: dict[Place, str], found: Stored) -> Verdict:
    """The verdict."""
    by_place = dict(found.hashes)
    told: list[str] = []
    lost, given_up = 0, Counter[str]()
    altered = 0
    for place, hashed in confirmed.items():
        if place in by_place:
            if by_place[place] != hashed:
                altered += 1
                told.append(f"altered {place}")
            continue
        why = _reason(place, found.gaps)
        if why is None:
            lost += 1
            told.append(f"lost {place}")
        else:
            given_up[why] += 1
    doubled = [f"doubled {one}" for one in _twice(place for place, _ in found.hashes)]
    doubled += [f"doubled body {one[:12]}" for one in _twice(hashed for _, hashed in found.hashes)]
    skipped = [f"skipped {one}" for one in _skipped(by_place, found)]
    return Verdict(
        confirmed=len(confirmed),
        stored=len(found.hashes),
        lost=lost,
        duplicated=len(doubled),
        undeclared_gaps=len(skipped),
        altered=altered,
        given_up=dict(given_up),
        examples=tuple((told + doubled + skipped)[:SHOWN]),
    )


def judge(database_url: str, worker: str, *ledgers: Path) -> Verdict:
    """Read both sides and compare them."""
    return compare(read_ledger(*ledgers), read_center(database_url, worker))


def _reason(place: Place, declared: list[tuple[int, str, int, int, str]]) -> str | None:
    epoch, lane, seq = place
    for gap_epoch, gap_lane, first, last, why in declared:
        if (gap_epoch, gap_lane) == (epoch, lane) and first <= seq <= last:
            return why
    return None


def _twice(things: Iterable[Any]) -> list[Any]:
    return [thing for thing, count in Counter(things).items() if count > 1]


def _skipped(by_place: dict[Place, str], found: Stored) -> Iterator[str]:
    spans: dict[tuple[int, str], list[tuple[int, int]]] = {}
    for epoch, lane, seq in by_place:
        spans.setdefault((epoch, lane), []).append((seq, seq))
    for epoch, lane, first, last, _ in found.gaps:
        spans.setdefault((epoch, lane), []).append((first, last))
    for epoch, lane, reached in found.watermarks:
        position = 0
        for first, last in [*sorted(spans.get((epoch, lane), [])), (reached + 1, reached + 1)]:
            if first > position + 1 and position < reached:
                yield f"{epoch} {lane} {position + 1}..{min(first - 1, reached)}"
            position = max(position, last)
