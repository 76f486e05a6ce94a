"""A disk that is really full: the outbox makes do with its own room, and nothing goes silently."""

import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from edge.store.ballast import Ballast
from edge.store.check import findings
from edge.store.outbox import Outbox, Stored
from tests.parts.clock import SteppedClock
from wire.events import Event, Lane

BALLAST_BYTES = 1024 * 1024


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    if made.returncode:
        pytest.skip(f"a small file system needs root and mount: {made.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(place: Path) -> Path:
    """Somebody else takes all the room that there is."""
    foreign = place / "foreign"
    with foreign.open("ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 65536)
    with foreign.open("ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 512)
    return foreign


def append(outbox: Outbox, count: int, severity: str = "info") -> list[Stored]:
    """Events that fill pages quickly; those that could not be stored are left out."""
    stored = []
    for number in range(count):
        event = Event(kind="test", t_ms=number, camera="c", severity=severity, message="x" * 1500)
        with suppress(sqlite3.Error, OSError):
            stored += outbox.append([event]).result(20)
    return stored


def accounted(outbox: Outbox, lane: Lane) -> tuple[dict[int, bytes], set[int]]:
    """What would be sent of the only epoch: events by number, and numbers in gaps."""
    ((epoch, after, _),) = outbox.undrained(lane)
    events: dict[int, bytes] = {}
    gaps: set[int] = set()
    while (part := outbox.slice(epoch, lane, after, 100_000)) is not None:
        for gap in part.gaps:
            assert gap.why == "shed"
            gaps.update(range(gap.first, gap.last + 1))
        events |= dict(enumerate(part.events, part.first))
        after = part.last
    return events, gaps


@pytest.mark.parametrize("again", [False, True], ids=["once", "the freed room is taken too"])
def test_a_full_disk_loses_nothing_silently(disk: Path, again: bool) -> None:
    """I1, I4, I8: what was confirmed is there or in a gap; bulk goes first; all stays sound."""
    data = disk / "data"
    data.mkdir()
    outbox = Outbox(data / "outbox.db", SteppedClock(), ballast_bytes=BALLAST_BYTES)
    confirmed = append(outbox, 200, "critical") + append(outbox, 600)
    assert os.stat(data / "ballast").st_blocks * 512 >= BALLAST_BYTES
    foreign = fill(disk)
    confirmed += append(outbox, 300)
    if again:
        fill(disk)
    late = append(outbox, 1500)
    assert len(late) == 1500
    assert not (data / "ballast").exists()
    confirmed += late + append(outbox, 5, "critical")
    bulk, bulk_gaps = accounted(outbox, "bulk")
    alarms, alarm_gaps = accounted(outbox, "alarm")
    assert bulk_gaps
    assert not alarm_gaps
    assert outbox.shed == len(bulk_gaps)
    for row in confirmed:
        there, gone = (alarms, alarm_gaps) if row.lane == "alarm" else (bulk, bulk_gaps)
        assert row.seq in gone or there[row.seq] == row.body
    assert outbox.shed_ledger()[0].why == "shed"
    foreign.unlink()
    (row,) = append(outbox, 1)
    (later,) = append(outbox, 1)
    assert later.seq == row.seq + 1
    assert (data / "ballast").exists()
    assert len(append(outbox, 1000)) == 1000
    outbox.close()
    (data / "instance").touch()
    assert [f for f in findings(data) if f.file == "outbox.db"] == []


def test_without_room_for_a_ballast_there_is_none(disk: Path) -> None:
    """Room is kept only where it is there three times over; a start without it is no fault."""
    ballast = Ballast(disk / "ballast", 3 * 1024 * 1024)
    assert not ballast.load()
    assert not (disk / "ballast").exists()
    small = Ballast(disk / "ballast", BALLAST_BYTES)
    assert small.load()
    assert Ballast(disk / "ballast", BALLAST_BYTES).load()
    assert small.release()
    assert not small.release()


def test_an_outbox_opens_on_a_full_disk(disk: Path) -> None:
    """I7: the ballast of an earlier life lets the next one begin."""
    data = disk / "data"
    data.mkdir()
    outbox = Outbox(data / "outbox.db", SteppedClock(), ballast_bytes=BALLAST_BYTES)
    first = append(outbox, 100)
    outbox.close()
    fill(disk)
    outbox = Outbox(data / "outbox.db", SteppedClock(), ballast_bytes=BALLAST_BYTES)
    assert len(append(outbox, 100)) == 100
    assert outbox.find(first[0].epoch, "bulk", 1) == first[0]
    outbox.close()
