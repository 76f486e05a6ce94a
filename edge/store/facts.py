"""What each input said last, on this worker's own disk: a nozzle that is lifted stays so.

Here: one row for each input, in a file of its own. Not here: how many inputs there may be, which
facts are believed (edge/inputs.py), those that were said before (edge/facts.py).
"""

import logging
import sqlite3
import threading
from collections.abc import Iterable
from pathlib import Path

import msgspec

from edge.clock import Clock
from edge.store import sqlite
from wire.facts import MAX_INPUTS, Fact

log = logging.getLogger("forecourt.facts")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (
  input TEXT PRIMARY KEY,
  t_ms  INTEGER NOT NULL,
  body  BLOB NOT NULL       -- the whole fact as JSON
) WITHOUT ROWID;
"""
_KEEP = """
INSERT INTO facts (input, t_ms, body) VALUES (:input, :t_ms, :body)
ON CONFLICT (input) DO UPDATE SET t_ms = excluded.t_ms, body = excluded.body
WHERE excluded.t_ms >= facts.t_ms OR facts.t_ms > :latest_ms
"""


class FactStore:
    """The newest fact of each input in one file. Methods may be called from any thread."""

    def __init__(self, path: Path, clock: Clock) -> None:
        """A damaged file is set aside: what the inputs say is then unknown until they say it."""
        self._lock = threading.Lock()
        try:
            self._connection = sqlite.open_writer(path, _SCHEMA)
        except sqlite.CorruptError as error:
            aside = sqlite.set_aside(path, clock.wall_ms())
            log.error("facts of inputs damaged (%s); set aside as %s", error, aside.name)
            self._connection = sqlite.open_writer(path, _SCHEMA)

    def load(self) -> list[Fact]:
        """What was kept, by input; a row that has rotted is passed over, and said in the log."""
        with self._lock:
            rows = self._connection.execute(
                "SELECT CAST(body AS BLOB) FROM facts ORDER BY input LIMIT ?", (MAX_INPUTS,)
            ).fetchall()
        facts = []
        for (body,) in rows:
            try:
                facts.append(msgspec.json.decode(body, type=Fact))
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                log.error("a fact of an input has rotted on disk: %s", error)
        return facts

    def keep(self, facts: Iterable[Fact], latest_ms: int) -> None:
        """Keep what is newest of each input, in one transaction that is synced.

        A kept fact from after `latest_ms` gives way to any: the clock was taken back. Raises
        sqlite3.Error, and keeps what there was, where the disk does not take it.
        """
        rows = [
            {
                "input": fact.input,
                "t_ms": fact.t_ms,
                "body": msgspec.json.encode(fact),
                "latest_ms": latest_ms,
            }
            for fact in facts
        ]
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                self._connection.executemany(_KEEP, rows)
                self._connection.execute("COMMIT")
            except sqlite3.Error:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()
