"""What is wrong with a decode process, alive or dead, by what can be seen of it from outside.

Here: looking at its memory, its threads and its remains. Not here: what follows from what is found
(quarantine), and doing that (shards).
"""

import logging
from collections.abc import Iterator

from edge import quarantine
from edge.allotment import Allotment
from edge.blackbox import SlotState
from edge.process import Process, Remains
from edge.quarantine import Trouble

log = logging.getLogger("forecourt.shards")

_FIRST_BEAT_WITHIN_S = 20.0
"""Loading libraries takes long on a busy machine."""
_SILENT_AFTER_S = 5.0
_STARVED_AFTER_S = 20.0
"""A process whose threads go on although it says nothing gets too little CPU, and more patience."""
_SPINS_S = 1.0
"""CPU seconds that a thread may burn after it was given up."""


def silent_too_long(shard: Allotment, process: Process, silent_s: float, now_s: float) -> bool:
    """Whether to give up a process that has said nothing for so long."""
    if shard.beat is None:
        return silent_s >= _FIRST_BEAT_WITHIN_S
    if silent_s < _SILENT_AFTER_S:
        return False
    return silent_s >= _STARVED_AFTER_S or quarantine.frozen(process.slots(), now_s)


def of_silence(process: Process, now_s: float) -> Trouble:
    """Why a process that was given up said nothing any more."""
    return quarantine.silent(process.slots(), now_s, stopped=process.is_stopped())


def fatal(shard: Allotment, process: Process, bound_bytes: int, now_s: float) -> Trouble | None:
    """Why a process that still beats must end nevertheless; None: it may live."""
    held_bytes = process.memory_bytes()
    if held_bytes > bound_bytes:
        return quarantine.leaked(held_bytes, shard.running)
    for native_id, used_s in shard.given_up.items():
        if (process.cpu_s(native_id) or 0.0) - used_s > _SPINS_S:
            return quarantine.spins()
    for slot in _hanging(shard, process, now_s):
        trouble = quarantine.hung(slot, now_s)
        if slot.name != slot.about or shard.running.keys() == {trouble.culprit}:
            return trouble  # the analyst serves all; and whoever is alone has no neighbours
    return None


def give_up(
    shard: Allotment, process: Process, now_s: float
) -> Iterator[tuple[Trouble, SlotState]]:
    """The threads that have just turned out to hang. Each is told once, and left behind."""
    for slot in _hanging(shard, process, now_s):
        shard.given_up[slot.native_id] = process.cpu_s(slot.native_id) or 0.0
        yield quarantine.hung(slot, now_s), slot


def _hanging(shard: Allotment, process: Process, now_s: float) -> list[SlotState]:
    found = quarantine.hanging(process.slots(), now_s)
    return [slot for slot in found if slot.native_id not in shard.given_up]


def of_remains(shard: Allotment, remains: Remains) -> Trouble:
    """Why a process ended by itself, or by our own hand outside of its service."""
    if remains.ended_for:
        return Trouble("silent", f"its decode process was ended: {remains.ended_for}")
    if remains.crash is None:
        return quarantine.ended(remains.returncode, shard.running, remains.slots)
    log.error("shard %d crashed (%s):\n%s", shard.number, remains.crash.what, remains.crash.stack)
    return quarantine.crashed(remains.crash.what, remains.crash.ident, remains.slots)
