"""The one MQTT client of the product; nothing else imports paho.

Here: broker addresses, connecting and re-connecting, handing messages over, acknowledging them.
Not here: what the messages say, the protocol's sessions, re-sending (the outbox does that). No
promise is made for a message handed over: what a connection had in flight ends with it.
"""

from wire.link.broker import Broker, Version
from wire.link.connection import MAX_PACKET_BYTES
from wire.link.events import Down, LinkEvent, Received, Up
from wire.link.link import Link
from wire.link.order import spread

__all__ = [
    "MAX_PACKET_BYTES",
    "Broker",
    "Down",
    "Link",
    "LinkEvent",
    "Received",
    "Up",
    "Version",
    "spread",
]
