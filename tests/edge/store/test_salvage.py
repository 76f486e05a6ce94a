"""Whatever happens to the file: it opens, and each event is there as it was or in a gap."""

import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge.store.check import findings
from edge.store.outbox import Outbox, Stored
from edge.store.writer import Mend, Save
from tests.parts.clock import SteppedClock
from tests.waiting import wait_for
from wire.events import LANES, OPEN_END, Event, Lane, Phase

PAGE = 4096


def opened(folder: Path) -> Outbox:
    """An outbox in a folder."""
    return Outbox(folder / "outbox.db", SteppedClock(), ballast_bytes=0)


def event(number: int, size: int = 100, severity: str = "info", incident: str = "") -> Event:
    """An event of about a size; some are longer than a page."""
    phase: Phase | None = "start" if incident else None
    return Event(
        kind="test", t_ms=number, camera="c", severity=severity, message="x" * size,
        incident=incident or None, phase=phase,
    )  # fmt: skip


@dataclass(frozen=True)
class Filled:
    """A folder with an outbox that is closed, and what is in it."""

    folder: Path
    bodies: dict[tuple[int, Lane, int], bytes]
    acked: dict[tuple[int, Lane], int]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Filled:
    """Three epochs: one nearly drained, one in part and with a refused event, one untouched."""
    folder = tmp_path_factory.mktemp("filled")
    dice = random.Random(1)
    outbox = opened(folder)
    bodies = {}
    for number in range(3):
        rows = outbox.append(
            [
                event(
                    n,
                    9000 if n % 40 == 0 else dice.randint(0, 300),
                    "critical" if n % 5 == 0 else "info",
                    f"{number}-{n}" if n % 50 == 0 else "",
                )
                for n in range(300)
            ]
        ).result(10)
        bodies.update({(row.epoch, row.lane, row.seq): row.body for row in rows})
        outbox.acked(rows[0].epoch, "bulk", (240, 100, 0)[number])
        if number == 1:
            outbox.refuse(rows[0].epoch, "alarm", 7)
        outbox.renew_epoch()
    outbox._writer.do(Save())
    outbox.append([]).result(10)
    acked = outbox.watermarks()
    outbox.close()
    return Filled(folder, bodies, acked)


def sent(
    outbox: Outbox,
) -> tuple[dict[tuple[int, Lane, int], bytes], list[tuple[int, Lane, range]]]:
    """All that would be sent: bodies, and numbers in gaps."""
    bodies: dict[tuple[int, Lane, int], bytes] = {}
    gaps: list[tuple[int, Lane, range]] = []
    for lane in LANES:
        for epoch, after, high in outbox.undrained(lane):
            while (part := outbox.slice(epoch, lane, after, 100_000)) is not None:
                gaps += [(epoch, lane, range(g.first, g.last + 1)) for g in part.gaps]
                bodies |= {
                    (epoch, lane, part.first + index): body
                    for index, body in enumerate(part.events)
                }
                after = part.last
            assert after == high
    return bodies, gaps


def assert_nothing_is_lost(outbox: Outbox, filled: Filled) -> int:
    """I1: each event above its watermark is there unchanged, or in a gap. How many are there."""
    bodies, gaps = sent(outbox)
    there = 0
    for (epoch, lane, seq), body in filled.bodies.items():
        if (epoch, lane, seq) in bodies:
            assert bodies[epoch, lane, seq] == body
            there += 1
        elif seq > filled.acked[epoch, lane]:
            assert any(seq in numbers for e, n, numbers in gaps if (e, n) == (epoch, lane))
    assert set(bodies) <= set(filled.bodies)
    return there


def truncated(data: bytearray, dice: random.Random) -> bytearray:
    """The file ends early."""
    return data[: dice.randrange(len(data))]


def flipped(data: bytearray, dice: random.Random) -> bytearray:
    """Bits are wrong here and there."""
    for _ in range(dice.randint(1, 30)):
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    return data


def flipped_early(data: bytearray, dice: random.Random) -> bytearray:
    """A bit is wrong where the file says what it is."""
    data[dice.randrange(2 * PAGE)] ^= 1 << dice.randrange(8)
    return data


