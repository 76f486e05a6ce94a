"""Frames out of packets.

Here: the decoder, the time of each picture, and its conversion to a model's input. Not here: where
packets come from (source.py), which of them are decoded (watch.py), which frames are looked at
(analysis.py).

Decoder threads are 1: a worker has more streams than cores, and frame threads would delay pictures.
A display matrix (rotation) and non-square pixels are not applied: zones are drawn on the picture
as it is stored.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal, cast

import av
import av.error
import numpy as np
import numpy.typing as npt
from av.filter import Graph
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

from edge.video.errors import SourceError
from edge.video.source import Packet
from edge.video.timeline import FALLBACK_FPS

Image = npt.NDArray[np.uint8]
Resize = Literal["letterbox", "letterbox-centred", "stretch"]
Color = Literal["BGR", "RGB"]
_FORMATS = {"BGR": ("bgr24", 3), "RGB": ("rgb24", 3), "GRAY": ("gray8", 1)}
"""FFmpeg's name of a format, and its bytes a pixel."""

SETTLE_S = 5.0
"""How long a connection may take to send what it had kept when it was opened."""
LEAST_STEP_S = 0.001
"""Pictures closer than this have the same stamp; the later one is put one frame on."""
MAX_PIXELS = 36_000_000
"""Larger pictures are refused: a few of them would fill a shard's memory. 8K has 33 million."""
LUMA_WIDTH = 240
"""Cells of the longer side of the small grey picture that motion is looked for in."""


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
    """Pictures decoded, those included that were decoded again."""
    given: int = 0
    errors: int = 0
    """Packets that the decoder refused. Their pictures are missing; the stream goes on."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A decoded picture. It is converted once for each size that is asked for."""

    picture: VideoFrame
    pts_s: float
    t_ms: int
    index: int
    follows: bool
    """Whether it is the very next one of the stream: nothing was left out before it."""
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

        `letterbox` keeps its shape, at the top left (or in the middle), and fills the rest with
        `pad`.
        """
        key = (width, height, resize, pad, color)
        image = self._images.get(key)
        if image is None:
            image = self._images[key] = self._converted(width, height, resize, pad, color)
        return image

    def cut(self, x1: int, y1: int, x2: int, y2: int) -> Image:
        """A part of it at full size, height × width × 3 bytes, BGR; the rest is not converted."""
        graph = Graph()
        whole = self.picture
        ticks = whole.time_base or Fraction(1, 90_000)
        source = graph.add_buffer(
            width=whole.width, height=whole.height, format=whole.format, time_base=ticks
        )
        crop = graph.add("crop", f"w={x2 - x1}:h={y2 - y1}:x={x1}:y={y1}:exact=1")
        source.link_to(crop)
        crop.link_to(graph.add("buffersink"))
        graph.configure()
        graph.vpush(whole)
        # Each part has another size: the stream's own scalers would grow without end.
        return _Scalers().scale(graph.vpull(), (x2 - x1, y2 - y1), "BGR")

    def luma(self, longer: int = LUMA_WIDTH) -> Image:
        """Its brightness, small: the longer side so long, area averages of the Y plane.

        Not shared, and to be called by one thread only.
        """
        width, height = self.size
        ratio = longer / max(width, height)
        small = (max(1, round(width * ratio)), max(1, round(height * ratio)))
        return self._scalers.scale(self.picture, small, "GRAY")[:, :, 0]

    def _converted(self, width: int, height: int, resize: Resize, pad: int, color: Color) -> Image:
        used = (width, height) if resize == "stretch" else _fitted(self.size, (width, height))
        scaled = self._scalers.scale(self.picture, used, color)
        if used == (width, height):
            return scaled
        image = np.full((height, width, 3), pad, np.uint8)
        centred = resize == "letterbox-centred"
        left, top = ((width - used[0]) // 2, (height - used[1]) // 2) if centred else (0, 0)
        image[top : top + used[1], left : left + used[0]] = scaled
        return image


def still(image: Image) -> Frame:
    """A picture in memory, height × width × 3 bytes, BGR, as a frame without a time."""
    return Frame(VideoFrame.from_ndarray(image, format="bgr24"), 0.0, 0, 0, False, _Scalers())


def _fitted(size: tuple[int, int], into: tuple[int, int]) -> tuple[int, int]:
    """The size of a picture that keeps its shape and just fits into another size."""
    ratio = min(into[0] / size[0], into[1] / size[1])
    return max(1, round(size[0] * ratio)), max(1, round(size[1] * ratio))


class _Scalers:
    """The stream's scalers, one for each output: setting one up costs more than using it."""

    def __init__(self) -> None:
        self._scalers: dict[tuple[tuple[int, int], str], VideoReformatter] = {}

    def scale(self, picture: VideoFrame, size: tuple[int, int], color: str) -> Image:
        """Straight from the decoder's YUV to bytes of that size (width, height)."""
        scaler = self._scalers.setdefault((size, color), VideoReformatter())
        width, height = size
        name, deep = _FORMATS[color]
        scaled = scaler.reformat(
            picture,
            width=width,
            height=height,
            format=name,
            interpolation=Interpolation.AREA,
            threads=1,
        )
        plane = scaled.planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        return rows[:height, : width * deep].reshape(height, width, deep)


def frames(
    packets: Iterable[Packet],
    *,
    anchor: Callable[[float], Anchor],
    stats: DecodeStats | None = None,
) -> Iterator[Frame]:
    """All pictures of a stream in the order in which they are shown; see `Decoder`."""
    decoder = Decoder(anchor, stats if stats is not None else DecodeStats())
    for packet in packets:
        decoder.note(packet)
        yield from decoder.feed(packet)


