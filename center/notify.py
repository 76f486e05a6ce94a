"""Notifications: which alarms are news, and for whom; their rows.

Here: one row for each new alarm, the rule for late ones, listing them, letting old ones go. Not
here: who is to be told (webhooks), what became of each post (deliveries), posting (notifier).
"""

from collections.abc import Sequence
from typing import Any, Literal, get_args

from sqlalchemy import Connection, Row, and_, delete, exists, func, select, update

from center import db, deliveries, webhooks
from center.tables import notifications, open_incidents, watermarks

State = Literal["waiting", "late", "unrouted", "sent", "dead"]
Decision = Literal["page", "late", "wait"]

MAX_WAIT_MS = 60_000
MAX_LISTED = 1000
KEEP_MS = 30 * 86_400_000
KEEP_DEAD_MS = 90 * 86_400_000

_LOOK_AGAIN_MS = 5_000
_OLD_MS = 60_000
"""An alarm that is older when it comes is backlog: looked at later, when its end may be here."""
_CHUNK = 1000
_PRUNED = 500


def enqueue(connection: Connection, rows: list[dict[str, Any]], now_ms: int) -> None:
    """Note the new alarms among stored event rows, each once, however often they are stored.

    It is part of the transaction that stores the events: what is stored is told, too.
    """
    told: set[tuple[str, str]] = set()
    new = [
        {
            "worker": row["worker"],
            "epoch": row["epoch"],
            "lane": row["lane"],
            "seq": row["seq"],
            "station": row["station"],
            "incident": (row["incident"] or None) if row["phase"] else None,
            "severity": row["severity"],
            "at_ms": row["at_ms"],
            "received_ms": row["received_ms"],
            "state": "waiting",
            "look_ms": now_ms + _LOOK_AGAIN_MS * (now_ms - row["at_ms"] > _OLD_MS),
        }
        for row in rows
        if _is_news(row, told)
    ]
    db.insert_new(connection, notifications, new, ())


def _is_news(row: dict[str, Any], told: set[tuple[str, str]]) -> bool:
    """Whether a row may be the first of its alarm; `told` are the incidents of those before it.

    An update is, where the start was shed or refused.
    """
    if row["lane"] != "alarm" or row["phase"] == "end":
        return False
    if row["phase"] is None:
        return True
    if not row["incident"]:
        return bool(row["phase"] == "start")
    incident = (row["worker"], row["incident"])
    if incident in told:
        return False
    told.add(incident)
    return True


# --- deciding ----------------------------------------------------------------------------------


def decide(
    *, age_ms: int, page_within_ms: int, still_open: bool, caught_up: bool, waited_ms: int
) -> Decision:
    """Whether an alarm pages. `age_ms` is its age when it came, `waited_ms` the time since then.

    A young one pages at once, an older one only while its incident is open. As long as its lane
    has not caught up, the end may be on its way: that is waited for, but not for ever.
    """
    if age_ms <= page_within_ms:
        return "page"
    if not still_open:
        return "late"
    if caught_up or waited_ms >= MAX_WAIT_MS:
        return "page"
    return "wait"


Decided = dict[Decision, list[Row[Any]]]
"""Rows of notifications by what was decided of them."""


def decide_some(connection: Connection, now_ms: int, page_within_ms: int) -> Decided:
    """Decide what is due, the newest first, a chunk of it. Reads only.

    Two centers may decide the same: writing it down twice (`settle`) is the same as once.
    """
    decided: Decided = {word: [] for word in get_args(Decision)}
    for row in connection.execute(_due(now_ms)):
        decision = decide(
            age_ms=row.received_ms - row.at_ms,
            page_within_ms=page_within_ms,
            still_open=row.still_open,
            caught_up=(row.reached or 0) >= max(row.high or 0, row.seq),
            waited_ms=now_ms - row.received_ms,
        )
        decided[decision].append(row)
    return decided


