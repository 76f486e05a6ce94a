"""What the decode processes saw, brought to disk.

Here: storing events until the disk takes them, and ending incidents that nobody follows any more.
Not here: the disk itself (store), which process follows what (shards).
"""

import asyncio
import logging
import sqlite3
from collections.abc import Collection, Iterable
from contextlib import suppress

import msgspec

from edge.store.outbox import Outbox
from wire.events import Event, decode_event

log = logging.getLogger("forecourt.journal")

_STORE_AGAIN_AFTER_S = 1.0


class Journal:
    """Appends what shards send. Everything here runs on the agent's loop."""

    def __init__(self, outbox: Outbox, finishing: asyncio.Event) -> None:
        """`finishing` is set when the worker is to end: no disk that refuses is waited for then."""
        self._outbox = outbox
        self._finishing = finishing
        self.unstored = 0
        """Events that wait for the disk."""

    async def store(self, bodies: Iterable[bytes]) -> None:
        """Append encoded events."""
        await self._append([decode_event(body) for body in bodies])

    async def interrupt(self, followed: Collection[str] = ()) -> None:
        """End what is open, each incident at the last moment that is known of it.

        Incidents of the tasks in `followed` go on.
        """
        await self._append(
            [
                msgspec.structs.replace(event, phase="end", reason="interrupted")
                for event in self._outbox.open_incidents()
                if event.task not in followed
            ]
        )

    async def _append(self, events: list[Event]) -> None:
        """Append until it is on disk: meanwhile the shard waits, and its coverage tells."""
        if not events:
            return
        self.unstored += len(events)
        try:
            while True:
                try:
                    await asyncio.wrap_future(self._outbox.append(events))
                    return
                except (sqlite3.Error, OSError) as error:
                    log.error("events are not on disk yet (%s); trying again", error)
                    if self._finishing.is_set():
                        log.error("%d events could not be stored before the end", len(events))
                        return
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._finishing.wait(), _STORE_AGAIN_AFTER_S)
        finally:
            self.unstored -= len(events)
