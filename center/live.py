"""News of stored events, for those who show them as they come.

Here: a bell that says "look again". Not here: the events; each listener reads them by id from the
database, so that news of other replicas, for which no bell rings here, arrive too.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

MAX_LISTENERS = 500


class TooManyListenersError(RuntimeError):
    """The bell has as many listeners as it takes."""


class Bell:
    """Rung by the thread that has stored events; heard by coroutines."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}
        self._closed = False

    @property
    def closed(self) -> bool:
        """The center is stopping: listeners are to end."""
        return self._closed

    @property
    def full(self) -> bool:
        """No more listeners are taken."""
        return len(self._listeners) >= MAX_LISTENERS

    def ring(self) -> None:
        """Wake every listener. Any thread may call it."""
        with self._lock:
            for heard, loop in self._listeners.items():
                if not loop.is_closed():
                    loop.call_soon_threadsafe(heard.set)

    def close(self) -> None:
        """Tell every listener to end."""
        self._closed = True
        self.ring()

    @contextmanager
    def listening(self) -> Iterator[asyncio.Event]:
        """An event that each ring sets. Raises TooManyListenersError."""
        heard = asyncio.Event()
        with self._lock:
            if len(self._listeners) >= MAX_LISTENERS:
                raise TooManyListenersError(f"{MAX_LISTENERS} listeners already")
            self._listeners[heard] = asyncio.get_running_loop()
        try:
            yield heard
        finally:
            with self._lock:
                del self._listeners[heard]
