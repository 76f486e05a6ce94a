"""Cameras that speak HTTP: transport streams, fragmented MP4, pictures one after another, and what
they may not lead us to.
"""

import io
import struct
import threading
from collections import deque
from itertools import islice, pairwise
from pathlib import Path

import av
import pytest

from edge.video.decode import Anchor, frames
from edge.video.source import Pacer, SourceError, packets
from tests.parts import clips, faulty_camera
from tests.parts.faulty_camera import Connection
from tests.video.reading import given_up, read
from wire import specs

SECRET = "hunter2"
_MULTIPART = b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=b\r\n\r\n"


def jpeg(level: int) -> bytes:
    """A grey picture."""
    image = av.VideoFrame.from_ndarray(clips.grey(level), format="rgb24")
    file = io.BytesIO()
    with av.open(file, "w", format="mjpeg") as container:
        track = container.add_stream("mjpeg", rate=1)
        track.width, track.height, track.pix_fmt = 64, 48, "yuvj420p"
        container.mux(track.encode(image))
        container.mux(track.encode(None))
    return file.getvalue()


def part(body: bytes) -> bytes:
    head = f"--b\r\nContent-Type: image/jpeg\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body + b"\r\n"


class Ticking:
    """A clock that goes on by 0.1 s whenever somebody looks."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        self.now_s += 0.1
        return self.now_s


def test_a_huge_packet_is_refused() -> None:
    """A packet of 40 MB is an error, and costs the worker nothing else."""

    def serve(connection: Connection) -> None:
        connection.send(_MULTIPART)
        for body in (jpeg(0), jpeg(10), jpeg(20), b"\xff\xd8" + bytes(40_000_000)):
            connection.send(part(body))
        connection.hold()

    with faulty_camera.http(serve) as url:
        given_up(url, "a packet of 40 MB is no picture", read_timeout_s=5.0)


def test_pictures_over_http_have_the_time_of_their_arrival() -> None:
    """MJPEG has no stamps: FFmpeg's 25 a second are not believed, the clock is."""

    def serve(connection: Connection) -> None:
        connection.send(_MULTIPART)
        for number in range(20):
            connection.send(part(jpeg(number * 10)))

    with faulty_camera.http(serve) as url:
        seen = [packet for packet in islice(read(url, Ticking()), 12) if packet.data]
        times = [packet.pts_s for packet in seen]
    assert [round(after - before, 3) for before, after in pairwise(times)] == [0.2] * 11
    assert all(packet.is_key for packet in seen)


