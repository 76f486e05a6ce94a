"""The roster of lanes on a disk that fills up: what it says stays whole."""

import errno
import os
from pathlib import Path

import pytest

from edge.store import roster
from edge.store.lanes import LaneState


def lane(number: int) -> LaneState:
    """A lane that may hold something."""
    return LaneState(number=number, epoch=1000 + number, lane="bulk")


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that takes ten bytes more, and then nothing."""
    left = [10]
    write = os.write

    def short(descriptor: int, data: bytes) -> int:
        if not left[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = write(descriptor, data[: left[0]])
        left[0] -= taken
        return taken

    monkeypatch.setattr(os, "write", short)


def test_a_short_write_leaves_the_old_roster(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """I1: the lanes that were in it are still told of should the outbox be lost."""
    path = tmp_path / "outbox.db.lanes"
    roster.write(path, [lane(1), lane(2)])
    request.getfixturevalue("full")
    with pytest.raises(OSError, match="No space"):
        roster.write(path, [lane(3)])
    assert sorted(roster.read(path) or {}) == [1, 2]
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_torn_line_spoils_none_that_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """I1: an addition that failed is raised, and the next one counts in full."""
    path = tmp_path / "outbox.db.lanes"
    roster.write(path, [lane(1)])
    request.getfixturevalue("full")
    with pytest.raises(OSError, match="No space"):
        roster.add(path, [lane(2)])
    monkeypatch.undo()
    roster.add(path, [lane(3)])
    assert sorted(roster.read(path) or {}) == [1, 3]
