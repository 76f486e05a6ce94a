"""Clocks: when a machine booted, from readings that come late, drift, or lie."""

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from center import clocks
from center.clocks import Kept, weighed
from center.tables import clocks as clocks_table
from tests.parts.centers import Rig
from wire.messages import Clock

NOW = 1_800_000_000_000


@given(
    st.lists(st.tuples(st.integers(1_000, 120_000), st.integers(0, 25_000)), min_size=1),
    st.floats(-90e-6, 90e-6),
)
def test_delay_and_drift_do_no_harm(readings: list[tuple[int, int]], drift: float) -> None:
    """What is kept is never later than the best reading, and earlier by no more than the drift."""
    kept: Kept | None = None
    truth = passed = 0.0
    best = 1e18
    for after_ms, delay_ms in readings:
        passed += after_ms
        truth += after_ms * drift
        kept = weighed(kept, round(NOW + truth + delay_ms), round(NOW + passed))
        best = min(best + after_ms * clocks.DRIFT, NOW + truth + delay_ms)
        assert NOW + min(0.0, truth) - len(readings) - passed * 1e-4 <= kept.booted_ms
        assert kept.booted_ms <= best + len(readings)


def test_a_reading_far_later_is_believed_the_second_time() -> None:
    """A late message is doubted; a machine whose memory was set back says the same again."""
    kept = weighed(None, 1_000, 10_000)
    late = weighed(kept, 100_000, 20_000)
    assert (late.booted_ms, late.doubted_ms) == (1_000, 100_000)
    assert weighed(late, 1_050, 30_000).doubted_ms is None
    assert weighed(late, 200_000, 30_000).booted_ms == 1_000
    assert weighed(late, 103_000, 30_000) == Kept(100_000, None, 30_000)


def test_a_boot_is_noted_and_old_machines_make_room(center: Rig) -> None:
    """I8: the newest machines of a worker are kept; boots without one say nothing."""
    with center.database.transaction() as connection:
        for number in range(70):
            at = NOW + number * 1000
            clocks.note(connection, "w1", f"m{number}-p", Clock(wall_ms=0, boot_ms=500), at)
        clocks.note(connection, "w1", "nothing", Clock(wall_ms=0, boot_ms=500), NOW)
        clocks.note(connection, "w1", "-p", Clock(wall_ms=0, boot_ms=500), NOW)
        clocks.note(connection, "w1", "m1-p", Clock(wall_ms=0, boot_ms=2**60), NOW)
        clocks.note(connection, "w2", "m0-p", Clock(wall_ms=0, boot_ms=500), NOW)
        column = clocks_table.c
        machines = connection.execute(select(column.machine).where(column.worker == "w1"))
        assert set(machines.scalars()) == {f"m{number}" for number in range(6, 70)}
        assert clocks.reader(connection, "w2").booted == {"m0": NOW - 500}


def test_a_reading_that_says_nothing_new_costs_no_write(center: Rig) -> None:
    """The row stays as it is, until it is old."""
    with center.database.transaction() as connection:

        def heard(at_ms: int, boot_ms: int) -> int:
            clocks.note(connection, "w1", "m-p", Clock(wall_ms=0, boot_ms=boot_ms), at_ms)
            row = connection.execute(select(clocks_table)).one()
            assert row.booted_ms == NOW
            return int(row.heard_ms)

        assert heard(NOW + 1000, 1000) == NOW + 1000
        assert heard(NOW + 61_050, 61_000) == NOW + 1000
        assert heard(NOW + 700_000, 700_000) == NOW + 700_000
