"""Admission: bursts pass, and after them the rate is kept."""

import heapq

from hypothesis import given, settings
from hypothesis import strategies as st

from center.admission import MAX_WAIT_S, Bucket, Door, Sluice


@settings(max_examples=40)
@given(
    st.lists(st.floats(0, 5), max_size=40),
    st.floats(0.5, 500),
    st.floats(1, 20),
)
def test_no_more_than_the_rate(steps_s: list[float], rate: float, at_once: float) -> None:
    """Over any stretch from the start, at most the burst, the rate and one more pass."""
    bucket, now_s, passed = Bucket(rate, at_once), 100.0, 0
    for step_s in steps_s:
        now_s += step_s
        if bucket.has(now_s):
            bucket.take()
            passed += 1
        assert passed <= at_once + rate * (now_s - 100.0) + 1


def test_time_that_goes_back_gives_nothing() -> None:
    """A clock that is set back neither fills nor blocks a bucket."""
    bucket = Bucket(1.0, 1.0)
    assert bucket.has(100.0)
    bucket.take()
    assert not bucket.has(50.0)
    assert not bucket.has(100.0)
    assert bucket.has(101.0)


def test_ten_thousand_hellos_at_once() -> None:
    """All come in by the time that the rate allows, if each asks again when it was told to."""
    door = Door(rate=200.0, at_once=400.0)
    turns = [0.0] * 10_000
    last_s, asked = 0.0, 0
    while turns:
        at_s = heapq.heappop(turns)
        asked += 1
        wait_s = door.wait_s(at_s)
        assert 0 <= wait_s <= MAX_WAIT_S
        if wait_s > 0:
            heapq.heappush(turns, at_s + wait_s)
        last_s = at_s
    assert last_s <= (10_000 - 400) / 200 * 1.1
    assert asked <= 3 * 10_000


def test_who_must_wait_never_waits_for_ever() -> None:
    """However many ask, nobody is told to wait longer than the bound."""
    door = Door(rate=1.0, at_once=1.0)
    assert max(door.wait_s(5.0) for _ in range(2000)) <= MAX_WAIT_S


def test_a_large_document_passes_and_is_paid_for_later() -> None:
    """One that is larger than a second's share is not stuck; the next waits for it."""
    sluice = Sluice(size_bytes=Bucket(1000.0, 1000.0))
    assert sluice.is_open(10.0)
    sluice.passed(3000)
    assert not sluice.is_open(11.9)
    assert sluice.is_open(12.1)
