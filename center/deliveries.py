"""Deliveries: a notification on its way to a webhook, and what became of it.

Here: claiming what is due, settling what was tried, the body that is posted. Not here: which
alarms are told (notify), HTTP (notifier).

A claim is a lease: of two replicas one posts, and what a crashed one had claimed is due again when
its lease is over. So a post may be seen twice; its name is the same then, also after a restore.
"""

import hashlib
import random
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from sqlalchemy import ColumnElement, Connection, and_, case, exists, select, true, update

from center import db, events
from center.tables import deliveries, notifications, webhooks
from center.tables import events as events_table
from wire.backoff import full_jitter

State = Literal["waiting", "sent", "dead"]

LEASE_MS = 60_000
GIVE_UP_MS = 86_400_000
BACKOFF_S = (1.0, 600.0)
MAX_ERROR = 200

_KEY = ("notification", "webhook")
_WAITING = deliveries.c.state == "waiting"


@dataclass(frozen=True, slots=True)
class Claimed:
    """A delivery that is ours to try until its lease is over."""

    notification: int
    webhook: str
    attempt: int
    """1 at the first."""
    since_ms: int
    name: str
    body: bytes
    flaw: str = ""
    """Why there is nothing to post; empty: there is."""

    @property
    def key(self) -> tuple[int, str]:
        """What tells it from others."""
        return self.notification, self.webhook


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an attempt; `error` is empty if the webhook took it."""

    claimed: Claimed
    error: str = ""
    for_good: bool = False
    """It makes no sense to try again."""


def name(worker: str, epoch: int, lane: str, seq: int) -> str:
    """The stable name of an alarm's post: made of the event's identity, 32 hexadecimal digits."""
    return hashlib.sha256(f"{worker}/{epoch}/{lane}/{seq}".encode()).hexdigest()[:32]


def begin(connection: Connection, for_whom: Iterable[tuple[int, str]], now_ms: int) -> None:
    """Deliveries of notifications to webhooks, due at once."""
    rows = [
        {
            "notification": notification,
            "webhook": webhook,
            "state": "waiting",
            "attempts": 0,
            "next_ms": now_ms,
            "lease_ms": 0,
            "since_ms": now_ms,
            "error": "",
        }
        for notification, webhook in for_whom
    ]
    db.insert_new(connection, deliveries, rows, _KEY)


def due(connection: Connection, now_ms: int) -> set[str]:
    """The webhooks for which something is due."""
    statement = select(webhooks.c.name).where(
        exists().where(deliveries.c.webhook == webhooks.c.name, _due(now_ms))
    )
    return set(connection.execute(statement).scalars())


def claim(
    connection: Connection,
    webhook: str,
    limit: int,
    busy: Collection[int],
    now_ms: int,
    page_within_ms: int,
) -> list[Claimed]:
    """Take what is due, at most `limit`; what was never tried comes first.

    `busy` are the notifications that this process is still posting to it, lease or not.
    """
    column = deliveries.c
    statement = (
        select(deliveries)
        .where(column.webhook == webhook, _due(now_ms), column.notification.not_in(busy))
        .order_by(column.attempts, column.next_ms)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    found = connection.execute(statement).all()
    ids = [row.notification for row in found]
    connection.execute(
        update(deliveries)
        .where(column.webhook == webhook, column.notification.in_(ids))
        .values(attempts=column.attempts + 1, lease_ms=now_ms + LEASE_MS)
    )
    claimed = []
    for row in found:
        post, body, flaw = _body(connection, row.notification, page_within_ms)
        attempt = row.attempts + 1
        claimed.append(Claimed(row.notification, webhook, attempt, row.since_ms, post, body, flaw))
    return claimed


def _due(now_ms: int) -> ColumnElement[bool]:
    return and_(_WAITING, deliveries.c.next_ms <= now_ms, deliveries.c.lease_ms <= now_ms)


def _body(connection: Connection, notification: int, page_within_ms: int) -> tuple[str, bytes, str]:
    """The name and the body of a post, and why there is none: one bad alarm must stop no other."""
    note = connection.execute(select(notifications).where(notifications.c.id == notification)).one()
    place = and_(*(events_table.c[column] == getattr(note, column) for column in events.KEY))
    event = connection.execute(select(events_table).where(place)).first()
    post = name(note.worker, note.epoch, note.lane, note.seq)
    said = {
        "id": post,
        "late": note.received_ms - note.at_ms > page_within_ms,
        "station": note.station,
        "worker": note.worker,
        "incident": note.incident,
        "severity": note.severity,
        "at_ms": note.at_ms,
        "received_ms": note.received_ms,
    }
    try:
        shown = None if event is None else events.shown(event)
        return post, msgspec.json.encode({**said, "event": shown}), ""
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        return post, b"", f"no post can be made of the alarm: {error}"


def settle(
    connection: Connection, outcomes: Iterable[Outcome], now_ms: int, rng: random.Random
) -> Counter[str]:
    """Write down what came of attempts; how many were `sent`, `retried` and `dead`."""
    counts: Counter[str] = Counter()
    column = deliveries.c
    # In one order everywhere, so that two replicas do not wait for each other.
    for outcome in sorted(outcomes, key=lambda one: one.claimed.key):
        claimed = outcome.claimed
        _hold(connection, claimed.notification)
        mine = update(deliveries).where(
            column.notification == claimed.notification, column.webhook == claimed.webhook, _WAITING
        )
        if not outcome.error:
            taken = {"state": "sent", "settled_ms": now_ms, "error": ""}
            counts["sent"] += connection.execute(mine.values(**taken)).rowcount
        elif outcome.for_good or now_ms - claimed.since_ms >= GIVE_UP_MS:
            dead = {"state": "dead", "settled_ms": now_ms, "error": outcome.error[:MAX_ERROR]}
            counts["dead"] += connection.execute(mine.values(**dead)).rowcount
        else:
            # Unless another replica has tried it meanwhile: then its word counts.
            still = mine.where(column.attempts == claimed.attempt)
            wait_ms = round(1000 * full_jitter(claimed.attempt - 1, *BACKOFF_S, rng))
            again = {"next_ms": now_ms + wait_ms, "lease_ms": 0, "error": outcome.error[:MAX_ERROR]}
            counts["retried"] += connection.execute(still.values(**again)).rowcount
        close(connection, [claimed.notification])
    return counts


def _hold(connection: Connection, notification: int) -> None:
    """Deliveries of one notification are settled one after the other: the last one closes it."""
    held = select(notifications.c.id).where(notifications.c.id == notification)
    connection.execute(held.with_for_update())


def close(connection: Connection, ids: Collection[int] | None = None) -> None:
    """Say of decided notifications without a waiting delivery what they came to; None: of all."""
    note = notifications.c

    def has(state: State) -> ColumnElement[bool]:
        return exists().where(deliveries.c.notification == note.id, deliveries.c.state == state)

    came_to = case((has("dead"), "dead"), (has("sent"), "sent"), else_="unrouted")
    connection.execute(
        update(notifications)
        .where(
            true() if ids is None else note.id.in_(ids),
            note.state == "waiting",
            note.look_ms.is_(None),
            ~has("waiting"),
        )
        .values(state=came_to)
    )


def of_notifications(
    connection: Connection, ids: Collection[int]
) -> dict[int, list[dict[str, Any]]]:
    """What became of each delivery, by notification, ready for JSON."""
    ways: dict[int, list[dict[str, Any]]] = {}
    chosen = select(deliveries).where(deliveries.c.notification.in_(ids))
    for row in connection.execute(chosen.order_by(deliveries.c.notification, deliveries.c.webhook)):
        way = {
            "webhook": row.webhook,
            "state": row.state,
            "attempts": row.attempts,
            "next_ms": row.next_ms if row.state == "waiting" else None,
            "settled_ms": row.settled_ms,
            "error": row.error,
        }
        ways.setdefault(row.notification, []).append(way)
    return ways
