"""Whether a camera keeps pace, judged on simulated arrivals."""

from collections.abc import Sequence

import pytest

from edge.video.arrivals import Arrivals

READ_S = 10.0


def judged(arrivals: Sequence[tuple[float, float]], busy_s: float = 0.0) -> tuple[str, float]:
    """The first complaint about packets of (arrival, stream time), and when; or none."""
    judge = Arrivals(READ_S)
    before_s = arrivals[0][0]
    for now_s, decode_s in arrivals:
        if wrong := judge.judge(min(now_s, before_s + busy_s), now_s, decode_s):
            return wrong, now_s
        before_s = now_s
    return "", before_s


def test_a_camera_in_real_time_is_fine_for_ever() -> None:
    """Also with a clock that is off a little, and with a network that stalls at times."""
    week = [(now_s, now_s * 1.0003) for now_s in range(0, 7 * 86400, 7)]
    assert judged(week)[0] == ""
    stalls = [(max(t, t // 60 * 60 + 9), float(t)) for t in range(7200)]
    assert judged(stalls)[0] == ""


@pytest.mark.parametrize(("speed", "within_s"), [(0.1, 20), (0.5, 35), (0.9, 160)])
def test_a_slow_camera_is_found_out(speed: float, within_s: float) -> None:
    """What falls behind by the read timeout and five seconds is given up."""
    wrong, at_s = judged([(n / 10, n / 10 * speed) for n in range(10_000)])
    assert "slower than real time" in wrong
    assert at_s <= within_s


def test_a_slow_worker_is_not_the_cameras_fault() -> None:
    """Where the time went into the packets before, the worker has too much to do."""
    wrong, _ = judged([(n / 10, n / 20) for n in range(1000)], busy_s=0.09)
    assert "this worker reads it too slowly" in wrong


@pytest.mark.parametrize("speed", [2.0, 10.0, 1000.0])
def test_a_flood_is_found_out_when_it_is_half_a_minute_ahead(speed: float) -> None:
    """Stamps that run ahead of their arrival."""
    arrivals = [(n / 25 / speed, n / 25) for n in range(5000)]
    wrong, at_s = judged(arrivals)
    assert "faster than real time" in wrong
    assert at_s * (speed - 1) == pytest.approx(30, rel=0.05)


def test_a_kept_gop_is_no_flood() -> None:
    """Twenty seconds at once, then real time."""
    arrivals = [(max(0.0, n / 25 - 20), n / 25) for n in range(5000)]
    assert judged(arrivals)[0] == ""


def test_packets_without_end_at_one_moment_are_a_flood() -> None:
    """Their number alone is too much; 240 a second are not."""
    assert "packets a second" in judged([(n / 5000, 0.0) for n in range(50_000)])[0]
    assert judged([(n / 240, n / 240) for n in range(50_000)])[0] == ""
