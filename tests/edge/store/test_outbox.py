"""The outbox confirms only what is on disk, numbers without holes, and sheds only with a gap."""

import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.store.check import findings
from edge.store.outbox import Outbox
from tests.edge.store.conftest import (
    Make,
    event,
    everything,
    findings_of_outbox,
    saved,
    settled,
    stored,
)
from tests.parts.clock import SteppedClock
from wire.events import Event, Lane, Phase, decode_event


def test_lanes_are_numbered_apart_and_without_holes(make: Make) -> None:
    """Alarms and bulk have numbers of their own, each from 1, in order of append."""
    outbox = make()
    rows = stored(outbox, event(1), event(2, "critical"), event(3), event(4, "warning"))
    assert [(r.lane, r.seq) for r in rows] == [
        ("bulk", 1), ("alarm", 1), ("bulk", 2), ("alarm", 2),
    ]  # fmt: skip
    assert len({r.epoch for r in rows}) == 1
    assert [decode_event(r.body).t_ms for r in outbox.recent(10)] == [1, 2, 3, 4]


def test_a_confirmed_event_outlives_a_kill(tmp_path: Path) -> None:
    """I1: what append has confirmed is there after kill -9, and the next life has a new epoch."""
    program = textwrap.dedent("""
        import os, pathlib, signal, sys
        from edge.clock import SystemClock
        from edge.store.outbox import Outbox
        from wire.events import Event
        outbox = Outbox(pathlib.Path(sys.argv[1]), SystemClock())
        for number in range(50):
            event = Event(kind="test", t_ms=number, camera="c", severity="info")
            outbox.append([event]).result()
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    path = tmp_path / "outbox.db"
    died = subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert died.returncode == -9
    outbox = Outbox(path, SteppedClock())
    try:
        assert [decode_event(r.body).t_ms for r in outbox.recent(100)] == list(range(50))
        (old,) = outbox.undrained("bulk")
        (row,) = stored(outbox, event())
        assert row.epoch != old[0]
        assert row.seq == 1
        held, more = outbox.held()
        assert {h.epoch for h in held} == {old[0], row.epoch}
        assert more == 0
    finally:
        outbox.close()


def test_only_what_was_acked_is_forgotten(make: Make) -> None:
    """I4: an ack moves the watermark up, never down, and one for another epoch changes nothing."""
    outbox = make()
    epoch = stored(outbox, *[event(n) for n in range(10)])[0].epoch
    outbox.acked(epoch, "bulk", 4)
    outbox.acked(epoch, "bulk", 2)
    outbox.acked(epoch + 1, "bulk", 5)
    settled(outbox)
    assert outbox.watermarks()[epoch, "bulk"] == 4
    assert outbox.pending() == {"alarm": 0, "bulk": 6}
    assert everything(outbox, "bulk", after=4) == [5, 6, 7, 8, 9, 10]


def test_acked_events_stay_for_a_day_and_the_newest_longer(make: Make) -> None:
    """A restored center can ask for a day's events again; then all but the newest 1000 go."""
    clock = SteppedClock()
    outbox = make(clock=clock)
    for _ in range(12):
        rows = stored(outbox, *[event(n) for n in range(100)])
    outbox.acked(rows[0].epoch, "bulk", 1200)
    saved(outbox)
    assert len(outbox.recent(5000)) == 1200
    clock.step(86_401)
    outbox.acked(stored(outbox, event())[0].epoch, "bulk", 1201)
    saved(outbox)
    assert [decode_event(r.body).t_ms for r in outbox.recent(5000)][-1] == 0
    assert len(outbox.recent(5000)) == 1000


def test_half_of_the_quota_bounds_what_is_kept_for_a_restored_center(make: Make) -> None:
    """I8: acknowledged events take at most half of the quota, whatever their age."""
    outbox = make(quota_bytes=100_000)
    rows = stored(outbox, *[event(n, message="x" * 200) for n in range(300)])
    outbox.acked(rows[0].epoch, "bulk", 300)
    saved(outbox)
    kept = outbox.recent(5000)
    assert 20_000 < sum(len(r.body) for r in kept) <= 50_000
    assert kept[-1].seq == 300


def test_slices_are_bounded_and_contiguous(make: Make) -> None:
    """A slice holds at most 200 events and the given bytes, but always at least one."""
    outbox = make()
    epoch = stored(outbox, *[event(n) for n in range(450)])[0].epoch
    part = outbox.slice(epoch, "bulk", 0, 1_000_000)
    assert part is not None
    assert (part.first, part.last) == (1, 200)
    tiny = outbox.slice(epoch, "bulk", 200, 1)
    assert tiny is not None
    assert (tiny.first, tiny.last) == (201, 201)
    assert outbox.slice(epoch, "bulk", 450, 1000) is None


def test_open_incidents_are_known_after_a_crash(make: Make) -> None:
    """What began and did not end can be ended by the next life, at its latest moment."""

    def of(incident: str, phase: Phase, number: int) -> Event:
        return Event(
            kind="presence", t_ms=number, camera="c", severity="critical",
            incident=incident, phase=phase,
        )  # fmt: skip

    outbox = make()
    stored(outbox, of("a", "start", 1), of("b", "start", 2), event(3))
    stored(outbox, of("b", "update", 4), of("a", "end", 5))
    outbox.close()
    again = make()
    assert [(e.incident, e.t_ms) for e in again.open_incidents()] == [("b", 4)]


def test_what_rotted_or_was_forgotten_becomes_a_gap(make: Make, tmp_path: Path) -> None:
    """No lane is blocked by a body that cannot be read, or by a center that asks for old acks."""
    outbox = make()
    epoch = stored(outbox, *[event(n) for n in range(8)])[0].epoch
    outbox.acked(epoch, "bulk", 3)
    settled(outbox)
    with sqlite3.connect(tmp_path / "outbox.db") as connection:
        connection.execute("DELETE FROM events WHERE seq IN (1, 2)")
        connection.execute("UPDATE events SET body = '{' WHERE seq = 5")
        connection.execute("DELETE FROM events WHERE seq IN (7, 8)")
    connection.close()
    parts = []
    after = 0
    while (part := outbox.slice(epoch, "bulk", after, 10_000)) is not None:
        parts.append(([(g.first, g.last, g.why) for g in part.gaps], part.first, part.last))
        after = part.last
    assert parts == [
        ([(1, 2, "forgotten")], 3, 4),
        ([(5, 5, "corrupt")], 6, 6),
        ([(7, 8, "corrupt")], 9, 8),
    ]


def test_a_center_that_has_more_than_this_disk_drains_it(make: Make) -> None:
    """After the disk was restored from a copy, an ack above the highest number empties the lane."""
    outbox = make()
    epoch = stored(outbox, *[event(n) for n in range(3)])[0].epoch
    outbox.acked(epoch, "bulk", 50)
    settled(outbox)
    assert outbox.pending() == {"alarm": 0, "bulk": 0}


def test_a_locked_or_full_disk_is_not_taken_for_corruption(tmp_path: Path) -> None:
    """I1: a file that cannot be opened just now keeps its place and its events."""
    outbox = Outbox(tmp_path / "outbox.db", SteppedClock())
    stored(outbox, event(1))
    outbox.close()
    blocker = sqlite3.connect(tmp_path / "outbox.db", isolation_level=None)
    blocker.execute("PRAGMA locking_mode = EXCLUSIVE")
    blocker.execute("BEGIN EXCLUSIVE")
    with pytest.raises(sqlite3.OperationalError):
        Outbox(tmp_path / "outbox.db", SteppedClock())
    blocker.execute("ROLLBACK")
    blocker.close()
    assert list(tmp_path.glob("*.corrupt-*")) == []
    again = Outbox(tmp_path / "outbox.db", SteppedClock())
    assert len(again.recent(10)) == 1
    again.close()


def test_a_caller_that_gives_up_stops_nobody(make: Make) -> None:
    """A cancelled append leaves the writer alive for the next one."""
    outbox = make()
    given_up = [outbox.append([event(n)]) for n in range(50)]
    for future in given_up:
        future.cancel()
    (row,) = stored(outbox, event(99))
    assert row.seq >= 1


def test_a_full_outbox_sheds_bulk_first_and_declares_it(make: Make, tmp_path: Path) -> None:
    """I8, I4: the quota holds; oldest bulk goes before any alarm; every loss is in a gap."""
    outbox = make(quota_bytes=20_000)
    filling = "x" * 200
    for number in range(30):
        stored(outbox, event(number, "critical", filling))
    for number in range(300):
        stored(outbox, event(number, "info", filling))
    (epoch, _, high) = outbox.undrained("bulk")[0]
    part = outbox.slice(epoch, "bulk", 0, 1_000_000)
    assert part is not None
    assert [(gap.first, gap.why) for gap in part.gaps] == [(1, "shed")]
    assert everything(outbox, "bulk") == list(range(1, high + 1))
    alarms = outbox.slice(epoch, "alarm", 0, 1_000_000)
    assert alarms is not None
    assert len(alarms.events) == 30
    assert alarms.gaps == ()
    assert outbox.shed == part.gaps[0].last
    assert list(findings_of_outbox(tmp_path)) == []


def test_an_oversized_event_is_refused_whole(make: Make) -> None:
    """A caller hears at once that an event cannot be carried; nothing of the list is stored."""
    outbox = make()
    with pytest.raises(ValueError, match="above"):
        outbox.append([event(1), event(2, message="x" * 70_000)])
    assert outbox.recent(10) == []


def test_a_damaged_file_is_set_aside_and_work_goes_on(tmp_path: Path) -> None:
    """Corruption never stops the worker: the file is kept as evidence, and a new one begins."""
    path = tmp_path / "outbox.db"
    path.write_bytes(b"this was a database once" * 400)
    outbox = Outbox(path, SteppedClock())
    stored(outbox, event(1))
    outbox.close()
    assert len(list(tmp_path.glob("outbox.db.corrupt-*"))) == 1
    assert any("set aside" in f for f in findings_of_all(tmp_path))


def findings_of_all(data: Path) -> list[str]:
    """Everything that `check` says."""
    (data / "instance").touch()
    return [f.problem for f in findings(data)]


def test_check_finds_a_hole(make: Make, tmp_path: Path) -> None:
    """An event that vanished before its ack is found at rest."""
    outbox = make()
    stored(outbox, *[event(n) for n in range(5)])
    outbox.close()
    with sqlite3.connect(tmp_path / "outbox.db") as connection:
        connection.execute("DELETE FROM events WHERE seq = 3")
    connection.close()
    assert any("3..3 are missing" in problem for problem in findings_of_outbox(tmp_path))


def test_a_disk_error_is_told_to_the_caller(make: Make, tmp_path: Path) -> None:
    """What cannot be written is not confirmed, and no number is lost by the attempt."""
    outbox = make()
    stored(outbox, event(1))
    blocker = sqlite3.connect(tmp_path / "outbox.db", isolation_level=None)
    outbox._writer._db.execute("PRAGMA busy_timeout = 1")
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.OperationalError):
        stored(outbox, event(2))
    blocker.execute("ROLLBACK")
    blocker.close()
    (row,) = stored(outbox, event(2))
    assert row.seq == 2


