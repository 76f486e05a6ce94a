"""Counters of this process, and their exposition as Prometheus text.

Here: names, help texts, counting. Not here: gauges that are read from the database when somebody
asks (api/metrics).
"""

import threading
from collections.abc import Iterable

HELP = {
    "hellos_total": "hellos that were welcomed",
    "denials_total": "hellos and messages that were denied",
    "heartbeats_total": "heartbeats of sessions that count",
    "stale_messages_total": "messages of sessions that do not count",
    "unreadable_messages_total": "payloads that are no message of ours",
    "strangers_total": "messages of workers that are not registered",
    "desired_sent_total": "desired documents sent",
    "generations_renewed_total": "times that a worker remembered more than this database",
    "batches_total": "batches stored",
    "events_stored_total": "events stored",
    "events_duplicate_total": "events that were stored already",
    "events_refused_total": "single events that could not be stored; each is a gap",
    "identity_conflicts_total": "events whose number was taken by another body",
    "gaps_total": "gaps declared by workers",
    "rewinds_total": "batches that left a hole",
    "messages_discarded_total": "messages given up by the center; workers send them again",
    "database_retries_total": "times that the database could not do it at once",
}


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


def exposition(counters: dict[str, int], gauges: Iterable[tuple[str, str, float]]) -> str:
    """Prometheus text of the counters and of gauges as (name with labels, help text, value)."""
    lines = []
    for name, value in counters.items():
        lines += [
            f"# HELP forecourt_center_{name} {HELP[name]}",
            f"# TYPE forecourt_center_{name} counter",
            f"forecourt_center_{name} {value}",
        ]
    told: set[str] = set()
    for labelled, text, number in gauges:
        name = labelled.partition("{")[0]
        if name not in told:
            told.add(name)
            lines.append(f"# HELP forecourt_center_{name} {text}")
            lines.append(f"# TYPE forecourt_center_{name} gauge")
        lines.append(f"forecourt_center_{labelled} {number:g}")
    return "\n".join(lines) + "\n"
