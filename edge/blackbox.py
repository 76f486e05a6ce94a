"""What each thread of a decode process does just now, kept where its death does not reach.

Here: a small memory that a shard writes and the agent reads, during a hang or after a crash; the
dump that Python leaves when it crashes. Not here: what follows from either (quarantine, shards).

A word of 64 bits says what a thread does, about which stream, since when. It is written in one
piece, so whoever reads sees the old word or the new one. Entering costs less than a microsecond.

    recorder = Recorder(clock, descriptor)
    slot = recorder.slot("pump-1/main")           # on the thread itself
    for packet in followed(packets, slot):        # opening, reading, decoding
        ...
    slot.close()                                  # at the thread's end

    slot.enter(Doing.INFERRING, about=another)    # or step by step
    slot.leave()
"""

import mmap
import os
import re
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar

from edge.clock import Clock

SLOTS = 512
"""Threads that a shard can tell of; those beyond are unknown to the agent."""
_SLOT_BYTES = 256
_SIZE_BYTES = SLOTS * _SLOT_BYTES
_MAX_DUMP_BYTES = 64 * 1024
_WORD, _IDENT, _NATIVE, _NAME = range(4)
"""Words of a slot: what it does, its thread as Python names it, as the kernel does; then a name."""
_NAME_BYTES = _SLOT_BYTES - 8 * _NAME
_NOBODY = 0xFFFF

PacketT = TypeVar("PacketT")


class Doing(IntEnum):
    """What a thread is busy with; all but IDLE may not come back."""

    IDLE = 0
    OPENING = 1
    DEMUXING = 2
    DECODING = 3
    INFERRING = 4


@dataclass(frozen=True, slots=True)
class SlotState:
    """One thread at the moment of reading."""

    name: str
    """Whose thread it is: a stream's, or the analyst."""
    about: str
    """The stream that it is busy with; "" for none."""
    doing: Doing
    since_ms: int
    """When it began that, in milliseconds of the monotonic clock, which all processes share."""
    ident: int
    native_id: int


class Slot:
    """A thread's place. To be used by that thread alone."""

    __slots__ = ("_idle", "_mine", "_now_s", "_release", "_words", "index")

    def __init__(
        self,
        index: int,
        words: "memoryview[int]",
        now_s: Callable[[], float],
        release: Callable[["Slot"], None],
    ) -> None:
        self.index = index
        """Its number, by which another thread can say that it is busy with this one's stream."""
        self._words = words
        self._now_s = now_s
        self._release = release
        self._mine = index << 4

    def enter(self, doing: Doing, about: "Slot | None" = None) -> None:
        """From now on the thread does this, for the stream of `about` (its own, if none)."""
        subject = self._mine if about is None else about._mine
        self._words[_WORD] = int(self._now_s() * 1000) << 20 | subject | doing

    def leave(self) -> None:
        """The thread is back in Python."""
        self._words[_WORD] = int(self._now_s() * 1000) << 20 | self._mine

    def close(self) -> None:
        """The thread ends; its place is free for another."""
        self._release(self)


class Recorder:
    """The shard's side. Without a descriptor it writes into a memory that nobody reads."""

    def __init__(self, clock: Clock, descriptor: int = -1) -> None:
        self._memory = memoryview(mmap.mmap(descriptor, _SIZE_BYTES))
        self._now_s = clock.monotonic_s
        self._lock = threading.Lock()
        self._free = deque(range(SLOTS))  # the one that was left last is taken last

    @property
    def none(self) -> Slot:
        """A place of which the agent knows nothing, for a thread that has not come yet."""
        return self._made(_NOBODY, memoryview(bytearray(_SLOT_BYTES)))

    def slot(self, name: str) -> Slot:
        """A place for the calling thread. When none is left, one of which the agent knows nothing.

        `name` is what the thread works for; `stream_name` makes it for a stream.
        """
        with self._lock:
            index = self._free.popleft() if self._free else _NOBODY
        if index == _NOBODY:
            return self.none
        place = self._memory[index * _SLOT_BYTES : (index + 1) * _SLOT_BYTES]
        words = place.cast("Q")
        words[_WORD] = 0
        written = name.encode()[: _NAME_BYTES - 1]
        place[8 * _NAME :] = written.ljust(_NAME_BYTES, b"\0")
        words[_IDENT], words[_NATIVE] = threading.get_ident(), threading.get_native_id()
        slot = self._made(index, place)
        slot.leave()
        return slot

    def _made(self, index: int, place: "memoryview[int]") -> Slot:
        return Slot(index, place.cast("Q"), self._now_s, self._released)

    def _released(self, slot: Slot) -> None:
        slot._words[_WORD] = slot._words[_IDENT] = slot._words[_NATIVE] = 0
        if slot.index != _NOBODY:
            with self._lock:
                self._free.append(slot.index)


