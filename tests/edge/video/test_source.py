"""Packets: time that goes forward, pace, timeouts that hold, errors without credentials."""

import socket
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest

from edge.video.source import (
    Pacer,
    Packet,
    SourceError,
    is_recording,
    packets,
)
from tests.parts import clips, rtsp
from wire import specs

SECRET = "hunter2"


def recording(path: Path, **given: Any) -> specs.Stream:
    return specs.Stream(url=f"file://{path}", **{"pace": "fast", **given})


class TurnedClock:
    """A clock that moves only when something waits for it."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.waited: list[float] = []

    def monotonic_s(self) -> float:
        return self.now_s

    def wait(self, seconds: float) -> None:
        self.waited.append(seconds)
        self.now_s += seconds


@contextmanager
def silent_camera() -> Iterator[str]:
    """Accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


# --- recordings --------------------------------------------------------------------------------


def test_a_recording_gives_its_packets_from_time_0_and_then_a_mark_of_the_end(
    tmp_path: Path,
) -> None:
    """All packets come, the first at 0, each with its size, and last the mark to drain."""
    clip = clips.write(tmp_path / "a.mp4", clips.moving_square(12), fps=10)
    *all_but_last, last = packets(recording(clip))
    assert [round(packet.pts_s, 6) for packet in all_but_last] == [n / 10 for n in range(12)]
    assert [packet.is_key for packet in all_but_last] == [n % 10 == 0 for n in range(12)]
    assert all(packet.data and packet.size_bytes == packet.data.size for packet in all_but_last)
    assert last.data is None
    assert last.pts_s == pytest.approx(1.2)


def test_time_goes_on_over_the_loop_of_a_recording(tmp_path: Path) -> None:
    """A looped recording begins again one frame after its last, between marks to drain."""
    clip = clips.write(tmp_path / "a.mp4", clips.moving_square(5), fps=10)
    seen = list(islice(packets(recording(clip, loop=True)), 18))
    assert [packet.data is None for packet in seen] == [n % 6 == 5 for n in range(18)]
    times = [packet.pts_s for packet in seen if packet.data]
    assert times == pytest.approx([n / 10 for n in range(15)])


def test_time_begins_where_the_last_connection_left_off(tmp_path: Path) -> None:
    """`begin_s` is the time of the first packet."""
    clip = clips.write(tmp_path / "a.mp4", clips.moving_square(3), fps=10)
    times = [packet.pts_s for packet in packets(recording(clip), begin_s=77.5) if packet.data]
    assert times == pytest.approx([77.5, 77.6, 77.7])


def test_raw_video_without_stamps_takes_its_turn(tmp_path: Path) -> None:
    """Raw H.264 has no stamps: packets follow each other at the frame rate."""
    clip = clips.write(tmp_path / "a.h264", clips.moving_square(10), fps=20)
    times = [packet.pts_s for packet in packets(recording(clip)) if packet.data]
    assert len(times) >= 10
    steps = [after - before for before, after in pairwise(times)]
    assert min(steps) == pytest.approx(max(steps))
    assert min(steps) > 0


def test_uneven_stamps_are_kept(tmp_path: Path) -> None:
    """A variable frame rate is the recording's own time, not an error."""
    stamps = [0, 1, 5, 6, 30, 31]
    clip = clips.write(tmp_path / "a.mp4", clips.moving_square(6), fps=10, pts=stamps)
    times = [packet.pts_s for packet in packets(recording(clip)) if packet.data]
    assert times == pytest.approx([stamp / 10 for stamp in stamps])


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_the_pace_of_a_camera_is_kept_without_drift(tmp_path: Path, codec: str) -> None:
    """Each packet comes at its own time after the first, also if the reader was slow before."""
    clip = clips.write(tmp_path / "a.mp4", clips.moving_square(30), fps=10, codec=codec)
    clock = TurnedClock()
    pace = Pacer(clock.monotonic_s, clock.wait)
    arrived = []
    for packet in packets(recording(clip, pace="live"), pace=pace):
        arrived.append((clock.now_s - 1000.0, packet.pts_s))
        if len(arrived) == 10:
            clock.now_s += 0.55
    late = [at_s - pts_s for at_s, pts_s in arrived[:-1]]
    assert late[:10] == pytest.approx([0.0] * 10)
    assert late[-1] == pytest.approx(0.0)


def test_a_fast_recording_waits_for_nothing(tmp_path: Path) -> None:
    """`pace: fast` never asks the clock to wait."""
    clip = clips.write(tmp_path / "a.mp4", clips.moving_square(5), fps=10)
    clock = TurnedClock()
    list(packets(recording(clip), pace=Pacer(clock.monotonic_s, clock.wait)))
    assert clock.waited == []


def test_stop_is_heard_while_a_recording_waits(tmp_path: Path) -> None:
    """A stream of one frame in 100 s ends at once when it is told to."""
    clip = clips.write(tmp_path / "a.mp4", clips.moving_square(2), fps=10, pts=[0, 1000])
    clock = TurnedClock()
    source = packets(
        recording(clip, pace="live"),
        pace=Pacer(clock.monotonic_s, clock.wait),
        stop=lambda: clock.now_s > 1003,
    )
    assert len(list(source)) == 1
    assert clock.now_s < 1005


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("nosuch.mp4", None, "there is no such file"),
        ("text.mp4", b"this is no video" * 100, "no video that can be read"),
        ("empty.mp4", b"", "no video that can be read"),
    ],
)
def test_a_file_that_is_no_video_is_refused(
    tmp_path: Path, name: str, content: bytes | None, why: str
) -> None:
    """The error says what was attempted, on which file, what happened and what to do."""
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=f"opening file://.*{name}: .*{why}; "):
        list(packets(recording(tmp_path / name)))


