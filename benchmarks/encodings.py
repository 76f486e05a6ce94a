"""The same recording as other cameras would send it: other GOPs, other references, other codecs.

Here: the variants by name, and their making, once each, into `.bench`. Not here: what is done with
them (recall.py), the streams whose CPU is measured (streams.py).

Pictures wider than 640 are made smaller, for these are many files; what a detector sees in them is
not what it sees in the original. So runs are only ever compared over the same file.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

WIDEST = 640
TIME_BASE = Fraction(1, 90_000)
HELD_S = 12.0
SETTLED_S = 1.0
"""So long after the last change the detector's second thoughts are over."""


@dataclass(frozen=True)
class Variant:
    """How a recording is encoded again. `params` go to x264 or x265 by themselves."""

    name: str
    what: str
    codec: str = "libx264"
    gop_s: float = 2.0
    params: dict[str, str] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)
    held: bool = False
    """Show the first and the middle picture for `HELD_S` each, with a sensor's noise over all."""


_PLAIN = {"bframes": "0"}
VARIANTS = {
    variant.name: variant
    for variant in (
        Variant("plain", "H.264, a key frame every 2 s, no B-frames", params=_PLAIN),
        Variant("bframes", "3 B-frames", params={"bframes": "3", "b-adapt": "0"}),
        Variant(
            "opengop-h264",
            "H.264 with open GOPs and 3 B-frames",
            params={"bframes": "3", "b-adapt": "0", "open-gop": "1"},
        ),
        Variant(
            "opengop-h265",
            "H.265 with open GOPs and 3 B-frames",
            codec="libx265",
            params={"bframes": "3", "b-adapt": "0", "open-gop": "1", "log-level": "error"},
        ),
        Variant(
            "intra-refresh",
            "H.264 with intra refresh: no key frame after the first",
            params={**_PLAIN, "intra-refresh": "1"},
        ),
        Variant("gop10", "a key frame every 10 s", gop_s=10.0, params=_PLAIN),
        Variant(
            "cbr",
            "constant 250 kbit/s with filler",
            params={**_PLAIN, "nal-hrd": "cbr"},
            options={"b": "250k", "minrate": "250k", "maxrate": "250k", "bufsize": "250k"},
        ),
        Variant(
            "held",
            "its first and middle picture held for 12 s each, noise over all",
            params=_PLAIN,
            held=True,
        ),
    )
}


def encoded(source: Path, variant: Variant, folder: Path) -> Path:
    """The recording in another encoding; made only if it was not made before.

    Raises av.error.FFmpegError if the source cannot be decoded.
    """
    stat = source.stat()
    recipe = json.dumps([source.name, stat.st_size, asdict(variant), WIDEST, av.__version__])
    made_by = hashlib.sha256(recipe.encode() + Path(__file__).read_bytes()).hexdigest()[:10]
    path = folder / f"{source.stem}-{variant.name}-{made_by}.mp4"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".draft.mp4")
        _encode(source, variant, draft)
        draft.rename(path)
    return path


def _encode(source: Path, variant: Variant, path: Path) -> None:
    with av.open(str(source)) as container, av.open(str(path), "w") as out:
        track = container.streams.video[0]
        rate = track.average_rate or track.guessed_rate or Fraction(25)
        pictures = _timed(container.decode(track), rate)
        if variant.held:
            pictures = _held(pictures, rate)
        encoder: VideoStream | None = None
        width = height = 0
        for picture, pts_s in pictures:
            if encoder is None:
                width, height = _size(picture)
                encoder = _encoder(out, variant, rate, width, height)
            again = picture.reformat(width=width, height=height, format="yuv420p")
            # A decoded picture says what it was (I, P, B), and an encoder would obey.
            again.pict_type = 0
            again.pts, again.time_base = round(pts_s / TIME_BASE), TIME_BASE
            out.mux(encoder.encode(again))
        if encoder is not None:
            out.mux(encoder.encode(None))


