"""Cameras of stations.

Here: rows of cameras and what tasks need of them. Not here: whether a stream can be opened; that
is for the worker to say.
"""

import json
from typing import Any

from sqlalchemy import Connection, Row, select

from center import resources, stations
from center.resources import Change, ConflictError, NotFoundError
from center.tables import cameras, tasks
from wire import specs


def put(connection: Connection, camera: specs.Camera, now_ms: int) -> Change:
    """Create or update a camera; passwords that the document leaves out are kept.

    Raises SpecError if the station is unknown, or if a task uses a stream that would be gone.
    """
    stations.require_for(connection, camera)
    key = {"station": camera.metadata.station, "name": camera.metadata.name}
    row = resources.find(connection, cameras, key)
    stored = None if row is None else resources.parse(row.document)
    assert stored is None or isinstance(stored, specs.Camera)
    camera = specs.with_kept_passwords(camera, stored)
    for task, stream in _used_streams(connection, key):
        if stream not in camera.spec.streams:
            message = f"task {task} uses the stream {stream!r}; keep it, or change the task first"
            raise resources.problem("spec", "streams", message=message)
    return resources.store(connection, cameras, key, camera, now_ms)


def delete(connection: Connection, station: str, name: str) -> None:
    """Raises NotFoundError, or ConflictError while a task looks through the camera."""
    require(connection, station, name)
    key = {"station": station, "name": name}
    users = [task for task, _ in _used_streams(connection, key)]
    if users:
        raise ConflictError(
            f"camera {name} of station {station} is used by task {', '.join(users)}; "
            "delete that first"
        )
    resources.remove(connection, cameras, key)


def require(connection: Connection, station: str, name: str) -> Row[Any]:
    """The camera's row. Raises NotFoundError."""
    row = resources.find(connection, cameras, {"station": station, "name": name})
    if row is None:
        raise NotFoundError(f"no camera {name} in station {station}")
    return row


def view(connection: Connection, station: str, name: str) -> dict[str, Any]:
    """One camera, without passwords. Raises NotFoundError."""
    return resources.view(resources.parse(require(connection, station, name).document), {})


def views(connection: Connection, station: str | None = None) -> list[dict[str, Any]]:
    """The cameras of a station, or all, by station and name."""
    statement = select(cameras.c.document).order_by(cameras.c.station, cameras.c.name)
    if station is not None:
        statement = statement.where(cameras.c.station == station)
    documents = connection.execute(statement).scalars()
    return [resources.view(resources.parse(document), {}) for document in documents]


def _used_streams(connection: Connection, key: dict[str, str]) -> list[tuple[str, str]]:
    """(task, stream) of each task that looks through the camera."""
    statement = select(tasks.c.name, tasks.c.document).where(
        tasks.c.station == key["station"], tasks.c.camera == key["name"]
    )
    rows = connection.execute(statement.order_by(tasks.c.name))
    return [(row.name, json.loads(row.document)["spec"].get("stream", "main")) for row in rows]
