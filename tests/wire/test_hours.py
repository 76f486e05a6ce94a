"""Schedules: hours and days on the station's clock."""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire import specs

BERLIN = ZoneInfo("Europe/Berlin")
HOURS = st.builds(lambda h, m: f"{h:02}:{m:02}", st.integers(0, 23), st.integers(0, 59))


def at(*when: int) -> int:
    """A moment on Berlin's clock, in UTC milliseconds."""
    year, month, day, hour, minute = when
    return round(datetime(year, month, day, hour, minute, tzinfo=BERLIN).timestamp() * 1000)


def schedule(**said: Any) -> specs.Schedule:
    return specs.Schedule.model_validate(said)


@pytest.mark.parametrize(
    ("said", "when", "active"),
    [
        ({"active": "06:00-22:00"}, (2026, 11, 25, 6, 0), True),
        ({"active": "06:00-22:00"}, (2026, 11, 25, 5, 59), False),
        ({"active": "06:00-22:00"}, (2026, 11, 25, 21, 59), True),
        ({"active": "06:00-22:00"}, (2026, 11, 25, 22, 0), False),
        ({"active": ["06:00-09:00", "17:00-24:00"]}, (2026, 11, 25, 23, 59), True),
        ({"active": ["06:00-09:00", "17:00-24:00"]}, (2026, 11, 25, 12, 0), False),
        ({"days": ["sat", "sun"]}, (2026, 11, 28, 0, 0), True),
        ({"days": ["sat", "sun"]}, (2026, 11, 27, 23, 59), False),
        # Over midnight a span belongs to the day on which it begins.
        ({"active": "22:00-06:00", "days": "fri"}, (2026, 11, 27, 23, 0), True),
        ({"active": "22:00-06:00", "days": "fri"}, (2026, 11, 28, 5, 59), True),
        ({"active": "22:00-06:00", "days": "fri"}, (2026, 11, 28, 6, 0), False),
        ({"active": "22:00-06:00", "days": "fri"}, (2026, 11, 27, 5, 0), False),
        # Clocks go forward at 2:00 on this day, and back at 3:00 on that one.
        ({"active": "02:30-04:00"}, (2026, 3, 29, 3, 0), True),
        ({"active": "02:30-04:00"}, (2026, 3, 29, 1, 59), False),
    ],
)
def test_a_schedule_is_of_the_clock_on_the_wall(
    said: dict[str, Any], when: tuple[int, ...], active: bool
) -> None:
    """Hours, days, midnight and daylight saving are those of the station."""
    assert specs.is_active(schedule(**said), at(*when), BERLIN) is active


def test_the_hour_that_comes_twice_is_active_twice() -> None:
    """In the night in which clocks go back, 02:00 to 03:00 lasts for two hours."""
    hours = schedule(active="02:00-03:00")
    began_ms = at(2026, 10, 25, 2, 0)
    active = [specs.is_active(hours, began_ms + m * 60_000, BERLIN) for m in range(-1, 121)]
    assert active == [False, *[True] * 120, False]


@given(
    st.lists(
        st.tuples(HOURS, HOURS).filter(lambda span: span[0] != span[1]), min_size=1, max_size=3
    ),
    st.sets(st.sampled_from(specs.DAYS), min_size=1),
    st.integers(0, 365 * 24 * 60),
)
def test_nothing_changes_before_the_next_change(
    spans: list[tuple[str, str]], days: set[specs.Day], minute: int
) -> None:
    """`next_change_ms` is the first moment at which `is_active` says otherwise."""
    hours = schedule(active=[f"{a}-{b}" for a, b in spans], days=sorted(days))
    now_ms = at(2026, 1, 1, 0, 0) + minute * 60_000
    now = specs.is_active(hours, now_ms, BERLIN)
    change_ms = specs.next_change_ms(hours, now_ms, BERLIN)
    until_ms = now_ms + 8 * 86_400_000 if change_ms is None else change_ms
    step_ms = max(60_000, (until_ms - now_ms) // 200)
    assert all(
        specs.is_active(hours, moment_ms, BERLIN) is now
        for moment_ms in [*range(now_ms, until_ms, step_ms), until_ms - 1]
    )
    if change_ms is not None:
        assert specs.is_active(hours, change_ms, BERLIN) is not now


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"active": "6-22"}, "write hours as 06:00-22:00"),
        ({"active": "06:00-06:00"}, "for the whole day write 00:00-24:00"),
        ({"active": "24:00-06:00"}, "write hours as"),
        ({"days": ["monday"]}, "'mon', 'tue'"),
        ({"active": []}, "at least 1 item"),
    ],
)
def test_what_is_no_schedule_is_refused(said: dict[str, Any], problem: str) -> None:
    """The error says how hours and days are written."""
    with pytest.raises(ValueError, match=problem):
        schedule(**said)
