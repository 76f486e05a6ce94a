"""A network between a worker and its broker that a test can spoil: `with proxy(url) as network:`.

Two ways, `up` (worker to broker) and `down`. On each: delay, bandwidth, silence (half-open: bytes
are read and go nowhere), and the fate of each PUBLISH by a rule. A PUBLISH that is dropped is
acknowledged to its sender all the same, as a broker does whose queue overflows. `reset` ends every
connection with a RST. Loopback only; without TLS, as packets are read.
"""

import asyncio
import contextlib
import itertools
import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

Fate = Literal["pass", "drop", "twice", "late"]
_CONNECT, _PUBLISH, _PUBACK = 1, 3, 4
_QUEUE_BYTES = 32 * 1024
_READ_BYTES = 16 * 1024
LATE_S = 0.3
"""How long a late packet is held back at most; the next PUBLISH overtakes it."""


@dataclass(frozen=True, slots=True)
class Publish:
    """A PUBLISH packet on its way."""

    topic: str
    payload: bytes = field(repr=False)
    mid: int
    number: int
    """Of the PUBLISH packets of its way, from 1, over all connections."""


Rule = Callable[[Publish], Fate]


def always(_: Publish) -> Fate:
    """Nothing is spoilt."""
    return "pass"


def dice(seed: int, drop: float = 0.0, twice: float = 0.0, late: float = 0.0) -> Rule:
    """Fates by chance, the same ones for the same seed."""
    rng = random.Random(seed)

    def rule(_: Publish) -> Fate:
        throw = rng.random()
        if throw < drop:
            return "drop"
        if throw < drop + twice:
            return "twice"
        return "late" if throw < drop + twice + late else "pass"

    return rule


