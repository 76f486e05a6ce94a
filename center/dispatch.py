"""From tasks to each worker's desired document, in the transaction of the edit that changes it.

Here: the one place where wishes become work, and the messages that carry it. Not here: sending
them (documents), choosing the worker (placement). A worker's document holds its tasks, the
cameras and the center's models that these need, and of its station what it must know, each as
the canonical bytes of the resource, passwords included.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, bindparam, delete, insert, select

from center import db, observed, placement, presence, resources, workers
from center.resources import ConflictError
from center.tables import (
    cameras,
    desired,
    desired_history,
    desired_items,
    meta,
    models,
    stations,
    tasks,
)
from wire import messages, specs
from wire.codec import MAX_RAW_BYTES
from wire.messages import MAX_DOCUMENT_BYTES, PART_BYTES, Delta, Desired, Item, Known, Tombstone
from wire.models import KIND as MODEL

MAX_TOMBSTONES = 1000
MAX_HISTORY = 64
"""Earlier documents of a worker from which a delta can be made."""
_ITEM_OVERHEAD_BYTES = 220
"""More than an item's kind, id, revision and punctuation take on the wire."""
_ENVELOPE_BYTES = 2048
"""More than a message takes besides its items, whatever the session is called."""
MAX_ITEM_BYTES = MAX_RAW_BYTES - _ENVELOPE_BYTES - _ITEM_OVERHEAD_BYTES
"""An item must fit into one message."""

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
    """Each worker's items, from the station's tasks and cameras, and the center's models."""
    task_rows = connection.execute(select(tasks).where(tasks.c.station == station)).all()
    camera_rows = {
        row.name: row
        for row in connection.execute(select(cameras).where(cameras.c.station == station))
    }
    model_rows = {
        row.name: row
        for row in connection.execute(
            select(models.c.name, models.c.revision, models.c.document).where(
                models.c.name.in_(sorted({row.model for row in task_rows}))
            )
        )
    }
    station_row = connection.execute(select(stations).where(stations.c.name == station)).one()
    home = _home(station_row)
    placed = placement.place(((row.name, row.camera) for row in task_rows), names)
    documents: dict[str, dict[Key, Wanted]] = {name: {} for name in names}
    for row in task_rows:
        worker = placed[row.name]
        if worker is not None:
            camera = camera_rows[row.camera]
            documents[worker]["Camera", camera.name] = Wanted(camera.revision, camera.document)
            documents[worker]["Task", row.name] = Wanted(row.revision, row.document)
            model = model_rows.get(row.model)
            if model is not None:  # else the worker has it in a folder of its own, or tells
                documents[worker][MODEL, model.name] = Wanted(model.revision, model.document)
            if home is not None:
                documents[worker]["Station", station] = Wanted(station_row.revision, home)
    return documents


