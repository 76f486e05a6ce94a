"""Stations: the sites, and how they are as a whole.

Here: rows of stations, and what needs a station. Not here: presence of single workers (presence).
"""

from collections import Counter
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sqlalchemy import Connection, Row, func, select

from center import presence, resources
from center.resources import Change, ConflictError, NotFoundError
from center.tables import cameras, open_incidents, stations, tasks, workers
from wire import specs

_LIVELIEST: tuple[presence.State, ...] = ("Online", "Autonomous", "Lost", "Unknown")


def put(connection: Connection, station: specs.Station, now_ms: int) -> Change:
    """Create or update a station. Raises SpecError for a time zone that nobody knows."""
    zone = station.spec.time_zone
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # whichever way it is no key
        raise resources.problem(
            "spec",
            "time_zone",
            message=f"no time zone {zone!r}; write one of the IANA database, as Europe/Berlin",
        ) from None
    key = {"name": station.metadata.name}
    return resources.store(connection, stations, key, station, now_ms)


def delete(connection: Connection, name: str) -> None:
    """Raises NotFoundError, or ConflictError while anything belongs to the station."""
    require(connection, name)
    for table in (tasks, cameras, workers):
        column = table.c.name
        held = connection.execute(select(column).where(table.c.station == name)).scalars().all()
        if held:
            raise ConflictError(
                f"station {name} still has {len(held)} {table.name}, for example {min(held)}; "
                "delete them first"
            )
    resources.remove(connection, stations, {"name": name})


def require(connection: Connection, name: str) -> Row[Any]:
    """The station's row. Raises NotFoundError."""
    row = resources.find(connection, stations, {"name": name})
    if row is None:
        raise NotFoundError(f"no station {name}")
    return row


def require_for(connection: Connection, resource: specs.Worker | specs.Camera | specs.Task) -> None:
    """The station that a resource names exists. Raises SpecError with the field."""
    name = resource.metadata.station
    if resources.find(connection, stations, {"name": name}) is None:
        raise resources.problem(
            "metadata", "station", message=f"no station {name}; create it first"
        )


def view(connection: Connection, name: str, now_ms: int, heartbeat_s: float) -> dict[str, Any]:
    """One station with its status. Raises NotFoundError."""
    require(connection, name)
    return views(connection, now_ms, heartbeat_s, name)[0]


def views(
    connection: Connection, now_ms: int, heartbeat_s: float, name: str | None = None
) -> list[dict[str, Any]]:
    """All stations (or the one named) with their status, by name."""
    heard: dict[str, list[presence.Presence]] = {}
    for one in presence.of_workers(connection, station=name):
        heard.setdefault(one.station, []).append(one)
    counts = {
        table.name: _per_station(connection, table.c.station)
        for table in (workers, cameras, tasks, open_incidents)
    }
    statement = select(stations).order_by(stations.c.name)
    if name is not None:
        statement = statement.where(stations.c.name == name)
    found = []
    for row in connection.execute(statement):
        of_station = heard.get(row.name, [])
        states = {one.state(now_ms, heartbeat_s) for one in of_station}
        status = {
            "state": next((state for state in _LIVELIEST if state in states), "Unknown"),
            "last_heard_ms": max((p.heard_ms for p in of_station if p.heard_ms), default=None),
            "workers": counts["workers"][row.name],
            "cameras": counts["cameras"][row.name],
            "tasks": counts["tasks"][row.name],
            "open_alarms": counts["open_incidents"][row.name],
        }
        found.append(resources.view(resources.parse(row.document), status))
    return found


def _per_station(connection: Connection, column: Any) -> Counter[str]:
    statement = select(column, func.count()).group_by(column)
    if column.table is open_incidents:
        statement = statement.where(open_incidents.c.severity != "info")
    return Counter({row[0]: row[1] for row in connection.execute(statement)})
