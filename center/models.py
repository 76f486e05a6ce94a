"""Models: neural networks that workers are told of, and their files in parts.

Here: rows of models, what a file must be before a model may name it, who uses it and how it fares
there. Not here: HTTP (api), how a worker is told (dispatch), running one (edge).

A file is stored in parts under its SHA-256 before any model names it. So an upload that broke off
can go on, any replica takes any part, and nobody sees a file that is not whole.
"""

import hashlib
from collections import Counter
from typing import Any

import msgspec
from sqlalchemy import (
    Connection,
    Row,
    and_,
    delete,
    func,
    insert,
    select,
    update,
)

from center import db, resources
from center.resources import Change, ConflictError, NotFoundError
from center.tables import desired_items, model_parts, models, observed_items, tasks, workers
from wire.models import KIND, PART_BYTES, Published, canonical, parse

MAX_MODELS = 100
MAX_TOLD = 20
"""Tasks and troubled workers that a view names."""
UNFINISHED_S = 24 * 3600
"""Parts that no model refers to are kept so long, for an upload to go on."""


class SpoiledError(ConflictError):
    """The parts of a file are there, and are not the file that they should be."""


# --- files -------------------------------------------------------------------------------------


def parts_of(connection: Connection, sha256: str) -> list[int]:
    """The numbers of a file's parts that are here, sorted."""
    column = model_parts.c
    statement = select(column.number).where(column.sha256 == sha256).order_by(column.number)
    return list(connection.execute(statement).scalars())


def put_part(
    connection: Connection, sha256: str, number: int, content: bytes, now_ms: int, max_bytes: int
) -> bool:
    """Store a part of a file; False: the file is whole and stays as it is.

    Raises ConflictError for what no file may have, and where too much waits to be finished.
    """
    if not 1 <= len(content) <= PART_BYTES:
        raise ConflictError(f"a part has 1 to {PART_BYTES} bytes, not {len(content)}")
    if (number + 1) * PART_BYTES > max_bytes + PART_BYTES - 1:
        raise ConflictError(f"{_too_large(max_bytes)}, and part {number} is beyond that")
    if _size_bytes(connection, sha256) is not None:
        return False
    sweep(connection, now_ms)
    named = select(models.c.sha256)
    unfinished = select(func.count()).select_from(model_parts).where(
        model_parts.c.sha256.not_in(named)
    )  # fmt: skip
    if connection.execute(unfinished).scalar_one() * PART_BYTES >= 2 * max_bytes:
        raise ConflictError(
            "too many uploads were begun and not finished; finish them, or wait a day"
        )
    row = {"sha256": sha256, "number": number, "bytes": content, "stored_ms": now_ms}
    db.upsert(connection, model_parts, [row], ("sha256", "number"))
    return True


def require_size(size_bytes: int, max_bytes: int) -> None:
    """Raises ConflictError for a file that is too large."""
    if size_bytes > max_bytes:
        raise ConflictError(f"{_too_large(max_bytes)}, and this one has {size_bytes}")


def verify(connection: Connection, model: Published) -> None:
    """Whether the model's file is here, whole and the one that it says. May take seconds.

    Raises ConflictError, SpoiledError.
    """
    known_bytes = _size_bytes(connection, model.sha256)
    if known_bytes is not None:
        if known_bytes != model.size_bytes:
            raise ConflictError(
                f"size_bytes: the file of this sha256 has {known_bytes}, not {model.size_bytes}"
            )
        return
    held = set(parts_of(connection, model.sha256))
    missing = next((number for number in range(model.parts) if number not in held), None)
    if missing is not None:
        raise ConflictError(f"part {missing} of the file is not here: push all {model.parts} first")
    sha256, size_bytes = parts_digest(connection, model)
    if (sha256, size_bytes) != (model.sha256, model.size_bytes):
        raise SpoiledError(
            f"the file that was pushed is another one: {size_bytes} bytes with sha256 "
            f"{sha256[:12]}... instead of {model.size_bytes} bytes with {model.sha256[:12]}...; "
            "it was thrown away, push it again"
        )


