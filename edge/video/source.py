"""Packets out of a stream: cameras by RTSP or HTTP, recordings by file.

Here: opening, timeouts, pace, and time that goes forward whatever a container says. Not here:
decoding pictures (decode.py), retries (the shard's), whether a path may be read (the agent's).

A stream's time is in seconds and begins at `begin_s`. It goes on over the loop of a recording, over
missing stamps and over jumps of a camera's clock, which are replaced by one frame's length.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import av
import av.container
import av.error
import av.logging
from av.stream import Discard
from av.video.stream import VideoStream

from edge.clock import SystemClock
from wire import specs
from wire.specs import shown_url

FALLBACK_FPS = 25.0
SANE_FPS = (0.1, 240.0)
REORDER_S = 1.0
"""Stamps may go back by this much: pictures that are sent in another order than they are shown."""
RECORDING_GAP_S = 600.0
"""A longer hole between two packets of a recording is a jump of the recorder's clock."""
POLL_S = 0.5

_CLOCK = SystemClock()

# FFmpeg writes whole URLs, passwords included, into its own log.
av.logging.set_level(None)

Opener = Callable[[specs.Stream, float, float], av.container.InputContainer]


_RECORDINGS = (
    "mov", "mp4", "m4a", "3gp", "3g2", "mj2", "matroska", "webm", "avi", "mpegts", "mpeg", "h264",
    "hevc", "vvc", "m4v", "mpegvideo", "flv", "gif", "mjpeg", "asf", "ogg", "ivf", "obu", "mxf",
)  # fmt: skip
"""Containers by FFmpeg's names: those that hold pictures themselves and name no other file."""


class SourceError(Exception):
    """What was attempted on which stream, what happened, and what to do. Never a credential."""


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


@dataclass(frozen=True, slots=True)
class Pacer:
    """What keeps a recording from running ahead of real time."""

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
    that ends is a SourceError, since a camera has no end. `stop` is asked between packets, so it
    takes effect within `read_timeout_s` even if a camera is silent; opening may take twice
    `open_timeout_s`.
    """
    recorded = is_recording(stream)
    timeline = Timeline(begin_s, RECORDING_GAP_S if recorded else read_timeout_s, recorded)
    schedule = _Schedule(pace or Pacer(), stop) if recorded and stream.pace == "live" else None
    while not stop():
        with (opener or open_container)(stream, open_timeout_s, read_timeout_s) as container:
            yield from _one_pass(container, stream, timeline, schedule, read_timeout_s, stop)
        if not stream.loop:
            return


def _one_pass(
    container: av.container.InputContainer,
    stream: specs.Stream,
    timeline: "Timeline",
    schedule: "_Schedule | None",
    read_timeout_s: float,
    stop: Callable[[], bool],
) -> Iterator[Packet]:
    """A container's packets, the mark of their end, and then, if that end is bad, why."""
    video = _video_track(container, stream)
    timeline.begin(video)
    failure: SourceError | None = None
    try:
        for data in container.demux(video):
            if stop():
                return
            if data.size == 0 and data.dts is None:
                break  # the demuxer's own mark of the end
            pts_s, decode_s = timeline.stamp(data)
            if schedule is not None and not schedule.reached(decode_s):
                return
            yield Packet(data, pts_s, data.is_keyframe, data.size)
    except (av.error.FFmpegError, OSError) as error:
        failure = _failed("reading", stream, error, read_timeout_s)
    yield Packet(None, timeline.end_s, False, 0)
    if failure is not None:
        raise failure
    where = shown_url(stream.url)
    if not is_recording(stream):
        raise SourceError(
            f"reading {where}: the other side ended the stream; look whether the camera restarted "
            "or serves too many readers"
        )
    if not timeline.moved:
        raise SourceError(f"reading {where}: its video track holds no packet; is the file whole?")


def is_recording(stream: specs.Stream) -> bool:
    """Whether a stream is a file: it has an end, a pace and perhaps a loop."""
    return urlsplit(stream.url).scheme == "file"


