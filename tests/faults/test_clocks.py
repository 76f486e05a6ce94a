"""Clocks that are wrong, and clocks that jump while a worker runs."""

import time
from itertools import groupby, pairwise
from operator import itemgetter

import pytest
from sqlalchemy import create_engine, select

from center.tables import events
from tests.faults.rig import House

EVENTS = 100
DAY_MS = 86_400_000
TOLERANCE_MS = 3_000


def _times(house: House, worker: str) -> list[tuple[int, int, int, int, str]]:
    """Epoch, raw and corrected time, time of receipt, and what the clock was, by number."""
    engine = create_engine(house.database_url)
    try:
        with engine.connect() as connection:
            column = events.c
            columns = select(
                column.epoch, column.t_ms, column.at_ms, column.received_ms, column.clock
            )
            of_lane = columns.where(column.worker == worker, column.lane == "bulk")
            rows = connection.execute(of_lane.order_by(column.epoch, column.seq))
            return [tuple(row) for row in rows]
    finally:
        engine.dispose()


@pytest.mark.parametrize(
    ("name", "at_start_ms", "jump_ms"),
    [
        ("1970", -int(time.time() * 1000), 0),
        ("tomorrow", 0, DAY_MS),
        ("back", 0, -3_600_000),
    ],
    ids=["1970", "tomorrow", "back"],  # processes that share the suite must name it alike
)
def test_a_wall_clock_that_is_wrong(
    house: House, name: str, at_start_ms: int, jump_ms: int
) -> None:
    """I1, I2, I3: a clock that starts in 1970 or jumps loses and doubles nothing; the center shows
    when things happened by its own clock, in their order, and keeps the raw time."""
    worker = f"clock-{name}"
    with house.station(worker, burst=10, clock_offset_ms=at_start_ms) as station:
        station.online()
        station.change(rate=60.0, limit=EVENTS)
        station.generated(EVENTS)
        station.change(clock_offset_ms=at_start_ms + jump_ms, limit=2 * EVENTS)
        station.generated(2 * EVENTS)
        station.drained()
        verdict = house.verdict(station)
        assert verdict.clean, verdict
        assert verdict.given_up == {}
        assert verdict.stored == 2 * EVENTS
        times = _times(house, worker)
        wrong_ms = {at_start_ms, at_start_ms + jump_ms}
        for _, raw_ms, at_ms, received_ms, clock in times:
            assert abs(at_ms - received_ms) < TOLERANCE_MS
            off_ms = raw_ms - at_ms
            assert any(abs(off_ms - wrong) < TOLERANCE_MS for wrong in wrong_ms), "raw is kept"
            assert clock == ("corrected" if abs(off_ms) > TOLERANCE_MS else "")
        assert {clock for *_, clock in times} == {
            "corrected" if wrong else "" for wrong in wrong_ms
        }
        for _, of_epoch in groupby(times, key=itemgetter(0)):
            corrected = [at_ms for _, _, at_ms, _, _ in of_epoch]
            fallen = [a - b for a, b in pairwise(corrected) if a > b]
            assert max(fallen, default=0) < TOLERANCE_MS, "order holds, whatever the clock did"
