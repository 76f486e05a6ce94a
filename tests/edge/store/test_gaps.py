"""Gaps of all causes on top of each other: what is sent stays in order and leaves nothing out."""

import sqlite3
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.store import tables
from edge.store.outbox import Outbox
from edge.store.writer import Mend
from tests.edge.store.conftest import Make, event, saved, settled, stored
from tests.parts.clock import SteppedClock
from wire.events import OPEN_END

FILLING = "x" * 200


def gaps_on_disk(path: Path) -> list[tuple[int, int, str]]:
    """The declared gaps of all lanes."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(
            "SELECT first, last, why FROM gaps ORDER BY lane, first"
        ).fetchall()


def told(outbox: Outbox, epoch: int, after: int, high: int) -> list[int]:
    """The numbers of a lane in the order in which slices tell them, each slice being sound."""
    numbers: list[int] = []
    while (part := outbox.slice(epoch, "bulk", after, 3000)) is not None:
        position = after
        for gap in part.gaps:
            assert position < gap.first <= gap.last < part.first
            numbers += range(gap.first, gap.last + 1)
            position = gap.last
        assert part.last > after
        numbers += range(part.first, part.last + 1)
        after = part.last
    assert after == high
    return numbers


def test_what_is_shed_around_a_gap_is_one_gap(make: Make, tmp_path: Path) -> None:
    """I1, I3: a refused event among those that are shed leaves no gap inside another."""
    outbox = make(quota_bytes=40_000)
    epoch = stored(outbox, *[event(n, message=FILLING) for n in range(140)])[0].epoch
    outbox.refuse(epoch, "bulk", 50)
    high = stored(outbox, *[event(n, message=FILLING) for n in range(60)])[-1].seq
    ((first, last, why),) = gaps_on_disk(tmp_path / "outbox.db")
    assert (first, last > 50, why) == (1, True, "shed")
    assert told(outbox, epoch, 0, high) == list(range(1, high + 1))


@pytest.mark.parametrize("inner", [(5, 6, "refused"), (2, 6, "shed"), (4, 9, "corrupt")])
def test_gaps_that_overlap_on_disk_are_told_in_order(
    make: Make, tmp_path: Path, inner: tuple[int, int, str]
) -> None:
    """I3: a file in which an earlier version laid gaps over each other blocks no lane."""
    outbox = make()
    epoch = stored(outbox, *[event(n) for n in range(12)])[0].epoch
    state = outbox._lanes.get(epoch, "bulk")
    assert state is not None
    with closing(sqlite3.connect(tmp_path / "outbox.db", isolation_level=None)) as connection:
        connection.execute("DELETE FROM events WHERE seq < 10")
        for first, last, why in ((1, 8, "shed"), inner):
            crc = tables.seal_gap(state.seed, first, last, why)
            connection.execute(tables.INSERT_GAP, (state.number, first, last, why, crc))
    assert told(outbox, epoch, 0, 12) == list(range(1, 13))
    outbox._writer.do(Mend(outbox._reader.number, "a test says so"))
    settled(outbox)
    spans = gaps_on_disk(tmp_path / "outbox.db")
    assert all(before[1] < after[0] for before, after in pairwise(spans))
    assert spans[-1] == (13, OPEN_END, "corrupt")


HARM = {
    "rot": "UPDATE events SET crc = crc + 1 WHERE seq = ? AND seq < (SELECT max(seq) FROM events)",
    "vanish": "DELETE FROM events WHERE seq = ? AND seq < (SELECT max(seq) FROM events)",
}
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 60)),
        st.tuples(st.sampled_from(["refuse", "ack", "reopen", "rot", "vanish"]),
                  st.integers(1, 150)),
        st.tuples(st.just("restart"), st.just(0)),
    ),
    max_size=25,
)  # fmt: skip


@given(steps=STEPS)
def test_slices_cover_every_number_once_whatever_the_gaps(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    """I1, I3: sheds, refusals, rot, acks and restored centers in any order, from any watermark."""
    path = tmp_path_factory.mktemp("gaps") / "outbox.db"

    def opened() -> Outbox:
        return Outbox(path, SteppedClock(), quota_bytes=12_000, ballast_bytes=0)

    outbox = opened()
    try:
        epoch = stored(outbox, event(0))[0].epoch
        for what, number in [*steps, ("append", 20)]:
            match what:
                case "append":
                    stored(outbox, *[event(n, message=FILLING) for n in range(number)])
                case "refuse":
                    outbox.refuse(epoch, "bulk", number)
                case "ack":
                    outbox.acked(epoch, "bulk", number)
                case "reopen":
                    outbox.reopened(epoch, "bulk", number)
                case "restart":
                    outbox.close()
                    outbox = opened()
                case _:
                    settled(outbox)
                    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
                        connection.execute(HARM[what], (number,))
        saved(outbox)
        for of_epoch, acked, high in outbox.undrained("bulk"):
            for after in {acked, (acked + high) // 2, high - 1}:
                assert told(outbox, of_epoch, after, high) == list(range(after + 1, high + 1))
        with closing(sqlite3.connect(path)) as connection:
            ((overlaps,),) = connection.execute(
                "SELECT count(*) FROM gaps a, gaps b WHERE a.lane = b.lane"
                " AND a.first < b.first AND a.last >= b.first"
            )
        assert not overlaps
    finally:
        outbox.close()
