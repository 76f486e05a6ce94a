"""How any resource is kept: its canonical bytes, a revision, when it was made and changed.

Here: what stations, workers, cameras and tasks have in common as rows. Not here: what one resource
says of another (the nouns), and what follows from a change (dispatch).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Row, Table, and_, delete, insert, select, update

from center import db
from wire import specs

Result = Literal["created", "updated", "unchanged"]


class NotFoundError(LookupError):
    """There is no such resource; the text says which."""


class ConflictError(ValueError):
    """Something else stands in the way; the text says what, and what to do."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a put came to. `before` and `after` are documents without passwords."""

    result: Result
    revision: int
    before: dict[str, Any] | None
    after: dict[str, Any]


def parse(document: bytes) -> specs.Resource:
    """The resource of a stored document. Raises specs.SpecError if this program refuses it."""
    return specs.parse(json.loads(document))


def store(
    connection: Connection,
    table: Table,
    key: Mapping[str, str],
    resource: specs.Resource,
    now_ms: int,
    extra: Mapping[str, str] | None = None,
) -> Change:
    """Insert or update the row at `key`; a document that is the same already changes nothing."""
    document = specs.canonical(resource)
    row = find(connection, table, key)
    before = None if row is None else specs.redacted(parse(row.document))
    after = specs.redacted(resource)
    if row is not None and row.document == document:
        return Change("unchanged", row.revision, before, after)
    revision = db.next_revision(connection)
    values = {**(extra or {}), "document": document, "revision": revision, "updated_ms": now_ms}
    if row is None:
        connection.execute(insert(table).values(**key, **values, created_ms=now_ms))
        return Change("created", revision, None, after)
    connection.execute(update(table).where(matching(table, key)).values(**values))
    return Change("updated", revision, before, after)


def find(connection: Connection, table: Table, key: Mapping[str, str]) -> Row[Any] | None:
    """The row at `key`, if there is one."""
    return connection.execute(select(table).where(matching(table, key))).first()


def remove(connection: Connection, table: Table, key: Mapping[str, str]) -> None:
    """Delete the row at `key`; the caller has made sure that it is there."""
    connection.execute(delete(table).where(matching(table, key)))


def matching(table: Table, key: Mapping[str, str]) -> ColumnElement[bool]:
    """The condition that the columns of `key` have its values."""
    return and_(*(table.c[column] == value for column, value in key.items()))


def problem(*path: str | int, message: str) -> specs.SpecError:
    """A refusal that names one field."""
    return specs.SpecError([specs.Problem(path, message)])


def view(resource: specs.Resource, status: Mapping[str, Any]) -> dict[str, Any]:
    """What is shown of a resource: {kind, metadata, spec, status}, without passwords."""
    shown = specs.redacted(resource)
    return {
        "kind": shown["kind"],
        "metadata": shown["metadata"],
        "spec": shown.get("spec", {}),
        "status": dict(status),
    }
