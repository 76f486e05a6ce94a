"""What the center wants of this worker, on its own disk: read before any network at a start.

Here: the desired document verbatim, the highest fence seen, and other small facts. Not here: events
(outbox), what is done about the document (reconcile).
"""

import logging
import sqlite3
import threading
from pathlib import Path

import msgspec

from edge.clock import Clock
from edge.store import sqlite
from wire.messages import (
    MAX_DOCUMENT_BYTES,
    Delta,
    Desired,
    Item,
    Known,
    digest,
    item_hash,
)  # fmt: skip

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


MAX_PARTS = 64
_MAX_FACT = 8192


class DesiredError(ValueError):
    """A desired document that must not replace the one we have."""


class DesiredStore:
    """The desired document in one file. Methods may be called from any thread."""

    def __init__(self, path: Path, clock: Clock) -> None:
        """A damaged file is set aside; the center then sends the whole document again.

        So it does for a document that rotted where SQLite cannot see it. That one serves until
        then: most of its items are still what was wanted.
        """
        self._lock = threading.Lock()
        self._parts: dict[int, Desired] = {}
        try:
            self._connection = sqlite.open_writer(path, _SCHEMA)
        except sqlite.CorruptError as error:
            aside = sqlite.set_aside(path, clock.wall_ms())
            log.error("desired state damaged (%s); set aside as %s", error, aside.name)
            self._connection = sqlite.open_writer(path, _SCHEMA)
        self._connection.text_factory = sqlite.readable
        told = self._facts().get("digest", "")
        self._rotten = told != "" and digest_of(self._items()) != told
        """Whether the document does not fit its digest: it is told as none."""
        if self._rotten:
            log.error("the desired document has rotted on disk: the center is asked for it again")

    def known(self) -> Known:
        """Which document lies here."""
        with self._lock:
            return self._known()

    def _known(self) -> Known:
        facts = self._facts()
        return Known(
            generation=int(facts.get("generation", "0")),
            revision=int(facts.get("revision", "0")),
            digest="" if self._rotten else facts.get("digest", ""),
        )

    def items(self) -> list[Item]:
        """The document's items, by kind and id."""
        with self._lock:
            return self._items()

    def _items(self) -> list[Item]:
        rows = self._connection.execute(
            "SELECT kind, id, revision, CAST(body AS BLOB) FROM items ORDER BY kind, id"
        ).fetchall()
        return [
            Item(kind=kind, id=name, revision=revision, body=msgspec.Raw(body))
            for kind, name, revision, body in rows
        ]

    def take(self, message: Desired | Delta) -> bool:
        """Take a document, a part of one, or what has changed. True: another document lies here.

        False for a part that leaves others to come, for the document that is here already, and for
        an older one of the same generation. Raises DesiredError, and keeps what there is, where the
        message cannot be used.
        """
        with self._lock:
            return self._take_delta(message) if isinstance(message, Delta) else self._take(message)

    def _take(self, message: Desired) -> bool:
        known = self._known()
        if message.generation == known.generation and message.revision < known.revision:
            self._parts.clear()
            return False
        document = self._assembled(message)
        if document is None:
            return False
        return self._put(known, document)

    def _take_delta(self, delta: Delta) -> bool:
        known = self._known()
        if delta.generation != known.generation:
            raise DesiredError(
                f"a delta of generation {delta.generation} for a document of {known.generation};"
                " another generation begins with a whole document"
            )
        if delta.revision < known.revision:
            return False
        if delta.base_digest != known.digest:
            if delta.digest == known.digest and delta.revision == known.revision:
                return False
            raise DesiredError(
                f"a delta that starts from document {delta.base_digest}, and here is {known.digest}"
            )
        named = [(i.kind, i.id) for i in delta.puts] + [(i.kind, i.id) for i in delta.removed]
        if len(set(named)) != len(named):
            raise DesiredError("a delta that names an item twice")
        items = {(item.kind, item.id): item for item in self._items()}
        for tombstone in delta.removed:
            items.pop((tombstone.kind, tombstone.id), None)
        items |= {(item.kind, item.id): item for item in delta.puts}
        document = Desired(
            session=delta.session, generation=delta.generation, revision=delta.revision,
            digest=delta.digest, items=list(items.values()), empty=delta.empty,
        )  # fmt: skip
        return self._put(known, document)

    def _assembled(self, message: Desired) -> Desired | None:
        """The whole document, once its last part is here."""
        if not 1 <= message.parts <= MAX_PARTS or not 1 <= message.part <= message.parts:
            self._parts.clear()
            raise DesiredError(f"part {message.part} of {message.parts}; at most {MAX_PARTS}")
        other = next(iter(self._parts.values()), message)
        if _document_of(other) != _document_of(message):
            self._parts.clear()
        self._parts[message.part] = message
        size_bytes = sum(len(i.body) for part in self._parts.values() for i in part.items)
        if size_bytes > MAX_DOCUMENT_BYTES:
            self._parts.clear()
            raise DesiredError(f"a document above {MAX_DOCUMENT_BYTES} bytes")
        if len(self._parts) < message.parts:
            return None
        parts = [self._parts[number] for number in sorted(self._parts)]
        self._parts.clear()
        items = [item for part in parts for item in part.items]
        return msgspec.structs.replace(message, items=items)

    def _put(self, known: Known, document: Desired) -> bool:
        """Verify a whole document, then put it in the old one's place in one transaction."""
        if not document.items and not document.empty:
            raise DesiredError("an empty document that does not say that it is empty")
        if len({(item.kind, item.id) for item in document.items}) != len(document.items):
            raise DesiredError("a document that names an item twice")
        if sum(len(item.body) for item in document.items) > MAX_DOCUMENT_BYTES:
            raise DesiredError(f"a document above {MAX_DOCUMENT_BYTES} bytes")
        found = digest_of(document.items)
        if found != document.digest:
            raise DesiredError(f"its digest is {found}, not {document.digest} as it says")
        fresh = Known(
            generation=document.generation, revision=document.revision, digest=document.digest
        )
        if fresh == known:
            return False
        facts = {
            "generation": str(document.generation),
            "revision": str(document.revision),
            "digest": document.digest,
        }
        rows = [(i.kind, i.id, i.revision, bytes(i.body)) for i in document.items]
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            self._connection.execute("DELETE FROM items")
            self._connection.executemany("INSERT INTO items VALUES (?, ?, ?, ?)", rows)
            self._connection.executemany(_SET_FACT, facts.items())
            self._connection.execute("COMMIT")
        except sqlite3.Error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        self._rotten = False
        return True

    def fact(self, name: str) -> str | None:
        """A small fact that was remembered, None if it never was."""
        with self._lock:
            return self._facts().get(_own(name))

    def remember(self, name: str, value: str) -> None:
        """Remember a small fact for the next start; the same again writes nothing.

        Raises ValueError for a value above 8192 characters.
        """
        if len(value) > _MAX_FACT:
            raise ValueError(f"fact {name}: {len(value)} characters are above {_MAX_FACT}")
        with self._lock:
            if self._facts().get(_own(name)) != value:
                self._connection.execute(_SET_FACT, (_own(name), value))

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


def _document_of(part: Desired) -> tuple[int, int, str, int]:
    """Which document a part belongs to, and into how many it was cut."""
    return part.generation, part.revision, part.digest, part.parts


def _own(name: str) -> str:
    """Facts of others never meet those of the document."""
    return f"fact.{name}"


def digest_of(items: list[Item]) -> str:
    """The digest of a document with these items."""
    return digest((item.kind, item.id, item.revision, item_hash(item.body)) for item in items)