def open_container(
    stream: specs.Stream, open_timeout_s: float, read_timeout_s: float, *, media: str = "video"
) -> av.container.InputContainer:
    """Open a stream with FFmpeg. Raises SourceError, also after `open_timeout_s` of silence.

    `media` is what an RTSP camera is asked for: `video`, or `video+audio`.
    """
    address, options = _address(stream)
    if "allowed_media_types" in options:
        options["allowed_media_types"] = media
    began_s = _CLOCK.monotonic_s()
    try:
        return av.open(
            address,
            mode="r",
            options={"threads": "1", **options},
            metadata_errors="replace",
            timeout=(open_timeout_s, read_timeout_s),
        )
    except (av.error.FFmpegError, OSError, ValueError) as error:
        if _CLOCK.monotonic_s() - began_s >= open_timeout_s:
            # Interrupted, FFmpeg often tells of something else than the timeout.
            raise _silent("opening", stream, open_timeout_s) from None
        raise _failed("opening", stream, error, open_timeout_s) from None


class Timeline:
    """Makes a container's stamps into a stream's time; it rewrites them in the packets.

    Decode stamps never fall back by more than `REORDER_S` and never leap by more than `gap_s`; a
    packet without any gets the one that its turn and the frame rate say.
    """

    def __init__(self, begin_s: float, gap_s: float, recorded: bool) -> None:
        self.end_s = begin_s
        """Where the next pass of a recording begins: one frame after the last."""
        self.moved = False
        """Whether this pass has seen a packet."""
        self._gap_s = gap_s
        self._recorded = recorded
        self._time_base = Fraction(1, 90_000)
        self._step = 1
        self._offset: int | None = None
        self._decode = 0

    def begin(self, video: VideoStream) -> None:
        """Another pass: what comes next follows on what was."""
        self.moved = False
        self._time_base = video.time_base or Fraction(1, 90_000)
        self._step = max(1, round(1 / (self._time_base * Fraction(frame_rate(video)))))
        first = round(self.end_s / self._time_base)
        self._decode = first - self._step
        # A camera's start time is a guess made before its first reports; a recording's is exact.
        known = self._recorded and video.start_time is not None
        self._offset = first - (video.start_time or 0) if known else None

    def stamp(self, data: "av.Packet[VideoStream]") -> tuple[float, float]:
        """When a packet is shown and when it is decoded, in seconds of the stream."""
        turn = self._decode + self._step
        given = data.dts if data.dts is not None else data.pts
        if given is None:
            decode = turn
        else:
            if self._offset is None:
                shown = data.pts if data.pts is not None else given
                self._offset = turn - min(given, shown) if self._recorded else turn - shown
            decode = given + self._offset
            leap_s = self._seconds(decode - self._decode)
            if self.moved and not -REORDER_S <= leap_s <= self._gap_s:
                self._offset += turn - decode
                decode = turn
            data.pts = None if data.pts is None else data.pts + self._offset
        data.dts = decode
        self._decode = decode
        self.moved = True
        pts = decode if data.pts is None else data.pts
        self.end_s = max(self.end_s, self._seconds(pts + self._step))
        return self._seconds(pts), self._seconds(decode)

    def _seconds(self, ticks: int) -> float:
        # Not by way of Fraction: this runs for every packet of every stream.
        return ticks * self._time_base.numerator / self._time_base.denominator


def frame_rate(video: VideoStream) -> float:
    """A believable number of frames a second; `FALLBACK_FPS` where a container says nonsense."""
    low, high = SANE_FPS
    for rate in (video.guessed_rate, video.average_rate):
        if rate is not None and low <= rate <= high:
            return float(rate)
    return FALLBACK_FPS


class _Schedule:
    """Holds packets back until their time, on an absolute schedule so that nothing drifts."""

    def __init__(self, pace: Pacer, stop: Callable[[], bool]) -> None:
        self._pace = pace
        self._stop = stop
        self._zero_s: float | None = None

    def reached(self, decode_s: float) -> bool:
        """Wait until it is time for a packet; False if `stop` came first."""
        now_s = self._pace.monotonic_s()
        if self._zero_s is None:
            self._zero_s = now_s - decode_s
        while (early_s := self._zero_s + decode_s - now_s) > 0:
            if self._stop():
                return False
            self._pace.wait(min(early_s, POLL_S))
            now_s = self._pace.monotonic_s()
        return True