class Decoder:
    """The decoder of one connection: packets in their order, or key packets each by itself.

    `note` is told of every packet, decoded or not: `anchor` is asked as they arrive, with their
    stream time. A new connection begins with pictures that were kept for it and so arrive late; the
    earliest anchor of the first `SETTLE_S` holds. Times go forward; a packet that cannot be decoded
    is counted in `stats` and skipped. Size and codec may change between packets. Raises
    SourceError for pictures of more than `MAX_PIXELS`.
    """

    def __init__(self, anchor: Callable[[float], Anchor], stats: DecodeStats) -> None:
        self._anchor = anchor
        self._stats = stats
        self._scalers = _Scalers()
        self._times = _Times()
        self._anchored: Anchor | None = None
        self._settled_s = 0.0
        self._again_until_s: float | None = None
        self._follows = True
        self._holds = False

    def note(self, packet: Packet) -> None:
        """A packet has come, whatever becomes of it."""
        if self._anchored is None:
            self._anchored = self._anchor(packet.pts_s)
            self._settled_s = packet.pts_s + SETTLE_S
        elif packet.data is not None and packet.pts_s < self._settled_s:
            self._anchored = self._anchored.earlier(self._anchor(packet.pts_s))
        self._stats.packets += packet.data is not None

    def feed(self, packet: Packet) -> Iterator[Frame]:
        """The pictures that come out as a packet goes in: none, one, or several at the end."""
        pictures = self._decoded(packet)
        if packet.data is None and self._times.decoder is not None:
            self._times.decoder.flush_buffers()  # the same decoder may get more after a gap
        for picture in pictures:
            frame = self._frame(picture)
            if frame is not None:
                yield frame

    def alone(self, packet: Packet) -> Frame | None:
        """The picture of a key packet by itself; None if it gives none.

        Drained at once, since reordered pictures would otherwise hold it back, and flushed: what
        follows needs another start.
        """
        self.leave_out()
        pictures = self._decoded(packet)
        decoder = self._times.decoder
        if decoder is not None:
            pictures += self._drained(decoder)
            decoder.flush_buffers()
        self._holds = False
        whole = [picture for picture in pictures if not picture.is_corrupt]
        return self._frame(whole[0]) if whole else None

    def drain(self) -> Iterator[Frame]:
        """What it still holds, before packets are left out."""
        decoder = self._times.decoder
        if decoder is None or not self._holds:
            return
        for picture in self._drained(decoder):
            frame = self._frame(picture)
            if frame is not None:
                yield frame
        self.leave_out()

    def leave_out(self) -> None:
        """Some packets were not fed: the next one is a key packet, and starts anew."""
        self._follows = False
        if self._holds and self._times.decoder is not None:
            self._times.decoder.flush_buffers()
        self._holds = False

    def again(self, after_s: float) -> None:
        """Start anew from an earlier key packet; only pictures after that time are given."""
        self.leave_out()
        self._follows = True
        self._times.back_to(after_s)
        self._again_until_s = after_s

    def stands_alone(self, packet: Packet) -> bool:
        """Whether a key packet gives a whole picture by itself, tried in a decoder of its own."""
        assert packet.data is not None
        of_stream = packet.data.stream.codec_context
        trial = cast("VideoCodecContext", VideoCodecContext.create(of_stream.name, "r"))
        trial.extradata = of_stream.extradata
        trial.thread_count = 1
        if of_stream.width and of_stream.height and of_stream.pix_fmt:
            trial.width, trial.height = of_stream.width, of_stream.height
            trial.pix_fmt = of_stream.pix_fmt
        try:
            pictures = trial.decode(packet.data) + trial.decode(None)
        except av.error.FFmpegError:
            return False
        return any(not picture.is_corrupt for picture in pictures)

    def _decoded(self, packet: Packet) -> list[VideoFrame]:
        if packet.data is not None:
            self._times.follow(packet)
        decoder = self._times.decoder
        if decoder is None:
            return []
        _refuse_huge(decoder.width, decoder.height)
        self._holds = packet.data is not None
        try:
            return decoder.decode(packet.data)
        except av.error.FFmpegError:
            self._stats.errors += 1
            return []

    def _drained(self, decoder: VideoCodecContext) -> list[VideoFrame]:
        try:
            return decoder.decode(None)
        except av.error.FFmpegError:
            self._stats.errors += 1
            return []

    def _frame(self, picture: VideoFrame) -> Frame | None:
        """A picture with its times; None if it was given before."""
        self._stats.frames += 1
        if self._again_until_s is not None:
            if not self._times.later(picture, self._again_until_s):
                return None
            self._again_until_s = None
        _refuse_huge(picture.width, picture.height)
        assert self._anchored is not None
        pts_s = self._times.of(picture)
        frame = Frame(
            picture,
            pts_s,
            self._anchored.t_ms(pts_s),
            self._stats.given,
            self._follows,
            self._scalers,
        )
        self._stats.given += 1
        self._follows = True
        return frame


def _refuse_huge(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise SourceError(
            f"decoding: the pictures are {width}×{height}, and at most {MAX_PIXELS // 1_000_000} "
            "megapixels are decoded; choose a smaller stream of the camera"
        )


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
        self._step_s = 1 / packet.fps

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

    def later(self, picture: VideoFrame, than_s: float) -> bool:
        """Whether a picture's own stamp is after a time; one without a stamp is not."""
        ticks = picture.pts if picture.pts is not None else picture.dts
        base = self._time_base
        return ticks is not None and (
            ticks * base.numerator / base.denominator > than_s + LEAST_STEP_S
        )

    def back_to(self, last_s: float) -> None:
        """Pictures after that time are to come once more."""
        self._last_s = last_s
        self._last_pts = self._last_dts = None

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
