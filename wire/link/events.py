"""What a link tells: connections that come and go, and the messages between.

Here: these facts only. Not here: what a message says (wire/messages.py, wire/events.py).
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Up:
    """A new connection, subscribed to everything. `session` is what its will carries."""

    connection: int
    session: str


@dataclass(frozen=True, slots=True)
class Down:
    """The end of a connection that was up."""

    connection: int
    reason: str


@dataclass(frozen=True, slots=True)
class Received:
    """A message; with `qos` 1 it stays in the broker's window until it is acknowledged."""

    connection: int
    topic: str
    payload: bytes
    mid: int
    qos: int


LinkEvent = Up | Down | Received