def test_frames_over_http_have_the_time_of_their_arrival() -> None:
    """The decoder keeps what the packets say."""

    def serve(connection: Connection) -> None:
        connection.send(_MULTIPART)
        for number in range(20):
            connection.send(part(jpeg(number * 10)))

    with faulty_camera.http(serve) as url:
        source = frames(read(url, Ticking()), anchor=lambda pts_s: Anchor(0, pts_s))
        times = [frame.pts_s for frame in islice(source, 12)]
    assert [round(after - before, 3) for before, after in pairwise(times)] == [0.2] * 11


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.ts", {}),
        ("a.mp4", {"movflags": "frag_keyframe+empty_moov+default_base_moof"}),
        ("a.mkv", {}),
        ("a.flv", {}),
    ],
)
def test_containers_come_by_http(name: str, options: dict[str, str], tmp_path: Path) -> None:
    """Transport stream, fragmented MP4, Matroska and FLV are read as they come."""
    data = remuxed(tmp_path / name, options)

    def serve(connection: Connection) -> None:
        connection.send(b"HTTP/1.0 200 OK\r\n\r\n")
        for at in range(0, len(data), len(data) // 20):
            connection.send(data[at : at + len(data) // 20])
            connection.pause(0.02)

    with faulty_camera.http(serve) as url:
        times = [packet.pts_s for packet in islice(read(url), 25)]
    assert times == pytest.approx([number / 25 for number in range(25)], abs=0.002)


def remuxed(path: Path, options: dict[str, str]) -> bytes:
    clip = clips.write(path.with_name("whole.mp4"), clips.moving_square(50), fps=25)
    with av.open(str(clip)) as source, av.open(str(path), "w", options=options) as container:
        track = container.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = track
                container.mux(packet)
    return path.read_bytes()


def test_a_recording_by_http_is_held_back(tmp_path: Path) -> None:
    """A server of recordings sends as fast as it can; ten seconds may be ahead of the clock."""
    clip = clips.write(tmp_path / "a.mkv", clips.moving_square(15), fps=1)

    def serve(connection: Connection) -> None:
        head = f"HTTP/1.0 200 OK\r\nContent-Length: {clip.stat().st_size}\r\n\r\n"
        connection.send(head.encode() + clip.read_bytes())

    waited: list[float] = []
    now_s = [50.0]

    def wait(seconds: float) -> None:
        waited.append(seconds)
        now_s[0] += seconds

    with faulty_camera.http(serve) as url:
        pace = Pacer(lambda: now_s[0], wait)
        with pytest.raises(SourceError, match="reading http://"):
            deque(packets(specs.Stream(url=url), pace=pace, read_timeout_s=2), maxlen=0)
    assert sum(waited) == pytest.approx(4.0)


def test_a_transport_stream_may_announce_its_track_anew(tmp_path: Path) -> None:
    """An encoder that restarts sends its pictures under another number; they are still read."""
    before = remuxed(tmp_path / "a.ts", {})
    after = remuxed(tmp_path / "b.ts", {"mpegts_start_pid": "512"})

    def serve(connection: Connection) -> None:
        connection.send(b"HTTP/1.0 200 OK\r\n\r\n" + before)
        connection.pause(0.1)
        connection.send(after)
        connection.hold()

    with faulty_camera.http(serve) as url:
        times = [packet.pts_s for packet in islice(read(url, read_timeout_s=2), 90)]
    assert times == sorted(times)
    assert times[-1] == pytest.approx(89 / 25, abs=0.3)


@pytest.mark.parametrize("to", ["file://{path}", "{path}", "concat:{path}", "rtsp://{host}/x"])
def test_a_camera_cannot_lead_us_to_a_file(to: str, tmp_path: Path) -> None:
    """A redirection to anything but HTTP is an error, and nothing is opened."""
    clip = clips.write(tmp_path / "a.mp4", clips.moving_square(10))
    touched = threading.Event()
    with faulty_camera.accepting(lambda _: touched.set()) as other:
        target = to.format(path=clip, host=other)
        redirect = f"HTTP/1.0 302 Found\r\nLocation: {target}\r\n\r\n".encode()
        with faulty_camera.http(lambda connection: connection.send(redirect)) as url:
            given_up(url, "opening http://")
    assert not touched.is_set()


def test_a_playlist_cannot_lead_us_to_a_file(tmp_path: Path) -> None:
    """A playlist that comes by HTTP names nothing but HTTP."""
    clip = clips.write(tmp_path / "a.ts", clips.moving_square(10))
    playlist = (
        "HTTP/1.0 200 OK\r\nContent-Type: application/vnd.apple.mpegurl\r\n\r\n#EXTM3U\n"
        f"#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile://{clip}\n#EXT-X-ENDLIST\n"
    )
    with faulty_camera.http(lambda connection: connection.send(playlist.encode())) as url:
        given_up(url, "opening http://")


def test_a_redirection_does_not_carry_the_password() -> None:
    """Another host gets no credential; the error shows none either."""
    asked: list[str] = []
    with faulty_camera.accepting(lambda other: asked.append(other.request())) as other:

        def serve(connection: Connection) -> None:
            connection.send(f"HTTP/1.0 302 Found\r\nLocation: http://{other}/x\r\n\r\n".encode())

        with faulty_camera.http(serve) as url:
            given_up(url.replace("//", f"//admin:{SECRET}@"), f"opening {url}")
    assert len(asked) >= 1
    assert "Authorization" not in "".join(asked)


def test_a_cameras_clock_of_33_bits_may_wrap(tmp_path: Path) -> None:
    """A transport stream whose stamps run over goes on, live as well."""
    data = bytearray(remuxed(tmp_path / "a.ts", {"output_ts_offset": "95441"}))
    assert struct.unpack_from(">B", data)[0] == 0x47

    def serve(connection: Connection) -> None:
        connection.send(b"HTTP/1.0 200 OK\r\n\r\n" + bytes(data))
        connection.hold()

    with faulty_camera.http(serve) as url:
        times = [packet.pts_s for packet in islice(read(url), 45)]
    assert times == pytest.approx([number / 25 for number in range(45)], abs=0.002)
