"""What the outbox tells of epochs, watermarks and open alarms, and what it costs the disk."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from edge.store.outbox import Outbox, Stored
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
from wire.events import Event, Phase, decode_event, encode_event

# --- numbers and watermarks ---


def test_a_new_epoch_follows_when_it_is_asked_for_or_a_memory_image_was_resumed(make: Make) -> None:
    """I2: after either no number of the old epoch is given out again; the old one is still held."""
    clock = SteppedClock()
    outbox = make(clock=clock)
    assert outbox.high() == (0, {})
    (first,) = stored(outbox, event(1))
    assert outbox.high() == (first.epoch, {"bulk": 1})
    clock.step(3600)
    (same,) = stored(outbox, event(2))
    assert (same.epoch, same.seq) == (first.epoch, 2)
    clock.now_wall_ms += 5001
    (resumed,) = stored(outbox, event(3))
    outbox.renew_epoch()
    (renewed,) = stored(outbox, event(4, "critical"))
    assert outbox.high() == (renewed.epoch, {"alarm": 1})
    assert len({first.epoch, resumed.epoch, renewed.epoch}) == 3
    assert [h.epoch for h in outbox.held()[0]] == [first.epoch, resumed.epoch, renewed.epoch]
    assert [e for e, _, _ in outbox.undrained("bulk")] == [resumed.epoch, first.epoch]
    assert [decode_event(r.body).t_ms for r in outbox.recent(10)] == [1, 2, 3, 4]
    assert [r.id for r in outbox.after(1, 2)] == [2, 3]


def test_a_jump_is_noticed_even_if_the_first_write_after_it_fails(
    make: Make, tmp_path: Path
) -> None:
    """I2: what is not committed is not forgotten either."""
    clock = SteppedClock()
    outbox = make(clock=clock)
    (before,) = stored(outbox, event(1))
    outbox._writer._db.execute("PRAGMA busy_timeout = 1")
    clock.now_wall_ms -= 60_000
    with closing(sqlite3.connect(tmp_path / "outbox.db", isolation_level=None)) as blocker:
        blocker.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError):
            stored(outbox, event(2))
        blocker.execute("ROLLBACK")
    (after,) = stored(outbox, event(2))
    assert (after.epoch != before.epoch, after.seq) == (True, 1)


def test_an_ack_counts_at_once_and_lies_on_disk_in_groups(make: Make) -> None:
    """A crash between the two only makes that more is held than needed."""
    clock = SteppedClock()
    outbox = make(clock=clock)
    epoch = stored(outbox, *[event(n) for n in range(10)])[0].epoch
    outbox.acked(epoch, "bulk", 4)
    assert outbox.undrained("bulk") == [(epoch, 4, 10)]
    settled(outbox)
    assert acked_on_disk(outbox) == [0]
    clock.step(31)
    settled(outbox)
    assert acked_on_disk(outbox) == [4]
    many = stored(outbox, *[event(n) for n in range(3000)])[-1].seq
    outbox.acked(epoch, "bulk", many)
    settled(outbox)
    assert acked_on_disk(outbox) == [many]
    more = stored(outbox, event())[0].seq
    outbox.acked(epoch, "bulk", more)
    outbox.close()
    assert make().watermarks() == {(epoch, "bulk"): more}


def acked_on_disk(outbox: Outbox) -> list[int]:
    """Watermarks as a crash would leave them."""
    return [acked for (acked,) in outbox._reader.rows("SELECT acked FROM lanes ORDER BY number")]


def test_a_restored_center_gets_again_what_is_still_there(make: Make) -> None:
    """I1: a drained lane is reopened, also after a restart; what was forgotten is said to be so."""
    outbox = make()
    rows = stored(outbox, *[event(n) for n in range(10)])
    epoch = rows[0].epoch
    outbox.acked(epoch, "bulk", 10)
    outbox.renew_epoch()
    newer = stored(outbox, event(99, "critical"))[0].epoch
    outbox.acked(newer, "alarm", 1)
    assert [(h.epoch, h.low, h.high) for h in outbox.drained()] == [(newer, 2, 1), (epoch, 11, 10)]
    assert [h.epoch for h in outbox.drained(1, 1)] == [epoch]
    assert outbox.held() == ([], 0)
    outbox.close()
    again = make()
    again.reopened(epoch, "bulk", 6)
    assert again.undrained("bulk") == [(epoch, 6, 10)]
    settled(again)
    again._writer._db.execute("DELETE FROM events WHERE seq = 7")
    again.close()
    last = make()
    assert last.undrained("bulk") == [(epoch, 6, 10)]
    part = last.slice(epoch, "bulk", 6, 10_000)
    assert part is not None
    assert [(gap.first, gap.last, gap.why) for gap in part.gaps] == [(7, 7, "forgotten")]
    assert part.events == tuple(row.body for row in rows[7:])
    last.reopened(epoch, "bulk", 9)
    assert last.undrained("bulk") == [(epoch, 6, 10)]


def test_the_evidence_for_a_restored_center_is_what_it_acknowledged_last(make: Make) -> None:
    """I1: the oldest epochs drain last, and are named first, also by the next life."""
    clock = SteppedClock()
    outbox = make(clock=clock)
    epochs = []
    for number in range(4):
        epochs.append(stored(outbox, event(number))[0].epoch)
        outbox.renew_epoch()
    for index in (1, 3, 2, 0):
        outbox.acked(epochs[index], "bulk", 1)
        clock.step(1)
    assert [epochs.index(h.epoch) for h in outbox.drained()] == [0, 2, 3, 1]
    assert [epochs.index(h.epoch) for h in outbox.drained(1, 2)] == [2, 3]
    outbox.close()
    again = make(clock=clock)
    assert [epochs.index(h.epoch) for h in again.drained()] == [0, 2, 3, 1]


def test_held_epochs_are_told_in_pages(make: Make) -> None:
    """I1: what does not fit into one hello can be told after it, oldest first."""
    outbox = make()
    epochs = []
    for number in range(35):
        epochs.append(stored(outbox, event(number))[0].epoch)
        outbox.renew_epoch()
    held, more = outbox.held()
    assert ([h.epoch for h in held], more) == (epochs[:32], 3)
    assert [h.epoch for h in outbox.held_from(32, 100)] == epochs[32:]
    assert [(h.epoch, h.low, h.high) for h in outbox.held_from(33, 1)] == [(epochs[33], 1, 1)]


def test_drained_lanes_are_remembered_for_90_days(make: Make) -> None:
    """I8: then they go, with what is left of them; one of a clock that was never set stays."""
    clock = SteppedClock(wall_ms=1000)
    outbox = make(clock=clock)
    unset = stored(outbox, event(1))[0].epoch
    outbox.acked(unset, "bulk", 1)
    clock.now_wall_ms = 1_800_000_000_000
    old = stored(outbox, event(2))[0].epoch
    outbox.acked(old, "bulk", 1)
    saved(outbox)
    clock.step(91 * 86_400)
    outbox.renew_epoch()
    new = stored(outbox, event(3))[0].epoch
    assert [h.epoch for h in outbox.drained()] == [unset]
    saved(outbox)
    assert set(outbox.watermarks()) == {(unset, "bulk"), (new, "bulk")}
    assert [decode_event(r.body).t_ms for r in outbox.recent(10)] == [1, 3]


def test_a_refused_event_becomes_a_gap_and_a_dead_letter(make: Make, tmp_path: Path) -> None:
    """I4: at once for the next slice, and for good on disk; neighbours go on."""
    outbox = make()
    rows = stored(outbox, *[event(n) for n in range(5)])
    epoch = rows[0].epoch
    outbox.refuse(epoch, "bulk", 2)
    outbox.refuse(epoch, "bulk", 3)
    outbox.refuse(epoch, "bulk", 99)
    assert_refused_is_declared(outbox, rows)
    settled(outbox)
    outbox.close()
    again = make()
    assert_refused_is_declared(again, rows)
    letters = again._reader.rows("SELECT epoch, lane, seq, body FROM refused ORDER BY id")
    assert letters == [(row.epoch, row.lane, row.seq, row.body) for row in rows[1:3]]
    assert list(findings_of_outbox(tmp_path)) == []


def assert_refused_is_declared(outbox: Outbox, rows: list[Stored]) -> None:
    """Numbers 2 and 3 are gaps, and 4 goes on."""
    part = outbox.slice(rows[0].epoch, "bulk", 1, 10_000)
    assert part is not None
    refused = {n for gap in part.gaps for n in range(gap.first, gap.last + 1)}
    assert ({gap.why for gap in part.gaps}, refused) == ({"refused"}, {2, 3})
    assert part.events == tuple(row.body for row in rows[3:])
    assert outbox.find(rows[0].epoch, "bulk", 4) == rows[3]


def test_the_newest_open_alarm_is_known(make: Make) -> None:
    """I9: what may overtake is the latest event of an alarm that goes on and is not acked."""

    def of(incident: str, phase: Phase, severity: str = "critical") -> Event:
        return Event(
            kind="presence", t_ms=1, camera="c", severity=severity, incident=incident, phase=phase
        )

    outbox = make()
    assert outbox.newest_open_alarm() is None
    stored(outbox, of("a", "start"), of("b", "start"), of("low", "start", "info"))
    newest = outbox.newest_open_alarm()
    assert newest is not None
    assert (newest.lane, newest.seq) == ("alarm", 2)
    stored(outbox, of("a", "update"), of("b", "end"))
    outbox.close()
    again = make()
    newest = again.newest_open_alarm()
    assert newest is not None
    assert (newest.seq, decode_event(newest.body).incident) == (3, "a")
    assert again.find(newest.epoch, "alarm", 3) == newest
    again.acked(newest.epoch, "alarm", 3)
    assert again.newest_open_alarm() is None


def test_what_was_shed_is_told_in_a_ledger(make: Make) -> None:
    """Newest first: of which epoch and lane, which numbers, how much and when."""
    outbox = make(quota_bytes=20_000)
    for number in range(300):
        stored(outbox, event(number, message="x" * 200))
    outbox.renew_epoch()
    for number in range(100):
        stored(outbox, event(number, message="x" * 200))
    ledger = outbox.shed_ledger()
    epochs = [epoch for epoch, _, _ in outbox.undrained("bulk")]
    assert [entry.epoch for entry in ledger] == epochs
    assert [(entry.lane, entry.first, entry.why) for entry in ledger] == [("bulk", 1, "shed")] * 2
    assert sum(entry.last for entry in ledger) == outbox.shed
    assert all(entry.size_bytes > 200 and entry.at_ms for entry in ledger)


def test_an_append_writes_few_pages(make: Make, tmp_path: Path) -> None:
    """An event that opens an incident costs at most three pages of the log, acked or not."""
    outbox = make()
    log = tmp_path / "outbox.db-wal"
    sizes = []
    for number in range(60):
        opening = Event(
            kind="presence", t_ms=number, camera="entrance", severity="critical", phase="start",
            incident=f"i{number % 5}", message="x" * 100,
        )  # fmt: skip
        before = log.stat().st_size
        (row,) = stored(outbox, opening)
        outbox.acked(row.epoch, row.lane, row.seq)
        sizes.append(log.stat().st_size - before)
    assert sum(sizes[1:]) / len(sizes[1:]) <= 12.5 * 1024


OLD = """
CREATE TABLE events (id INTEGER PRIMARY KEY AUTOINCREMENT, epoch INTEGER NOT NULL,
  lane TEXT NOT NULL CHECK (lane IN ('alarm', 'bulk')), seq INTEGER NOT NULL CHECK (seq > 0),
  body BLOB NOT NULL, UNIQUE (epoch, lane, seq));
