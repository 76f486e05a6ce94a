"""A decode process in which chosen streams fail natively: `python -m tests.parts.faulty_shard FDS`.

All of it is the real shard, but that its network sees nothing. A recording's name, `FAULT-N.mp4`,
says what its stream does when its Nth packet is decoded; other names do nothing.
Each look is written to the file that `FORECOURT_TEST_LOOKS` names: pid, camera, monotonic
milliseconds.
"""

import ctypes
import os
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import edge.reader
from edge import shard
from edge.analysis import Analysis
from edge.video.source import Packet, packets
from edge.vision.detect import Detections, Detector
from wire import specs
from wire.events import Event

LEAK_BYTES = 20_000_000

_kept: list[bytes] = []
_read: Counter[str] = Counter()


def crash() -> None:
    """Read at address 0: SIGSEGV."""
    ctypes.string_at(0)


def leave() -> None:
    """End the process as a library does that calls exit: without a dump."""
    os._exit(3)


def hang() -> None:
    """Sit in a native call for ever; Python's other threads go on."""
    ctypes.CDLL(None).pause()


def hold() -> None:
    """Sit in a native call for ever with Python's lock held: every thread stands still."""
    ctypes.PyDLL(None).pause()


def spin() -> None:
    """Burn CPU in a native call for ever; Python's other threads go on."""
    libc = ctypes.CDLL(None)
    buffer = ctypes.create_string_buffer(1 << 20)
    libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
    while True:
        for _ in range(1000):
            libc.memset(buffer, 1, len(buffer))


def leak() -> None:
    """Keep memory for ever, at every packet from now on."""
    _kept.append(os.urandom(1) * LEAK_BYTES)


def once() -> None:
    """Crash, but in the first process alone."""
    marker = f"{os.environ['FORECOURT_TEST_LOOKS']}.once"
    if not os.path.exists(marker):
        os.close(os.open(marker, os.O_CREAT | os.O_WRONLY))
        crash()


FAULTS: dict[str, Callable[[], None]] = {
    "crash": crash,
    "leave": leave,
    "hang": hang,
    "hold": hold,
    "spin": spin,
    "leak": leak,
    "once": once,
}


class Trap(Packet):
    """A packet that does something when the decoder touches it."""

    __slots__ = ("fault",)

    def __getattribute__(self, name: str) -> Any:
        if name == "data" and not threading.current_thread().name.startswith("packets-"):
            object.__getattribute__(self, "fault")()
        return object.__getattribute__(self, name)


def _trapped(packets: Iterator[Packet], name: str, fault: str, number: int) -> Iterator[Packet]:
    for packet in packets:
        _read[name] += 1
        if _read[name] == number or (_read[name] > number and fault == "leak"):
            trap = Trap(packet.data, packet.pts_s, packet.is_key, packet.size_bytes)
            object.__setattr__(trap, "fault", FAULTS[fault])
            yield trap
        else:
            yield packet


def _packets(real: Callable[..., Iterator[Packet]]) -> Callable[..., Iterator[Packet]]:
    def opened(stream: specs.Stream, **options: Any) -> Iterator[Packet]:
        named = re.search(r"/([a-z]+)-(\d+)\.mp4$", stream.url)
        if named is None or named[1] not in FAULTS:
            return real(stream, **options)
        return _trapped(real(stream, **options), named[0], named[1], int(named[2]))

    return opened


def _nothing(_detector: Detector, _picture: object) -> Detections:
    """A network that costs nothing, so that many cameras fit on a small machine."""
    return Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32), ())


class ToldAnalysis(Analysis):
    """The real one, which tells of its looks."""

    descriptor = -1

    def __init__(self, task: specs.Task, *given: Any, **options: Any) -> None:
        super().__init__(task, *given, **options)
        self._camera = task.spec.camera

    def look(self, *given: Any, **options: Any) -> list[Event]:
        """Look, and write it down."""
        told = f"{os.getpid()} {self._camera} {time.monotonic_ns() // 1_000_000}\n"
        os.write(self.descriptor, told.encode())
        return super().look(*given, **options)


def main() -> None:
    """Set the traps, then be a shard."""
    vars(edge.reader)["packets"] = _packets(packets)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    ToldAnalysis.descriptor = os.open(os.environ["FORECOURT_TEST_LOOKS"], flags)
    vars(shard)["Analysis"] = ToldAnalysis
    setattr(Detector, "detect_frame", _nothing)  # noqa: B010 - a type checker would object
    shard.main(*map(int, sys.argv[1:]))


if __name__ == "__main__":
    main()
