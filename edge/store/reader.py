"""The connection by which the outbox is read: from any thread, one at a time.

Not here: what is asked (outbox, slices). A damaged page is reported to the writer, which mends.
"""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edge.store import sqlite
from edge.store.lanes import LaneState
from edge.store.slices import Slice, slice_of


class Reader:
    """Reads what is committed. `on_damage` hears which file it was, and what was found."""

    def __init__(self, path: Path, on_damage: Callable[[int, str], None]) -> None:
        self._path = path
        self._on_damage = on_damage
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = sqlite.open_reader(path)
        self.number = 0
        """Rises with each file that took another's place."""

    def rows(self, sql: str, *values: object) -> list[Any]:
        """The rows of a query; none where the file is damaged."""
        with self._lock:
            if self._connection is None:
                return []
            try:
                return self._connection.execute(sql, values).fetchall()
            except sqlite3.DatabaseError as error:
                self._report(error)
                return []

    def slice(self, state: LaneState, after: int, max_bytes: int, max_events: int) -> Slice | None:
        """What follows number `after` of a lane; None if nothing does, or the file is damaged."""
        with self._lock:
            if self._connection is None:
                return None
            try:
                # One state of the file: what is shed meanwhile is either still there or a gap.
                self._connection.execute("BEGIN")
                try:
                    return slice_of(self._connection, state, after, max_bytes, max_events)
                finally:
                    if self._connection.in_transaction:
                        self._connection.execute("ROLLBACK")
            except sqlite3.DatabaseError as error:
                self._report(error)
                return None

    def _report(self, error: sqlite3.DatabaseError) -> None:
        if not sqlite.is_corrupt(error):
            raise error
        self._on_damage(self.number, str(error))

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing is read meanwhile."""
        with self._lock:
            yield

    @contextmanager
    def replaced(self) -> Iterator[None]:
        """Nothing is read while another file takes this one's place, nor after it failed to.

        Nobody waits for it: what is read meanwhile is empty.
        """
        self.close()
        yield
        with self._lock:
            self._connection = sqlite.open_reader(self._path)
            self.number += 1

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
