"""Notifications: which alarms are news, and for whom; their rows.

Here: one row for each new alarm, the rule for late ones, deliveries and what became of them.
Not here: who is to be told (webhooks), posting (notifier).
"""

from typing import Any

from sqlalchemy import Connection

from center import db
from center.tables import notifications


def enqueue(connection: Connection, rows: list[dict[str, Any]], now_ms: int) -> None:
    """Note the new alarms among stored event rows, each once, however often they are stored.

    It is part of the transaction that stores the events: what is stored is told, too.
    """
    new = [
        {
            "worker": row["worker"],
            "epoch": row["epoch"],
            "lane": row["lane"],
            "seq": row["seq"],
            "station": row["station"],
            "incident": row["incident"] if row["phase"] == "start" else None,
            "severity": row["severity"],
            "at_ms": row["at_ms"],
            "received_ms": row["received_ms"],
            "state": "waiting",
            "look_ms": now_ms,
        }
        for row in rows
        if row["lane"] == "alarm" and row["phase"] in (None, "start")
    ]
    db.insert_new(connection, notifications, new, ())
