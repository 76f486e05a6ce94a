"""Frames: their times, their conversion, and a decoder that survives what comes."""

from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest

from edge.video.decode import Anchor, DecodeStats, Frame, frames, starting_at
from edge.video.source import FALLBACK_FPS, Packet, packets
from tests.parts import clips
from wire import specs

START_MS = 1_700_000_000_000


def source(path: Path, *, loop: bool = False) -> Iterator[Packet]:
    return packets(specs.Stream(url=f"file://{path}", pace="fast", loop=loop))


def decoded(path: Path, stats: DecodeStats | None = None) -> list[Frame]:
    return list(frames(source(path), anchor=starting_at(START_MS), stats=stats))


def test_each_packet_becomes_a_frame_with_its_times(tmp_path: Path) -> None:
    """Frames count up; stream time is the recording's, wall time follows from the anchor."""
    stats = DecodeStats()
    seen = decoded(clips.write(tmp_path / "a.mp4", clips.moving_square(12), fps=10), stats)
    assert [frame.index for frame in seen] == list(range(12))
    assert [frame.pts_s for frame in seen] == pytest.approx([n / 10 for n in range(12)])
    assert [frame.t_ms for frame in seen] == [START_MS + n * 100 for n in range(12)]
    assert seen[0].size == (160, 120)
    assert (stats.packets, stats.frames, stats.errors) == (12, 12, 0)


def test_b_frames_come_in_the_order_in_which_they_are_shown(tmp_path: Path) -> None:
    """Reordered pictures come out in order, and none is lost at the end or over a loop."""
    clip = clips.write(tmp_path / "a.mp4", clips.moving_square(9), fps=10, bf="3", b_strategy="0")
    looped = frames(source(clip, loop=True), anchor=starting_at(0))
    seen = list(islice(looped, 27))
    assert [frame.pts_s for frame in seen] == pytest.approx([n / 10 for n in range(27)])
    first, again = (np.asarray(seen[n].image(160, 120)) for n in (4, 13))
    assert np.array_equal(first, again)


def test_packets_outlive_their_recording(tmp_path: Path) -> None:
    """Another thread decodes what was read, after the container is closed: no track is asked."""
    clip = clips.write(tmp_path / "a.mp4", clips.moving_square(12), fps=10)
    read = list(source(clip))
    assert {packet.fps for packet in read} == {10.0, FALLBACK_FPS}
    assert len(list(frames(iter(read), anchor=starting_at(0)))) == 12


@pytest.mark.parametrize("name", ["video02.avi", "cars_768x768.h264", "awkward/MOV00006.3gp"])
def test_time_always_goes_forward(name: str) -> None:
    """Whatever stamps a container has, each frame is later than the one before."""
    times = [frame.pts_s for frame in decoded(clips.asset(f"videos/{name}"))]
    assert all(after > before for before, after in pairwise(times))


def test_stamps_that_run_backwards_yield_to_the_decoders_turn() -> None:
    """An AVI whose pictures all have wrong stamps still lasts as long as it does."""
    times = [frame.pts_s for frame in decoded(clips.asset("videos/video02.avi"))]
    assert times[-1] - times[0] == pytest.approx(748 / 25, abs=0.2)


def test_a_broken_packet_is_counted_and_skipped(tmp_path: Path) -> None:
    """Garbage in the middle costs pictures, never the stream."""
    clip = clips.write(tmp_path / "a.mp4", clips.moving_square(40), fps=10)
    content = bytearray(clip.read_bytes())
    places = [packet.data.pos for packet in source(clip) if packet.data]
    broken = places[15]
    assert broken is not None
    content[broken : broken + 40] = b"\xff" * 40
    clip.write_bytes(content)
    stats = DecodeStats()
    seen = decoded(clip, stats)
    assert stats.errors >= 1
    assert len(seen) >= 35
    assert seen[-1].pts_s == pytest.approx(3.9)


