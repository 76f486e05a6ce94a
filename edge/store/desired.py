"""What the center wants of this worker, on its own disk: read before any network at a start.

Here: the desired document verbatim, and the highest fence seen. Not here: events (outbox), what is
done about the document (reconcile).
"""

import logging
import sqlite3
import threading
from pathlib import Path

import msgspec

from edge.clock import Clock
from edge.store import sqlite
from wire.messages import Desired, Item, Known, digest, item_hash

log = logging.getLogger("forecourt.desired")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS items (
  kind     TEXT    NOT NULL,
  id       TEXT    NOT NULL,
  revision INTEGER NOT NULL,
  body     BLOB    NOT NULL,   -- exactly as sent: the digest covers its hash
  PRIMARY KEY (kind, id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS facts (
  name  TEXT PRIMARY KEY,
  value TEXT NOT NULL
) WITHOUT ROWID;
"""


class DesiredError(ValueError):
    """A desired document that must not replace the one we have."""


class DesiredStore:
    """The desired document in one file. Methods may be called from any thread."""

    def __init__(self, path: Path, clock: Clock) -> None:
        """A damaged file is set aside; the center then sends the whole document again."""
        self._lock = threading.Lock()
        try:
            self._connection = sqlite.open_writer(path, _SCHEMA)
        except sqlite.CorruptError as error:
            aside = sqlite.set_aside(path, clock.wall_ms())
            log.error("desired state damaged (%s); set aside as %s", error, aside.name)
            self._connection = sqlite.open_writer(path, _SCHEMA)

    def known(self) -> Known:
        """Which document lies here."""
        with self._lock:
            facts = self._facts()
        return Known(
            generation=int(facts.get("generation", "0")),
            revision=int(facts.get("revision", "0")),
            digest=facts.get("digest", ""),
        )

    def items(self) -> list[Item]:
        """The document's items, by kind and id."""
        with self._lock:
            rows = self._connection.execute(
                "SELECT kind, id, revision, body FROM items ORDER BY kind, id"
            ).fetchall()
        return [
            Item(kind=kind, id=name, revision=revision, body=msgspec.Raw(body))
            for kind, name, revision, body in rows
        ]

    def replace(self, document: Desired) -> None:
        """Take a whole document, verified first, in one transaction. Raises DesiredError."""
        if not document.items and not document.empty:
            raise DesiredError("an empty document that does not say that it is empty")
        if len({(item.kind, item.id) for item in document.items}) != len(document.items):
            raise DesiredError("a document that names an item twice")
        found = digest_of(document.items)
        if found != document.digest:
            raise DesiredError(f"its digest is {found}, not {document.digest} as it says")
        facts = {
            "generation": str(document.generation),
            "revision": str(document.revision),
            "digest": document.digest,
        }
        rows = [(i.kind, i.id, i.revision, bytes(i.body)) for i in document.items]
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                self._connection.execute("DELETE FROM items")
                self._connection.executemany("INSERT INTO items VALUES (?, ?, ?, ?)", rows)
                self._connection.executemany(_SET_FACT, facts.items())
                self._connection.execute("COMMIT")
            except sqlite3.Error:
                self._connection.execute("ROLLBACK")
                raise

    def fence(self) -> int:
        """The highest fence that this worker was ever given."""
        with self._lock:
            return int(self._facts().get("fence", "0"))

    def raise_fence(self, fence: int) -> None:
        """Remember a fence; a lower one changes nothing."""
        if fence > self.fence():
            with self._lock:
                self._connection.execute(_SET_FACT, ("fence", str(fence)))

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def _facts(self) -> dict[str, str]:
        return dict(self._connection.execute("SELECT name, value FROM facts").fetchall())


_SET_FACT = (
    "INSERT INTO facts (name, value) VALUES (?, ?)"
    " ON CONFLICT (name) DO UPDATE SET value = excluded.value"
)


def digest_of(items: list[Item]) -> str:
    """The digest of a document with these items."""
    return digest((item.kind, item.id, item.revision, item_hash(item.body)) for item in items)
