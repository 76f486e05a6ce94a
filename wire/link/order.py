"""In which order a worker tries its brokers. Pure.

Here: one stable order for each name. Not here: trying them (link).
"""

import hashlib
from collections.abc import Iterable

from wire.link.broker import Broker


def spread(brokers: Iterable[Broker], name: str) -> list[Broker]:
    """The brokers in an order that only their addresses and the name decide.

    Many names spread evenly over each place of the order, so that the workers of a broker that is
    lost spread over all others; and a broker that is added changes the order of the others for
    nobody (rendezvous hashing: D. Thaler and C. Ravishankar, 1998).
    """

    def weight(broker: Broker) -> bytes:
        return hashlib.sha256(f"{name}\0{broker.host}\0{broker.port}".encode()).digest()

    return sorted(brokers, key=weight)
