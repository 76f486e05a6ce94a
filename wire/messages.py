"""What is said between a worker and the center, apart from events.

Here: one frozen Struct per message, told apart by its tag `k`. Not here: bytes (codec), topics,
and what either side does about a message.

Every message down names the session that it is meant for; a worker ignores those of other
sessions, so nothing that a broker delivers late can do harm.
"""

import hashlib
from collections.abc import Iterable
from typing import Literal

import msgspec

from wire.events import Ack, Batch, Lane, Rewind, Watermark

PROTOCOL = "1.0"
MAX_EPOCHS = 32


class _Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="k"):
    pass


class Clock(msgspec.Struct, frozen=True, kw_only=True):
    """The worker's two clocks, read at the same moment."""

    wall_ms: int
    boot_ms: int


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker still holds of one epoch and lane: numbers `low`..`high`."""

    epoch: int
    lane: Lane
    low: int
    high: int


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """The desired document that a worker has: whose, which and its hash."""

    generation: int = 0
    revision: int = 0
    digest: str = ""


class Hello(_Message, frozen=True, kw_only=True, omit_defaults=True, tag="hello"):
    """A worker introduces itself on a new MQTT connection, until it is welcomed or denied."""

    worker: str
    instance: str
    boot: str
    session: str
    fence: int
    versions: list[str]
    software: str
    clock: Clock
    desired: Known
    epochs: list[Held]
    """Undrained epochs, oldest first, at most `MAX_EPOCHS`."""
    epochs_more: int = 0
    """How many undrained epochs there are besides."""


class Welcome(_Message, frozen=True, kw_only=True, omit_defaults=True, tag="welcome"):
    """The center accepts a session; only now may events be sent."""

    session: str
    fence: int
    generation: int
    watermarks: list[Watermark]
    heartbeat_s: float
    window: int
    """Batches of a lane that may be in flight."""


class Deny(_Message, frozen=True, kw_only=True, omit_defaults=True, tag="deny"):
    """The center refuses a session; the worker goes on by itself and asks again later."""

    session: str
    code: Literal["fenced", "revoked", "upgrade", "retry"]
    reason: str
    retry_after_s: float = 60.0


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One resource of a desired document, its bytes exactly as the center made them."""

    kind: str
    id: str
    revision: int
    body: msgspec.Raw


class Desired(_Message, frozen=True, kw_only=True, omit_defaults=True, tag="desired"):
    """All that a worker is to do: the whole document, never a hint."""

    session: str
    generation: int
    revision: int
    digest: str
    items: list[Item]
    empty: bool = False
    """Must be said in so many words where `items` is empty: a bug must not stop a station."""


ItemState = Literal["Starting", "Running", "Degraded", "Rejected"]


class ItemObserved(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one item: the revision that the state speaks of, and why."""

    kind: str
    id: str
    revision: int
    state: ItemState
    reason: str = ""


class Observed(_Message, frozen=True, kw_only=True, omit_defaults=True, tag="observed"):
    """A worker's answer to a desired document, and each later change of an item's state."""

    session: str
    desired: Known
    items: list[ItemObserved]


class StreamHealth(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a stream fares. Rates are per second over the last beat of its shard."""

    camera: str
    stream: str
    state: Literal["opening", "running", "lost", "ended"]
    level: str = "FULL"
    decoded_fps: float = 0.0
    analysed_fps: float = 0.0
    wanted_fps: float = 0.0
    coverage: float | None = None
    error: str = ""


class Heartbeat(_Message, frozen=True, kw_only=True, omit_defaults=True, tag="hb"):
    """A worker lives; the digest lets silent divergence heal within a beat."""

    session: str
    fence: int
    clock: Clock
    desired: Known
    pending: dict[str, int]
    """Events waiting for an ack, by lane."""
    shed: int = 0
    """Events given up since the agent started; each is covered by a gap."""
    streams: list[StreamHealth] = []


class Will(_Message, frozen=True, kw_only=True, omit_defaults=True, tag="will"):
    """Published by the broker when a connection breaks; counts only for its own session."""

    session: str


class Bye(_Message, frozen=True, kw_only=True, omit_defaults=True, tag="bye"):
    """A worker stops in good order."""

    session: str


Up = Hello | Batch | Observed | Heartbeat | Will | Bye
Down = Welcome | Deny | Desired | Ack | Rewind


def item_hash(body: bytes | msgspec.Raw) -> str:
    """SHA-256 of an item's bytes, hexadecimal."""
    return hashlib.sha256(bytes(body)).hexdigest()


def digest(entries: Iterable[tuple[str, str, int, str]]) -> str:
    """Hash of a document from (kind, id, revision, item_hash) of its items, in any order.

    32 hexadecimal digits (128 bits of SHA-256). The empty document has a digest too.
    """
    hasher = hashlib.sha256()
    for kind, name, revision, hashed in sorted(entries):
        hasher.update(f"{kind}\0{name}\0{revision}\0{hashed}\n".encode())
    return hasher.hexdigest()[:32]
