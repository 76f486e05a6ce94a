"""What is said between a worker and the center, apart from events.

Here: one frozen Struct per message, told apart by its tag `k`. Not here: bytes (codec), topics,
and what either side does about a message.

Every message down names the session that it is meant for; a worker ignores those of other
sessions, so nothing that a broker delivers late can do harm.
"""

import hashlib
from collections.abc import Iterable
from typing import Any, Literal

import msgspec

from wire.events import Ack, Batch, Lane, Refused, Rewind, Watermark

PROTOCOL = "1.0"
MAX_EPOCHS = 32
MAX_DOCUMENT_BYTES = 8 * 1024 * 1024
"""Raw bytes of all parts of a desired document."""
MAX_BELOW = 16
"""Tasks of a stream whose coverage a heartbeat names."""
PART_BYTES = 192 * 1024
"""Raw bytes of items that one part holds; an item alone may be as long as a message."""


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
    """Undrained epochs, oldest first, then the latest drained ones as evidence of what the center
    had acknowledged (`low` is above `high`); at most `MAX_EPOCHS`. Said again with other drained
    ones after a welcome of a generation that the worker does not know."""
    epochs_more: int = 0
    """How many undrained epochs there are besides."""
    observed: str = ""
    """`observed_digest` of all that the worker would report."""
    challenge: str = ""
    """That of the deny which this hello answers: it proves that the process lives."""


class Welcome(_Message, frozen=True, kw_only=True, omit_defaults=True, tag="welcome"):
    """The center accepts a session; only now may events be sent."""

    session: str
    fence: int
    generation: int
    watermarks: list[Watermark]
    heartbeat_s: float
    window: int
    """Batches of a lane that may be in flight."""
    now_ms: int = 0
    """The center's wall time, for deadlines of calls whatever the worker's clock says."""
    credit_s: float = 0.0
    """Leave to send backlog of lane `bulk`, for so many seconds from now."""
    brokers: list[str] = []
    """Where this center can be met, without credentials; none: where the worker was told."""


class Deny(_Message, frozen=True, kw_only=True, omit_defaults=True, tag="deny"):
    """The center refuses a session; the worker goes on by itself and asks again later."""

    session: str
    code: Literal["fenced", "revoked", "upgrade", "retry"]
    reason: str
    retry_after_s: float = 60.0
    challenge: str = ""
    """To be repeated in the next hello."""


class Credit(_Message, frozen=True, kw_only=True, omit_defaults=True, tag="credit"):
    """Leave to send backlog of lane `bulk`, for so many seconds from now; 0 ends it."""

    session: str
    credit_s: float


class Ask(_Message, frozen=True, kw_only=True, omit_defaults=True, tag="ask"):
    """The center lacks something that the worker says in parts: say all of it again."""

    session: str
    what: Literal["observed"]


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One resource of a desired document, its bytes exactly as the center made them."""

    kind: str
    id: str
    revision: int
    body: msgspec.Raw


class Tombstone(msgspec.Struct, frozen=True, kw_only=True):
    """A resource that a worker is to forget."""

    kind: str
    id: str


class Desired(_Message, frozen=True, kw_only=True, omit_defaults=True, tag="desired"):
    """All that a worker is to do: the whole document, in one part or in several.

    Nothing is replaced before all parts are there and the digest fits.
    """

    session: str
    generation: int
    revision: int
    digest: str
    """Of the whole document, whichever part this is."""
    items: list[Item]
    empty: bool = False
    """Must be said in so many words where the document is: a bug must not stop a station."""
    part: int = 1
    """1..parts."""
    parts: int = 1


class Delta(_Message, frozen=True, kw_only=True, omit_defaults=True, tag="delta"):
    """What has changed since a document that the worker has. It counts only from there."""

    session: str
    generation: int
    base_digest: str
    """Of the document that it starts from."""
    revision: int
    digest: str
    """Of the document that it leads to."""
    puts: list[Item] = []
    removed: list[Tombstone] = []
    empty: bool = False
    """Must be said in so many words where nothing is left."""


ItemState = Literal["Starting", "Running", "Degraded", "Rejected"]


class ItemObserved(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one item: the revision that the state speaks of, and why."""

    kind: str
    id: str
    revision: int
    state: ItemState
    reason: str = ""


class Observed(_Message, frozen=True, kw_only=True, omit_defaults=True, tag="observed"):
    """What became of items of a desired document: those that changed, or all in several messages.

    What is not named stays as it was said before; the digest in each heartbeat covers all.
    """

    session: str
    desired: Known
    items: list[ItemObserved]


class StreamHealth(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a stream fares. Rates are per second over the last beat of its shard."""

    camera: str
    stream: str
    state: Literal["opening", "running", "lost", "ended"]
    level: str = "FULL"
    """How much of it was decoded at last: OFF, KEY or FULL."""
    step: str = ""
    """How far it is degraded because the CPU is short: not at all, `half` or `quarter` of the looks
    that are wanted, `key` frames only."""
    decoded_fps: float = 0.0
    analysed_fps: float = 0.0
    wanted_fps: float = 0.0
    coverage: float | None = None
    """Looks made ÷ looks wanted over the last minute by all of its tasks."""
    tasks: dict[str, float] = {}
    """The same of each task that lacks some, worst first, at most `MAX_BELOW`: the rest saw all.
    A task's coverage is that of each of its rules."""
    faults: list[str] = []
    """What ails its pictures: frozen, black, over-exposed, blurred, covered, moved."""
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
    observed: str = ""
    """`observed_digest` of all items."""
    epoch: int = 0
    """The epoch of this process; 0 before its first event."""
    high: dict[str, int] = {}
    """The highest number given out in it, by lane. Should a later hello know less, the disk has
    lost the rest, and the center declares the gap."""
    backlog: int = 0
    """Events of lane `bulk` that wait for credit."""


class Will(_Message, frozen=True, kw_only=True, omit_defaults=True, tag="will"):
    """Published by the broker when a connection breaks; counts only for its own session."""

    session: str


class Bye(_Message, frozen=True, kw_only=True, omit_defaults=True, tag="bye"):
    """A worker stops in good order."""

    session: str


Method = Literal["probe", "picture", "log", "config"]


class Rpc(_Message, frozen=True, kw_only=True, omit_defaults=True, tag="rpc"):
    """The center asks a worker for something now; never kept for one that is away."""

    session: str
    id: str
    """Chosen by the caller. The same id again gets the same answer, and nothing is done twice."""
    method: str
    """One of `Method`; others are answered with an error."""
    args: dict[str, Any] = {}
    deadline_ms: int
    """By the center's clock, which `Welcome.now_ms` tells. Later it is not worth an answer."""


class Rsp(_Message, frozen=True, kw_only=True, omit_defaults=True, tag="rsp"):
    """A worker's answer to a call: a result or an error, told apart by `ok`."""

    session: str
    id: str
    ok: bool
    result: dict[str, Any] = {}
    error: str = ""


Up = Hello | Batch | Observed | Heartbeat | Will | Bye | Rsp
Down = Welcome | Deny | Credit | Ask | Desired | Delta | Ack | Rewind | Refused | Rpc


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


def observed_digest(items: Iterable[ItemObserved]) -> str:
    """Hash of what became of all items, in any order; 32 hexadecimal digits."""
    lines = sorted(f"{i.kind}\0{i.id}\0{i.revision}\0{i.state}\0{i.reason}\n" for i in items)
    return hashlib.sha256("".join(lines).encode(errors="replace")).hexdigest()[:32]