def _home(row: Row[Any]) -> bytes | None:
    """What a worker must know of its station; None if that is what it assumes anyway."""
    station = resources.parse(row.document)
    assert isinstance(station, specs.Station)
    zone = station.spec.time_zone
    if zone == specs.StationSpec().time_zone:
        return None
    metadata = specs.Metadata(name=row.name)
    return specs.canonical(specs.Station(metadata=metadata, spec=specs.StationSpec(time_zone=zone)))


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
    _require_sendable(worker, wanted, size_bytes)
    revision = db.next_revision(connection)
    digest = messages.digest(
        (kind, name, wanted[kind, name].revision, hashes[kind, name]) for kind, name in wanted
    )
    row = {
        "worker": worker,
        "revision": revision,
        "digest": digest,
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
        observed.forget(connection, worker, removed)
        _forget_old_tombstones(connection, worker)
    _remember(connection, worker, revision, digest)
    presence.document_changed(connection, worker)
    return True


def _require_sendable(worker: str, wanted: dict[Key, Wanted], size_bytes: int) -> None:
    """Raises ConflictError."""
    for (kind, name), item in wanted.items():
        if len(item.body) > MAX_ITEM_BYTES:
            raise ConflictError(
                f"{kind} {name} takes {len(item.body)} bytes, and a worker can be sent at most "
                f"{MAX_ITEM_BYTES} of one; make it smaller, for example with fewer points"
            )
    if size_bytes + _ITEM_OVERHEAD_BYTES * len(wanted) > MAX_DOCUMENT_BYTES:
        raise ConflictError(
            f"the tasks and cameras of worker {worker} would take {size_bytes} bytes, and one "
            f"document holds at most {MAX_DOCUMENT_BYTES}; give the station another worker first"
        )


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
    """Keep the newest; whoever knows only an older document gets the whole one."""
    column = desired_items.c
    tombstones = select(column.changed_revision).where(column.worker == worker, column.removed)
    oldest_kept = connection.execute(
        tombstones.order_by(column.changed_revision.desc()).offset(MAX_TOMBSTONES - 1).limit(1)
    ).scalar()
    if oldest_kept is not None:
        forgotten = connection.execute(
            delete(desired_items).where(
                column.worker == worker, column.removed, column.changed_revision < oldest_kept
            )
        )
        if forgotten.rowcount > 0:
            _forget_history(connection, worker, oldest_kept)


def _remember(connection: Connection, worker: str, revision: int, digest: str) -> None:
    """That the worker was to have this document: a delta may start from it."""
    row = {"worker": worker, "revision": revision, "digest": digest}
    connection.execute(insert(desired_history).values(row))
    column = desired_history.c
    revisions = select(column.revision).where(column.worker == worker)
    newest_first = revisions.order_by(column.revision.desc())
    oldest_kept = connection.execute(newest_first.offset(MAX_HISTORY - 1).limit(1)).scalar()
    if oldest_kept is not None:
        _forget_history(connection, worker, oldest_kept)


def _forget_history(connection: Connection, worker: str, before_revision: int) -> None:
    column = desired_history.c
    connection.execute(
        delete(desired_history).where(column.worker == worker, column.revision < before_revision)
    )


def _items(connection: Connection, worker: str) -> list[Row[Any]]:
    column = desired_items.c
    statement = select(desired_items).where(column.worker == worker, ~column.removed)
    return list(connection.execute(statement.order_by(column.kind, column.id)))


# --- reading -----------------------------------------------------------------------------------


def known(connection: Connection, worker: str) -> Known:
    """Which document the worker is to have. Raises sqlalchemy.exc.NoResultFound without one."""
    row = connection.execute(_KNOWN, {"of_worker": worker}).one()
    return Known(generation=row.generation, revision=row.revision, digest=row.digest)


_KNOWN = select(
    desired.c.revision,
    desired.c.digest,
    select(meta.c.generation).scalar_subquery().label("generation"),
).where(desired.c.worker == bindparam("of_worker"))


def wanted_keys(connection: Connection, worker: str) -> set[Key]:
    """(kind, id) of the items that the worker is to have."""
    column = desired_items.c
    statement = select(column.kind, column.id).where(column.worker == worker, ~column.removed)
    return {(row.kind, row.id) for row in connection.execute(statement)}


def whole(connection: Connection, worker: str, session: str) -> list[Desired]:
    """The whole document of a worker for one of its sessions, in as many parts as it takes."""
    current = known(connection, worker)
    parts = _parts([_item(row) for row in _items(connection, worker)])
    return [
        Desired(
            session=session,
            generation=current.generation,
            revision=current.revision,
            digest=current.digest,
            items=items,
            empty=not items,
            part=number,
            parts=len(parts),
        )
        for number, items in enumerate(parts, 1)
    ]


def delta(connection: Connection, worker: str, session: str, base: Known) -> Delta | None:
    """What leads a worker from the document `base` to the one that it is to have.

    None if that cannot be said for sure, or not in one message: then it needs the whole document.
    """
    current = known(connection, worker)
    history = desired_history.c
    statement = select(history.digest).where(
        history.worker == worker, history.revision == base.revision
    )
    if (
        base.generation != current.generation
        or connection.execute(statement).scalar() != base.digest
    ):
        return None
    column = desired_items.c
    changed = connection.execute(
        select(desired_items)
        .where(column.worker == worker, column.changed_revision > base.revision)
        .order_by(column.kind, column.id)
    ).all()
    size_bytes = sum(_ITEM_OVERHEAD_BYTES + len(row.body or b"") for row in changed)
    if size_bytes + _ENVELOPE_BYTES > MAX_RAW_BYTES:
        return None
    live = select(column.id).where(column.worker == worker, ~column.removed).limit(1)
    return Delta(
        session=session,
        generation=current.generation,
        base_digest=base.digest,
        revision=current.revision,
        digest=current.digest,
        puts=[_item(row) for row in changed if not row.removed],
        removed=[Tombstone(kind=row.kind, id=row.id) for row in changed if row.removed],
        empty=connection.execute(live).first() is None,
    )


def _item(row: Row[Any]) -> Item:
    return Item(kind=row.kind, id=row.id, revision=row.revision, body=msgspec.Raw(row.body))


def _parts(items: Sequence[Item]) -> list[list[Item]]:
    """In order, each part at most `PART_BYTES` unless one item alone is more; at least one part."""
    parts: list[list[Item]] = [[]]
    held_bytes = 0
    for item in items:
        size_bytes = len(bytes(item.body)) + _ITEM_OVERHEAD_BYTES
        if parts[-1] and held_bytes + size_bytes > PART_BYTES:
            parts.append([])
            held_bytes = 0
        parts[-1].append(item)
        held_bytes += size_bytes
    return parts
