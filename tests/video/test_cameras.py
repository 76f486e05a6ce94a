"""Cameras that work: a real RTSP server's streams, by either transport, until pictures come out."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice

import pytest

from edge.video.decode import Anchor, Frame, frames
from edge.video.source import Packet, SourceError, packets
from tests.parts import rtsp
from tests.parts.rtsp import RtspCamera
from wire import specs

_STREAMS: dict[str, dict[str, object]] = {
    "h265": {"codec": "h265"},
    "mjpeg": {"codec": "mjpeg"},
    "sound": {"audio": True},
    "slow": {"fps": 5},
}


@pytest.fixture(scope="module")
def camera() -> Iterator[RtspCamera]:
    """One server for all of these; its streams start when somebody asks for them."""
    with rtsp.serving(more=_STREAMS) as serving:
        yield serving


def read(url: str, transport: str = "tcp", read_timeout_s: float = 3.0) -> Iterator[Packet]:
    stream = specs.Stream.model_validate({"url": url, "transport": transport})
    return packets(stream, open_timeout_s=5, read_timeout_s=read_timeout_s)


def shown(source: Iterator[Packet], count: int) -> list[Frame]:
    return list(islice(frames(source, anchor=lambda pts_s: Anchor(0, pts_s)), count))


@pytest.mark.parametrize("transport", ["tcp", "udp"])
@pytest.mark.parametrize("name", ["stream", "h265", "mjpeg", "sound"])
def test_pictures_come_out(name: str, transport: str, camera: RtspCamera) -> None:
    """H.264, H.265 and MJPEG, with and without sound, over TCP and UDP, at their own time."""
    seen = shown(read(camera.stream(name), transport), 15)
    assert {frame.size for frame in seen} == {(320, 240)}
    assert seen[-1].pts_s - seen[0].pts_s == pytest.approx(14 / 25, abs=0.1)


def test_a_camera_of_few_pictures_opens_soon(camera: RtspCamera) -> None:
    """Nothing waits for the many pictures that a frame rate could be learned from."""
    began_s = time.monotonic()
    next(read(camera.stream("slow")))
    assert time.monotonic() - began_s < 3


@pytest.mark.parametrize("transport", ["tcp", "udp"])
@pytest.mark.parametrize(
    ("end", "why"),
    [
        (RtspCamera.freeze, r"reading rtsp://.*nothing came for 0\.5 s"),
        (RtspCamera.stop, "reading rtsp://"),
    ],
    ids=["freezes", "stops"],
)
def test_a_camera_that_goes_away_is_given_up(
    transport: str, end: Callable[[RtspCamera], None], why: str
) -> None:
    """Over UDP nothing tells of it but the silence."""
    with rtsp.serving() as camera:
        source = read(camera.url, transport, read_timeout_s=0.5)
        next(source)
        end(camera)
        began_s = time.monotonic()
        with pytest.raises(SourceError, match=why):
            deque(source, maxlen=0)
        assert time.monotonic() - began_s < 3


def test_a_password_is_given_over_udp_too() -> None:
    """The transport is a matter of the pictures; asking for them is not."""
    with rtsp.serving(user="admin", password="p@ss w/rd", digest=True) as camera:
        stream = specs.Stream.model_validate(
            {"url": camera.url, "username": "admin", "password": "p@ss w/rd", "transport": "udp"}
        )
        assert next(packets(stream, open_timeout_s=5)).size_bytes > 0
