"""Tasks: operators' wishes, and what became of them.

Here: rows of tasks, their references, their status. Not here: which worker does them (placement),
and how a worker is told (dispatch, downlink).
"""

from typing import Any

from sqlalchemy import Connection, Row, and_, select

from center import presence, resources, stations
from center.resources import Change, NotFoundError
from center.tables import cameras, desired_items, observed_items, tasks
from wire import specs


def put(connection: Connection, task: specs.Task, now_ms: int) -> Change:
    """Create or update a task. Raises SpecError if its station, camera or stream is unknown."""
    stations.require_for(connection, task)
    station, spec = task.metadata.station, task.spec
    row = resources.find(connection, cameras, {"station": station, "name": spec.camera})
    if row is None:
        message = f"no camera {spec.camera} in station {station}"
        raise resources.problem("spec", "camera", message=message)
    camera = resources.parse(row.document)
    assert isinstance(camera, specs.Camera)
    if spec.stream not in camera.spec.streams:
        known = ", ".join(camera.spec.streams)
        message = f"camera {spec.camera} has no stream {spec.stream}; it has {known}"
        raise resources.problem("spec", "stream", message=message)
    key = {"station": station, "name": task.metadata.name}
    named = {"camera": spec.camera, "model": spec.model.name}
    return resources.store(connection, tasks, key, task, now_ms, named)


def delete(connection: Connection, station: str, name: str) -> None:
    """Raises NotFoundError."""
    require(connection, station, name)
    resources.remove(connection, tasks, {"station": station, "name": name})


def require(connection: Connection, station: str, name: str) -> Row[Any]:
    """The task's row. Raises NotFoundError."""
    row = resources.find(connection, tasks, {"station": station, "name": name})
    if row is None:
        raise NotFoundError(f"no task {name} in station {station}")
    return row


def view(
    connection: Connection, station: str, name: str, now_ms: int, heartbeat_s: float
) -> dict[str, Any]:
    """One task with its status. Raises NotFoundError."""
    require(connection, station, name)
    return views(connection, now_ms, heartbeat_s, station, name)[0]


def views(
    connection: Connection,
    now_ms: int,
    heartbeat_s: float,
    station: str | None = None,
    name: str | None = None,
) -> list[dict[str, Any]]:
    """The tasks of a station, or all, with their status, by station and name."""
    heard = {one.worker: one for one in presence.of_workers(connection, station=station)}
    placed = _placed(connection, heard)
    statement = select(tasks).order_by(tasks.c.station, tasks.c.name)
    if station is not None:
        statement = statement.where(tasks.c.station == station)
    if name is not None:
        statement = statement.where(tasks.c.name == name)
    found = []
    for row in connection.execute(statement):
        item = placed.get((row.station, row.name))
        worker = None if item is None else heard[item.worker]
        status = _status(item, worker, now_ms, heartbeat_s)
        found.append(resources.view(resources.parse(row.document), status))
    return found


def _placed(
    connection: Connection, heard: dict[str, presence.Presence]
) -> dict[tuple[str, str], Any]:
    """The desired and observed item of each task that a worker has, by (station, task)."""
    wanted, seen = desired_items.c, observed_items.c
    joined = desired_items.outerjoin(
        observed_items,
        and_(wanted.worker == seen.worker, wanted.kind == seen.kind, wanted.id == seen.id),
    )
    statement = (
        select(
            wanted.worker,
            wanted.id,
            wanted.revision,
            seen.revision.label("observed_revision"),
            seen.state,
            seen.reason,
        )
        .select_from(joined)
        .where(wanted.kind == "Task", ~wanted.removed)
    )
    rows = connection.execute(statement)
    return {(heard[row.worker].station, row.id): row for row in rows if row.worker in heard}


def _status(
    item: Any | None, worker: presence.Presence | None, now_ms: int, heartbeat_s: float
) -> dict[str, Any]:
    if item is None or worker is None:
        return {
            "worker": None,
            "desired_revision": None,
            "observed_revision": None,
            "state": "Pending",
            "reason": "the station has no worker",
        }
    state, reason = item.state, item.reason
    if item.observed_revision != item.revision:
        state, reason = "Pending", _awaited(item, worker.state(now_ms, heartbeat_s))
    return {
        "worker": item.worker,
        "desired_revision": item.revision,
        "observed_revision": item.observed_revision,
        "state": state,
        "reason": reason,
    }


def _awaited(item: Any, state: presence.State) -> str:
    """Why a worker has not answered for this revision yet."""
    meanwhile = ""
    if item.observed_revision is not None:
        meanwhile = f"; meanwhile revision {item.observed_revision} is {item.state}"
    if state == "Unknown":
        return f"worker {item.worker} has never been heard"
    if state == "Online":
        return f"worker {item.worker} has not answered yet{meanwhile}"
    return f"worker {item.worker} is {state} and will get it when it is back{meanwhile}"