# FFmpeg would collect 20 pictures to learn the frame rate, which takes 4 s at 5 a second.
_SHORT_PROBE = {"fpsprobesize": "0", "analyzeduration": "500000"}


def _address(stream: specs.Stream) -> tuple[str, dict[str, str]]:
    """What FFmpeg opens, and how. A stream may only use the protocols of its own scheme."""
    parts = urlsplit(stream.url)
    if parts.scheme == "file":
        # Otherwise a playlist among the recordings could make us fetch any address or any file.
        return unquote(parts.path), {
            "protocol_whitelist": "file",
            "format_whitelist": ",".join(_RECORDINGS),
        }
    if stream.username is not None:
        password = stream.password.get_secret_value() if stream.password is not None else ""
        userinfo = f"{quote(stream.username, safe='')}:{quote(password, safe='')}@"
        parts = parts._replace(netloc=userinfo + parts.netloc)
    if parts.scheme in ("rtsp", "rtsps"):
        return urlunsplit(parts), {
            **_SHORT_PROBE,
            "rtsp_transport": "tcp",
            "allowed_media_types": "video",
            "protocol_whitelist": "rtsp,rtsps,rtp,tcp,tls,crypto",
        }
    protocols = "http,https,tcp,tls,crypto,httpproxy"
    return urlunsplit(parts), {**_SHORT_PROBE, "protocol_whitelist": protocols}


def _video_track(container: av.container.InputContainer, stream: specs.Stream) -> VideoStream:
    """The first video track. The others are not even read, so that they keep no timeout alive."""
    where = shown_url(stream.url)
    if not container.streams.video:
        raise SourceError(f"opening {where}: it has no video track; choose another stream")
    video = container.streams.video[0]
    if video.codec_context is None:
        raise SourceError(f"opening {where}: no decoder for its video; choose H.264 or H.265")
    for other in container.streams:
        if other.index != video.index:
            other.discard = Discard.all
    return video


def _silent(doing: str, stream: specs.Stream, timeout_s: float) -> SourceError:
    return SourceError(
        f"{doing} {shown_url(stream.url)}: nothing came for {timeout_s:g} s; look whether the "
        "camera is on and reachable"
    )


# What FFmpeg's errors mean to an operator: (what happened, what to do).
_MEANINGS: tuple[tuple[type[BaseException], str, str], ...] = (
    (
        av.error.HTTPUnauthorizedError,
        "it refuses the user name or password",
        "correct them in the camera's stream",
    ),
    (av.error.HTTPForbiddenError, "access is forbidden", "look at the account's rights"),
    (av.error.HTTPNotFoundError, "there is no such path", "correct the stream's url"),
    (av.error.FileNotFoundError, "there is no such file", "correct the path"),
    (av.error.PermissionError, "it may not be read", "look at the file's permissions"),
    (av.error.IsADirectoryError, "it is a directory", "name a file"),
    (
        av.error.ConnectionRefusedError,
        "the connection is refused",
        "look whether the camera is on and the port right",
    ),
    (
        av.error.InvalidDataError,
        "what comes is no video that can be read",
        "look whether the url leads to a video and the file is whole",
    ),
    (av.error.EOFError, "it ends at once", "look whether the file is whole"),
)


def _failed(
    doing: str, stream: specs.Stream, error: BaseException, timeout_s: float
) -> SourceError:
    """A SourceError from FFmpeg's error. Its own text is not used: it holds the whole URL."""
    at = f"{doing} {shown_url(stream.url)}"
    if isinstance(error, av.error.ExitError | av.error.TimeoutError):
        return _silent(doing, stream, timeout_s)
    for kind, what, remedy in _MEANINGS:
        if isinstance(error, kind):
            return SourceError(f"{at}: {what}; {remedy}")
    said = getattr(error, "strerror", None) or type(error).__name__
    return SourceError(f"{at}: {said}; look at the camera, its address and the network")
