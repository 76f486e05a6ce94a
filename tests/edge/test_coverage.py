"""Coverage of a task: what was not analysed is never taken for analysed (I10)."""

import threading

import pytest

from edge.coverage import WINDOW_S, Coverage, below
from tests.parts.clock import SteppedClock
from wire.messages import MAX_BELOW


@pytest.fixture
def clock() -> SteppedClock:
    """A clock that stands until told."""
    return SteppedClock()


@pytest.fixture
def coverage(clock: SteppedClock) -> Coverage:
    """That of a task which wants five looks a second."""
    return Coverage(5.0, clock)


def test_it_speaks_of_the_last_minute(coverage: Coverage, clock: SteppedClock) -> None:
    """The ratio forgets after a minute, and speaks of nothing when nothing was wanted."""
    assert coverage.ratio() is None
    coverage.seen(5)
    coverage.missed(5)
    assert coverage.ratio() == 0.5
    clock.step(30)
    coverage.seen(10)
    assert coverage.ratio() == 0.75
    clock.step(45)
    assert coverage.ratio() == 1.0
    clock.step(60)
    assert coverage.ratio() is None


def test_a_degraded_stream_lacks_what_it_leaves_out(
    coverage: Coverage, clock: SteppedClock
) -> None:
    """I10: at half its looks a task's coverage is a half, however well they are made."""
    for _ in range(60):
        for _ in range(5):
            coverage.seen()
            coverage.missed()
        clock.step(1)
    assert coverage.ratio() == 0.5


def test_idle_time_counts_as_seen(coverage: Coverage, clock: SteppedClock) -> None:
    """Between two key frames that show the same, nothing was missed."""
    for _ in range(20):
        coverage.carried(2.0)
        clock.step(2)
    assert coverage.ratio() == 1.0


def test_a_lost_camera_and_a_dropped_catch_up_do_not(
    coverage: Coverage, clock: SteppedClock
) -> None:
    """I10: a task that sees nothing says so: after a minute in the dark it has seen none of it."""
    coverage.carried(30.0)
    clock.step(30)
    coverage.unseen(10.0)
    assert coverage.ratio() == 0.75
    for _ in range(60):
        clock.step(1)
        coverage.unseen(1.0)
    assert coverage.ratio() == 0.0


def test_a_heartbeat_names_the_tasks_that_lack_something() -> None:
    """I10: worst first, a bounded number (I8), never rounded up to whole."""
    ratios = {"whole": 1.0, "asleep": None, "nearly": 0.99996, "half": 0.5}
    assert list(below(ratios).items()) == [("half", 0.5), ("nearly", 0.999)]
    many = {f"t{number}": number / 100 for number in range(100)}
    assert list(below(many)) == [f"t{number}" for number in range(MAX_BELOW)]


def test_its_memory_is_bounded(coverage: Coverage, clock: SteppedClock) -> None:
    """I8: a minute is kept, whatever was counted."""
    for _ in range(10 * WINDOW_S):
        coverage.seen()
        clock.step(1)
    assert len(coverage._seconds) == WINDOW_S


def test_several_threads_count_at_once(coverage: Coverage) -> None:
    """The reader, the analyst and the beat share it."""
    work = [threading.Thread(target=count, args=(coverage,)) for count in (_see, _miss) * 2]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert coverage.ratio() == 0.5


def _see(coverage: Coverage) -> None:
    for _ in range(2000):
        coverage.seen()


def _miss(coverage: Coverage) -> None:
    for _ in range(2000):
        coverage.missed()