def _encoder(out: Any, variant: Variant, rate: Fraction, width: int, height: int) -> VideoStream:
    every = max(1, round(variant.gop_s * rate))
    params = {
        "keyint": str(every), "min-keyint": str(every), "scenecut": "0", "threads": "1",
        **variant.params,
    }  # fmt: skip
    if variant.codec == "libx265":
        params |= {"pools": "1", "frame-threads": "1"}
        del params["threads"]
    told = ":".join(f"{name}={value}" for name, value in params.items())
    options = {
        "preset": "veryfast", "crf": "23", "g": str(every),
        variant.codec.removeprefix("lib") + "-params": told, **variant.options,
    }  # fmt: skip
    if "b" in variant.options:
        del options["crf"]
    track = out.add_stream(variant.codec, rate=rate, options=options)
    assert isinstance(track, VideoStream)
    track.width, track.height, track.pix_fmt = width, height, "yuv420p"
    context = track.codec_context
    assert isinstance(context, VideoCodecContext)
    context.time_base = TIME_BASE
    context.thread_count = 1
    return track


def _timed(pictures: Iterator[VideoFrame], rate: Fraction) -> Iterator[tuple[VideoFrame, float]]:
    """Pictures with the time since the first one, in seconds; counted where they have none."""
    first_s: float | None = None
    last_s = -1.0
    for number, picture in enumerate(pictures):
        time_s = picture.time if picture.time is not None else float(number / rate)
        first_s = time_s if first_s is None else first_s
        if time_s - first_s > last_s + 0.001:
            last_s = time_s - first_s
            yield picture, last_s


def _size(picture: VideoFrame) -> tuple[int, int]:
    """At most `WIDEST` across, and even, as these codecs want it."""
    ratio = min(1.0, WIDEST / picture.width)
    width, height = (
        max(16, round(side * ratio / 2) * 2) for side in (picture.width, picture.height)
    )
    return width, height


def still_ms(source: Path, variant: Variant) -> list[tuple[int, int]]:
    """When a held recording surely shows nothing new, in milliseconds of its new time."""
    if not variant.held:
        return []
    with av.open(str(source)) as container:
        track = container.streams.video[0]
        rate = track.average_rate or track.guessed_rate or Fraction(25)
        times_s = [pts_s for _, pts_s in _timed(container.decode(track), rate)]
    held_s = round(HELD_S * rate) / float(rate)
    second_s = times_s[len(times_s) // 2] + held_s
    return [
        (round((first_s + SETTLED_S) * 1000), round((first_s + held_s) * 1000))
        for first_s in (0.0, second_s)
    ]


def _held(
    pictures: Iterator[tuple[VideoFrame, float]], rate: Fraction
) -> Iterator[tuple[VideoFrame, float]]:
    """The same with two pauses, as if everything stood still; no picture is without noise."""
    images = [
        (
            np.asarray(picture.reformat(*_size(picture), format="bgr24").to_ndarray(), np.uint8),
            pts_s,
        )
        for picture, pts_s in pictures
    ]
    noise = _Noise(images[0][0].shape)
    late_s = 0.0
    for number, (image, pts_s) in enumerate(images):
        if number in (0, len(images) // 2):
            for step in range(round(HELD_S * rate)):
                yield noise.over(image), pts_s + late_s + float(step / rate)
            late_s += round(HELD_S * rate) / float(rate)
        yield noise.over(image), pts_s + late_s


class _Noise:
    """A sensor's noise: one tile, laid elsewhere each time."""

    def __init__(self, shape: tuple[int, ...], sigma: float = 2.0) -> None:
        self._rng = np.random.default_rng(7)
        height, width = shape[:2]
        tile = self._rng.normal(0.0, sigma, (height + 64, width + 64, 1))
        self._tile = np.rint(tile).astype(np.int16)

    def over(self, image: npt.NDArray[np.uint8]) -> VideoFrame:
        """The picture with noise."""
        dx, dy = (int(n) for n in self._rng.integers(0, 64, 2))
        tile = self._tile[dy : dy + image.shape[0], dx : dx + image.shape[1]]
        noisy = np.clip(image + tile, 0, 255).astype(np.uint8)
        return VideoFrame.from_ndarray(noisy, format="bgr24")
