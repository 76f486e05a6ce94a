"""What a batch says: how far it brings its lane, and which rows its events are. Pure.

Here: whether a batch is sound, reaching and holes, an event's bytes to a row. Not here: what is
stored already, transactions and answers (ingest).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from center.clocks import Reader
from center.events import EventRow
from wire.codec import WireError
from wire.events import (
    MAX_BATCH_EVENTS,
    MAX_EVENT_BYTES,
    MAX_NUMBER,
    MAX_WORD,
    OPEN_END,
    Batch,
    Event,
    Gap,
)

_Word = Annotated[str, msgspec.Meta(max_length=MAX_WORD)]
_Time = Annotated[int, msgspec.Meta(ge=-MAX_NUMBER, le=MAX_NUMBER)]


class _Fitting(Event, frozen=True, kw_only=True, gc=False):
    """An event whose words and numbers fit their columns."""

    kind: _Word
    t_ms: _Time
    camera: _Word
    severity: _Word
    task: _Word = ""
    rule: _Word = ""
    incident: _Word | None = None


class _Known(_Fitting, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """An event of whose fields all are known, so that whoever can read it can show it."""


_FITTING = msgspec.json.Decoder(_Fitting)
_KNOWN = msgspec.json.Decoder(_Known)
_ANY = msgspec.json.Decoder()
MAX_DEPTH = 50
"""Lists and objects in each other that an event holds: what shows it must not run out of stack."""


@dataclass(frozen=True, slots=True)
class Unfit:
    """An event that cannot be stored."""

    seq: int
    reason: str
    body: bytes


def require_sound(batch: Batch) -> None:
    """What the types do not say. Raises WireError."""
    # A batch of gaps alone begins behind the last of them, and that may be the last number of all.
    sound = 1 <= batch.first <= OPEN_END + 1 - len(batch.events)
    numbers = [number for gap in batch.gaps for number in (gap.first, gap.last)]
    if not sound or not all(1 <= number <= OPEN_END for number in numbers):
        raise WireError("an event's number is not within 1..2^53")
    if not 1 <= batch.epoch <= MAX_NUMBER:
        raise WireError("the epoch is not within 1..2^53")
    if any(gap.first > gap.last for gap in batch.gaps):
        raise WireError("a gap ends before it begins")
    if len(batch.events) > MAX_BATCH_EVENTS:
        raise WireError(f"{len(batch.events)} events; a batch holds at most {MAX_BATCH_EVENTS}")
    if batch.express and (len(batch.events) != 1 or batch.gaps or batch.lane != "alarm"):
        raise WireError("an express batch holds one event of lane alarm and no gap")


def reached(watermark: int, first: int, last: int, gaps: Iterable[Gap]) -> int:
    """How far a lane comes with the events `first`..`last` (none if last < first) and the gaps."""
    spans = sorted([*((gap.first, gap.last) for gap in gaps), (first, last)])
    for low, high in spans:
        if low <= high and low <= watermark + 1:
            watermark = max(watermark, high)
    return watermark


def leaves_hole(watermark: int, first: int, last: int, gaps: Iterable[Gap]) -> bool:
    """Whether numbers are missing below the batch's events, or below a gap that comes alone."""
    far = reached(watermark, first, last, gaps)
    if last >= first:
        return far < last
    return far == watermark and any(gap.first > watermark + 1 for gap in gaps)


def new_gaps(batch: Batch, old: int, far: int) -> list[Gap]:
    """The declared gaps between the old watermark and the new one, none twice."""
    found: list[Gap] = []
    for gap in sorted(batch.gaps, key=lambda gap: (gap.first, gap.last)):
        first = max(gap.first, old + 1)
        if first <= gap.last <= far:
            found.append(Gap(first=first, last=gap.last, why=gap.why))
            old = gap.last
    return found


def row(
    body: bytes, seq: int, batch: Batch, origin: tuple[str, str], clock: Reader, now_ms: int
) -> EventRow:
    """The row of an event; `origin` is worker and station. Raises ValueError if it cannot be one.

    (What msgspec raises is a ValueError.)
    """
    if len(body) > MAX_EVENT_BYTES:
        raise ValueError(f"{len(body)} bytes; an event holds at most {MAX_EVENT_BYTES}")
    event = _decoded(body)
    if b"\\u0000" in body and "\0" in "".join(
        (event.kind, event.camera, event.task, event.rule, event.severity, event.incident or "")
    ):
        raise ValueError("a word of it holds a NUL")
    at_ms, doubt = clock.read(event)
    return EventRow(
        origin[0],
        batch.epoch,
        batch.lane,
        seq,
        origin[1],
        event.camera,
        event.task,
        event.rule,
        event.severity,
        event.phase,
        event.incident,
        event.t_ms,
        at_ms,
        doubt,
        now_ms,
        batch.backfill,
        body,
    )


def _decoded(body: bytes) -> Event:
    """The event, which everybody can show who finds it stored.

    What is skipped while it is read is read when it is shown, and may be no value of ours: a number
    beyond all numbers. Only who says more than we know pays for looking at it.
    """
    try:
        return _KNOWN.decode(body)
    except msgspec.ValidationError:
        event = _FITTING.decode(body)
    try:
        whole = _ANY.decode(body)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if _is_deeper(whole, MAX_DEPTH):
        raise ValueError(f"it is nested too deeply; an event holds at most {MAX_DEPTH} levels")
    return event


def _is_deeper(value: Any, most: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return most == 0 or any(_is_deeper(one, most - 1) for one in inner)
