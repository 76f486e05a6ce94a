"""Decoding by hardware, where a stream asks for it and this machine can.

Here: which device, and why not. Not here: opening a stream (source.py), decoding (decode.py).

What a stream asks for is a wish: where it cannot be had, software decodes, and a warning says why,
once for each stream. Pictures come back in the system's memory, so that nothing else changes.
"""

import logging
from functools import lru_cache

import av.container
import av.error
from av.codec import Codec
from av.codec.codec import UnknownCodecError
from av.codec.hwaccel import HWAccel, hwdevices_available

from wire import specs
from wire.specs import shown_url

log = logging.getLogger("forecourt.hardware")

_CODECS = ("h264", "hevc", "av1", "vp9", "mjpeg")
"""With one of these a device is tried out; whether it does the stream's is seen when that opens."""
_REMEMBERED = 256


def accelerator(stream: specs.Stream) -> HWAccel | None:
    """What `av.open` needs for the device that a stream asks for; None where software decodes."""
    if stream.hwaccel == "none":
        return None
    built = tuple(hwdevices_available())
    wanted = built if stream.hwaccel == "auto" else (stream.hwaccel,)
    reasons = []
    for device in wanted:
        reason = _trouble(device)
        if not reason:
            return HWAccel(device, allow_software_fallback=True)
        reasons.append(f"{device}: {reason}")
    _warn(shown_url(stream.url), "; ".join(reasons) or "this build of FFmpeg has no device")
    return None


def check(
    stream: specs.Stream, accel: HWAccel | None, container: av.container.InputContainer
) -> None:
    """Warn if the opened stream is decoded by software after all."""
    for video in container.streams.video[:1]:
        context = video.codec_context
        if accel is not None and context is not None and not context.is_hwaccel:
            _warn(shown_url(stream.url), f"the device does not decode {context.name}")


def _trouble(device: str) -> str:
    """Why a device is no use now; empty if it is. Not remembered: devices come and go."""
    built = hwdevices_available()
    if device not in built:
        return f"unknown to this build of FFmpeg, which has {', '.join(built) or 'none'}"
    for name in _CODECS:
        try:
            HWAccel(device).create(Codec(name, "r"))
        except (NotImplementedError, UnknownCodecError):
            continue  # the device does not decode it, or this build does not know it
        except (av.error.FFmpegError, OSError) as error:
            return f"cannot be opened ({error.strerror}); look at its driver and our access to it"
        return ""
    return "decodes none of our codecs in this build of FFmpeg"


@lru_cache(_REMEMBERED)
def _warn(where: str, why: str) -> None:
    """Once for the same stream and reason, however often it is opened again."""
    log.warning("stream %s is decoded by software: %s", where, why)