@dataclass
class Way:
    """One direction. Everything but the counts may be set at any time."""

    delay_s: float = 0.0
    bytes_per_s: float | None = None
    silent: bool = False
    rule: Rule = always
    total_bytes: int = 0
    """TCP payload that came in from the sender."""
    publishes: int = 0
    last_s: float = 0.0
    """When the last byte came, by the loop's clock."""
    topics: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Packets and bytes by topic."""


class Proxy:
    """A listening address before a broker's. Made by `proxy`."""

    def __init__(self, target_port: int) -> None:
        self.up = Way()
        self.down = Way()
        self.refusing = False
        """New connections are closed at once."""
        self.connections = 0
        self.port = 0
        self._target_port = target_port
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stop: asyncio.Event | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)

    @property
    def url(self) -> str:
        """For the worker."""
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Returns when it listens."""
        self._thread.start()
        if not self._ready.wait(10):
            raise RuntimeError("the proxy did not start")

    def stop(self) -> None:
        """End every connection and the thread."""
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def reset(self) -> None:
        """End every connection with a RST, both ends."""
        done = threading.Event()
        self._loop.call_soon_threadsafe(self._reset, done)
        done.wait(5)

    def break_soon(self) -> None:
        """Like `reset`, for a rule to call: it happens when the rule has returned."""
        self._loop.call_soon_threadsafe(self._reset)

    def heal(self) -> None:
        """A perfect network again; connections that lost bytes are beyond use, and reset."""
        for way in (self.up, self.down):
            way.delay_s, way.bytes_per_s, way.rule = 0.0, None, always
        if self.up.silent or self.down.silent:
            self.reset()
            self.up.silent = self.down.silent = False
        self.refusing = False

    @property
    def total_bytes(self) -> int:
        """TCP payload, both ways."""
        return self.up.total_bytes + self.down.total_bytes

    def quiet_s(self) -> float:
        """How long no byte has come either way."""
        return self._loop.time() - max(self.up.last_s, self.down.last_s)

    # --- on its loop ---

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _READ_BYTES)
        listening.bind(("127.0.0.1", 0))
        self.port = listening.getsockname()[1]
        server = await asyncio.start_server(self._accept, sock=listening, limit=_READ_BYTES)
        self._ready.set()
        await self._stop.wait()
        server.close()
        self._reset()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _reset(self, done: threading.Event | None = None) -> None:
        for pair in list(self._pairs):
            for writer in pair:
                _abort(writer)
        if done is not None:
            done.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._join(reader, writer)
        except asyncio.CancelledError:
            pass  # the proxy ends
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            _abort(writer)
            return
        try:
            far_reader, far_writer = await asyncio.open_connection(
                "127.0.0.1", self._target_port, limit=_READ_BYTES
            )
        except OSError:
            _abort(writer)
            return
        self.connections += 1
        pair = (writer, far_writer)
        self._pairs.add(pair)
        talk = _Talk()
        up = _Pipe(self.up, talk, self._loop, reader, far_writer, writer)
        down = _Pipe(self.down, talk, self._loop, far_reader, writer, far_writer)
        try:
            async with asyncio.TaskGroup() as group:
                for pipe in (up, down):
                    group.create_task(pipe.read())
                    group.create_task(pipe.write())
        except* OSError:
            pass  # one end is gone: so is the other
        finally:
            self._pairs.discard(pair)
            for end in pair:
                _abort(end)


@dataclass
class _Talk:
    """What both ways of a connection know."""

    mqtt: int = 4
    """The protocol level of CONNECT: 4 is 3.1.1, 5 is 5."""


class _Pipe:
    """One way of one connection."""

    def __init__(
        self,
        way: Way,
        talk: _Talk,
        loop: asyncio.AbstractEventLoop,
        reader: asyncio.StreamReader,
        out: asyncio.StreamWriter,
        back: asyncio.StreamWriter,
    ) -> None:
        self._way = way
        self._talk = talk
        self._loop = loop
        self._reader = reader
        self._out = out
        self._back = back
        self._queue: asyncio.Queue[tuple[float, bytes] | None] = asyncio.Queue()
        self._queued = 0
        self._room = asyncio.Event()
        self._free_s = 0.0
        self._late: list[tuple[bytes, asyncio.TimerHandle]] = []

    async def read(self) -> None:
        """Read packets and decide what becomes of each, to the end. Raises OSError."""
        with contextlib.suppress(asyncio.IncompleteReadError):
            await self._read_packets()
        self._queue.put_nowait(None)

    async def _read_packets(self) -> None:
        while True:
            head = await self._reader.readexactly(1)
            length, size = b"", 0
            for place in itertools.count():
                byte = await self._reader.readexactly(1)
                length += byte
                size += (byte[0] & 0x7F) << (7 * place)
                if not byte[0] & 0x80:
                    break
            body = await self._reader.readexactly(size)
            packet = head + length + body
            self._way.total_bytes += len(packet)
            self._way.last_s = self._loop.time()
            if self._way.silent:
                continue
            self._judge(packet, head[0], body)
            while self._queued > _QUEUE_BYTES:
                self._room.clear()
                await self._room.wait()

    def _judge(self, packet: bytes, head: int, body: bytes) -> None:
        if head >> 4 == _CONNECT:
            self._talk.mqtt = body[6]
        if head >> 4 != _PUBLISH:
            self._put(packet)
            return
        length = struct.unpack_from("!H", body)[0]
        topic = body[2 : 2 + length].decode(errors="replace")
        qos = head >> 1 & 3
        mid = struct.unpack_from("!H", body, 2 + length)[0] if qos else 0
        way = self._way
        way.publishes += 1
        packets, size = way.topics.get(topic, (0, 0))
        way.topics[topic] = packets + 1, size + len(packet)
        payload = body[2 + length + (2 if qos else 0) :]
        if self._talk.mqtt == 5:
            payload = payload[1 + payload[0] :]  # properties: ours are short
        fate = way.rule(Publish(topic, payload, mid, way.publishes))
        if fate == "drop":
            if qos:
                with contextlib.suppress(OSError):
                    self._back.write(struct.pack("!BBH", _PUBACK << 4, 2, mid))
            return
        if fate == "late":
            timer = self._loop.call_later(LATE_S, self._release)
            self._late.append((packet, timer))
            return
        self._put(packet)
        if fate == "twice":
            self._put(packet)
        self._release()

    def _release(self) -> None:
        """What was held back goes on, behind what has overtaken it."""
        late, self._late = self._late, []
        for packet, timer in late:
            timer.cancel()
            self._put(packet)

    def _put(self, packet: bytes) -> None:
        now_s = self._loop.time()
        if self._way.bytes_per_s is not None:
            self._free_s = max(now_s, self._free_s) + len(packet) / self._way.bytes_per_s
            now_s = self._free_s
        self._queued += len(packet)
        self._queue.put_nowait((now_s + self._way.delay_s, packet))

    async def write(self) -> None:
        """Write each packet when it is due. Raises OSError, also when all is written."""
        while True:
            entry = await self._queue.get()
            if entry is None:
                raise ConnectionResetError("the sender has closed")
            due_s, packet = entry
            wait_s = due_s - self._loop.time()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            self._queued -= len(packet)
            self._room.set()
            self._out.write(packet)
            await self._out.drain()


def _abort(writer: asyncio.StreamWriter) -> None:
    """RST: the other end learns that it is over, and what was under way is lost."""
    sock = writer.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@contextmanager
def proxy(url: str) -> Iterator[Proxy]:
    """A network before the broker at `url` (mqtt://127.0.0.1:PORT)."""
    made = Proxy(int(url.rpartition(":")[2]))
    made.start()
    try:
        yield made
    finally:
        made.stop()
