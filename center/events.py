"""Events: storing them once, finding them again, and which incidents are still open.

Here: rows of events, searched and shown. Not here: watermarks and gaps (ledger), the accept rule
for batches (ingest), telling listeners (live).
"""

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import msgspec
from sqlalchemy import (
    Connection,
    Delete,
    Executable,
    Row,
    bindparam,
    delete,
    func,
    literal_column,
    select,
    text,
)

from center import db
from center.tables import events, open_incidents
from wire.events import Lane

KEY = ("worker", "epoch", "lane", "seq")
MAX_LISTED = 1000


class EventRow(msgspec.Struct, frozen=True, gc=False):
    """A row to be stored, its columns in the order of the table, without the id.

    There are tens of thousands in a second: it costs a third of a dict, and the collector nothing.
    """

    worker: str
    epoch: int
    lane: Lane
    seq: int
    station: str
    camera: str
    task: str
    rule: str
    severity: str
    phase: str | None
    incident: str | None
    t_ms: int
    at_ms: int
    clock: str
    received_ms: int
    backfill: bool
    body: bytes


def store(connection: Connection, rows: list[EventRow]) -> None:
    """Insert rows, and keep account of open incidents.

    The caller holds the lanes' watermarks, and has made sure that the rows are not there yet.
    """
    if not rows:
        return
    db.in_order(connection)
    tuples = list(map(msgspec.structs.astuple, rows))
    db.insert_known_new(connection, events, EventRow.__struct_fields__, tuples, KEY)
    _open_and_close(connection, rows)


def _open_and_close(connection: Connection, rows: list[EventRow]) -> None:
    """An incident is open from its start to its end, in whichever order the two arrive."""
    starts: dict[str, dict[str, EventRow]] = {}
    ends: dict[str, set[str]] = {}
    for row in rows:
        if row.incident and row.phase == "start":
            starts.setdefault(row.worker, {}).setdefault(row.incident, row)
        elif row.incident and row.phase == "end":
            ends.setdefault(row.worker, set()).add(row.incident)
    for worker, ended in ends.items():
        for incident in ended:
            starts.get(worker, {}).pop(incident, None)
        for some in db.chunks(sorted(ended)):
            connection.execute(
                _close(connection.dialect.name), {"of_worker": worker, "ended": some}
            )
    for worker, opened in starts.items():
        for chunk in db.chunks(sorted(opened)):
            _open(connection, worker, {incident: opened[incident] for incident in chunk})


def _open(connection: Connection, worker: str, starts: dict[str, EventRow]) -> None:
    """Open a worker's incidents, unless they are open or were ended before."""
    asked = {"of_worker": worker, "of_incidents": list(starts)}
    for (ended,) in connection.execute(_ended_before(connection.dialect.name), asked):
        starts.pop(ended, None)
    by_lane: dict[tuple[int, Lane], dict[int, str]] = {}
    for incident, row in starts.items():
        by_lane.setdefault((row.epoch, row.lane), {})[row.seq] = incident
    opened = []
    for (epoch, lane), numbered in by_lane.items():
        place = {"of_worker": worker, "of_epoch": epoch, "of_lane": lane}
        between = {"low": min(numbered), "high": max(numbered)}
        for number, event in connection.execute(_IDS, {**place, **between}):
            if number in numbered:
                row = starts[numbered[number]]
                opened.append((worker, numbered[number], row.station, row.severity, event))
    db.insert_new_tuples(connection, open_incidents, _OPEN_NAMES, opened, _OPEN_NAMES[:2])


_OPEN_NAMES = ("worker", "incident", "station", "severity", "event")


@cache
def _close(dialect_name: str) -> Delete:
    return delete(open_incidents).where(
        open_incidents.c.worker == bindparam("of_worker"),
        db.among(open_incidents.c.incident, "ended", dialect_name),
    )


@cache
def _ended_before(dialect_name: str) -> Executable:
    """The incidents among some that have ended."""
    if dialect_name == "postgresql":
        # One look into the index for each: without statistics its planner reads all ends instead.
        return text(
            "SELECT asked.incident FROM unnest(CAST(:of_incidents AS text[])) AS asked(incident)"
            " CROSS JOIN LATERAL (SELECT 1 FROM events WHERE events.worker = :of_worker AND"
            " events.incident = asked.incident AND events.phase = 'end' LIMIT 1) AS ended"
        )
    return select(events.c.incident).where(
        events.c.worker == bindparam("of_worker"),
        events.c.incident.in_(bindparam("of_incidents", expanding=True)),
        events.c.phase == literal_column("'end'"),  # the index covers only rows that say so
    )


