"""The ledger of each lane: how far it has come, what is declared lost, what could not be stored.

Here: watermarks, gaps, dead letters. Not here: the events themselves (events), and how a batch
moves a watermark (ingest).
"""

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from center import db, events
from center.tables import dead_letters, gaps, watermarks
from wire.events import LANES, MAX_NUMBER, OPEN_END, Gap, Lane, Watermark
from wire.messages import Held, Hello

Place = tuple[str, int, Lane]
"""Worker, epoch and lane."""

MISTAKABLE = ("lost_with_disk", "forgotten")
"""Why a gap may be wrong: a disk may turn up again."""
MAX_DEAD_LETTERS = 1000
MAX_DEAD_LETTER_BYTES = 64 * 1024


_MARK = (
    select(watermarks.c.seq)
    .where(
        watermarks.c.worker == bindparam("of_worker"),
        watermarks.c.epoch == bindparam("of_epoch"),
        watermarks.c.lane == bindparam("of_lane"),
    )
    .with_for_update()
)
"""Made once: making it takes longer than running it."""


def mark(connection: Connection, place: Place, now_ms: int) -> int:
    """The number up to which a lane is stored or a gap.

    Its row is held to the end of the transaction where several may write at once, and made for that
    where there is none yet.
    """
    worker, epoch, lane = place
    asked = {"of_worker": worker, "of_epoch": epoch, "of_lane": lane}
    row = connection.execute(_MARK, asked).first()
    if row is None:
        born = {"worker": worker, "epoch": epoch, "lane": lane, "seq": 0, "updated_ms": now_ms}
        db.insert_new(connection, watermarks, [{**born, "high": 0}], ("worker", "epoch", "lane"))
        row = connection.execute(_MARK, asked).one()
    return int(row.seq)


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


# --- what a disk lost --------------------------------------------------------------------------


def claim(
    connection: Connection, worker: str, epoch: int, high: Mapping[str, int], now_ms: int
) -> None:
    """A worker tells the highest numbers that it has given out, by lane.

    It costs a write only where a number is higher than all that is known of the lane.
    """
    told = {lane: high[lane] for lane in LANES if 0 < high.get(lane, 0) <= OPEN_END}
    if not told or not 0 < epoch <= MAX_NUMBER:
        return
    column = watermarks.c
    statement = select(column.lane, column.seq, column.high).where(
        column.worker == worker, column.epoch == epoch
    )
    known = {row.lane: max(row.seq, row.high) for row in connection.execute(statement)}
    born = [
        {"worker": worker, "epoch": epoch, "lane": lane, "seq": 0, "high": number}
        | {"updated_ms": now_ms}
        for lane, number in told.items()
        if lane not in known
    ]
    db.insert_new(connection, watermarks, born, ("worker", "epoch", "lane"))
    for lane, number in told.items():
        if number > known.get(lane, number):
            place = (column.worker == worker, column.epoch == epoch, column.lane == lane)
            goes_on = {"high": number, "ends": None, "ends_ms": None}
            connection.execute(update(watermarks).where(*place).values(goes_on))


def uphold(connection: Connection, worker: str, epochs: Iterable[Held], now_ms: int) -> None:
    """A worker names lanes that it has: they have a holder again, and come as far as it says.

    It costs a write only where something else was believed of a lane.
    """
    holds = {(one.epoch, one.lane): one for one in epochs}
    column = watermarks.c
    known = select(column.epoch, column.lane, column.seq, column.high, column.ends).where(
        column.worker == worker, column.epoch.in_({epoch for epoch, _ in holds})
    )
    for row in connection.execute(known).all():
        one = holds.get((row.epoch, row.lane))
        if one is None:
            continue
        if row.ends is not None and one.high >= row.high:
            here = (column.worker == worker, column.epoch == row.epoch, column.lane == row.lane)
            goes_on = {"ends": None, "ends_ms": None}
            connection.execute(
                update(watermarks).where(*here, column.high <= one.high).values(goes_on)
            )
        if one.low <= min(one.high, row.seq):
            place: Place = (worker, row.epoch, row.lane)
            was = mark(connection, place, now_ms)
            now = take_back(connection, place, was, one.low, one.high)
            if now < was:
                advance(connection, {place: now}, now_ms)


