"""A stream's time: it goes forward at the pace of the clock, whatever the stamps say."""

from fractions import Fraction
from types import SimpleNamespace
from typing import Any, cast

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.video.timeline import Timeline

Stamps = tuple[int | None, int | None]


def timeline(gap_s: float = 10.0, *, recorded: bool = False, stamped: bool = True) -> Timeline:
    """A stream in milliseconds, at ten frames a second as far as its container knows."""
    made = Timeline(0.0, gap_s, recorded)
    video = SimpleNamespace(
        time_base=Fraction(1, 1000), start_time=None, guessed_rate=Fraction(10), average_rate=None
    )
    made.begin(cast("Any", video), stamped=stamped)
    return made


def stamped(made: Timeline, *arrivals: tuple[float, Stamps]) -> list[float]:
    """The times of packets that came then with these (pts, dts)."""
    times = []
    for now_s, (pts, dts) in arrivals:
        packet = av.Packet(b"x")
        packet.pts, packet.dts = pts, dts
        times.append(round(made.stamp(cast("Any", packet), now_s)[0], 6))
    return times


def each_100_ms(*stamps: Stamps) -> list[tuple[float, Stamps]]:
    return [(50 + number / 10, stamp) for number, stamp in enumerate(stamps)]


def test_a_jump_of_a_cameras_clock_counts_as_one_frame() -> None:
    """Stamps that leap ahead, or far back, go on one frame after the last."""
    stamps = [(n, n) for n in (5000, 5100, 900_000, 900_100, 100, 200)]
    assert stamped(timeline(), *each_100_ms(*stamps)) == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]


def test_a_jump_during_a_pause_keeps_the_pause() -> None:
    """A camera that was silent and came back with another clock was silent that long."""
    arrivals: list[tuple[float, Stamps]] = [
        (50, (0, 0)),
        (50.1, (100, 100)),
        (54, (-(10**6), -(10**6))),
    ]
    assert stamped(timeline(), *arrivals) == [0.0, 0.1, 4.0]


def test_a_leap_that_no_time_stands_behind_is_a_jump() -> None:
    """Nine seconds within the read timeout, of which none has passed, are no pause."""
    arrivals = each_100_ms(*[(n * 100, n * 100) for n in range(80)])
    arrivals += [(58.0, (17_000, 17_000)), (58.1, (17_100, 17_100))]
    assert stamped(timeline(), *arrivals)[-3:] == [7.9, 8.0, 8.1]


def test_a_pause_of_a_camera_is_kept() -> None:
    """A gap shorter than the read timeout has really passed."""
    arrivals: list[tuple[float, Stamps]] = [(50, (0, 0)), (50.1, (100, 100)), (57.1, (7100, 7100))]
    assert stamped(timeline(), *arrivals) == [0.0, 0.1, 7.1]


def test_pictures_sent_in_another_order_keep_their_times() -> None:
    """B-frames come after the frame that they are shown before."""
    stamps = [(0, -200), (300, -100), (100, 0), (200, 100)]
    assert stamped(timeline(), *each_100_ms(*stamps)) == [0.0, 0.3, 0.1, 0.2]


def test_missing_stamps_take_their_turn() -> None:
    """Without a stamp a packet comes one frame after the one before."""
    stamps: list[Stamps] = [(None, None), (1000, 1000), (None, None), (None, 1200)]
    assert stamped(timeline(), *each_100_ms(*stamps)) == [0.0, 0.1, 0.2, 0.3]


@pytest.mark.parametrize("interval_s", [0.02, 0.1, 0.5])
def test_a_camera_that_never_stamps_is_timed_by_arrival(interval_s: float) -> None:
    """Whatever frame rate was guessed, ten minutes of packets are ten minutes."""
    packets = round(600 / interval_s)
    arrivals = [(50 + number * interval_s, (None, None)) for number in range(packets)]
    times = stamped(timeline(), *arrivals)
    assert times == sorted(times)
    assert times[-1] == pytest.approx(600 - interval_s, abs=2.5)


def test_made_up_stamps_are_not_believed() -> None:
    """A format without stamps is timed by arrival, to the millisecond; a burst stays in order."""
    arrivals: list[tuple[float, Stamps]] = [
        (50, (0, 0)), (50.3, (40, 40)), (50.3, (80, 80)), (50.3, (120, 120)), (51, (160, 160)),
    ]  # fmt: skip
    assert stamped(timeline(stamped=False), *arrivals) == [0.0, 0.3, 0.301, 0.302, 1.0]


def test_what_was_kept_for_a_connection_keeps_its_times() -> None:
    """A burst of old pictures is older than its arrival."""
    arrivals: list[tuple[float, Stamps]] = [(50, (n * 100, n * 100)) for n in range(20)]
    assert stamped(timeline(), *arrivals) == [round(n / 10, 6) for n in range(20)]


@pytest.mark.parametrize("parts_per_million", [-300, 50])
def test_a_cameras_slow_or_fast_clock_is_followed(parts_per_million: int) -> None:
    """After three days its time is that of arrival, without a step of more than half a frame."""
    made = timeline()
    rate = 1 + parts_per_million / 1e6
    last_s = 0.0
    for now_s in [*range(3600), *range(3600, 3 * 86400, 5)]:
        stamp = round(now_s * rate * 1000)
        (pts_s,) = stamped(made, (50.0 + now_s, (stamp, stamp)))
        assert pts_s >= last_s
        last_s = pts_s
    assert last_s == pytest.approx(3 * 86400 - 5, abs=0.2)


def test_a_wrap_of_33_bits_is_one_frame() -> None:
    """Stamps of 90 kHz run over after 26 hours."""
    made = Timeline(0.0, 10.0, recorded=False)
    video = SimpleNamespace(
        time_base=Fraction(1, 90_000), start_time=None, guessed_rate=None, average_rate=Fraction(10)
    )
    made.begin(cast("Any", video))
    stamps = [(2**33 - 27_000 + n * 9000) % 2**33 for n in range(8)]
    times = stamped(made, *each_100_ms(*[(stamp, stamp) for stamp in stamps]))
    assert times == pytest.approx([n / 10 for n in range(8)])


_STAMP = st.one_of(st.none(), st.integers(-(2**33), 2**33), st.integers(0, 3000))


@given(st.lists(st.tuples(st.floats(0, 5), _STAMP, _STAMP), max_size=60), st.booleans())
def test_no_stamps_make_time_run_away(packets: list[tuple[float, Any, Any]], has: bool) -> None:
    """Decode time never falls back by more than a second and leaps no further than the gap."""
    made = timeline(stamped=has)
    now_s, last_s = 50.0, None
    for passed_s, pts, dts in packets:
        now_s += passed_s
        packet = av.Packet(b"x")
        packet.pts, packet.dts = pts, dts
        _, decode_s = made.stamp(cast("Any", packet), now_s)
        if last_s is not None:
            assert -1.0 <= decode_s - last_s <= 10.0 + 50.0 + passed_s
        last_s = decode_s
