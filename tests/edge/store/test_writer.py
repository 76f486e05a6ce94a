"""The writing thread outlives whatever fails, and nobody waits for it in vain."""

import errno
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge.store import salvage, sqlite, writer
from edge.store.ballast import Ballast
from edge.store.outbox import Outbox, Stored
from edge.store.writer import Mend
from tests.edge.store.conftest import event, settled, stored
from tests.parts.clock import SteppedClock
from tests.waiting import wait_for

NO_ROOM = OSError(errno.ENOSPC, "no room, a test says")


def opened(folder: Path, **more: Any) -> Outbox:
    """An outbox without a ballast."""
    return Outbox(folder / "outbox.db", SteppedClock(), ballast_bytes=0, **more)


def damaged(outbox: Outbox) -> None:
    """A reader has met a damaged page."""
    outbox._writer.do(Mend(outbox._reader.number, "a test says so"))


def failing(error: Exception) -> Callable[..., Any]:
    """What always fails so."""

    def fail(*_: object, **__: object) -> Any:
        raise error

    return fail


@pytest.mark.parametrize("tight", [False, True])
def test_a_mend_without_room_is_made_up_for_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tight: bool
) -> None:
    """I1: until then each append hears of the error; afterwards the file may grow again."""
    outbox = opened(tmp_path)
    before = stored(outbox, event(1))
    outbox._writer._tight = tight
    with monkeypatch.context() as full:
        full.setattr(writer, "salvage", failing(NO_ROOM))
        full.setattr(Ballast, "load", lambda ballast: False)
        damaged(outbox)
        for _ in range(3):
            with pytest.raises(OSError, match="no room, a test says"):
                outbox.append([event(2)]).result(5)
    after = stored(outbox, *[event(n, message="x" * 500) for n in range(1000)])
    assert outbox.find(before[0].epoch, "bulk", 1) == before[0]
    assert outbox.find(after[0].epoch, "bulk", 1000) == after[-1]
    assert outbox.shed == 0
    outbox.close()


def test_a_mended_file_may_not_grow_while_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I8: what holds for the damaged file holds for the one in its place."""
    outbox = opened(tmp_path)
    stored(outbox, *[event(n, message="x" * 500) for n in range(300)])
    monkeypatch.setattr(Ballast, "load", lambda ballast: False)
    outbox._writer._tight = True
    damaged(outbox)
    stored(outbox, event(1))
    size_bytes = (tmp_path / "outbox.db").stat().st_size
    stored(outbox, *[event(n, message="x" * 500) for n in range(300)])
    outbox.close()
    assert (tmp_path / "outbox.db").stat().st_size <= size_bytes
    assert outbox.shed > 0


def test_a_callback_that_fails_stops_nobody(tmp_path: Path) -> None:
    """What was stored is confirmed whatever those do who hear of it."""
    outbox = opened(tmp_path, on_stored=failing(RuntimeError("the loop is closed")))
    assert [stored(outbox, event(n))[0].seq for n in range(3)] == [1, 2, 3]
    outbox.close()


def test_an_error_of_any_kind_is_heard_by_all_who_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one outside of a transaction: the thread lives on."""
    outbox = opened(tmp_path)
    with monkeypatch.context() as broken:
        broken.setattr(outbox._writer, "_persist", failing(RuntimeError("odd")))
        with pytest.raises(RuntimeError, match="odd"):
            outbox.append([event(1)]).result(5)
        broken.setattr(outbox._writer, "_grow_again", failing(RuntimeError("odder")))
        outbox._writer._tight = True
        with pytest.raises(RuntimeError, match="odder"):
            outbox.append([event(1)]).result(5)
    assert stored(outbox, event(2))[0].seq == 1
    outbox.close()


@pytest.mark.parametrize("size_bytes", [0, 4096])
def test_a_ballast_that_cannot_be_made_or_freed_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size_bytes: int
) -> None:
    """A disk that turned read-only is told, and raises nothing."""
    ballast = Ballast(tmp_path / "ballast", size_bytes)
    read_only = failing(OSError(errno.EROFS, "read-only"))
    monkeypatch.setattr(Path, "unlink", read_only)
    monkeypatch.setattr("os.statvfs", read_only)
    assert not ballast.load()
    assert not ballast.release()


def test_nobody_waits_for_a_reader_while_a_file_is_salvaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reads are empty meanwhile, and what is known of lanes comes from memory."""
    outbox = opened(tmp_path)
    (row,) = stored(outbox, event(1))
    begun, go_on = threading.Event(), threading.Event()

    def slow(*args: Any) -> salvage.Salvaged:
        begun.set()
        assert go_on.wait(10)
        return salvage.salvage(*args)

    monkeypatch.setattr(writer, "salvage", slow)
    damaged(outbox)
    assert begun.wait(10)
    answers: list[object] = []

    def ask() -> None:
        answers.append(outbox.slice(row.epoch, "bulk", 0, 1000))
        answers.append(outbox.recent(10))
        answers.append(outbox.undrained("bulk"))

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(5)
    go_on.set()
    assert answers == [None, [], [(row.epoch, 0, 1)]]
    settled(outbox)
    assert outbox.recent(10) == [row]
    outbox.close()


def salvaged_rows(outbox: Outbox, rows: list[Stored]) -> None:
    """The events are there once the writer has mended."""
    (late,) = wait_for(lambda: _tried(outbox), 20, "an append is stored")
    assert outbox.recent(100) == [*rows, late]


def _tried(outbox: Outbox) -> list[Stored]:
    try:
        return stored(outbox, event(9))
    except OSError:
        return []


@pytest.mark.parametrize("where", ["placed", "loaded"])
@pytest.mark.parametrize("again", [False, True], ids=["at work", "at the next start"])
def test_a_salvage_that_fails_late_is_finished_not_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, again: bool
) -> None:
    """I1: once the fresh file is complete, it is what counts: nothing saved is given up."""
    outbox = opened(tmp_path)
    rows = stored(outbox, *[event(n) for n in range(20)])
    with monkeypatch.context() as failed:
        if where == "placed":
            move_aside = sqlite.set_aside

            def aside(*args: Any, **more: Any) -> Path:
                move_aside(*args, **more)
                raise NO_ROOM

            failed.setattr(sqlite, "set_aside", aside)
        else:
            failed.setattr(writer.Writer, "_load", failing(NO_ROOM))
        damaged(outbox)
        for _ in range(5):
            if where == "loaded":
                assert not _tried(outbox)
        settled_or_failed(outbox)
    (tmp_path / "outbox.db-wal").write_bytes(b"of the damaged file")
    if again:
        outbox.close()
        outbox = opened(tmp_path)
    salvaged_rows(outbox, rows)
    assert len(list(tmp_path.glob("outbox.db.corrupt-*[0-9]"))) == 1
    outbox.close()


def settled_or_failed(outbox: Outbox) -> None:
    """The writer has tried."""
    outbox.append([]).exception(5)
