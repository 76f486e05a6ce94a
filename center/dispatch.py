"""From tasks to each worker's desired document, in the transaction of the edit that changes it.

Here: the one place where wishes become work. Not here: sending it (downlink), choosing the worker
(placement). A worker's document holds its tasks and the cameras that these need, each as the
canonical bytes of the resource, passwords included.
"""

from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, delete, select

from center import db, placement, presence, workers
from center.resources import ConflictError
from center.tables import cameras, desired, desired_items, tasks
from wire import messages
from wire.codec import MAX_RAW_BYTES
from wire.messages import Desired, Item, Known

MAX_TOMBSTONES = 1000
_ITEM_OVERHEAD_BYTES = 220
"""More than an item's kind, id, revision and punctuation take on the wire."""

Key = tuple[str, str]
"""(kind, id) of an item."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """An item that a worker is to have."""

    revision: int
    body: bytes


def refresh(connection: Connection, station: str, now_ms: int) -> list[str]:
    """Bring the documents of a station's workers up to date; the workers whose document changed.

    Raises ConflictError if a document would be too large to be sent.
    """
    names = workers.of_station(connection, station)
    changed = []
    for worker, wanted in _documents(connection, station, names).items():
        if _update(connection, worker, wanted, now_ms):
            changed.append(worker)
    return changed


def _documents(
    connection: Connection, station: str, names: list[str]
) -> dict[str, dict[Key, Wanted]]:
    """Each worker's items, from the station's tasks and cameras."""
    task_rows = connection.execute(select(tasks).where(tasks.c.station == station)).all()
    camera_rows = {
        row.name: row
        for row in connection.execute(select(cameras).where(cameras.c.station == station))
    }
    placed = placement.place(((row.name, row.camera) for row in task_rows), names)
    documents: dict[str, dict[Key, Wanted]] = {name: {} for name in names}
    for row in task_rows:
        worker = placed[row.name]
        if worker is not None:
            camera = camera_rows[row.camera]
            documents[worker]["Camera", camera.name] = Wanted(camera.revision, camera.document)
            documents[worker]["Task", row.name] = Wanted(row.revision, row.document)
    return documents


def _update(connection: Connection, worker: str, wanted: dict[Key, Wanted], now_ms: int) -> bool:
    """Store the difference to what the worker is to have already; whether there was one."""
    held = {(row.kind, row.id): row for row in _items(connection, worker)}
    hashes = {key: messages.item_hash(item.body) for key, item in wanted.items()}
    put = [
        key
        for key, item in wanted.items()
        if key not in held or (held[key].revision, held[key].hash) != (item.revision, hashes[key])
    ]
    removed = [key for key in held if key not in wanted]
    document = select(desired.c.revision).where(desired.c.worker == worker)
    exists = connection.execute(document).first() is not None
    if exists and not put and not removed:
        return False
    size_bytes = sum(len(item.body) for item in wanted.values())
    if size_bytes + _ITEM_OVERHEAD_BYTES * (len(wanted) + 2) > MAX_RAW_BYTES:
        raise ConflictError(
            f"the tasks and cameras of worker {worker} would take {size_bytes} bytes, and one "
            f"document holds at most {MAX_RAW_BYTES}; give the station another worker first"
        )
    revision = db.next_revision(connection)
    row = {
        "worker": worker,
        "revision": revision,
        "digest": messages.digest(
            (kind, name, wanted[kind, name].revision, hashes[kind, name]) for kind, name in wanted
        ),
        "size_bytes": size_bytes,
        "updated_ms": now_ms,
    }
    db.upsert(connection, desired, [row], ("worker",))
    rows = [
        _item_row(worker, key, wanted[key].revision, hashes[key], wanted[key].body, revision)
        for key in put
    ] + [_item_row(worker, key, held[key].revision, "", None, revision) for key in removed]
    db.upsert(connection, desired_items, rows, ("worker", "kind", "id"))
    if removed:
        presence.forget(connection, worker, removed)
        _forget_old_tombstones(connection, worker)
    return True


def _item_row(
    worker: str, key: Key, revision: int, hashed: str, body: bytes | None, changed_revision: int
) -> dict[str, Any]:
    return {
        "worker": worker,
        "kind": key[0],
        "id": key[1],
        "revision": revision,
        "hash": hashed,
        "body": body,
        "changed_revision": changed_revision,
        "removed": body is None,
    }


def _forget_old_tombstones(connection: Connection, worker: str) -> None:
    """Keep the newest; whoever knows only an older revision gets the whole document."""
    column = desired_items.c
    tombstones = select(column.changed_revision).where(column.worker == worker, column.removed)
    oldest_kept = connection.execute(
        tombstones.order_by(column.changed_revision.desc()).offset(MAX_TOMBSTONES - 1).limit(1)
    ).scalar()
    if oldest_kept is not None:
        connection.execute(
            delete(desired_items).where(
                column.worker == worker, column.removed, column.changed_revision < oldest_kept
            )
        )


def _items(connection: Connection, worker: str) -> list[Row[Any]]:
    column = desired_items.c
    statement = select(desired_items).where(column.worker == worker, ~column.removed)
    return list(connection.execute(statement.order_by(column.kind, column.id)))


# --- reading -----------------------------------------------------------------------------------


def known(connection: Connection, worker: str) -> Known:
    """Which document the worker is to have. Raises sqlalchemy.exc.NoResultFound without one."""
    row = connection.execute(select(desired).where(desired.c.worker == worker)).one()
    return Known(generation=db.generation(connection), revision=row.revision, digest=row.digest)


def wanted_keys(connection: Connection, worker: str) -> set[Key]:
    """(kind, id) of the items that the worker is to have."""
    return {(row.kind, row.id) for row in _items(connection, worker)}


def message(connection: Connection, worker: str, session: str) -> Desired:
    """The whole document of a worker, for one of its sessions."""
    current = known(connection, worker)
    items = [
        Item(kind=row.kind, id=row.id, revision=row.revision, body=msgspec.Raw(row.body))
        for row in _items(connection, worker)
    ]
    return Desired(
        session=session,
        generation=current.generation,
        revision=current.revision,
        digest=current.digest,
        items=items,
        empty=not items,
    )
