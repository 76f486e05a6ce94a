"""A camera that misbehaves: a few lines of RTSP or HTTP on a loopback port, with what a test says.

Here: accepting connections, the words of the protocols, H.264 as RTP. Not here: a camera that works
(rtsp.py, which is a real server).
"""

import contextlib
import functools
import socket
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import av

from tests.parts import clips

CLOCK_HZ = 90_000
_MAX_RTP = 1300
_START_CODE = b"\x00\x00\x01"


class Connection:
    """One client of the camera. Sending fails once the test is over."""

    def __init__(self, client: socket.socket, stopping: threading.Event) -> None:
        self._client = client
        self._stopping = stopping

    def request(self) -> str:
        """What the client asks, with all its headers; empty at the end."""
        asked = b""
        while not asked.endswith(b"\r\n\r\n"):
            more = self._client.recv(1)
            if not more:
                return ""
            asked += more
        return asked.decode()

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self._client.sendall(data)

    def pause(self, seconds: float) -> None:
        """Let time pass between two packets, as a camera does."""
        if self._stopping.wait(seconds):
            raise ConnectionAbortedError

    def hold(self) -> None:
        """Keep the connection open and say nothing more."""
        self._stopping.wait(60)


class Rtp:
    """A client that plays: what is sent to it goes as interleaved RTP."""

    def __init__(self, connection: Connection) -> None:
        self.pause = connection.pause
        self.hold = connection.hold
        self._connection = connection
        self._number = 0

    def picture(self, unit: Sequence[bytes], stamp: int) -> None:
        """One access unit, its NAL units in as many packets as they need."""
        for index, nal in enumerate(unit):
            last = index == len(unit) - 1
            if len(nal) <= _MAX_RTP:
                self.packet(nal, stamp, marker=last)
                continue
            pieces = [nal[at : at + _MAX_RTP] for at in range(1, len(nal), _MAX_RTP)]
            for n, piece in enumerate(pieces):
                ends = n == len(pieces) - 1
                self.fragment(nal[0], piece, stamp, starts=n == 0, ends=ends, marker=last and ends)

    def fragment(
        self, header: int, piece: bytes, stamp: int, *, starts: bool, ends: bool, marker: bool
    ) -> None:
        """A part of a NAL unit (FU-A)."""
        flags = starts << 7 | ends << 6
        head = bytes([header & 0xE0 | 28, flags | header & 0x1F])
        self.packet(head + piece, stamp, marker=marker)

    def packet(self, payload: bytes, stamp: int, *, marker: bool) -> None:
        """One RTP packet."""
        self._number = (self._number + 1) & 0xFFFF
        second = 96 | marker << 7
        head = struct.pack(">BBHII", 0x80, second, self._number, stamp & 0xFFFFFFFF, 7)
        self._interleaved(0, head + payload)

    def report(self, ntp_s: int, stamp: int) -> None:
        """An RTCP sender report: by the camera's clock it is `ntp_s` seconds since 1900."""
        report = struct.pack(">BBHIIIIII", 0x80, 200, 6, 7, ntp_s, 0, stamp & 0xFFFFFFFF, 1, 1)
        self._interleaved(1, report)

    def _interleaved(self, channel: int, data: bytes) -> None:
        self._connection.send(struct.pack(">BBH", 0x24, channel, len(data)) + data)


@contextlib.contextmanager
def accepting(serve: Callable[[Connection], None]) -> Iterator[str]:
    """A port whose every connection is served so; gives `127.0.0.1:PORT`."""
    stopping = threading.Event()

    def one(client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            serve(Connection(client, stopping))

    def accept(server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = server.accept()
                threading.Thread(target=one, args=(client,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=accept, args=(server,), daemon=True).start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            stopping.set()
            server.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def http(serve: Callable[[Connection], None]) -> Iterator[str]:
    """A camera that speaks HTTP; `serve` sends headers and body."""

    def answer(connection: Connection) -> None:
        if connection.request():
            serve(connection)

    with accepting(answer) as address:
        yield f"http://{address}/live"


@contextlib.contextmanager
def rtsp(play: Callable[[Rtp], None]) -> Iterator[str]:
    """A camera that speaks RTSP and sends H.264; `play` begins when the client says PLAY."""

    def answer(connection: Connection) -> None:
        while asked := connection.request():
            method, _, rest = asked.partition(" ")
            number = next(line for line in asked.splitlines() if line.startswith("CSeq"))
            head = f"RTSP/1.0 200 OK\r\n{number}\r\nSession: 1\r\n"
            body = ""
            if method == "DESCRIBE":
                body = _sdp()
                head += f"Content-Base: {rest.split()[0]}/\r\nContent-Type: application/sdp\r\n"
            elif method == "SETUP":
                head += "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
            connection.send(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
            if method == "PLAY":
                play(Rtp(connection))
                return

    with accepting(answer) as address:
        yield f"rtsp://{address}/live"


def _sdp() -> str:
    return "\r\n".join(
        (
            "v=0", "o=- 0 0 IN IP4 127.0.0.1", "s=faulty", "t=0 0", "m=video 0 RTP/AVP 96",
            "c=IN IP4 127.0.0.1", f"a=rtpmap:96 H264/{CLOCK_HZ}",
            "a=fmtp:96 packetization-mode=1", "a=control:track1", "",
        )
    )  # fmt: skip


@functools.cache
def units(width: int = 160, height: int = 120, pictures: int = 50) -> tuple[tuple[bytes, ...], ...]:
    """Access units of H.264 as NAL units, 25 a second, a key picture every 10."""
    with tempfile.TemporaryDirectory() as folder:
        moving = clips.moving_square(pictures, width, height)
        clip = clips.write(Path(folder) / "a.h264", moving, fps=25)
        with av.open(str(clip)) as container:
            packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    return tuple(
        tuple(nal for part in data.split(_START_CODE) if (nal := part.rstrip(b"\x00")))
        for data in packets
    )
