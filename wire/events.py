"""What happened: events, and the batches that carry them to the center.

Here: frozen msgspec Structs, the hot path. Not here: how they are stored, sent or shown.

An event is an immutable fact. Events with a phase belong to an incident and share its id; an event
without one is a moment (a crossing). Kinds are an open set: a center stores and shows plainly a
kind that it does not know.
"""

import hashlib
from typing import Literal

import msgspec

Lane = Literal["alarm", "bulk"]
LANES: tuple[Lane, ...] = ("alarm", "bulk")
Phase = Literal["start", "update", "end"]
Box = tuple[float, float, float, float]

MAX_BATCH_EVENTS = 200
MAX_EVENT_BYTES = 64 * 1024
MAX_WORD = 200
"""Characters of a name, kind or id; messages for people may be longer."""
MAX_NUMBER = 2**53 - 1
"""Numbers are exact in every JSON reader up to here."""
OPEN_END = MAX_NUMBER - MAX_BATCH_EVENTS
"""The last number of a gap without an end: the epoch is closed, and nobody knows where it ended."""


class Stage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One step of a procedure, as far as it has come."""

    step: str
    since_ms: int
    until_ms: int | None = None
    """None: it is not done."""
    broken: list[str] = []
    """How it broke the procedure: early, late, interrupted, out-of-order, skipped."""


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One fact. `t_ms` is when it became true: wall time of the station, UTC milliseconds."""

    kind: str
    """presence, crossing, count, procedure; camera for faults of a camera; plate for a number plate
    that was read; others are welcome."""
    t_ms: int
    camera: str
    severity: str
    """info, warning or critical; the last two travel in lane `alarm`."""
    task: str = ""
    task_revision: int = 0
    rule: str = ""
    phase: Phase | None = None
    incident: str | None = None
    since_ms: int | None = None
    """When the condition first held; `t_ms` of a start is later by the rule's `for`."""
    reason: str = ""
    """Why an incident ended: cleared, interrupted, removed, inactive (outside of its schedule); a
    procedure's: completed or violated. Of a violation: early, late, interrupted, out-of-order,
    skipped."""
    label: str = ""
    """Class of the object, in the model's word."""
    track: int | None = None
    score: float | None = None
    box: Box | None = None
    """x1, y1, x2, y2 as fractions of the picture."""
    plate: str = ""
    """The number plate of the object, where it is known: as read, or a pseudonym that begins with
    `#`, as the task's `plates.keep` says."""
    count: int | None = None
    zone: str = ""
    line: str = ""
    direction: str = ""
    step: str = ""
    """The step of a procedure that the event speaks of."""
    trace: list[Stage] = []
    """The steps of a procedure up to now, in their order."""
    message: str = ""
    """One sentence for people, where the fields above do not say it all."""
    level: str = "FULL"
    """How much of the stream was decoded: OFF, KEY, FULL."""
    coverage: float | None = None
    """Looks made ÷ looks wanted over the last minute of the stream, 0..1."""
    boot_ms: int | None = None
    """Milliseconds since the machine booted, for the center's correction of wrong clocks."""
    boot: str = ""
    """Which agent process saw it; `machine_of` tells which boot of the machine that was."""


def machine_of(boot: str) -> str:
    """The boot of the machine that an agent process ran in; `boot_ms` counts from it.

    An agent's boot is `MACHINE-PROCESS`. The center learns how far a machine's clock is off, and
    that holds for every agent process of that boot, also one that it never heard.
    """
    return boot.partition("-")[0]


def lane_of(event: Event) -> Lane:
    """Alarms travel apart, so that nothing queues in front of them."""
    return "alarm" if event.severity in ("warning", "critical") else "bulk"


class Gap(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Declared loss: the events `first`..`last` of a lane will never come."""

    first: int
    last: int
    why: str
    """shed: the disk's budget; corrupt: the disk; forgotten: acknowledged once, by a center that
    was since restored; refused: the center could not read it; lost_with_disk: said by the center,
    of numbers that a worker had given out and knows nothing of any more."""


class Batch(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="k", tag="ev"):
    """Contiguous events of one epoch and lane: event i has the number `first + i`.

    The events stay encoded, so that the bytes that were stored are the bytes that are sent, and a
    single unreadable event does not spoil its neighbours.
    """

    session: str
    fence: int
    epoch: int
    lane: Lane
    first: int
    events: list[msgspec.Raw]
    gaps: list[Gap] = []
    backfill: bool = False
    """These events happened before this session: they are late news."""
    express: bool = False
    """A copy of one alarm that overtakes its lane: stored under its number, moves no watermark and
    is not answered; it comes once more in its turn."""


class Watermark(msgspec.Struct, frozen=True, kw_only=True):
    """The highest number up to which everything of an epoch and lane is stored at the center."""

    epoch: int
    lane: Lane
    seq: int


class Ack(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="k", tag="ack"):
    """Everything up to the watermark is stored at the center, for good. Cumulative."""

    session: str
    watermark: Watermark
    credit_s: float | None = None
    """Restates the leave to send backlog for so many seconds from now; 0 ends it, None is silent
    about it."""


class Rewind(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="k", tag="rewind"
):
    """A batch left a hole that no gap covers: send again from the watermark's next number."""

    session: str
    watermark: Watermark


class Refused(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="k", tag="refused"
):
    """A batch could not be read: halve it and send again; a single event becomes a gap."""

    session: str
    batch: str
    """`batch_name` of the payload."""
    reason: str


def batch_name(payload: bytes) -> str:
    """The name of a batch that cannot be read: 16 hexadecimal digits of its payload's SHA-256."""
    return hashlib.sha256(payload).hexdigest()[:16]


_EVENT = msgspec.json.Decoder(Event)
_ENCODER = msgspec.json.Encoder()


def encode_event(event: Event) -> bytes:
    """The event's bytes: the same on disk, on the wire and in a replay's output."""
    return _ENCODER.encode(event)


def decode_event(body: bytes | msgspec.Raw) -> Event:
    """An event from its bytes. Raises msgspec.ValidationError or msgspec.DecodeError."""
    return _EVENT.decode(body)
