"""The station's inputs as the agent knows them: which facts are believed, kept and told on.

Here: the way of a fact from whoever says it to the disk and to the shards. Not here: HTTP and the
token (display/inputs.py), the table (facts.py), the file (store/facts.py), rules.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from edge.clock import Clock
from edge.facts import MAX_AHEAD_S, Facts, latest_ms
from edge.store.facts import FactStore
from wire.facts import Fact

log = logging.getLogger("forecourt.inputs")


class Inputs:
    """What the inputs say. Everything here runs on the agent's loop."""

    def __init__(self, path: Path, clock: Clock, tell: Callable[[Sequence[Fact]], None]) -> None:
        """`tell` is given what was taken, once it is on disk; it must not wait."""
        self.taken = 0
        """Facts that were taken; the same again counts."""
        self.refused = 0
        self._clock = clock
        self._tell = tell
        self._path = path
        self._store: FactStore | None = None
        self._facts = Facts()
        self._one_at_a_time = asyncio.Lock()
        try:
            self._store = self._opened()
        except (sqlite3.Error, OSError) as error:
            # Cameras do not need it, and the disk may have room again before anybody posts.
            log.error("cannot open %s (%s): inputs are unknown until they speak", path, error)

    def newest(self) -> list[Fact]:
        """What each input said last, by its name."""
        self._facts.heed_clock(self._clock.wall_ms())
        return self._facts.newest()

    async def take(self, facts: Sequence[Fact]) -> list[str]:
        """Believe facts, keep them and tell them on; for each why it was refused, or "".

        Returns after the commit. The same facts may be given again: after an error, for example.
        Raises sqlite3.Error or OSError where they cannot be kept.
        """
        async with self._one_at_a_time:
            now_ms = self._clock.wall_ms()
            self._facts.heed_clock(now_ms)
            reasons = []
            for fact in facts:
                reason = _ahead(fact, now_ms) or self._facts.problem(fact)
                if not reason:
                    self._facts.put(fact)
                reasons.append(reason)
            taken = [fact for fact, reason in zip(facts, reasons, strict=True) if not reason]
            self.refused += len(facts) - len(taken)
            if taken:
                await asyncio.to_thread(self._keep, taken, latest_ms(now_ms))
                self.taken += len(taken)
                self._tell(taken)
            return reasons

    def close(self) -> None:
        """Close the file."""
        if self._store is not None:
            self._store.close()

    def _keep(self, facts: Sequence[Fact], latest_ms: int) -> None:
        if self._store is None:
            self._store = self._opened()
        self._store.keep(facts, latest_ms)

    def _opened(self) -> FactStore:
        store = FactStore(self._path, self._clock)
        for fact in store.load():
            self._facts.put(fact)
        return store


def _ahead(fact: Fact, now_ms: int) -> str:
    """Why its time is none yet, or ""."""
    if fact.t_ms <= latest_ms(now_ms):
        return ""
    ahead_s = (fact.t_ms - now_ms) / 1000
    return (
        f"its time is {ahead_s:.0f} s ahead of this worker's clock, at most {MAX_AHEAD_S:g}"
        " are allowed; set the sender's clock (NTP), or leave the time out"
    )
