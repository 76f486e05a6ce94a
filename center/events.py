"""Events: storing them once, finding them again, and which incidents are still open.

Here: rows of events, searched and shown. Not here: watermarks and gaps (ledger), the accept rule
for batches (ingest), telling listeners (live).
"""

from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from sqlalchemy import Connection, Row, delete, exists, func, insert, literal_column, select

from center import db
from center.tables import events, open_incidents
from wire.events import Event, Lane

KEY = ("worker", "epoch", "lane", "seq")
MAX_LISTED = 1000

# Literals, not parameters: the index covers only rows that say so.
_ENDED = events.c.phase == literal_column("'end'")
_STARTED = events.c.phase == literal_column("'start'")


def row(
    event: Event, body: bytes, place: tuple[str, str, int, Lane, int], now_ms: int, backfill: bool
) -> dict[str, Any]:
    """The row of an event; `place` is worker, station, epoch, lane and number."""
    worker, station, epoch, lane, seq = place
    return {
        "worker": worker,
        "epoch": epoch,
        "lane": lane,
        "seq": seq,
        "station": station,
        "camera": event.camera,
        "task": event.task,
        "rule": event.rule,
        "severity": event.severity,
        "phase": event.phase,
        "incident": event.incident,
        "t_ms": event.t_ms,
        "received_ms": now_ms,
        "backfill": backfill,
        "body": body,
    }


def store(connection: Connection, rows: list[dict[str, Any]]) -> None:
    """Insert contiguous rows of one worker, epoch and lane, and keep account of open incidents."""
    if not rows:
        return
    db.insert_new(connection, events, rows, KEY)
    if any(row["incident"] for row in rows):
        _open_and_close(connection, rows[0], rows[-1])


def _open_and_close(connection: Connection, first: dict[str, Any], last: dict[str, Any]) -> None:
    """An incident is open from its start to its end, in whichever order the two arrive."""
    stored = (
        events.c.worker == first["worker"],
        events.c.epoch == first["epoch"],
        events.c.lane == first["lane"],
        events.c.seq.between(first["seq"], last["seq"]),
        events.c.incident.is_not(None),
    )
    later = events.alias("later")
    ended = exists().where(
        later.c.worker == events.c.worker,
        later.c.incident == events.c.incident,
        later.c.phase == literal_column("'end'"),
    )
    # The first start of an incident counts, should there be two.
    started = (
        select(
            events.c.worker,
            events.c.incident,
            func.min(events.c.station),
            func.min(events.c.severity),
            func.min(events.c.id),
        )
        .where(*stored, _STARTED, ~ended)
        .group_by(events.c.worker, events.c.incident)
    )
    known = exists().where(
        open_incidents.c.worker == events.c.worker, open_incidents.c.incident == events.c.incident
    )
    columns = ["worker", "incident", "station", "severity", "event"]
    connection.execute(insert(open_incidents).from_select(columns, started.where(~known)))
    connection.execute(
        delete(open_incidents).where(
            open_incidents.c.worker == first["worker"],
            open_incidents.c.incident.in_(select(events.c.incident).where(*stored, _ENDED)),
        )
    )


def bodies(
    connection: Connection, worker: str, epoch: int, lane: Lane, first: int, last: int
) -> dict[int, bytes]:
    """The stored bytes of the events `first`..`last`, by number."""
    column = events.c
    statement = select(column.seq, column.body).where(
        column.worker == worker,
        column.epoch == epoch,
        column.lane == lane,
        column.seq.between(first, last),
    )
    return {found.seq: found.body for found in connection.execute(statement)}


# --- finding -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which events; what is None does not matter. `after` and `before` are ids, both exclusive."""

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
        statement = statement.where(column.t_ms >= wanted.since_ms)
    if wanted.until_ms is not None:
        statement = statement.where(column.t_ms < wanted.until_ms)
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
    event: dict[str, Any] = msgspec.json.decode(found.body)
    return {
        **event,
        "id": found.id,
        "worker": found.worker,
        "station": found.station,
        "epoch": found.epoch,
        "lane": found.lane,
        "seq": found.seq,
        "received_ms": found.received_ms,
        "backfill": found.backfill,
    }
