"""Recordings for tests: small ones made on the spot, and the real ones of the assets."""

import os
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
from av.video.stream import VideoStream

Picture = npt.NDArray[np.uint8]

_ROOT = Path(__file__).parents[2]


def asset(name: str) -> Path:
    """A file of the assets, such as `videos/Traffic.mp4`. Skips the test where it is missing."""
    folder = Path(os.environ.get("FORECOURT_ASSETS", _ROOT.parent / "shared" / "assets"))
    if not (folder / name).exists():
        pytest.skip(f"no {folder / name}: set FORECOURT_ASSETS to the folder of test material")
    return folder / name


def grey(level: int, width: int = 64, height: int = 48) -> Picture:
    """A picture of one shade."""
    return np.full((height, width, 3), level, np.uint8)


def moving_square(pictures: int, width: int = 160, height: int = 120) -> Iterable[Picture]:
    """A white square that moves over a noisy ground; each picture is different."""
    noise = np.random.default_rng(7)
    for number in range(pictures):
        picture = noise.integers(0, 60, (height, width, 3), np.uint8)
        left = (number * 3) % (width - 24)
        picture[40:64, left : left + 24] = 255
        yield picture


def write(
    path: Path,
    pictures: Iterable[Picture],
    *,
    fps: int = 10,
    codec: str = "libx264",
    pts: Iterable[int] | None = None,
    **options: str,
) -> Path:
    """Encode pictures into a file; its suffix chooses the container. RGB in.

    `pts` are the stamps in units of 1 / fps; by default they count up. A key frame comes every 10
    pictures, and there are no B-frames, unless `options` say so.
    """
    given = {"g": "10", "bf": "0", "sc_threshold": "0", **options}
    stamps = iter(pts) if pts is not None else None
    with av.open(str(path), "w") as container:
        track: VideoStream | None = None
        for number, picture in enumerate(pictures):
            if track is None:
                added = container.add_stream(codec, rate=fps, options=given)
                assert isinstance(added, VideoStream)
                track = added
                track.height, track.width = picture.shape[:2]
                track.pix_fmt = "yuv420p"
                track.codec_context.time_base = Fraction(1, fps)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = next(stamps) if stamps is not None else number
            frame.time_base = Fraction(1, fps)
            container.mux(track.encode(frame))
        assert track is not None
        container.mux(track.encode(None))
    return path
