"""Packets out of a stream: cameras by RTSP or HTTP, recordings by file.

Here: opening, timeouts, pace, and what ends a connection. Not here: what FFmpeg is told to open
(address.py), time out of stamps (timeline.py), decoding pictures (decode.py), retries (the
reader's), whether a path may be read (the agent's).

A stream's time is in seconds and begins at `begin_s`. It goes on over the loop of a recording, over
missing stamps and over jumps of a camera's clock.

A camera that does not keep pace with the clock, or floods, is a SourceError: packets cannot be
left out (those that follow need them), holding them back would make a delay that grows, and the
back-off between connections bounds what it costs. What a server of recordings sends by HTTP is held
back instead.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import av
import av.container
import av.error
import av.logging
from av.stream import Discard
from av.video.stream import VideoStream

from edge.clock import SystemClock
from edge.video import hardware
from edge.video.address import address, is_recording
from edge.video.arrivals import MAX_PACKET_BYTES, Arrivals
from edge.video.errors import SourceError, failed, silent
from edge.video.timeline import FALLBACK_FPS, RECORDING_GAP_S, Timeline, frame_rate
from wire import specs
from wire.specs import shown_url

__all__ = [
    "FALLBACK_FPS",
    "Opener",
    "Pacer",
    "Packet",
    "SourceError",
    "Timeline",
    "frame_rate",
    "has_stamps",
    "is_recording",
    "open_container",
    "packets",
]

POLL_S = 0.5
FETCHED_AHEAD_S = 10.0
"""So far may a recording that comes by HTTP run ahead of the clock."""

_DECODER_PIXELS = "100000000"
"""For larger pictures a decoder takes no memory; decode.py refuses smaller ones, and says why."""
_NO_TIMESTAMPS = 0x0080
"""FFmpeg's AVFMT_NOTIMESTAMPS."""

_CLOCK = SystemClock()

# FFmpeg writes whole URLs, passwords included, into its own log.
av.logging.set_level(None)

Opener = Callable[[specs.Stream, float, float], av.container.InputContainer]


@dataclass(frozen=True, slots=True)
class Packet:
    """One encoded unit of the video track.

    `data` carries the corrected stamps. It is None where the input ends or begins again: what the
    decoder still holds must come out before the next packet goes in.
    """

    data: "av.Packet[VideoStream] | None"
    pts_s: float
    is_key: bool
    size_bytes: int
    fps: float = FALLBACK_FPS
    """Frames a second of its track. The track itself may be closed when this is decoded, by another
    thread: do not ask it."""


@dataclass(frozen=True, slots=True)
class Pacer:
    """The clock by which packets arrive, and what keeps a recording from running ahead of it."""

    monotonic_s: Callable[[], float] = _CLOCK.monotonic_s
    wait: Callable[[float], object] = time.sleep
    """Waits that many seconds; it may return early, and is asked again then."""


def packets(
    stream: specs.Stream,
    *,
    opener: Opener | None = None,
    pace: Pacer | None = None,
    open_timeout_s: float = 10.0,
    read_timeout_s: float = 10.0,
    begin_s: float = 0.0,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Packet]:
    """The packets of a stream's first video track, until its end or until `stop` says so.

    A recording ends the iterator, or begins again where the stream says `loop`. Everything else
    that ends is a SourceError, since a camera has no end; so is a camera that does not keep pace.
    `stop` is asked between packets, so it takes effect within `read_timeout_s` even if a camera is
    silent; opening may take twice `open_timeout_s`.
    """
    recorded = is_recording(stream)
    timeline = Timeline(begin_s, RECORDING_GAP_S if recorded else read_timeout_s, recorded)
    reading = _Reading(stream, timeline, pace or Pacer(), read_timeout_s, stop)
    while not stop():
        with (opener or open_container)(stream, open_timeout_s, read_timeout_s) as container:
            yield from reading.one_pass(container)
        if not stream.loop:
            return


