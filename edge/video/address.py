"""What FFmpeg is told to open, and with which options.

Here: the URL with its credentials, transports, and what a stream may not reach. Not here: opening
(source.py).
"""

from urllib.parse import quote, unquote, urlsplit, urlunsplit

from wire import specs

_RECORDINGS = (
    "mov", "mp4", "m4a", "3gp", "3g2", "mj2", "matroska", "webm", "avi", "mpegts", "mpeg", "h264",
    "hevc", "vvc", "m4v", "mpegvideo", "flv", "gif", "mjpeg", "asf", "ogg", "ivf", "obu", "mxf",
)  # fmt: skip
"""Containers by FFmpeg's names: those that hold pictures themselves and name no other file."""
_OVER_HTTP = (*_RECORDINGS, "mpjpeg", "jpeg_pipe", "hls")
"""A playlist may be fetched by HTTP: what it names can only be fetched by HTTP again."""

# FFmpeg would collect 20 pictures to learn the frame rate, which takes 4 s at 5 a second.
_SHORT_PROBE = {"fpsprobesize": "0", "analyzeduration": "500000"}

_UDP_BUFFER_BYTES = 2 * 1024 * 1024
"""Room for a key frame that comes as one burst; the kernel gives less where it must."""
_REORDER_US = 200_000
"""How long a packet over UDP waits for one that was sent before it."""


def is_recording(stream: specs.Stream) -> bool:
    """Whether a stream is a file: it has an end, a pace and perhaps a loop."""
    return urlsplit(stream.url).scheme == "file"


def address(stream: specs.Stream, media: str) -> tuple[str, dict[str, str]]:
    """What FFmpeg opens, credentials included, and its options.

    A stream may only use the protocols of its own scheme, so that neither a playlist nor a
    redirection leads to a file. `media` is what an RTSP camera is asked for.
    """
    parts = urlsplit(stream.url)
    if parts.scheme == "file":
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
            "allowed_media_types": media,
            **(_RTSP_UDP if stream.transport == "udp" else _RTSP_TCP),
        }
    return urlunsplit(parts), {
        **_SHORT_PROBE,
        "protocol_whitelist": "http,https,tcp,tls,crypto,httpproxy",
        "format_whitelist": ",".join(_OVER_HTTP),
        # A transport stream that announces its tracks anew goes on under the old ones.
        "merge_pmt_versions": "1",
    }


_RTSP_TCP = {
    "rtsp_transport": "tcp",
    "protocol_whitelist": "rtsp,rtsps,rtp,tcp,tls,crypto",
}
_RTSP_UDP = {
    "rtsp_transport": "udp",
    "protocol_whitelist": "rtsp,rtp,udp,tcp",
    "buffer_size": str(_UDP_BUFFER_BYTES),
    "max_delay": str(_REORDER_US),
}