def parts_digest(connection: Connection, model: Published) -> tuple[str, int]:
    """SHA-256 and size of what is here of the model's file."""
    hashed, size_bytes = hashlib.sha256(), 0
    for number in range(model.parts):
        content = part(connection, model.sha256, number) or b""
        hashed.update(content)
        size_bytes += len(content)
    return hashed.hexdigest(), size_bytes


def _too_large(max_bytes: int) -> str:
    return f"a model's file has at most {max_bytes} bytes here (max_model_mb)"


def part(connection: Connection, sha256: str, number: int) -> bytes | None:
    """The bytes of a part; None: it is not here."""
    column = model_parts.c
    statement = select(column.bytes).where(column.sha256 == sha256, column.number == number)
    found: bytes | None = connection.execute(statement).scalar()
    return found


def size_bytes_of(connection: Connection, sha256: str) -> int:
    """The size of a file that a model names. Raises NotFoundError."""
    found = _size_bytes(connection, sha256)
    if found is None:
        raise NotFoundError(f"no model has the file {sha256[:12]}...")
    return found


def _size_bytes(connection: Connection, sha256: str) -> int | None:
    statement = select(models.c.size_bytes).where(models.c.sha256 == sha256).limit(1)
    return connection.execute(statement).scalar()


def is_for(connection: Connection, worker: str, sha256: str) -> bool:
    """Whether the worker's document names the file (I12: it may read nothing else)."""
    column = desired_items.c
    bodies = select(column.body).where(
        column.worker == worker, column.kind == KIND, ~column.removed
    )
    wanted = (
        msgspec.json.decode(body, type=_File) for body in connection.execute(bodies).scalars()
    )
    return any(one.sha256 == sha256 for one in wanted)


class _File(msgspec.Struct):
    """What is read of a model's document in order to find its file."""

    sha256: str


def throw_away(connection: Connection, sha256: str) -> None:
    """Delete the parts of a file that no model names."""
    named = select(models.c.sha256)
    column = model_parts.c
    connection.execute(
        delete(model_parts).where(column.sha256 == sha256, column.sha256.not_in(named))
    )


def sweep(connection: Connection, now_ms: int) -> None:
    """Delete parts that no model names and no upload has added to for a day."""
    column = model_parts.c
    named = select(models.c.sha256)
    newest = (
        select(column.sha256)
        .where(column.sha256.not_in(named))
        .group_by(column.sha256)
        .having(func.max(column.stored_ms) <= now_ms - UNFINISHED_S * 1000)
    )
    for sha256 in connection.execute(newest).scalars().all():
        throw_away(connection, sha256)


# --- models ------------------------------------------------------------------------------------


def put(connection: Connection, model: Published, now_ms: int, *, has_file: bool = True) -> Change:
    """Create or update a model, whose file the caller has verified. Raises ConflictError."""
    document = canonical(model)
    row = resources.find(connection, models, {"name": model.name})
    before = None if row is None else shown(parse(row.document))
    if row is not None and row.document == document:
        return Change("unchanged", row.revision, before, shown(model))
    if has_file and _size_bytes(connection, model.sha256) is None:
        count = select(func.count()).where(model_parts.c.sha256 == model.sha256)
        if connection.execute(count).scalar_one() != model.parts:
            raise ConflictError("the file's parts are not here any more: push it again")
    revision = db.next_revision(connection)
    values = {
        "sha256": model.sha256,
        "size_bytes": model.size_bytes,
        "document": document,
        "revision": revision,
        "updated_ms": now_ms,
    }
    if row is None:
        held = connection.execute(select(func.count()).select_from(models)).scalar_one()
        if held >= MAX_MODELS:
            raise ConflictError(f"there are {held} models, and no more are taken; delete one")
        connection.execute(insert(models).values(name=model.name, **values, created_ms=now_ms))
        return Change("created", revision, None, shown(model))
    connection.execute(update(models).where(models.c.name == model.name).values(**values))
    sweep(connection, now_ms)
    return Change("updated", revision, before, shown(model))