def take_back(
    connection: Connection, place: Place, reached: int, first: int, last: int, taken: int = 0
) -> int:
    """Give up mistakable gaps at the end of a lane that has `reached` so far, where a worker turns
    out to have the events `first`..`last`. Where the watermark belongs now.

    The caller holds the lane, and moves it there. What lies above is sent again, so it does not
    pass what is stored, of which `taken` is the highest number that is not in the database yet;
    an alarm may be stored above (express).
    """
    worker, epoch, lane = place
    column = gaps.c
    of_lane = (column.worker == worker, column.epoch == epoch, column.lane == lane)
    now = reached
    while now >= first:
        ending = select(column.first, column.why).where(*of_lane, column.last == now)
        gap = connection.execute(ending).first()
        if gap is None or gap.why not in MISTAKABLE or gap.first > last:
            break
        low = max(gap.first, first)
        if lane == "bulk":
            low = max(low, taken + 1, events.highest(connection, *place) + 1)
        if low > now:
            break
        shortened = (*of_lane, column.first == gap.first)
        if low == gap.first:
            connection.execute(delete(gaps).where(*shortened))
        else:
            connection.execute(update(gaps).where(*shortened).values(last=low - 1))
        now = low - 1
    if now < reached:
        mark_of = watermarks.c
        here = (mark_of.worker == worker, mark_of.epoch == epoch, mark_of.lane == lane)
        goes_on = {"ends": None, "ends_ms": None}
        connection.execute(update(watermarks).where(*here).values(goes_on))
    return now


def settle(connection: Connection, worker: str, hello: Hello, now_ms: int) -> None:
    """A new boot or instance tells what it holds: what was given out beyond that has no holder.

    It is not given up yet (`give_up`): this may be a clone with an older disk, and the elder, which
    has it all, about to say so.
    """
    column = watermarks.c
    holds = {(one.epoch, one.lane): one.high for one in hello.epochs}
    unsettled = (
        select(column.epoch, column.lane, column.seq, column.high, column.ends)
        .where(column.worker == worker, column.high > column.seq)
        .with_for_update()
    )
    for row in connection.execute(unsettled).all():
        ends: int | None = holds.get((row.epoch, row.lane))
        if ends is None:
            if hello.epochs_more:
                continue  # it may be one of those that were not named
            ends = 0
        if ends >= row.high:
            ends = None
        if ends != row.ends:
            here = (column.worker == worker, column.epoch == row.epoch, column.lane == row.lane)
            settled = {"ends": ends, "ends_ms": None if ends is None else now_ms}
            connection.execute(update(watermarks).where(*here).values(settled))


def give_up(connection: Connection, worker: str, before_ms: int, now_ms: int) -> int:
    """Declare what has had no holder since `before_ms`, where all before it has come.

    How many gaps that were.
    """
    asked = {"of_worker": worker, "before_ms": before_ms}
    found = connection.execute(_WITHOUT_HOLDER, asked).all()
    for row in found:
        place: Place = (worker, row.epoch, row.lane)
        lost = Gap(first=row.seq + 1, last=row.high, why="lost_with_disk")
        declare(connection, place, [lost], now_ms)
        advance(connection, {place: lost.last}, now_ms)
    return len(found)


_WITHOUT_HOLDER = (
    select(watermarks.c.epoch, watermarks.c.lane, watermarks.c.seq, watermarks.c.high)
    .where(
        watermarks.c.worker == bindparam("of_worker"),
        watermarks.c.ends <= watermarks.c.seq,
        watermarks.c.seq < watermarks.c.high,
        watermarks.c.ends_ms <= bindparam("before_ms"),
    )
    .order_by(watermarks.c.epoch, watermarks.c.lane)
    .with_for_update()
)


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


def lost_within(connection: Connection, place: Place, first: int, last: int) -> list[Gap]:
    """The gaps that the center or a restored one declared, and that events may still belie."""
    worker, epoch, lane = place
    column = gaps.c
    statement = select(column.first, column.last, column.why).where(
        column.worker == worker,
        column.epoch == epoch,
        column.lane == lane,
        column.first <= last,
        column.last >= first,
        column.why.in_(MISTAKABLE),
    )
    found = connection.execute(statement)
    return [Gap(first=row.first, last=row.last, why=row.why) for row in found]


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