CREATE TABLE lanes (epoch INTEGER NOT NULL, lane TEXT NOT NULL, high INTEGER NOT NULL,
  acked INTEGER NOT NULL, born_ms INTEGER NOT NULL, PRIMARY KEY (epoch, lane)) WITHOUT ROWID;
CREATE TABLE gaps (epoch INTEGER NOT NULL, lane TEXT NOT NULL, first INTEGER NOT NULL,
  last INTEGER NOT NULL, why TEXT NOT NULL, PRIMARY KEY (epoch, lane, first)) WITHOUT ROWID;
CREATE TABLE incidents (incident TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
"""


def test_a_file_of_the_first_version_is_taken_over(make: Make, tmp_path: Path) -> None:
    """I1: events, watermarks, gaps and open incidents of an earlier version are all there."""
    opening = Event(kind="p", t_ms=4, camera="c", severity="critical", incident="i", phase="start")
    with closing(sqlite3.connect(tmp_path / "outbox.db", isolation_level=None)) as old:
        old.execute("PRAGMA journal_mode = WAL")
        old.executescript(OLD)
        old.execute("INSERT INTO lanes VALUES (70, 'bulk', 9, 5, 1000), (7, 'alarm', 1, 0, 2000)")
        old.execute("INSERT INTO gaps VALUES (70, 'bulk', 6, 7, 'shed')")
        for row, epoch, lane, seq, kept in (
            (11, 70, "bulk", 5, event(1)), (12, 70, "bulk", 8, event(2)),
            (13, 70, "bulk", 9, event(3)), (14, 7, "alarm", 1, opening),
        ):  # fmt: skip
            body = encode_event(kept)
            old.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?)", (row, epoch, lane, seq, body))
        old.execute("INSERT INTO incidents VALUES ('i', ?)", (encode_event(opening),))
    outbox = make()
    assert [(h.epoch, h.lane, h.low, h.high) for h in outbox.held()[0]] == [
        (70, "bulk", 6, 9), (7, "alarm", 1, 1),
    ]  # fmt: skip
    assert everything(outbox, "bulk", after=5) == [6, 7, 8, 9]
    assert [r.id for r in outbox.recent(10)] == [11, 12, 13, 14]
    newest = outbox.newest_open_alarm()
    assert newest is not None
    assert (newest.epoch, newest.seq) == (7, 1)
    assert [e.incident for e in outbox.open_incidents()] == ["i"]
    assert stored(outbox, event(9))[0].id == 15
    outbox.close()
    assert list(findings_of_outbox(tmp_path)) == []
    assert list(tmp_path.glob("*.corrupt-*")) == []