def overwritten(data: bytearray, dice: random.Random) -> bytearray:
    """A page holds noise."""
    start = dice.randrange(len(data) // PAGE) * PAGE
    data[start : start + PAGE] = dice.randbytes(PAGE)
    return data


def misled(data: bytearray, dice: random.Random) -> bytearray:
    """A bit is wrong where a page says what it holds."""
    data[dice.randrange(len(data) // PAGE) * PAGE + dice.randrange(64)] ^= 1 << dice.randrange(8)
    return data


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("harm", [truncated, flipped, flipped_early, overwritten, misled])
def test_every_event_survives_or_is_declared(
    filled: Filled,
    tmp_path: Path,
    harm: Callable[[bytearray, random.Random], bytearray],
    seed: int,
) -> None:
    """I1: after random damage the outbox opens, works on, and is sound at its next start."""
    shutil.copytree(filled.folder, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "outbox.db"
    path.write_bytes(harm(bytearray(path.read_bytes()), random.Random(seed)))
    outbox = opened(tmp_path)
    assert_nothing_is_lost(outbox, filled)
    (row,) = outbox.append([event(1)]).result(10)
    assert (row.epoch, row.lane, 1) not in filled.bodies
    outbox.close()
    again = opened(tmp_path)
    assert again.find(row.epoch, row.lane, row.seq) == row
    again.close()


def test_one_bad_page_costs_only_its_own_events(filled: Filled, tmp_path: Path) -> None:
    """What lies on sound pages is saved, acknowledged rows and open incidents too."""
    shutil.copytree(filled.folder, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "outbox.db"
    data = bytearray(path.read_bytes())
    data[:PAGE] = bytes(PAGE)
    path.write_bytes(data)
    outbox = opened(tmp_path)
    expected = sum(seq > filled.acked[epoch, lane] for epoch, lane, seq in filled.bodies)
    assert assert_nothing_is_lost(outbox, filled) == expected - 1  # one was refused before
    assert len(outbox.recent(5000)) == len(filled.bodies) - 1
    assert {(e.incident, e.t_ms) for e in outbox.open_incidents()} >= {("0-50", 50), ("2-250", 250)}
    assert all(high == OPEN_END for lane in LANES for _, _, high in outbox.undrained(lane))
    assert outbox.pending()["bulk"] < 1000
    (epoch, _, _), *_ = outbox.undrained("bulk")
    outbox.acked(epoch, "bulk", OPEN_END)
    assert epoch not in [e for e, _, _ in outbox.undrained("bulk")]
    outbox.close()
    (tmp_path / "instance").touch()
    assert [f.file for f in findings(tmp_path) if f.file == "outbox.db"] == []
    assert any("set aside" in f.problem for f in findings(tmp_path))


def test_a_file_that_is_gone_is_declared_lost(filled: Filled, tmp_path: Path) -> None:
    """I1: the roster beside the file tells of which epochs something is missing."""
    shutil.copy(filled.folder / "outbox.db.lanes", tmp_path)
    outbox = opened(tmp_path)
    assert assert_nothing_is_lost(outbox, filled) == 0
    outbox.close()


def test_damage_that_shows_later_is_mended_at_work(filled: Filled, tmp_path: Path) -> None:
    """Corruption never stops the worker: what is in flight is stored, under a new epoch."""
    shutil.copytree(filled.folder, tmp_path, dirs_exist_ok=True)
    outbox = opened(tmp_path)
    (before,) = outbox.append([event(1, incident="open")]).result(10)
    outbox.acked(before.epoch, "bulk", 1)
    with (tmp_path / "outbox.db").open("r+b") as file:
        size = file.seek(0, 2)
        for start in range(3 * PAGE, size, 7 * PAGE):
            file.seek(start)
            file.write(b"\xff" * 64)
    sent_once(outbox)
    wait_for(lambda: list(tmp_path.glob("*.corrupt-*")), 20, "set aside")
    (row,) = outbox.append([event(2)]).result(20)
    assert (row.epoch != before.epoch, row.seq) == (True, 1)
    assert "open" in {e.incident for e in outbox.open_incidents()}
    assert outbox.watermarks()[before.epoch, "bulk"] == 1
    assert outbox.find(row.epoch, "bulk", 1) == row
    for epoch, lane, seq in filled.bodies:
        assert seq <= filled.acked[epoch, lane] or outbox.watermarks()[epoch, lane] < seq
    outbox.close()


def sent_once(outbox: Outbox) -> None:
    """Read all lanes as far as they can be read."""
    for lane in LANES:
        for epoch, after, _ in outbox.undrained(lane):
            while (part := outbox.slice(epoch, lane, after, 100_000)) is not None:
                after = part.last
    outbox.recent(5000)


def test_damage_that_the_writer_meets_does_not_fail_an_append(
    filled: Filled, tmp_path: Path
) -> None:
    """An append in flight is tried again on the mended file."""
    shutil.copytree(filled.folder, tmp_path, dirs_exist_ok=True)
    outbox = opened(tmp_path)
    for pragma in ("cache_size = 1", "shrink_memory"):
        outbox._writer._db.execute(f"PRAGMA {pragma}")
    with (tmp_path / "outbox.db").open("r+b") as file:
        size = file.seek(0, 2)
        for start in range(PAGE, size, PAGE):
            file.seek(start)
            file.write(b"\xff" * 64)
    rows: list[Stored] = outbox.append([event(n) for n in range(50)]).result(20)
    assert [row.seq for row in rows] == list(range(1, 51))
    assert list(tmp_path.glob("*.corrupt-*"))
    assert_nothing_is_lost_but(outbox, filled, rows)
    outbox.close()


def assert_nothing_is_lost_but(outbox: Outbox, filled: Filled, rows: list[Stored]) -> None:
    """As above, and the new events are there."""
    both = {(row.epoch, row.lane, row.seq): row.body for row in rows}
    marks = dict.fromkeys({(row.epoch, row.lane) for row in rows}, 0)
    assert_nothing_is_lost(
        outbox, Filled(filled.folder, filled.bodies | both, filled.acked | marks)
    )


def test_few_damaged_files_are_kept(tmp_path: Path) -> None:
    """I8: the newest three stay as evidence."""
    for number in range(5):
        (tmp_path / "outbox.db").write_bytes(b"no database at all %d" % number * 400)
        opened(tmp_path).close()
    kept = sorted(p.read_bytes()[:20] for p in tmp_path.glob("*.corrupt-*"))
    assert kept == [b"no database at all %d" % n for n in (2, 3, 4)]


def test_mending_that_fails_is_tried_again(filled: Filled, tmp_path: Path) -> None:
    """Where no fresh file can be made, appends fail and reads are empty until one can."""
    shutil.copytree(filled.folder, tmp_path, dirs_exist_ok=True)
    outbox = opened(tmp_path)
    blocker = tmp_path / "outbox.db.fresh"
    blocker.mkdir()
    outbox._writer.do(Mend(outbox._reader.number, "a test says so"))
    with pytest.raises(OSError, match=r"outbox\.db\.fresh"):
        outbox.append([event(1)]).result(20)
    assert outbox.recent(10) == []
    blocker.rmdir()
    (row,) = outbox.append([event(2)]).result(20)
    assert outbox.find(row.epoch, row.lane, row.seq) == row
    assert_nothing_is_lost_but(outbox, filled, [row])
    outbox.close()
