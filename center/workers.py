"""Workers: the registered edge identities and how each fares.

Here: rows of workers. Not here: what they say (presence, downlink), what they are to do (dispatch).
"""

from typing import Any

import msgspec
from sqlalchemy import Connection, Row, select
from sqlalchemy import delete as delete_rows

from center import presence, resources, stations
from center.resources import Change, ConflictError, NotFoundError
from center.tables import desired, open_incidents, workers
from wire import specs


def put(connection: Connection, worker: specs.Worker, now_ms: int) -> Change:
    """Create or update a worker. Raises ConflictError if the name is taken at another station."""
    stations.require_for(connection, worker)
    name, station = worker.metadata.name, worker.metadata.station
    row = resources.find(connection, workers, {"name": name})
    if row is not None and row.station != station:
        raise ConflictError(
            f"worker {name} belongs to station {row.station}, and its name is unique everywhere; "
            "delete it there first, or choose another name"
        )
    change = resources.store(
        connection, workers, {"name": name}, worker, now_ms, {"station": station}
    )
    presence.begin(connection, name)
    return change


def delete(connection: Connection, name: str) -> str:
    """Take the worker's registration away, and all that was heard of it; its events stay.

    Gives its station's name. Raises NotFoundError.
    """
    station: str = require(connection, name).station
    resources.remove(connection, workers, {"name": name})
    # Nobody is left to end what was open there.
    connection.execute(delete_rows(open_incidents).where(open_incidents.c.worker == name))
    return station


def replace(connection: Connection, name: str) -> None:
    """Let in the next process that would be denied this worker's name. Raises NotFoundError."""
    require(connection, name)
    presence.allow_replacement(connection, name)


def require(connection: Connection, name: str) -> Row[Any]:
    """The worker's row. Raises NotFoundError."""
    row = resources.find(connection, workers, {"name": name})
    if row is None:
        raise NotFoundError(f"no worker {name}")
    return row


def of_station(connection: Connection, station: str) -> list[str]:
    """The names of a station's workers, sorted."""
    statement = select(workers.c.name).where(workers.c.station == station).order_by(workers.c.name)
    return list(connection.execute(statement).scalars())


def view(connection: Connection, name: str, now_ms: int, heartbeat_s: float) -> dict[str, Any]:
    """One worker with its status. Raises NotFoundError."""
    require(connection, name)
    return views(connection, now_ms, heartbeat_s, name=name)[0]


def views(
    connection: Connection,
    now_ms: int,
    heartbeat_s: float,
    station: str | None = None,
    name: str | None = None,
) -> list[dict[str, Any]]:
    """The workers of a station, or all, with their status, by station and name."""
    statement = (
        select(workers.c.name, workers.c.document, desired.c.revision.label("desired_revision"))
        .outerjoin(desired, desired.c.worker == workers.c.name)
        .order_by(workers.c.station, workers.c.name)
    )
    if station is not None:
        statement = statement.where(workers.c.station == station)
    if name is not None:
        statement = statement.where(workers.c.name == name)
        one = presence.of_worker(connection, name)
        heard = {} if one is None else {name: one}
    else:
        heard = {one.worker: one for one in presence.of_workers(connection, station)}
    found = []
    for row in connection.execute(statement):
        status = _status(heard[row.name], row.desired_revision, now_ms, heartbeat_s)
        found.append(resources.view(resources.parse(row.document), status))
    return found


def _status(
    heard: presence.Presence, desired_revision: int | None, now_ms: int, heartbeat_s: float
) -> dict[str, Any]:
    return {
        "state": heard.state(now_ms, heartbeat_s),
        "cause": heard.cause(now_ms, heartbeat_s),
        "trouble": heard.trouble,
        "last_heard_ms": heard.heard_ms,
        "software": heard.software,
        "boot": heard.identity.boot,
        "fence": heard.fence,
        "desired_revision": desired_revision,
        "observed_revision": heard.known.revision or None,
        "pending": {"alarm": heard.pending_alarm, "bulk": heard.pending_bulk},
        "shed": heard.shed,
        "denied": heard.denied,
        "replace": heard.identity.replace,
        "streams": [msgspec.to_builtins(stream) for stream in heard.streams],
    }
