"""Cameras that misbehave: each is read, or given up in time with a reason that says what to do."""

import contextlib
import time
from collections.abc import Callable, Iterator
from itertools import count, islice, pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from edge.video.decode import Anchor, DecodeStats, Frame, frames
from edge.video.source import SourceError
from tests.parts import clips, faulty_camera
from tests.parts.faulty_camera import Connection, Rtp, units
from tests.video.reading import given_up, read

HURRY = 2
"""Where time is what is looked at, the clock runs this much faster, and the camera with it."""
FRAME = faulty_camera.CLOCK_HZ // 25


def shown(url: str, stats: DecodeStats | None = None) -> Iterator[Frame]:
    return frames(read(url), anchor=lambda pts_s: Anchor(0, pts_s), stats=stats)


def play(
    stamps: Callable[[int], int], *, pause_s: float = 0.0, pictures: int = 10**6
) -> Callable[[Rtp], None]:
    """A script that sends pictures with these stamps, by number."""

    def script(rtp: Rtp) -> None:
        for number in range(pictures):
            rtp.picture(units()[number % len(units())], stamps(number))
            if pause_s:
                rtp.pause(pause_s)
        rtp.hold()

    return script


def in_turn(number: int) -> int:
    return number * FRAME


# --- silence -----------------------------------------------------------------------------------


def test_a_camera_that_closes_at_once_is_an_error() -> None:
    """Accepted and hung up on, over and over."""
    with faulty_camera.accepting(lambda _: None) as address:
        for scheme in ("rtsp", "http"):
            given_up(f"{scheme}://{address}/live", "opening ")


def test_a_camera_that_stops_within_a_gop_is_given_up_in_time() -> None:
    """What came is delivered; then the read timeout holds."""
    with faulty_camera.rtsp(play(in_turn, pictures=25)) as url:
        assert given_up(url, r"reading rtsp://.*nothing came for 0\.5 s") >= 24


def test_a_picture_that_never_ends_is_given_up_in_time() -> None:
    """Fragments that come all the time and complete nothing keep no timeout alive."""

    def script(rtp: Rtp) -> None:
        for number in range(20):
            rtp.picture(units()[number], number * FRAME)
        while True:
            rtp.fragment(0x41, b"\x9a" * 100, 20 * FRAME, starts=False, ends=False, marker=False)
            rtp.pause(0.02)

    with faulty_camera.rtsp(script) as url:
        began_s = time.monotonic()
        given_up(url, r"nothing came for 0\.5 s")
        assert time.monotonic() - began_s < 5


def test_single_bytes_keep_no_deadline_alive() -> None:
    """A camera that says one byte at a time is given up when opening takes too long."""

    def serve(connection: Connection) -> None:
        connection.send(b"HTTP/1.0 200 OK\r\nContent-Type: video/mp2t\r\n\r\n")
        while True:
            connection.send(b"G")
            connection.pause(0.02)

    with faulty_camera.http(serve) as url:
        began_s = time.monotonic()
        given_up(url, r"(opening|reading) http://.*(nothing came|no video)")
        assert time.monotonic() - began_s < 6


def test_sound_keeps_no_timeout_alive(tmp_path: Path) -> None:
    """A stream whose pictures stop while its sound goes on is silent."""
    data = with_endless_sound(tmp_path / "a.ts")

    def serve(connection: Connection) -> None:
        connection.send(b"HTTP/1.0 200 OK\r\nContent-Type: video/mp2t\r\n\r\n")
        for at in range(0, len(data), 1880):
            connection.send(data[at : at + 1880])
            connection.pause(0.01)

    with faulty_camera.http(serve) as url:
        assert given_up(url, r"nothing came for 0\.5 s") >= 8


