"""A GStreamer RTSP server as a program of the system's own Python; see rtsp.py.

Its settings come as one JSON object on stdin, so that no password appears among the arguments; it
writes its port as one line, and ends when its stdin closes.
"""

import json
import sys
import threading
from typing import Any

import gi  # type: ignore[import-not-found]  # of the system's Python only

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # type: ignore[import-not-found]  # noqa: E402

# Codec: how a test picture becomes it, and how a file of it is read.
_ENCODERS = {
    "h264": "x264enc tune=zerolatency key-int-max={fps} speed-preset=ultrafast "
    "! rtph264pay name=pay0 pt=96 config-interval=-1",
    "h265": "x265enc tune=zerolatency key-int-max={fps} speed-preset=ultrafast "
    "! rtph265pay name=pay0 pt=96 config-interval=-1",
    "mjpeg": "jpegenc ! rtpjpegpay name=pay0 pt=26",
}
_SOUND = (
    "audiotestsrc is-live=true wave=ticks ! audio/x-raw,rate=8000,channels=1 "
    "! alawenc ! rtppcmapay name=pay1 pt=8"
)


def _pipeline(mount: dict[str, Any]) -> str:
    """What is served: an Annex B file over and over, or a test picture that moves."""
    if mount["file"]:
        return (
            f'( multifilesrc location="{mount["file"]}" loop=true '
            f"! h264parse config-interval=-1 ! video/x-h264,framerate={mount['fps']}/1 "
            "! rtph264pay name=pay0 pt=96 )"
        )
    encoder = _ENCODERS[mount["codec"]].format(fps=mount["fps"])
    sound = _SOUND if mount["audio"] else ""
    return (
        "( videotestsrc is-live=true pattern=ball "
        f"! video/x-raw,format=I420,width=320,height=240,framerate={mount['fps']}/1 "
        f"! {encoder} {sound} )"
    )


def _protect(server: Any, factory: Any, settings: dict[str, Any]) -> None:
    """Ask for a user and password, by digest or basic authentication."""
    user, password = settings["user"], settings["password"]
    auth = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "user")
    if settings["digest"]:
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
        auth.add_digest(user, password, token)
    else:
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
    permissions = GstRtspServer.RTSPPermissions()
    permissions.add_permission_for_role("user", "media.factory.access", True)
    permissions.add_permission_for_role("user", "media.factory.construct", True)
    factory.set_permissions(permissions)
    server.set_auth(auth)


def main() -> None:
    """Serve until stdin closes."""
    settings = json.loads(sys.stdin.readline())
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service("0")
    for name, mount in settings["mounts"].items():
        factory = GstRtspServer.RTSPMediaFactory()
        factory.set_launch(_pipeline(mount))
        factory.set_shared(True)
        if settings["user"]:
            _protect(server, factory, settings)
        server.get_mount_points().add_factory(f"/{name}", factory)
    loop = GLib.MainLoop()
    server.attach(None)
    sys.stdout.write(f"{server.get_bound_port()}\n")
    sys.stdout.flush()
    threading.Thread(target=lambda: (sys.stdin.read(), loop.quit()), daemon=True).start()
    loop.run()


if __name__ == "__main__":
    main()
