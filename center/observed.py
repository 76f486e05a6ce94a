"""Observed: what became of the items of desired documents, as the workers say.

Here: rows of items and the digest over them. Not here: comparing digests (healing), presence.
"""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, delete, select, tuple_, update

from center import db
from center.tables import observed_items, presence
from wire import messages
from wire.messages import ItemObserved

MAX_REASON = 1000
"""Characters; workers say at most 400."""


def store(
    connection: Connection,
    worker: str,
    items: Iterable[ItemObserved],
    wanted: set[tuple[str, str]],
    now_ms: int,
) -> str:
    """Keep what became of items that are `wanted`, by (kind, id); the digest over all that is kept.

    Items that are not named stay as they were.
    """
    rows: dict[tuple[str, str], dict[str, Any]] = {
        (item.kind, item.id): {
            "worker": worker,
            "kind": item.kind,
            "id": item.id,
            "revision": item.revision,
            "state": item.state,
            "reason": item.reason[:MAX_REASON].replace("\0", "?"),
            "observed_ms": now_ms,
        }
        for item in items
        if (item.kind, item.id) in wanted
    }
    db.upsert(connection, observed_items, list(rows.values()), ("worker", "kind", "id"))
    return _digested(connection, worker)


def forget(connection: Connection, worker: str, items: Iterable[tuple[str, str]]) -> None:
    """What was observed of these items, by (kind, id), is of no more interest."""
    place = tuple_(observed_items.c.kind, observed_items.c.id)
    connection.execute(
        delete(observed_items).where(observed_items.c.worker == worker, place.in_(list(items)))
    )
    _digested(connection, worker)


def digest(connection: Connection, worker: str) -> str:
    """`wire.messages.observed_digest` over what is kept."""
    column = observed_items.c
    rows = connection.execute(
        select(column.kind, column.id, column.revision, column.state, column.reason).where(
            column.worker == worker
        )
    )
    return messages.observed_digest(
        ItemObserved(
            kind=row.kind, id=row.id, revision=row.revision, state=row.state, reason=row.reason
        )
        for row in rows
    )


def _digested(connection: Connection, worker: str) -> str:
    """Keep the digest beside the worker's presence, where heartbeats are compared with it."""
    found = digest(connection, worker)
    connection.execute(
        update(presence).where(presence.c.worker == worker).values(observed_digest=found)
    )
    return found
