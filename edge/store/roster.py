"""Which lanes may still hold something, in a small file beside the outbox.

Should the outbox be damaged or gone altogether, this says of which epochs something is missing.
A line is `NUMBER EPOCH LANE CRC`. Not here: anything that changes with every event.
"""

import os
import zlib
from collections.abc import Iterable
from pathlib import Path

from edge.store.lanes import LaneState
from wire.events import LANES, Lane

Roster = dict[int, tuple[int, Lane]]


def read(path: Path) -> Roster | None:
    """Epoch and lane by number; None if there is no such file. Lines that rotted are left out."""
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return None
    found: Roster = {}
    for line in lines:
        said, _, crc = line.rpartition(b" ")
        if said and crc == b"%08x" % zlib.crc32(said):
            number, epoch, name = said.split(b" ")
            for lane in LANES:
                if lane.encode() == name:
                    found[int(number)] = (int(epoch), lane)
    return found


def write(path: Path, states: Iterable[LaneState]) -> None:
    """Put exactly these in; the old file stays until the new one is on disk. Raises OSError."""
    fresh = path.with_name(path.name + ".new")
    try:
        _store(fresh, b"".join(_line(state) for state in states), os.O_TRUNC)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def add(path: Path, states: Iterable[LaneState]) -> None:
    """These may hold something from now on; on disk when this returns. Raises OSError.

    Begins a line: an earlier attempt may have ended in the middle of one.
    """
    _store(path, b"\n" + b"".join(_line(state) for state in states), os.O_APPEND)


def _line(state: LaneState) -> bytes:
    said = b"%d %d %s" % (state.number, state.epoch, state.lane.encode())
    return b"%s %08x\n" % (said, zlib.crc32(said))


def _store(path: Path, lines: bytes, how: int) -> None:
    """Write all of it, or raise OSError: a disk that fills up takes a part first."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | how, 0o600)
    try:
        while lines:
            lines = lines[os.write(descriptor, lines) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