def remove(connection: Connection, name: str, now_ms: int) -> None:
    """Raises NotFoundError, or ConflictError while a task names the model."""
    require(connection, name)
    users = _users(connection, name)
    if users:
        named = ", ".join(f"{station}/{task}" for station, task in users[:MAX_TOLD])
        raise ConflictError(
            f"model {name} is used by {len(users)} tasks: {named}; change or delete those first"
        )
    resources.remove(connection, models, {"name": name})
    sweep(connection, now_ms)


def require(connection: Connection, name: str) -> Row[Any]:
    """The model's row. Raises NotFoundError."""
    row = resources.find(connection, models, {"name": name})
    if row is None:
        raise NotFoundError(f"no model {name}; push it, or let the workers have it in a folder")
    return row


def untold(connection: Connection, name: str) -> list[str]:
    """The stations with workers whose tasks name the model and whose documents have an older one.

    Sorted. A station's documents are brought up to date together.
    """
    revision = select(models.c.revision).where(models.c.name == name).scalar_subquery()
    wanted = desired_items.c
    told = (
        select(workers.c.station)
        .join(desired_items, wanted.worker == workers.c.name)
        .where(wanted.kind == KIND, wanted.id == name, ~wanted.removed, wanted.revision == revision)
    )
    statement = (
        select(tasks.c.station)
        .where(
            tasks.c.model == name,
            tasks.c.station.in_(select(workers.c.station)),
            tasks.c.station.not_in(told),
        )
        .distinct()
    )
    return sorted(connection.execute(statement).scalars())


def _users(connection: Connection, name: str) -> list[tuple[str, str]]:
    column = tasks.c
    statement = select(column.station, column.name).where(column.model == name)
    rows = connection.execute(statement.order_by(column.station, column.name))
    return [(row.station, row.name) for row in rows]


def view(connection: Connection, name: str) -> dict[str, Any]:
    """One model with its manifest. Raises NotFoundError."""
    row = require(connection, name)
    found = _view(connection, row)
    return {**found, "manifest": shown(parse(row.document))}


def views(connection: Connection) -> list[dict[str, Any]]:
    """All models by name: what they are, who uses them, how they fare there."""
    return [_view(connection, row) for row in connection.execute(select(models).order_by("name"))]


def shown(model: Published) -> dict[str, Any]:
    """The manifest as plain data, without the content of its known picture."""
    document = model.model_dump(mode="json", exclude_defaults=True)
    picture = document.get("check", {}).get("picture", "")
    if len(picture) > MAX_TOLD:
        document["check"]["picture"] = f"{len(picture)} characters"
    return document


def _view(connection: Connection, row: Row[Any]) -> dict[str, Any]:
    model = parse(row.document)
    users = _users(connection, row.name)
    held = _held(connection, row)
    return {
        "name": row.name,
        "version": model.version,
        "license": model.license,
        "layout": model.layout,
        "sha256": row.sha256,
        "size_bytes": row.size_bytes,
        "revision": row.revision,
        "created_ms": row.created_ms,
        "updated_ms": row.updated_ms,
        "tasks": len(users),
        "used_by": [f"{station}/{task}" for station, task in users[:MAX_TOLD]],
        "workers": dict(Counter(state for _, state, _ in held)),
        "troubles": [
            {"worker": worker, "state": state, "reason": reason}
            for worker, state, reason in held
            if reason
        ][:MAX_TOLD],
    }


def _held(connection: Connection, row: Row[Any]) -> list[tuple[str, str, str]]:
    """Worker, state and reason of everybody whose document names the model."""
    wanted, seen = desired_items.c, observed_items.c
    joined = desired_items.outerjoin(
        observed_items,
        and_(wanted.worker == seen.worker, wanted.kind == seen.kind, wanted.id == seen.id),
    )
    statement = (
        select(wanted.worker, wanted.revision, seen.revision.label("told"), seen.state, seen.reason)
        .select_from(joined)
        .where(wanted.kind == KIND, wanted.id == row.name, ~wanted.removed)
        .order_by(wanted.worker)
    )
    return [
        (one.worker, one.state, one.reason)
        if one.told == one.revision
        else (one.worker, "Pending", "")
        for one in connection.execute(statement)
    ]