def test_a_recording_cannot_make_us_fetch_an_address(tmp_path: Path) -> None:
    """A playlist among the recordings is refused, and nothing connects to what it names."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        playlist = tmp_path / "a.m3u8"
        port = server.getsockname()[1]
        playlist.write_text(
            "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n"
            f"http://127.0.0.1:{port}/a.ts\n#EXT-X-ENDLIST\n"
        )
        with pytest.raises(SourceError):
            list(packets(recording(playlist)))
        with pytest.raises(TimeoutError):
            server.accept()


def test_a_playlist_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    """A playlist among the recordings that names a video elsewhere is refused."""
    elsewhere = clips.write(tmp_path / "private.ts", clips.moving_square(10))
    playlist = tmp_path / "recordings" / "a.m3u8"
    playlist.parent.mkdir()
    playlist.write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{elsewhere}\n#EXT-X-ENDLIST\n"
    )
    with pytest.raises(SourceError):
        list(packets(recording(playlist)))


# --- cameras -----------------------------------------------------------------------------------


def test_a_camera_gives_packets_at_its_own_pace() -> None:
    """An RTSP camera's packets arrive with growing times, beginning with a key frame near 0."""
    with rtsp.serving(fps=25) as camera:
        seen = [p for p in islice(packets(specs.Stream(url=camera.url)), 30) if p.data]
    assert seen[0].pts_s == pytest.approx(0.0, abs=0.1)
    assert any(packet.is_key for packet in seen[:3])
    assert seen[-1].pts_s - seen[0].pts_s == pytest.approx(28 / 25, abs=0.1)


def test_a_looped_recording_behind_rtsp_keeps_time(tmp_path: Path) -> None:
    """A server that sends a short clip over and over gives time that goes forward."""
    clip = clips.write(tmp_path / "a.h264", clips.moving_square(20), fps=20)
    with rtsp.serving(clip, fps=20) as camera:
        seen = list(islice(packets(specs.Stream(url=camera.url)), 50))
    times = [packet.pts_s for packet in seen]
    assert times == sorted(times)


@pytest.mark.parametrize("digest", [False, True], ids=["basic", "digest"])
def test_a_password_may_hold_anything(digest: bool) -> None:
    """User names and passwords reach the camera whole, whatever characters they have."""
    user, password = "adm@in", "p@ss/w:rd%25 &?#ü"
    with rtsp.serving(digest=digest, user=user, password=password) as camera:
        stream = specs.Stream.model_validate(
            {"url": camera.url, "username": user, "password": password}
        )
        assert next(packets(stream)).size_bytes > 0


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_a_silent_camera_is_given_up_in_time(scheme: str) -> None:
    """A camera that accepts and says nothing is an error after the open timeout."""
    with silent_camera() as address:
        stream = specs.Stream(url=f"{scheme}://{address}/stream")
        with pytest.raises(SourceError, match=r"nothing came for 0\.5 s"):
            next(packets(stream, open_timeout_s=0.5))


def test_a_camera_may_speak_http(tmp_path: Path) -> None:
    """A transport stream over HTTP is read; that it ends is an error, since a camera has no end."""
    clips.write(tmp_path / "live.ts", clips.moving_square(30), fps=10)
    handler = partial(QuietFiles, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        stream = specs.Stream(url=f"http://127.0.0.1:{server.server_port}/live.ts")
        source = packets(stream)
        seen = list(islice(source, 30))
        with pytest.raises(SourceError, match="the other side ended the stream"):
            until_the_end(source)
        server.shutdown()
    assert [round(packet.pts_s, 3) for packet in seen] == [n / 10 for n in range(30)]


class QuietFiles(SimpleHTTPRequestHandler):
    """Serves a folder and does not talk about it."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Nothing."""


def test_stop_ends_a_camera() -> None:
    """A stream that is told to stop ends without an error."""
    stopping = threading.Event()
    with rtsp.serving() as camera:
        source = packets(specs.Stream(url=camera.url), stop=stopping.is_set)
        next(source)
        stopping.set()
        assert list(source) == []


def until_the_end(source: Iterator[Packet]) -> None:
    deque(source, maxlen=0)


# --- credentials -------------------------------------------------------------------------------


@contextmanager
def refusing_camera() -> Iterator[str]:
    with rtsp.serving(user="admin", password="another") as camera:
        yield camera.url.removeprefix("rtsp://")


@contextmanager
def no_camera() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    yield f"127.0.0.1:{port}/stream"


@contextmanager
def no_such_path() -> Iterator[str]:
    with rtsp.serving() as camera:
        yield camera.url.removeprefix("rtsp://") + "/nosuch"


@pytest.mark.parametrize("trouble", [refusing_camera, no_camera, no_such_path, silent_camera])
def test_no_error_shows_a_credential(trouble: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """Neither the error, nor its causes, nor FFmpeg's log hold a user's password."""
    with trouble() as rest:
        stream = specs.Stream(url=f"rtsp://admin:{SECRET}@{rest}?token={SECRET}")
        with pytest.raises(SourceError) as raised:
            next(packets(stream, open_timeout_s=1))
    assert SECRET not in str(raised.value)
    assert raised.value.__suppress_context__
    assert "; " in str(raised.value)
    output = capfd.readouterr()
    assert SECRET not in output.out + output.err


def test_a_recording_is_known_by_its_url(tmp_path: Path) -> None:
    """Only file:// is a recording: it ends."""
    assert is_recording(recording(tmp_path / "a.mp4"))
    assert not is_recording(specs.Stream(url="rtsp://h/s"))
