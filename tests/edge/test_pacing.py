"""How much may be on its way: quick lines are filled, slow ones are not flooded."""

from edge.pacing import LEAST_BYTES, MOST_BYTES, Pace


def through(bytes_per_s: float, delay_s: float, seconds: float) -> tuple[Pace, float, float]:
    """A line of that speed and delay both ways; the pace, bytes a second, and the last queueing."""
    pace, now_s, free_s, sent_bytes = Pace(), 0.0, 0.0, 0.0
    flight: list[tuple[float, int, float]] = []  # answered at, bytes, sent at
    while now_s < seconds:
        while sum(size for _, size, _ in flight) < pace.budget_bytes:
            size = min(20_000, int(pace.batch_bytes() * pace.packed))
            free_s = max(now_s, free_s) + size / bytes_per_s
            flight.append((free_s + 2 * delay_s, size, now_s))
            sent_bytes += size
        done_s, size, at_s = flight.pop(0)
        now_s = done_s
        pace.answered(size, now_s - at_s)
    return pace, sent_bytes / now_s, free_s - now_s


def test_a_quick_line_is_filled() -> None:
    """On a line of 100 Mbit/s the pace grows to its bound and does not hold anything back."""
    pace, rate, _ = through(12_500_000, 0.002, 5)
    assert pace.budget_bytes == MOST_BYTES
    assert rate > 0.9 * 12_500_000


def test_a_slow_line_is_not_flooded() -> None:
    """I9: on 128 kbit/s with 300 ms each way less than 1.2 s wait on the line, which stays busy."""
    pace, rate, queued_s = through(16_000, 0.3, 120)
    assert rate > 0.8 * 16_000
    assert queued_s < 1.2
    assert pace.budget_bytes < 1.9 * 16_000


def test_silence_makes_it_careful() -> None:
    """Answers that do not come shrink the pace, never below what one small batch needs."""
    pace = Pace()
    for _ in range(10):
        pace.unanswered()
    assert pace.budget_bytes == LEAST_BYTES
