"""Counters of this process, and their exposition as Prometheus text.

Here: names, help texts, counting. Not here: gauges that are read from the database when somebody
asks (api/metrics).
"""

import threading
from collections.abc import Iterable

HELP = {
    "hellos_total": "hellos that were welcomed",
    "denials_total": "hellos and messages that were denied",
    "hellos_deferred_total": "hellos told to come again later, as too many came at once",
    "challenges_total": "outdated processes that were asked to show that they live",
    "clones_total": "times that two processes with one data folder were found to live",
    "heartbeats_total": "heartbeats of sessions that count",
    "stale_messages_total": "messages of sessions that do not count",
    "unreadable_messages_total": "payloads that are no message of ours",
    "strangers_total": "messages of workers that are not registered",
    "desired_sent_total": "whole desired documents sent",
    "deltas_sent_total": "changes of desired documents sent",
    "desired_stuck_total": "workers that did not take a document though it was sent again",
    "observed_asked_total": "times that a worker was asked what became of its items",
    "observed_stuck_total": "workers that did not say what became of their items though asked",
    "generations_renewed_total": "times that a worker remembered more than this database",
    "batches_total": "batches stored",
    "events_stored_total": "events stored",
    "events_duplicate_total": "events that were stored already",
    "events_refused_total": "single events that could not be stored; each is a gap",
    "identity_conflicts_total": "events whose number was taken by another body",
    "gaps_total": "gaps declared by workers",
    "rewinds_total": "batches that left a hole",
    "calls_total": "calls sent to workers",
    "calls_unanswered_total": "calls that were not answered in time",
    "calls_foreign_total": "answers that nobody here waits for: late, or another replica's",
    "credit_turned_away_total": "times that too many workers waited for credit; they ask again",
    "messages_discarded_total": "messages given up by the center; workers send them again",
    "database_retries_total": "times that the database could not do it at once",
    "notifications_late_total": "alarms that came too late to page",
    "notifications_sent_total": "posts that a webhook took",
    "notifications_retried_total": "posts that failed and are tried again",
    "notifications_dead_total": "deliveries that were given up",
}

LINK_COUNTERS = {
    "attempts": "times that the broker was dialled",
    "connects": "times that the broker was reached",
    "received": "messages received from the broker",
    "published": "messages published",
    "publishes_refused_by_broker": "publishes that the broker refused",
    "refused_publishes": "publishes that the link refused: no connection, or too many wait",
    "dropped_stale": "messages and acknowledgements of a connection that had ended",
    "dropped_unreadable": "messages that could not be read as MQTT means them",
    "callback_errors": "messages at which this program failed",
    "faults": "connections that ended by a fault of this program",
}
LINK_GAUGES = {
    "queued": "messages waiting for the broker's window",
    "in_flight": "messages that the broker has not yet acknowledged",
    "unacked": "messages that were not yet acknowledged to the broker",
    "last_received_age_s": "seconds since the broker was last heard",
}
"""What `wire.link.Link.stats` counts and measures."""


class Metrics:
    """Counters since the start of the process, by name; any thread may count."""

    def __init__(self) -> None:
        self._counts = dict.fromkeys(HELP, 0)
        self._lock = threading.Lock()

    def count(self, name: str, by: int = 1) -> None:
        """Raises KeyError for a name without a help text."""
        with self._lock:
            self._counts[name] += by

    def counts(self) -> dict[str, int]:
        """A copy of all counters."""
        with self._lock:
            return dict(self._counts)


def exposition(
    counters: Iterable[tuple[str, str, float]], gauges: Iterable[tuple[str, str, float]]
) -> str:
    """Prometheus text of counters and gauges, each (name with labels, help text, value)."""
    lines: list[str] = []
    told: set[str] = set()
    for sort, metrics in (("counter", counters), ("gauge", gauges)):
        for labelled, text, number in metrics:
            name = labelled.partition("{")[0]
            if name not in told:
                told.add(name)
                lines.append(f"# HELP forecourt_center_{name} {text}")
                lines.append(f"# TYPE forecourt_center_{name} {sort}")
            lines.append(f"forecourt_center_{labelled} {number:.15g}")
    return "\n".join(lines) + "\n"