_IDS = select(events.c.seq, events.c.id).where(
    events.c.worker == bindparam("of_worker"),
    events.c.epoch == bindparam("of_epoch"),
    events.c.lane == bindparam("of_lane"),
    events.c.seq.between(bindparam("low"), bindparam("high")),
)


_BODIES = select(events.c.seq, events.c.body).where(
    events.c.worker == bindparam("of_worker"),
    events.c.epoch == bindparam("of_epoch"),
    events.c.lane == bindparam("of_lane"),
    events.c.seq.between(bindparam("low"), bindparam("high")),
)
"""Made once: making it takes longer than running it."""


def bodies(
    connection: Connection, worker: str, epoch: int, lane: Lane, first: int, last: int
) -> dict[int, bytes]:
    """The stored bytes of the events `first`..`last`, by number."""
    place = {"of_worker": worker, "of_epoch": epoch, "of_lane": lane, "low": first, "high": last}
    return {found.seq: found.body for found in connection.execute(_BODIES, place)}


def highest(connection: Connection, worker: str, epoch: int, lane: Lane) -> int:
    """The highest number that is stored of a lane; 0 without any."""
    column = events.c
    statement = select(func.max(column.seq)).where(
        column.worker == worker, column.epoch == epoch, column.lane == lane
    )
    return connection.execute(statement).scalar() or 0


# --- finding -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which events; what is None does not matter.

    `since_ms` (inclusive) and `until_ms` (exclusive) are corrected times; `after` and `before` are
    ids, both exclusive.
    """

    station: str | None = None
    camera: str | None = None
    task: str | None = None
    rule: str | None = None
    severity: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    after: int | None = None
    before: int | None = None
    open: bool = False


def search(
    connection: Connection,
    wanted: Filter,
    order: Literal["asc", "desc"] = "desc",
    limit: int = 100,
) -> list[dict[str, Any]]:
    """Events in the order of storing (or against it), at most `MAX_LISTED`, ready for JSON."""
    column = events.c
    statement = select(events)
    for name in ("station", "camera", "task", "rule", "severity"):
        value = getattr(wanted, name)
        if value is not None:
            statement = statement.where(column[name] == value)
    if wanted.since_ms is not None:
        statement = statement.where(column.at_ms >= wanted.since_ms)
    if wanted.until_ms is not None:
        statement = statement.where(column.at_ms < wanted.until_ms)
    if wanted.after is not None:
        statement = statement.where(column.id > wanted.after)
    if wanted.before is not None:
        statement = statement.where(column.id < wanted.before)
    if wanted.open:
        statement = statement.where(column.id.in_(select(open_incidents.c.event)))
    ordered = column.id.asc() if order == "asc" else column.id.desc()
    statement = statement.order_by(ordered).limit(min(limit, MAX_LISTED))
    return [shown(found) for found in connection.execute(statement)]


def last_id(connection: Connection) -> int:
    """The id of the event that was stored last; 0 without any."""
    return connection.execute(select(func.max(events.c.id))).scalar() or 0


def shown(found: Row[Any]) -> dict[str, Any]:
    """An event ready for JSON: everything that the edge wrote, and how it was stored."""
    return {
        **_written(found),
        "id": found.id,
        "worker": found.worker,
        "station": found.station,
        "epoch": found.epoch,
        "lane": found.lane,
        "seq": found.seq,
        "at_ms": found.at_ms,
        "clock": found.clock,
        "received_ms": found.received_ms,
        "backfill": found.backfill,
    }


def _written(found: Row[Any]) -> dict[str, Any]:
    """What the edge wrote; the columns, where an earlier version stored what cannot be read."""
    try:
        event: dict[str, Any] = msgspec.json.decode(found.body)
    except (ValueError, RecursionError):
        return {"kind": "unreadable"} | {name: getattr(found, name) for name in _SHOWN_COLUMNS}
    return event


_SHOWN_COLUMNS = ("camera", "task", "rule", "severity", "phase", "incident", "t_ms")
