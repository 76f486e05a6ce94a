"""`python -m edge.probe`: opens one stream, says on stdout what it is, and ends.

Here: a program of its own, since FFmpeg can hang or crash. Not here: who may ask for what (calls),
opening itself (video.source). The question comes as JSON on stdin: a command line and an
environment can be read by others, and a stream has a password.
"""

import json
import sys
from collections.abc import Callable
from typing import Any

import av.container
import av.error
from av.video.stream import VideoStream

from edge.clock import SystemClock
from edge.video.source import (
    SourceError,
    Timeline,
    frame_rate,
    has_stamps,
    is_recording,
    open_container,
)
from wire import specs
from wire.specs import shown_url

LOOK_S = 3.0
"""How long key frames are looked for."""
OPEN_S = 10.0
MAX_QUESTION_BYTES = 64 * 1024

Now = Callable[[], float]


def probe(stream: specs.Stream, within_s: float, now_s: Now) -> dict[str, Any]:
    """What a stream is, as JSON; units are in the names. Raises SourceError.

    `key_interval_s` is the longest time between key frames that was seen, `audio` whether there is
    sound; each is null where it could not be found out.
    """
    began_s = now_s()
    with open_container(stream, max(0.5, min(OPEN_S, within_s)), OPEN_S) as container:
        opened_ms = round((now_s() - began_s) * 1000)
        if not container.streams.video:
            where = shown_url(stream.url)
            raise SourceError(f"opening {where}: it has no video track; choose another stream")
        video = container.streams.video[0]
        found = _described(container, video)
        until_s = now_s() + max(0.0, min(LOOK_S, within_s - (now_s() - began_s)))
        interval_s = _key_interval_s(container, video, stream, until_s, now_s)
        # Opened as a worker opens it, a camera is asked for its pictures alone.
        audio = bool(container.streams.audio) or (None if _is_rtsp(stream) else False)
    left_s = within_s - (now_s() - began_s)
    if audio is None and left_s > 1.0:
        audio = _has_audio(stream, left_s)
    return {"opened_ms": opened_ms, **found, "key_interval_s": interval_s, "audio": audio}


def _described(container: av.container.InputContainer, video: VideoStream) -> dict[str, Any]:
    context = video.codec_context
    return {
        "container": container.format.name[:60],
        "codec": context.name[:60] if context is not None else "unknown",
        "width": context.width if context is not None else 0,
        "height": context.height if context is not None else 0,
        "fps": round(frame_rate(video), 2),
    }


def _key_interval_s(
    container: av.container.InputContainer,
    video: VideoStream,
    stream: specs.Stream,
    until_s: float,
    now_s: Now,
) -> float | None:
    """The longest time between key frames among the packets that come in time."""
    timeline = Timeline(0.0, OPEN_S, is_recording(stream))
    timeline.begin(video, stamped=has_stamps(container))
    last_s: float | None = None
    longest_s: float | None = None
    try:
        for packet in container.demux(video):
            arrived_s = now_s()
            if arrived_s > until_s or (packet.size == 0 and packet.dts is None):
                break
            at_s, _ = timeline.stamp(packet, arrived_s)
            if packet.is_keyframe:
                if last_s is not None:
                    longest_s = max(longest_s or 0.0, at_s - last_s)
                last_s = at_s
    except (av.error.FFmpegError, OSError):
        pass  # it opened; that reading breaks later is for the stream's own health to tell
    return None if longest_s is None else round(longest_s, 2)


def _is_rtsp(stream: specs.Stream) -> bool:
    return stream.url.startswith(("rtsp://", "rtsps://"))


def _has_audio(stream: specs.Stream, within_s: float) -> bool | None:
    """Ask once more, for sound too; None where the camera does not answer that."""
    try:
        with open_container(stream, within_s, within_s, media="video+audio") as container:
            return bool(container.streams.audio)
    except SourceError:
        return None


def main() -> None:
    """Read the question, write the answer: `{"result": …}` or `{"error": …}`."""
    clock = SystemClock()
    try:
        question = json.loads(sys.stdin.buffer.read(MAX_QUESTION_BYTES))
        stream = specs.Stream.model_validate(question["stream"])
        # By the machine's clock, since this program's own start takes its time on a busy machine.
        within_s = (question["by_boot_ms"] - clock.boot_ms()) / 1000
        answer: dict[str, Any] = {"result": probe(stream, within_s, clock.monotonic_s)}
    except SourceError as error:
        answer = {"error": str(error)}
    except (ValueError, KeyError, TypeError):
        answer = {"error": "the probe was asked in a way that it does not understand"}
    sys.stdout.write(json.dumps(answer))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
