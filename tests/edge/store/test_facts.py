"""The newest fact of each input outlives the process, whatever becomes of the file."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from edge.store.check import findings
from edge.store.facts import FactStore
from tests.parts.clock import SteppedClock
from wire.facts import Fact, Value

NEVER = 2**62


def fact(name: str, value: Value, t_ms: int) -> Fact:
    """What an input says."""
    return Fact(input=name, value=value, t_ms=t_ms)


def kept(path: Path) -> list[Fact]:
    """What another process would find."""
    store = FactStore(path, SteppedClock())
    found = store.load()
    store.close()
    return found


def test_the_newest_of_each_input_is_kept(tmp_path: Path) -> None:
    """By its moment, not by its coming; at one moment the later word; of whatever type."""
    path = tmp_path / "facts.db"
    store = FactStore(path, SteppedClock())
    store.keep([fact("b", "lifted", 20), fact("a", True, 10), fact("a", 1.5, 10)], NEVER)
    store.keep([fact("b", "hung", 19), fact("c", "ü\x00", 5)], NEVER)
    assert kept(path) == [fact("a", 1.5, 10), fact("b", "lifted", 20), fact("c", "ü\x00", 5)]
    store.close()


def test_a_fact_of_the_future_gives_way(tmp_path: Path) -> None:
    """Once the clock was taken back, what is said now counts, not what was said "later"."""
    path = tmp_path / "facts.db"
    store = FactStore(path, SteppedClock())
    store.keep([fact("a", "lifted", 9_000_000)], 9_000_000)
    store.keep([fact("a", "hung", 50)], 60)
    assert kept(path) == [fact("a", "hung", 50)]
    store.close()


def test_what_the_disk_does_not_take_changes_nothing(tmp_path: Path) -> None:
    """A failed commit is told, and what was kept before stays."""
    path = tmp_path / "facts.db"
    store = FactStore(path, SteppedClock())
    store.keep([fact("a", "lifted", 1)], NEVER)
    with closing(sqlite3.connect(path)) as other:
        other.execute(
            "CREATE TRIGGER full BEFORE UPDATE ON facts BEGIN SELECT RAISE(ABORT, 'full'); END"
        )
        with pytest.raises(sqlite3.Error, match="full"):
            store.keep([fact("b", "x", 2), fact("a", "hung", 2)], NEVER)
        other.execute("DROP TRIGGER full")
    assert kept(path) == [fact("a", "lifted", 1)]
    store.keep([fact("a", "hung", 2)], NEVER)
    assert kept(path) == [fact("a", "hung", 2)]
    store.close()


def test_a_damaged_file_is_set_aside(tmp_path: Path) -> None:
    """The worker starts without it; a row that has rotted does not take the others with it."""
    path = tmp_path / "facts.db"
    path.write_bytes(b"no database at all" * 100)
    assert kept(path) == []
    assert list(tmp_path.glob("facts.db.corrupt-*"))
    store = FactStore(path, SteppedClock())
    store.keep([fact("a", "lifted", 1), fact("b", "hung", 2)], NEVER)
    store.close()
    with closing(sqlite3.connect(path)) as other:
        other.execute("UPDATE facts SET body = x'7bff' WHERE input = 'a'")
        other.commit()
    assert kept(path) == [fact("b", "hung", 2)]
    (tmp_path / "instance").touch()
    found = [(f.file, f.invariant, f.problem) for f in findings(tmp_path) if "facts" in f.file]
    assert ("facts.db", "I7", "what a said has rotted") in found
    assert [one[1:] for one in found[1:]] == [("I7", "was set aside as damaged")]
