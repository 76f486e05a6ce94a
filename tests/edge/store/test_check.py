"""`forecourt-edge check` says what is wrong, what that harms, and what was given up."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from edge.store.check import command, findings
from edge.store.desired import DesiredStore
from tests.edge.store.conftest import Make, event, saved, stored
from tests.parts.clock import SteppedClock


def test_what_was_given_up_is_told(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """I4: each shed range with its cause and time, and dead letters; none of it is a finding."""
    clock = SteppedClock()
    outbox = make(quota_bytes=20_000, clock=clock)
    for number in range(60):
        rows = stored(outbox, *[event(n, message="x" * 200) for n in range(10)])
        if number % 2:
            outbox.renew_epoch()
    outbox.refuse(rows[-1].epoch, "bulk", rows[-1].seq)
    saved(outbox)
    ledger = outbox.shed_ledger()
    outbox.close()
    DesiredStore(tmp_path / "desired.db", clock).close()
    (tmp_path / "instance").touch()
    assert command(tmp_path, as_json=True) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["ok"], answer["findings"], answer["dead_letters"]) == (True, [], 1)
    assert [
        (one["epoch"], one["lane"], one["first"], one["last"], one["why"], one["at_ms"])
        for one in answer["shed"]
    ] == [(s.epoch, s.lane, s.first, s.last, s.why, s.at_ms) for s in ledger[:50]]
    assert command(tmp_path, as_json=False) == 0
    shed, letters, verdict = capsys.readouterr().out.splitlines()
    count = sum(s.last - s.first + 1 for s in ledger)
    assert shed.startswith(f"outbox.db: shed: {count} events")
    assert letters.startswith("outbox.db: 1 dead letters")
    assert verdict.endswith("all is well")


def test_a_finding_names_its_invariant(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A hole harms I4, a rotten event I1, a missing document I5."""
    outbox = make()
    stored(outbox, *[event(n) for n in range(5)])
    outbox.close()
    with closing(sqlite3.connect(tmp_path / "outbox.db", isolation_level=None)) as connection:
        connection.execute("DELETE FROM events WHERE seq = 3")
        connection.execute("UPDATE events SET crc = crc + 1 WHERE seq = 4")
    (tmp_path / "instance").touch()
    found = {(f.file, f.invariant) for f in findings(tmp_path)}
    assert found == {("outbox.db", "I4"), ("outbox.db", "I1"), ("desired.db", "I5")}
    assert command(tmp_path, as_json=False) == 1
    assert "outbox.db: I4: epoch " in capsys.readouterr().out
