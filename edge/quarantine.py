"""Which stream is to blame for a decode process's death or hang, and what follows: pure.

Here: who is the culprit or suspected, who is put into quarantine, who is moved to another process,
for how long. Not here: processes (process), carrying it out (shards).

Python's own dump and the black box name the culprit of a crash; such a stream goes to quarantine
at once. Where nothing names it, those who were busy are suspected: a second suspicion within ten
minutes counts as guilt, and if that leaves several, they are divided between two processes until
the culprit is alone.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from edge.blackbox import Doing, SlotState
from edge.reconcile import StreamKey

Cause = Literal["crash", "exit", "killed", "silent", "hang", "leak", "spin"]

HANGS_AFTER_S = {
    Doing.DECODING: 5.0,
    Doing.INFERRING: 10.0,
    Doing.OPENING: 45.0,
    Doing.DEMUXING: 900.0,
}
"""One call that lasts longer does not come back. Opening and reading have deadlines of their own,
and a recording waits for its pace while it is read, over gaps of up to ten minutes. A large model
on a busy machine is slow, and all streams of the process wait for it anyway."""
FROZEN_AFTER_S = 3.0
SUSPECTED_FOR_S = 600.0
GUILTY_AFTER = 2
"""Suspicions within that time."""
TERM_S = (3600.0, 86_400.0)
"""Quarantine lasts so long after the last death, doubled each time that it was in vain."""
APART_S = 3600.0
"""Streams that were divided from others return after so long without a death."""
MEMORY_BYTES = (1_000_000_000, 150_000_000)
"""What a process may hold: so much, and so much for each stream. That is several times what it
needs; one that holds more leaks."""
MEMORY_NEED_BYTES = (250_000_000, 50_000_000)
MEMORY_SHARE = 0.8
"""Where the worker's memory is limited, a process may hold at most this share of it, so that the
kernel takes none; but never less than it needs: dividing would make matters worse."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What happened to a process, and who may have done it."""

    cause: Cause
    what: str
    """For people, for example "its decoder crashed (Segmentation fault)"."""
    culprit: StreamKey | None = None
    """The stream that did it, for certain."""
    suspects: frozenset[StreamKey] = field(default_factory=frozenset)
    """Else: the streams of which one may have done it."""
    proven: bool = False
    """One of the suspects did it for certain: suspicion is guilt."""


@dataclass(frozen=True, slots=True)
class Record:
    """What is held against a stream."""

    suspected_s: tuple[float, ...] = ()
    """When it was suspected, in monotonic seconds, lately."""
    confined: int = 0
    """How often it was put into quarantine."""

    @property
    def term_s(self) -> float:
        """How long it stays in quarantine without another death."""
        return float(min(TERM_S[1], TERM_S[0] * 2.0 ** min(self.confined - 1, 10)))


Records = Mapping[StreamKey, Record]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be done with streams of the process."""

    confine: tuple[StreamKey, ...] = ()
    """Each into quarantine: a process of its own."""
    divide: tuple[StreamKey, ...] = ()
    """All of them into one other process; the rest stays."""


def judge(
    records: Records, trouble: Trouble, now_s: float
) -> tuple[dict[StreamKey, Record], Verdict]:
    """The records after a trouble, and what follows from it."""
    after = {key: kept for key, record in records.items() if (kept := _recent(record, now_s))}
    if trouble.culprit is not None:
        guilty = [trouble.culprit]
    else:
        for key in trouble.suspects:
            record = after.get(key, Record())
            after[key] = replace(record, suspected_s=(*record.suspected_s, now_s)[-GUILTY_AFTER:])
        guilty = sorted(
            key
            for key in trouble.suspects
            if trouble.proven or len(after[key].suspected_s) >= GUILTY_AFTER
        )
    if len(guilty) != 1:
        return after, Verdict(divide=tuple(guilty[1::2]))
    (key,) = guilty
    after[key] = Record(confined=after.get(key, Record()).confined + 1)
    return after, Verdict(confine=(key,))


def _recent(record: Record, now_s: float) -> Record | None:
    """What still counts of a record; None: nothing."""
    recent = tuple(at_s for at_s in record.suspected_s if now_s - at_s < SUSPECTED_FOR_S)
    return Record(recent, record.confined) if recent or record.confined else None


# --- who did it ---


def crashed(what: str, ident: int | None, slots: Collection[SlotState]) -> Trouble:
    """The process crashed in native code; `ident` is the thread that Python's dump names."""
    for slot in slots:
        culprit = key_of(slot.about or slot.name) if slot.ident == ident else None
        if culprit is not None:
            return Trouble("crash", f"{_ACTOR[slot.doing]} crashed ({what})", culprit)
    return Trouble("crash", f"its decode process crashed ({what})", suspects=_busy(slots))