def with_endless_sound(path: Path) -> bytes:
    """A transport stream with ten pictures and a minute of sound."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=10, options={"bf": "0"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream("mp2", rate=48_000)
        for level in range(10):
            frame = av.VideoFrame.from_ndarray(clips.grey(20 * level), format="rgb24")
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        silence = np.zeros((1, 1152), np.int16)
        for number in range(2500):
            heard = av.AudioFrame.from_ndarray(silence, format="s16", layout="mono")
            heard.sample_rate, heard.pts = 48_000, number * 1152
            container.mux(sound.encode(heard))
    return path.read_bytes()


# --- pace --------------------------------------------------------------------------------------


def test_a_camera_that_sends_too_slowly_is_given_up() -> None:
    """A delay that grows without end is an error, although something always comes."""
    with faulty_camera.rtsp(play(in_turn, pause_s=0.025)) as url:
        given_up(url, "it sends slower than real time", lambda: time.monotonic() * 10, 5.0)


def test_a_reader_that_is_too_slow_blames_itself() -> None:
    """Where this worker is the one that lags, the error does not send people to the camera."""
    with faulty_camera.rtsp(play(in_turn)) as url:
        # Packets are there at once, and what is done with each takes a second.
        moments = (number // 2 for number in count())
        given_up(url, "this worker reads it too slowly", lambda: next(moments), 5.0)


def test_a_flood_of_pictures_is_given_up() -> None:
    """A recording sent at full speed is no camera: it is cut off when it is 30 s ahead."""
    with faulty_camera.rtsp(play(in_turn)) as url:
        seen = given_up(url, "it sends faster than real time", read_timeout_s=5.0)
    assert 30 * 25 <= seen < 40 * 25


def test_a_flood_with_one_stamp_is_given_up() -> None:
    """Pictures without end at one moment are too many packets a second."""

    def script(rtp: Rtp) -> None:
        while True:
            for unit in units(64, 48):
                rtp.picture(unit, 9000)

    with faulty_camera.rtsp(script) as url:
        given_up(url, "sends more than 500 packets a second", read_timeout_s=5.0)


def test_a_gop_that_was_kept_for_us_is_no_flood() -> None:
    """A connection may begin with what the camera had kept, here ten seconds."""

    def script(rtp: Rtp) -> None:
        for number in range(300):
            rtp.picture(units()[number % 50], number * FRAME)
            if number > 250:
                rtp.pause(0.02)

    with faulty_camera.rtsp(script) as url:
        times = [packet.pts_s for packet in islice(read(url), 280)]
    assert times[-1] == pytest.approx(279 / 25, abs=0.1)


# --- stamps ------------------------------------------------------------------------------------


def steps(url: str, number: int) -> list[float]:
    """The distances between packets, in frames of 1/25 s."""
    source = read(url, clock=lambda: time.monotonic() * HURRY)
    times = [packet.pts_s for packet in islice(source, number)]
    return [round((after - before) * 25, 1) for before, after in pairwise(times)]


@pytest.mark.parametrize(
    "stamps",
    [
        pytest.param(lambda n: 2**32 - 9000 + n * FRAME, id="wraps"),
        pytest.param(lambda n: n * FRAME + (n >= 20) * 3600 * 90_000, id="leaps-an-hour"),
        pytest.param(lambda n: (n + 90_000) * FRAME - (n >= 20) * 3600 * 90_000, id="falls-back"),
        pytest.param(lambda n: (n * 7919 % 4000) * 90_000, id="random"),
    ],
)
def test_time_goes_on_whatever_the_stamps_say(stamps: Callable[[int], int]) -> None:
    """Stamps that wrap, leap, fall back or mean nothing still give frames at their pace."""
    with faulty_camera.rtsp(play(stamps, pause_s=0.04 / HURRY)) as url:
        seen = steps(url, 60)
    assert all(0 < step < 25 for step in seen)  # a busy machine hands some over late
    assert sum(seen) == pytest.approx(59, abs=10)


def test_a_camera_that_believes_it_is_1970_gives_the_same_time() -> None:
    """Its reports of the wall clock are not our time."""

    def script(rtp: Rtp) -> None:
        for number in range(100):
            if number % 10 == 5:
                rtp.report(2_208_988_800 + number if number < 50 else 4_000_000_000, number * FRAME)
            rtp.picture(units()[number % 50], number * FRAME)
            rtp.pause(0.04 / HURRY)

    with faulty_camera.rtsp(script) as url:
        assert set(steps(url, 60)) == {1.0}


def test_the_frame_rate_may_change() -> None:
    """From 25 to 5 a second: the stamps are believed."""

    def script(rtp: Rtp) -> None:
        for number in range(60):
            stamp = number * FRAME if number < 30 else (30 + (number - 30) * 5) * FRAME
            rtp.picture(units()[number % 50], stamp)
            rtp.pause((0.04 if number < 30 else 0.2) / HURRY)

    with faulty_camera.rtsp(script) as url:
        assert steps(url, 35) == [1.0] * 30 + [5.0] * 4


# --- pictures ----------------------------------------------------------------------------------


def test_resolution_and_parameters_may_change_within_a_stream() -> None:
    """A camera that is set to another size goes on within its connection."""
    large = units(320, 240)

    def script(rtp: Rtp) -> None:
        for number in range(90):
            pictures = units() if number < 30 else large
            rtp.picture(pictures[number % 30], number * FRAME)
            rtp.pause(0.01)
        rtp.hold()

    stats = DecodeStats()
    with faulty_camera.rtsp(script) as url:
        seen = [frame.size for frame in islice(shown(url, stats), 70)]
    assert set(seen) == {(160, 120), (320, 240)}
    assert seen == sorted(seen)
    assert stats.errors == 0


def test_corrupt_pictures_are_counted_and_the_stream_goes_on() -> None:
    """Rubbish in the middle of pictures costs those alone."""
    rubbish = np.random.default_rng(1)

    def script(rtp: Rtp) -> None:
        for number in range(120):
            unit = list(units()[number % 50])
            if 20 <= number < 40:
                unit[-1] = unit[-1][:5] + rubbish.bytes(500)
            rtp.picture(unit, number * FRAME)
            rtp.pause(0.005)
        rtp.hold()

    stats = DecodeStats()
    with faulty_camera.rtsp(script) as url:
        times = [frame.pts_s for frame in islice(shown(url, stats), 85)]
    assert times == sorted(times)
    assert times[-1] > 60 / 25


def test_words_that_are_no_rtp_are_an_error_in_time() -> None:
    """Bytes without any sense end the connection, never the worker."""
    rubbish = np.random.default_rng(2)

    def script(rtp: Rtp) -> None:
        for number in range(20):
            rtp.picture(units()[number], number * FRAME)
        while True:
            rtp.packet(rubbish.bytes(200), 0, marker=False)
            rtp.pause(0.005)

    with faulty_camera.rtsp(script) as url:
        began_s = time.monotonic()
        with contextlib.suppress(SourceError):
            for packet in read(url, read_timeout_s=0.5):
                if time.monotonic() - began_s > 1:
                    break
                assert packet.pts_s >= 0