def followed(packets: Iterable[PacketT], slot: Slot) -> Iterator[PacketT]:
    """A stream's packets as they are, while its slot tells what the thread does.

    It opens until the first packet comes, decodes while a packet is out, and reads in between.
    Whoever waits for another thread meanwhile must `leave` first.
    """
    slot.enter(Doing.OPENING)
    try:
        for packet in packets:
            slot.enter(Doing.DECODING)
            yield packet
            slot.enter(Doing.DEMUXING)
    finally:
        slot.leave()


def stream_name(camera: str, stream: str) -> str:
    """A stream's name in the black box: neither part has a slash."""
    return f"{camera}/{stream}"


@dataclass(frozen=True, slots=True)
class Crash:
    """What Python wrote when it crashed."""

    what: str
    """For example "Segmentation fault"."""
    ident: int | None
    """The Python thread that it was; None: a thread of a library, or one of very many."""
    stack: str
    """Where in our own code that thread was."""


class BlackBox:
    """The agent's side: makes the memory, passes it on, and reads it."""

    def __init__(self) -> None:
        self.descriptor = os.memfd_create("forecourt-blackbox")
        os.ftruncate(self.descriptor, _SIZE_BYTES)
        self.dump_descriptor = os.memfd_create("forecourt-dump")
        self._memory = mmap.mmap(self.descriptor, _SIZE_BYTES, prot=mmap.PROT_READ)
        self._bytes = memoryview(self._memory)
        self._words = self._bytes.cast("Q")

    def slots(self) -> tuple[SlotState, ...]:
        """What every thread does. A thread that has just come may be missing."""
        per_slot = _SLOT_BYTES // 8
        found = []
        for index in range(SLOTS):
            first = index * per_slot
            word = self._words[first + _WORD]
            if word == 0:
                continue
            subject = word >> 4 & 0xFFFF
            name = self._name(index)
            with suppress(ValueError):  # a word that another version wrote
                doing = Doing(word & 0xF)
                about = "" if doing is Doing.IDLE or subject >= SLOTS else self._name(subject)
                ident, native_id = self._words[first + _IDENT], self._words[first + _NATIVE]
                found.append(SlotState(name, about, doing, word >> 20, ident, native_id))
        return tuple(found)

    def _name(self, index: int) -> str:
        start = index * _SLOT_BYTES + 8 * _NAME
        written = bytes(self._bytes[start : start + _NAME_BYTES])
        return written.partition(b"\0")[0].decode(errors="replace")

    def crash(self) -> Crash | None:
        """What Python wrote at its death, if anything: SIGKILL and exit leave nothing."""
        return read_dump(
            os.pread(self.dump_descriptor, _MAX_DUMP_BYTES, 0).decode(errors="replace")
        )

    def close(self) -> None:
        """Give the memory back."""
        self._words.release()
        self._bytes.release()
        self._memory.close()
        os.close(self.descriptor)
        os.close(self.dump_descriptor)


def read_dump(text: str) -> Crash | None:
    """What the standard library's faulthandler says, read back; None: it says nothing."""
    what = re.search(r"^Fatal Python error: (.{1,200})", text, re.MULTILINE)
    if what is None:
        return None
    current = re.search(r"^Current thread 0x([0-9a-f]{1,16})\b", text, re.MULTILINE)
    ident = int(current[1], 16) if current else None
    stack = text[current.start() :].partition("\n\n")[0] if current else ""
    return Crash(what[1].strip(), ident, stack[:2000])


def signal_name(number: int) -> str:
    """A signal as people know it, for example SIGSEGV."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
