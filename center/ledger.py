"""The ledger of each lane: how far it has come, what is declared lost, what could not be stored.

Here: watermarks, gaps, dead letters. Not here: the events themselves (events), and how a batch
moves a watermark (ingest).
"""

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from center import db
from center.tables import dead_letters, gaps, watermarks
from wire.events import Gap, Lane, Watermark
from wire.messages import Held

Place = tuple[str, int, Lane]
"""Worker, epoch and lane."""

MAX_DEAD_LETTERS = 1000
MAX_DEAD_LETTER_BYTES = 64 * 1024


def watermark(connection: Connection, worker: str, epoch: int, lane: Lane) -> int:
    """The highest number up to which everything is stored or a gap; 0 at first.

    The row is held to the end of the transaction, where the database can.
    """
    column = watermarks.c
    statement = select(column.seq).where(
        column.worker == worker, column.epoch == epoch, column.lane == lane
    )
    return connection.execute(statement.with_for_update()).scalar() or 0


def of_epochs(connection: Connection, worker: str, held: Iterable[Held]) -> list[Watermark]:
    """The watermark of each epoch and lane that a worker names."""
    asked = {(one.epoch, one.lane): 0 for one in held}
    statement = select(watermarks).where(
        watermarks.c.worker == worker, watermarks.c.epoch.in_({epoch for epoch, _ in asked})
    )
    for row in connection.execute(statement):
        if (row.epoch, row.lane) in asked:
            asked[row.epoch, row.lane] = row.seq
    return [Watermark(epoch=epoch, lane=lane, seq=seq) for (epoch, lane), seq in asked.items()]


def advance(connection: Connection, moved: Mapping[Place, int], now_ms: int) -> None:
    """Move watermarks; the caller has made sure that nothing below them is missing."""
    rows = [
        {"worker": worker, "epoch": epoch, "lane": lane, "seq": seq, "updated_ms": now_ms}
        for (worker, epoch, lane), seq in sorted(moved.items())
    ]
    db.upsert(connection, watermarks, rows, ("worker", "epoch", "lane"))


def declare(connection: Connection, place: Place, lost: Iterable[Gap], now_ms: int) -> None:
    """Store gaps."""
    worker, epoch, lane = place
    rows = [
        {
            "worker": worker,
            "epoch": epoch,
            "lane": lane,
            "first": gap.first,
            "last": gap.last,
            "why": gap.why[:100].replace("\0", "?"),
            "received_ms": now_ms,
        }
        for gap in lost
    ]
    db.insert_new(connection, gaps, rows, ("worker", "epoch", "lane", "first"))


def bury(
    connection: Connection,
    worker: str,
    topic: str,
    reason: str,
    body: bytes,
    now_ms: int,
    numbered: tuple[int, Lane, int] | None = None,
) -> None:
    """Keep what could not be stored, for somebody to look at; the oldest of a worker make room.

    `numbered` is epoch, lane and number, where they are known.
    """
    epoch, lane, seq = numbered or (None, None, None)
    values: dict[str, Any] = {
        "worker": worker,
        "topic": topic,
        "epoch": epoch,
        "lane": lane,
        "seq": seq,
        "reason": reason[:500].replace("\0", "?"),
        "body": body[:MAX_DEAD_LETTER_BYTES],
        "received_ms": now_ms,
    }
    connection.execute(insert(dead_letters).values(**values))
    column = dead_letters.c
    newest_first = select(column.id).where(column.worker == worker).order_by(column.id.desc())
    oldest_kept = connection.execute(newest_first.offset(MAX_DEAD_LETTERS - 1).limit(1)).scalar()
    if oldest_kept is not None:
        connection.execute(
            delete(dead_letters).where(column.worker == worker, column.id < oldest_kept)
        )
