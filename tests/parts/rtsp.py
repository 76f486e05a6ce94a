"""A real camera for tests: GStreamer's RTSP server on a free loopback port, in its own process.

Here: starting and stopping it. It runs under the system's Python, because Debian builds the
bindings for that one (packages python3-gi, gir1.2-gst-rtsp-server-1.0, gstreamer1.0-plugins-*).
"""

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

_PYTHON = "/usr/bin/python3"
_SERVER = Path(__file__).with_name("rtsp_server.py")
_IMPORTS = (
    "import gi; gi.require_version('Gst', '1.0'); gi.require_version('GstRtspServer', '1.0'); "
    "from gi.repository import Gst, GstRtspServer; Gst.init(None); "
    "missing = [e for e in ('x264enc', 'x265enc', 'jpegenc', 'h264parse', 'multifilesrc',"
    " 'rtph264pay') if not Gst.ElementFactory.find(e)]; "
    "raise SystemExit('no ' + ' '.join(missing) if missing else 0)"
)


@dataclass(frozen=True, slots=True)
class RtspCamera:
    """A camera that answers at `url`. The process is the test's to signal."""

    url: str
    process: "subprocess.Popen[str]"

    def stream(self, name: str) -> str:
        """The address of another stream of this camera."""
        return f"{self.url.rpartition('/')[0]}/{name}"

    def freeze(self) -> None:
        """Connections stay open and nothing comes any more."""
        os.kill(self.process.pid, signal.SIGSTOP)

    def stop(self) -> None:
        """Switch the camera off: connections break."""
        self.process.kill()
        self.process.wait(10)


@cache
def missing() -> str:
    """Why there can be no camera here; empty if there can."""
    if not Path(_PYTHON).exists():
        return f"no {_PYTHON}"
    tried = subprocess.run([_PYTHON, "-c", _IMPORTS], capture_output=True, text=True, check=False)
    return tried.stderr.strip().splitlines()[-1] if tried.returncode else ""


@contextlib.contextmanager
def serving(
    file: Path | None = None,
    *,
    fps: int = 25,
    user: str = "",
    password: str = "",
    digest: bool = False,
    codec: str = "h264",
    audio: bool = False,
    more: Mapping[str, Mapping[str, object]] | None = None,
) -> Iterator[RtspCamera]:
    """A camera that sends `file` (raw H.264) over and over, or a ball that moves.

    `codec` is h264, h265 or mjpeg; with `audio` it has a sound track too. `more` are further
    streams of the camera by name, each with what it has other than these. Skips the test where
    GStreamer is missing.
    """
    if missing():
        pytest.skip(f"no GStreamer RTSP server: {missing()}")
    stream = {"file": str(file) if file else "", "fps": fps, "codec": codec, "audio": audio}
    mounts = {"stream": stream} | {name: {**stream, **has} for name, has in (more or {}).items()}
    settings = {
        "mounts": mounts,
        "user": user, "password": password, "digest": digest,
    }  # fmt: skip
    process = subprocess.Popen(
        [_PYTHON, str(_SERVER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(settings) + "\n")
        process.stdin.flush()
        port = process.stdout.readline().strip()
        assert port, "the RTSP server did not start"
        yield RtspCamera(f"rtsp://127.0.0.1:{port}/stream", process)
    finally:
        process.kill()
        process.wait(10)
        process.stdin.close()
        process.stdout.close()
