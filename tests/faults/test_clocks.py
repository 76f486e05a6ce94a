"""Clocks that are wrong, and clocks that jump while a worker runs."""

import time

import pytest
from sqlalchemy import create_engine, select

from center.tables import events
from tests.faults.rig import House

EVENTS = 100
DAY_MS = 86_400_000
TOLERANCE_MS = 3_000


def _corrected(house: House, worker: str) -> list[tuple[int, int, str]]:
    """Corrected time, time of receipt, and whether the correction is certain, of each event."""
    engine = create_engine(house.database_url)
    try:
        with engine.connect() as connection:
            columns = select(events.c.at_ms, events.c.received_ms, events.c.clock)
            rows = connection.execute(columns.where(events.c.worker == worker))
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
)
def test_a_wall_clock_that_is_wrong(
    house: House, name: str, at_start_ms: int, jump_ms: int
) -> None:
    """I1, I2, I3: a clock that starts in 1970 or jumps loses and doubles nothing, and the center
    shows when things happened by its own clock."""
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
        for at_ms, received_ms, clock in _corrected(house, worker):
            assert abs(at_ms - received_ms) < TOLERANCE_MS or clock == "uncertain", (
                at_ms - received_ms,
                clock,
            )