@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("append"), st.integers(1, 5), st.booleans()),
            st.tuples(st.just("ack"), st.integers(0, 30), st.booleans()),
        ),
        max_size=15,
    )
)
def test_nothing_is_lost_whatever_the_order(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, bool]]
) -> None:
    """Appends and acks in any order: what is pending is just what follows the highest fair ack."""
    outbox = Outbox(tmp_path_factory.mktemp("outbox") / "outbox.db", SteppedClock())
    high = {"alarm": 0, "bulk": 0}
    acked = {"alarm": 0, "bulk": 0}
    epoch = 0
    try:
        for what, number, alarm in steps:
            lane: Lane = "alarm" if alarm else "bulk"
            if what == "append":
                severity = "critical" if alarm else "info"
                rows = stored(outbox, *[event(n, severity) for n in range(number)])
                epoch = rows[0].epoch
                high[lane] += number
            else:
                outbox.acked(epoch, lane, number)
                acked[lane] = max(acked[lane], min(number, high[lane]) if epoch else 0)
        settled(outbox)
        assert outbox.pending() == {lane: high[lane] - acked[lane] for lane in high}
        for lane in ("alarm", "bulk"):
            if high[lane] > acked[lane]:
                expected = list(range(acked[lane] + 1, high[lane] + 1))
                assert everything(outbox, lane, after=acked[lane]) == expected
    finally:
        outbox.close()