def test_the_size_of_pictures_may_change(tmp_path: Path) -> None:
    """A camera that is set to another resolution goes on without a new connection."""
    small = clips.write(tmp_path / "a.h264", clips.moving_square(5, 64, 48), fps=10)
    large = clips.write(tmp_path / "b.h264", clips.moving_square(5, 160, 120), fps=10)
    both = tmp_path / "both.h264"
    both.write_bytes(small.read_bytes() + large.read_bytes())
    seen = decoded(both)
    assert {frame.size for frame in seen} == {(64, 48), (160, 120)}
    assert all(frame.image(32, 32).shape == (32, 32, 3) for frame in seen)


def test_a_letterbox_keeps_the_shape_at_the_top_left(tmp_path: Path) -> None:
    """A wide picture fills the width, and the rest below is padding."""
    clip = clips.write(tmp_path / "a.mp4", [clips.grey(255, 64, 32)] * 2, fps=10)
    image = decoded(clip)[0].image(32, 32, pad=114)
    assert image.shape == (32, 32, 3)
    assert image.dtype == np.uint8
    assert (image[:16] > 245).all()
    assert (image[16:] == 114).all()


def test_a_stretched_picture_fills_everything(tmp_path: Path) -> None:
    """`stretch` leaves no padding."""
    clip = clips.write(tmp_path / "a.mp4", [clips.grey(255, 64, 32)] * 2, fps=10)
    assert (decoded(clip)[0].image(32, 32, resize="stretch") > 245).all()


def test_colors_come_in_the_order_that_is_asked_for(tmp_path: Path) -> None:
    """A red picture is red in either order."""
    red = clips.grey(0)
    red[..., 0] = 255
    frame = decoded(clips.write(tmp_path / "a.mp4", [red] * 2, fps=10))[0]
    assert frame.image(16, 16, color="RGB", resize="stretch")[8, 8].tolist()[0] > 200
    assert frame.image(16, 16, color="BGR", resize="stretch")[8, 8].tolist()[2] > 200


def test_a_size_is_converted_once(tmp_path: Path) -> None:
    """Two tasks that want the same picture get the same bytes."""
    frame = decoded(clips.write(tmp_path / "a.mp4", clips.moving_square(2), fps=10))[0]
    assert frame.image(32, 32) is frame.image(32, 32)
    assert frame.image(32, 32) is not frame.image(32, 32, pad=0)


@pytest.mark.parametrize("size", [(1920, 64), (64, 1920), (32, 4096)])
def test_the_small_grey_picture_is_small(tmp_path: Path, size: tuple[int, int]) -> None:
    """I8: whatever the shape of a picture."""
    clip = clips.write(tmp_path / "a.mkv", [clips.grey(90, *size)] * 2, fps=10, codec="ffv1")
    assert max(decoded(clip)[0].luma().shape) == 240


@pytest.mark.parametrize("size", [(161, 121), (50, 50), (66, 34)])
def test_odd_sizes_are_converted(tmp_path: Path, size: tuple[int, int]) -> None:
    """Rows that are padded in memory do not shear the picture."""
    picture = clips.grey(0, *size)
    picture[:, : size[0] // 2] = 255
    clip = clips.write(tmp_path / "a.mkv", [picture] * 2, fps=10, codec="ffv1")
    image = decoded(clip)[0].image(*size)
    assert (image[:, : size[0] // 2 - 4] > 200).all()
    assert (image[:, size[0] // 2 + 4 :] < 50).all()


def test_the_earliest_arrival_places_a_connection_in_time(tmp_path: Path) -> None:
    """Packets that were kept for a new connection arrive late; they do not shift what follows."""
    clip = clips.write(tmp_path / "a.mp4", clips.moving_square(30), fps=10)
    # The first second comes at once, at wall time 1000; the rest in real time.
    arrivals = iter(max(1000, round(n * 100)) for n in range(30))
    seen = list(frames(source(clip), anchor=lambda pts_s: Anchor(next(arrivals), pts_s)))
    times = [frame.t_ms for frame in seen]
    assert times == sorted(times)
    assert times[:10] == [1000] * 10
    assert times[10:] == [n * 100 for n in range(10, 30)]
