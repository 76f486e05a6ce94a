"""Frames out of packets.

Here: the decoder, the time of each picture, and its conversion to a model's input. Not here: where
packets come from (source.py), which frames are looked at (analysis.py).

Decoder threads are 1: a worker has more streams than cores, and frame threads would delay pictures.
A display matrix (rotation) and non-square pixels are not applied: zones are drawn on the picture
as it is stored.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

import av
import av.error
import numpy as np
import numpy.typing as npt
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

from edge.video.source import FALLBACK_FPS, Packet, frame_rate

Image = npt.NDArray[np.uint8]
Resize = Literal["letterbox", "stretch"]
Color = Literal["BGR", "RGB"]

SETTLE_S = 5.0
"""How long a connection may take to send what it had kept when it was opened."""
LEAST_STEP_S = 0.001
"""Pictures closer than this have the same stamp; the later one is put one frame on."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """Which wall time a moment of the stream stands for. One per connection."""

    wall_ms: int
    pts_s: float

    def t_ms(self, pts_s: float) -> int:
        """The wall time of another moment of the same connection."""
        return self.wall_ms + round((pts_s - self.pts_s) * 1000)

    def earlier(self, other: "Anchor") -> "Anchor":
        """Of two anchors of a connection the one that places its moments earlier."""
        return other if other.t_ms(self.pts_s) < self.wall_ms else self


def starting_at(start_ms: int) -> Callable[[float], Anchor]:
    """The anchor of a recording: its time 0 is `start_ms`."""
    return lambda _: Anchor(start_ms, 0.0)


@dataclass(slots=True)
class DecodeStats:
    """What went in and came out of a stream's decoder, for its health."""

    packets: int = 0
    frames: int = 0
    errors: int = 0
    """Packets that the decoder refused. Their pictures are missing; the stream goes on."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A decoded picture. It is converted once for each size that is asked for."""

    picture: VideoFrame
    pts_s: float
    t_ms: int
    index: int
    _scalers: "_Scalers" = field(repr=False, compare=False)
    _images: dict[tuple[object, ...], Image] = field(
        default_factory=dict, repr=False, compare=False
    )

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, as stored."""
        return self.picture.width, self.picture.height

    def image(
        self,
        width: int,
        height: int,
        *,
        resize: Resize = "letterbox",
        pad: int = 114,
        color: Color = "BGR",
    ) -> Image:
        """The picture as height × width × 3 bytes; do not write into it, others share it.

        `letterbox` keeps its shape, at the top left, and fills the rest with `pad`.
        """
        key = (width, height, resize, pad, color)
        image = self._images.get(key)
        if image is None:
            image = self._images[key] = self._converted(width, height, resize, pad, color)
        return image

    def _converted(self, width: int, height: int, resize: Resize, pad: int, color: Color) -> Image:
        used = _fitted(self.size, (width, height)) if resize == "letterbox" else (width, height)
        scaled = self._scalers.scale(self.picture, used, color)
        if used == (width, height):
            return scaled
        image = np.full((height, width, 3), pad, np.uint8)
        image[: used[1], : used[0]] = scaled
        return image


def _fitted(size: tuple[int, int], into: tuple[int, int]) -> tuple[int, int]:
    """The size of a picture that keeps its shape and just fits into another size."""
    ratio = min(into[0] / size[0], into[1] / size[1])
    return max(1, round(size[0] * ratio)), max(1, round(size[1] * ratio))


class _Scalers:
    """The stream's scalers, one for each output: setting one up costs more than using it."""

    def __init__(self) -> None:
        self._scalers: dict[tuple[tuple[int, int], Color], VideoReformatter] = {}

    def scale(self, picture: VideoFrame, size: tuple[int, int], color: Color) -> Image:
        """Straight from the decoder's YUV to bytes of that size (width, height)."""
        scaler = self._scalers.setdefault((size, color), VideoReformatter())
        width, height = size
        scaled = scaler.reformat(
            picture,
            width=width,
            height=height,
            format="bgr24" if color == "BGR" else "rgb24",
            interpolation=Interpolation.AREA,
            threads=1,
        )
        plane = scaled.planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        return rows[:height, : width * 3].reshape(height, width, 3)


