"""The kill loop: rounds of events in whose midst one process dies and comes back.

Used by the tests and by benchmarks.faults. Not here: what is judged afterwards (ledger).
"""

import random
from collections.abc import Callable, Sequence

from tests.faults.rig import House, Station

VICTIMS = ("worker", "center", "broker")
EVENTS = 100
"""At least so many events in each round."""


def kill_loop(
    house: House,
    station: Station,
    rng: random.Random,
    victims: Sequence[str],
    told: Callable[[int, str], None] = lambda number, victim: None,
) -> None:
    """One round for each victim. The broker has no memory: its death wipes it.

    The station must run, and is left with its generator running.
    """
    station.online()
    for number, victim in enumerate(victims, 1):
        told(number, victim)
        _round(house, station, rng, victim)


def _round(house: House, station: Station, rng: random.Random, victim: str) -> None:
    before = station.status()["generated"]
    station.change(rate=40.0)
    station.generated(before + rng.randrange(EVENTS))
    if victim == "worker":
        station.kill()
        station.start()
        before = 0
    elif victim == "center":
        house.center.process.kill()
        house.center.start()
    else:
        house.broker.kill()
        house.broker.start()
    station.generated(before + EVENTS)