def settle(connection: Connection, decided: Decided, now_ms: int) -> None:
    """Write down what was decided, and begin the deliveries of what pages."""
    _set(connection, decided["late"], state="late", look_ms=None)
    _set(connection, decided["wait"], look_ms=now_ms + _LOOK_AGAIN_MS)
    _set(connection, decided["page"], look_ms=None)
    told = webhooks.every(connection)
    for_whom = [
        (row.id, webhook.name)
        for row in decided["page"]
        for webhook in told
        if webhook.wants(row.station, row.severity)
    ]
    deliveries.begin(connection, for_whom, now_ms)
    deliveries.close(connection, [row.id for row in decided["page"]])


def _due(now_ms: int) -> Any:
    column, mark = notifications.c, watermarks.c
    still_open = exists().where(
        open_incidents.c.worker == column.worker, open_incidents.c.incident == column.incident
    )
    lane = and_(mark.worker == column.worker, mark.epoch == column.epoch, mark.lane == column.lane)
    return (
        select(
            column.id,
            column.station,
            column.severity,
            column.seq,
            column.at_ms,
            column.received_ms,
            still_open.label("still_open"),
            mark.seq.label("reached"),
            mark.high,
        )
        .select_from(notifications.outerjoin(watermarks, lane))
        .where(column.look_ms <= now_ms)
        .order_by(column.look_ms.desc(), column.id.desc())
        .limit(_CHUNK)
    )


def _set(connection: Connection, rows: Sequence[Row[Any]], **values: Any) -> None:
    if rows:
        ids = [row.id for row in rows]
        connection.execute(
            update(notifications)
            .where(notifications.c.id.in_(ids), notifications.c.look_ms.is_not(None))
            .values(**values)
        )


# --- showing -----------------------------------------------------------------------------------


def search(
    connection: Connection,
    state: State | None = None,
    station: str | None = None,
    before: int | None = None,
    limit: int = 100,
) -> list[dict[str, Any]]:
    """Notifications and their deliveries, the newest first; `before` is an id, exclusive."""
    column = notifications.c
    statement = select(notifications).order_by(column.id.desc()).limit(min(limit, MAX_LISTED))
    if state is not None:
        statement = statement.where(column.state == state)
    if station is not None:
        statement = statement.where(column.station == station)
    if before is not None:
        statement = statement.where(column.id < before)
    found = connection.execute(statement).all()
    ways = deliveries.of_notifications(connection, [row.id for row in found])
    return [
        {
            "id": row.id,
            "delivery": deliveries.name(row.worker, row.epoch, row.lane, row.seq),
            "state": row.state,
            "station": row.station,
            "worker": row.worker,
            "epoch": row.epoch,
            "lane": row.lane,
            "seq": row.seq,
            "incident": row.incident,
            "severity": row.severity,
            "at_ms": row.at_ms,
            "received_ms": row.received_ms,
            "deliveries": ways.get(row.id, []),
        }
        for row in found
    ]


def waiting(connection: Connection) -> tuple[int, int | None]:
    """How many notifications wait, and when the oldest of them was received."""
    column = notifications.c
    statement = select(func.count(), func.min(column.received_ms)).where(column.state == "waiting")
    count, oldest_ms = connection.execute(statement).one()
    return count, oldest_ms


# --- letting go --------------------------------------------------------------------------------


def prune(connection: Connection, now_ms: int) -> int:
    """Delete a chunk of what was settled long ago, with its deliveries; how many."""
    old: list[int] = []
    for state in get_args(State):
        if state != "waiting":
            old += _old(connection, state, now_ms)
    if old:
        connection.execute(delete(notifications).where(notifications.c.id.in_(old)))
    return len(old)


def prunable(connection: Connection, now_ms: int) -> bool:
    """Whether there is something to prune."""
    return any(_old(connection, state, now_ms) for state in get_args(State) if state != "waiting")


def _old(connection: Connection, state: State, now_ms: int) -> list[int]:
    """The first ids of a state that are old enough to go; ids rise with the time of receiving."""
    column = notifications.c
    first = select(column.id, column.received_ms).where(column.state == state).order_by(column.id)
    kept_ms = KEEP_DEAD_MS if state == "dead" else KEEP_MS
    found = connection.execute(first.limit(_PRUNED))
    return [row.id for row in found if row.received_ms < now_ms - kept_ms]