def frames(
    packets: Iterable[Packet],
    *,
    anchor: Callable[[float], Anchor],
    stats: DecodeStats | None = None,
) -> Iterator[Frame]:
    """The pictures of a stream in the order in which they are shown, with times that go forward.

    `anchor` is asked as packets arrive, with their stream time. A new connection begins with
    pictures that were kept for it and so arrive late; the earliest anchor of the first `SETTLE_S`
    holds. A packet that cannot be decoded is counted in `stats` and skipped. Size and codec may
    change between packets.
    """
    stats = stats if stats is not None else DecodeStats()
    scalers = _Scalers()
    times = _Times()
    anchored: Anchor | None = None
    settled_s = 0.0
    for packet in packets:
        if anchored is None:
            anchored = anchor(packet.pts_s)
            settled_s = packet.pts_s + SETTLE_S
        elif packet.data is not None and packet.pts_s < settled_s:
            anchored = anchored.earlier(anchor(packet.pts_s))
        stats.packets += packet.data is not None
        for picture in _pictures(packet, times, stats):
            pts_s = times.of(picture)
            yield Frame(picture, pts_s, anchored.t_ms(pts_s), stats.frames, scalers)
            stats.frames += 1


def _pictures(packet: Packet, times: "_Times", stats: DecodeStats) -> list[VideoFrame]:
    """What the decoder gives for a packet: none, one, or several at the end of its input."""
    if packet.data is not None:
        times.follow(packet)
    decoder = times.decoder
    if decoder is None:
        return []
    try:
        pictures = decoder.decode(packet.data)
    except av.error.FFmpegError:
        stats.errors += 1
        return []
    return pictures


class _Times:
    """The decoder at work and the time of what it gives.

    A picture's own stamp is right unless stamps run backwards more often than the decoder's turn
    does (MPEG-4 in AVI is like that); then the turn is. FFmpeg's players judge by the same count.
    """

    def __init__(self) -> None:
        self.decoder: VideoCodecContext | None = None
        self._time_base = Fraction(1, 90_000)
        self._step_s = 1 / FALLBACK_FPS
        self._last_s: float | None = None
        self._last_pts: int | None = None
        self._last_dts: int | None = None
        self._pts_faults = 0
        self._dts_faults = 0

    def follow(self, packet: Packet) -> None:
        """Take over the decoder of a packet's track, if that is another than before."""
        assert packet.data is not None
        track = packet.data.stream
        if track.codec_context is self.decoder:
            return
        self.decoder = track.codec_context
        self.decoder.thread_count = 1
        self._time_base = packet.data.time_base
        self._step_s = 1 / frame_rate(track)

    def of(self, picture: VideoFrame) -> float:
        """The stream time of a picture, always later than that of the one before."""
        ticks = self._best(picture.pts, picture.dts)
        base = self._time_base
        pts_s = None if ticks is None else ticks * base.numerator / base.denominator
        if pts_s is None:
            pts_s = 0.0 if self._last_s is None else self._last_s
        if self._last_s is not None and pts_s < self._last_s + LEAST_STEP_S:
            pts_s = self._last_s + self._step_s
        self._last_s = pts_s
        return pts_s

    def _best(self, pts: int | None, dts: int | None) -> int | None:
        if pts is not None:
            self._pts_faults += self._last_pts is not None and pts <= self._last_pts
            self._last_pts = pts
        if dts is not None:
            self._dts_faults += self._last_dts is not None and dts <= self._last_dts
            self._last_dts = dts
        if pts is not None and (dts is None or self._pts_faults <= self._dts_faults):
            return pts
        return dts