class _Reading:
    """A stream's way from containers to packets: one pass a connection, or a turn of a loop."""

    def __init__(
        self,
        stream: specs.Stream,
        timeline: Timeline,
        pace: Pacer,
        read_timeout_s: float,
        stop: Callable[[], bool],
    ) -> None:
        self._stream = stream
        self._timeline = timeline
        self._pace = pace
        self._read_timeout_s = read_timeout_s
        self._stop = stop
        self._recorded = is_recording(stream)
        self._where = shown_url(stream.url)
        self._schedule: _Schedule | None = None

    def one_pass(self, container: av.container.InputContainer) -> Iterator[Packet]:
        """A container's packets, the mark of their end, and then, if that end is bad, why."""
        video = _video_track(container, self._stream)
        self._timeline.begin(video, stamped=has_stamps(container))
        failure: SourceError | None = None
        try:
            yield from self._timed(container, video)
        except (av.error.FFmpegError, OSError) as error:
            failure = failed("reading", self._stream, error, self._read_timeout_s)
        except SourceError as error:
            failure = error
        if self._stop():
            return
        yield Packet(None, self._timeline.end_s, False, 0)
        if failure is not None:
            raise failure
        if not self._recorded:
            raise self._error(
                "the other side ended the stream; look whether the camera restarted or serves too "
                "many readers"
            )
        if not self._timeline.moved:
            raise self._error("its video track holds no packet; is the file whole?")

    def _timed(
        self, container: av.container.InputContainer, video: VideoStream
    ) -> Iterator[Packet]:
        """Packets as they are due, until the container ends or a camera does not keep pace."""
        arrivals = None if self._recorded else Arrivals(self._read_timeout_s)
        schedule = self._scheduled(container)
        asked_s = self._pace.monotonic_s()
        fps = frame_rate(video)
        for data in container.demux(video):
            now_s = self._pace.monotonic_s()
            if self._stop():
                return
            if data.size == 0 and data.dts is None:
                return  # the demuxer's own mark of the end
            if arrivals is not None and now_s - asked_s >= self._read_timeout_s:
                # Interrupted, FFmpeg gives what it has of a picture, and would do so for ever.
                raise silent("reading", self._stream, self._read_timeout_s)
            if data.size > MAX_PACKET_BYTES:
                raise self._error(
                    f"a packet of {data.size / 1e6:.0f} MB is no picture of a video; look whether "
                    "the url leads to a video"
                )
            pts_s, decode_s = self._timeline.stamp(data, now_s)
            if arrivals is not None and (wrong := arrivals.judge(asked_s, now_s, decode_s)):
                raise self._error(wrong)
            if schedule is not None and not schedule.reached(decode_s):
                return
            yield Packet(data, pts_s, data.is_keyframe, data.size, fps)
            asked_s = self._pace.monotonic_s()

    def _scheduled(self, container: av.container.InputContainer) -> "_Schedule | None":
        """What holds packets back; a recording keeps its schedule over the turns of its loop."""
        if self._recorded and self._stream.pace == "live":
            self._schedule = self._schedule or _Schedule(self._pace, self._stop)
        elif not self._recorded and container.duration is not None:
            return _Schedule(self._pace, self._stop, FETCHED_AHEAD_S)
        return self._schedule

    def _error(self, what: str) -> SourceError:
        return SourceError(f"reading {self._where}: {what}")


def open_container(
    stream: specs.Stream, open_timeout_s: float, read_timeout_s: float, *, media: str = "video"
) -> av.container.InputContainer:
    """Open a stream with FFmpeg. Raises SourceError, also after `open_timeout_s` of silence.

    `media` is what an RTSP camera is asked for: `video`, or `video+audio`.
    """
    url, options = address(stream, media)
    accel = hardware.accelerator(stream)
    began_s = _CLOCK.monotonic_s()
    try:
        container = av.open(
            url,
            mode="r",
            options={"threads": "1", "max_pixels": _DECODER_PIXELS, **options},
            metadata_errors="replace",
            timeout=(open_timeout_s, read_timeout_s),
            hwaccel=accel,
        )
    except (av.error.FFmpegError, OSError, ValueError) as error:
        if _CLOCK.monotonic_s() - began_s >= open_timeout_s:
            # Interrupted, FFmpeg often tells of something else than the timeout.
            raise silent("opening", stream, open_timeout_s) from None
        raise failed("opening", stream, error, open_timeout_s) from None
    hardware.check(stream, accel, container)
    return container


def has_stamps(container: av.container.InputContainer) -> bool:
    """Whether a container says when its pictures were taken; for some FFmpeg makes up 25 a second.

    Those are raw video and pictures one after another, as in MJPEG over HTTP.
    """
    return not container.format.flags & _NO_TIMESTAMPS


class _Schedule:
    """Holds packets back until their time, on an absolute schedule so that nothing drifts."""

    def __init__(self, pace: Pacer, stop: Callable[[], bool], ahead_s: float = 0.0) -> None:
        """Packets may come `ahead_s` before their time."""
        self._pace = pace
        self._stop = stop
        self._ahead_s = ahead_s
        self._zero_s: float | None = None

    def reached(self, decode_s: float) -> bool:
        """Wait until it is time for a packet; False if `stop` came first."""
        now_s = self._pace.monotonic_s()
        if self._zero_s is None:
            self._zero_s = now_s - decode_s - self._ahead_s
        while (early_s := self._zero_s + decode_s - now_s) > 0:
            if self._stop():
                return False
            self._pace.wait(min(early_s, POLL_S))
            now_s = self._pace.monotonic_s()
        return True


def _video_track(container: av.container.InputContainer, stream: specs.Stream) -> VideoStream:
    """The first video track. The others are not even read, so that they keep no timeout alive."""
    where = shown_url(stream.url)
    if not container.streams.video:
        raise SourceError(f"opening {where}: it has no video track; choose another stream")
    video = container.streams.video[0]
    if video.codec_context is None:
        raise SourceError(f"opening {where}: no decoder for its video; choose H.264 or H.265")
    video.codec_context.options = {"max_pixels": _DECODER_PIXELS}
    for other in container.streams:
        if other.index != video.index:
            other.discard = Discard.all
    return video
