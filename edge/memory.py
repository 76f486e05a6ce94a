"""Small facts of the uplink that outlive the process: which brokers there are, which served last,
which generation was told of every lane.

Here: reading and writing them. Not here: the order of brokers (brokers), the file (store).
"""

import logging
import sqlite3
from collections.abc import Iterable, Sequence

from edge import brokers
from edge.store.desired import DesiredStore
from wire.link import Broker

log = logging.getLogger("forecourt.uplink")

_TOLD, _GOOD, _BROKERS = "told_generation", "good_broker", "brokers"


class Memory:
    """What one worker remembers. Without a writable disk it only begins elsewhere next time."""

    def __init__(self, desired: DesiredStore, configured: Sequence[Broker], worker: str) -> None:
        self._desired = desired
        self._configured = tuple(configured)
        self._worker = worker

    def brokers(self) -> list[Broker]:
        """The brokers to try, in this worker's order."""
        announced = brokers.remembered(self._desired.fact(_BROKERS))
        good = self._desired.fact(_GOOD)
        return brokers.in_order(self._configured, announced, good, self._worker)

    def announced(self, urls: Iterable[str]) -> bool:
        """The center can be met there too; whether that is news. Nothing said: no change."""
        text = brokers.written(brokers.readable(urls))
        if text in (brokers.written(()), self._desired.fact(_BROKERS)):
            return False
        self._keep(_BROKERS, text)
        return True

    def served(self, broker: Broker) -> None:
        """A connection to this broker is up."""
        self._keep(_GOOD, brokers.address(broker))

    def was_told(self, generation: int) -> bool:
        """Whether a center of this generation has heard of every lane."""
        return self._desired.fact(_TOLD) == str(generation)

    def told(self, generation: int) -> None:
        """It has."""
        self._keep(_TOLD, str(generation))

    def _keep(self, name: str, value: str) -> None:
        try:
            if self._desired.fact(name) != value:
                self._desired.remember(name, value)
        except sqlite3.Error as error:
            log.error("%s cannot be remembered: %s", name, error)