def ended(returncode: int, running: Collection[StreamKey], slots: Collection[SlotState]) -> Trouble:
    """The process ended without a dump: it was killed, or something called exit."""
    if returncode == -9:
        what = "its decode process was killed (SIGKILL: out of memory, or by hand)"
        return Trouble("killed", what, suspects=frozenset(running))
    how = f"status {returncode}" if returncode >= 0 else f"signal {-returncode}"
    return Trouble("exit", f"its decode process ended ({how})", suspects=_busy(slots))


def frozen(slots: Collection[SlotState], now_s: float) -> bool:
    """Whether no thread has begun or ended anything lately."""
    return all(now_s - slot.since_ms / 1000 > FROZEN_AFTER_S for slot in slots)


def silent(slots: Collection[SlotState], now_s: float, *, stopped: bool) -> Trouble:
    """The process says nothing any more, as if one of its threads held Python's lock.

    Whoever holds it was the last to begin something. A process that is held still from outside
    (`stopped`), or whose threads go on, has no culprit.
    """
    busy = [slot for slot in slots if slot.about and slot.doing >= Doing.DECODING]
    if stopped or not busy or not frozen(slots, now_s):
        return Trouble("silent", "its decode process fell silent")
    last = max(busy, key=lambda slot: slot.since_ms)
    what = f"{_ACTOR[last.doing]} held up its whole decode process"
    return Trouble("silent", what, key_of(last.about))


def hanging(slots: Collection[SlotState], now_s: float) -> list[SlotState]:
    """The threads that are in a native call and do not come back."""
    return [
        slot
        for slot in slots
        if slot.about and now_s - slot.since_ms / 1000 > HANGS_AFTER_S[slot.doing]
    ]


def hung(slot: SlotState, now_s: float) -> Trouble:
    """What a thread that hangs means for the stream that it is busy with."""
    lasted_s = now_s - slot.since_ms / 1000
    what = f"{_ACTOR[slot.doing]} did not come back within {lasted_s:.0f} s"
    return Trouble("hang", what, key_of(slot.about))


def spins() -> Trouble:
    """A thread that was given up burns CPU; nobody else is to blame."""
    return Trouble("spin", "a thread that was given up burns CPU")


def leaked(held_bytes: int, running: Collection[StreamKey]) -> Trouble:
    """The process holds more memory than its streams can need."""
    what = f"its decode process grew to {held_bytes // 1_000_000} MB"
    return Trouble("leak", what, suspects=frozenset(running), proven=True)


def memory_bound_bytes(streams: int, limit_bytes: int | None) -> int:
    """What a process with that many streams may hold; `limit_bytes` is the worker's, if any."""
    most_bytes, need_bytes = (
        base + streams * each for base, each in (MEMORY_BYTES, MEMORY_NEED_BYTES)
    )
    if limit_bytes is None:
        return most_bytes
    return min(most_bytes, max(need_bytes, int(limit_bytes * MEMORY_SHARE)))


_ACTOR = {
    Doing.IDLE: "a thread of its own",
    Doing.OPENING: "opening it",
    Doing.DEMUXING: "reading it",
    Doing.DECODING: "its decoder",
    Doing.INFERRING: "the model, on its pictures,",
}


def _busy(slots: Collection[SlotState]) -> frozenset[StreamKey]:
    """Who decoded or was looked at; else who was being opened or read; it may be nobody."""
    for least in (Doing.DECODING, Doing.OPENING):
        found = frozenset(
            key
            for slot in slots
            if slot.about and slot.doing >= least and (key := key_of(slot.about))
        )
        if found:
            return found
    return frozenset()


def key_of(name: str) -> StreamKey | None:
    """The stream of a name in the black box; None: no stream's."""
    camera, slash, stream = name.partition("/")
    return StreamKey(camera, stream) if slash else None
