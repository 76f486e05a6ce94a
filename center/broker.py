"""The broker inside the center's process, for the demo and for tests: amqtt on loopback.

Here: starting it in a thread of its own, and stopping it. It speaks MQTT 3.1.1, admits everybody,
and therefore listens on loopback only. Not here: the production broker (Mosquitto and others).
"""

import asyncio
import contextlib
import ipaddress
import logging
import socket
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Self

# amqtt ships no py.typed
from amqtt.adapters import StreamReaderAdapter, StreamWriterAdapter  # type: ignore[import-untyped]
from amqtt.broker import Broker  # type: ignore[import-untyped]

_LISTENER = "default"
_CONFIG = {
    # We accept connections and hand them over: amqtt misreads the CONNECT of MQTT 5 and hangs.
    "listeners": {_LISTENER: {"type": "external"}},
    # Naming the plugins leaves out the default ones ($SYS topics, packet logs).
    "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
}
_CONNECT_HEAD = b"\x00\x04MQTT"
_MQTT_3_1_1 = 4
_CONNACK_WRONG_VERSION = b"\x20\x02\x00\x01"
_CONNECT_TIMEOUT_S = 10.0
_STOP_TIMEOUT_S = 10.0

_log = logging.getLogger("forecourt.broker")


@dataclass(frozen=True, slots=True)
class _Listening:
    """What the broker's thread tells once it listens."""

    port: int
    loop: asyncio.AbstractEventLoop
    stop: asyncio.Event


class EmbeddedBroker:
    """An MQTT 3.1.1 broker for this machine: `with EmbeddedBroker() as broker: broker.port`.

    It can be started again after a stop. Nothing outlives a stop: no session, no message.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._listening: _Listening | None = None

    @property
    def port(self) -> int | None:
        """The TCP port while it runs."""
        return None if self._listening is None else self._listening.port

    def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listen on `host` and return the port, which the system chooses when 0 is given.

        Raises ValueError for an address that is not loopback, OSError when the port is taken,
        RuntimeError when it runs already.
        """
        if self._thread is not None:
            raise RuntimeError(f"the embedded broker runs already, on port {self.port}")
        if not _is_loopback(host):
            raise ValueError(
                f"the embedded broker admits everybody, so it cannot listen on {host!r}, only on "
                "a loopback address such as 127.0.0.1; run Mosquitto to serve other machines"
            )
        for noisy in ("amqtt", "transitions"):  # they tell of every connection and late PUBACK
            logging.getLogger(noisy).setLevel(logging.CRITICAL)
        listening: Future[_Listening] = Future()
        thread = threading.Thread(
            target=lambda: asyncio.run(_serve(host, port, listening)),
            name="embedded-broker",
            daemon=True,
        )
        thread.start()
        self._listening = listening.result()
        self._thread = thread
        _log.info("the embedded broker listens on %s port %d", host, self._listening.port)
        return self._listening.port

    def stop(self) -> None:
        """End all connections and the thread. Idempotent."""
        if self._thread is None or self._listening is None:
            return
        with contextlib.suppress(RuntimeError):  # the loop is closed: it has ended by itself
            self._listening.loop.call_soon_threadsafe(self._listening.stop.set)
        self._thread.join(_STOP_TIMEOUT_S)
        self._thread = self._listening = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def _serve(host: str, port: int, listening: Future[_Listening]) -> None:
    """Run the broker until `_Listening.stop` is set; a failure to start goes to the future."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_log_quietly)
    stop = asyncio.Event()
    connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
    broker = Broker(_CONFIG)

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = loop.create_task(_converse(broker, reader, writer))
        connections[task] = writer
        task.add_done_callback(connections.pop)

    try:
        await broker.start()
        server = await asyncio.start_server(accept, host, port, family=socket.AF_UNSPEC)
    except Exception as error:
        listening.set_exception(error)
        return
    listening.set_result(_Listening(server.sockets[0].getsockname()[1], loop, stop))
    await stop.wait()
    server.close()
    open_then = dict(connections)
    for task, writer in open_then.items():
        task.cancel()
        writer.transport.abort()
    await asyncio.gather(*open_then, return_exceptions=True)
    # A task that was cancelled before its first step has not waited for its own connection.
    closed = (writer.wait_closed() for writer in open_then.values())
    await asyncio.gather(*closed, return_exceptions=True)
    await broker.shutdown()


async def _converse(
    broker: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Hand one client to amqtt, or refuse a version of MQTT that amqtt does not speak."""
    try:
        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            head = await _read_connect_head(reader)
        if head[-1] != _MQTT_3_1_1:
            writer.write(_CONNACK_WRONG_VERSION)
            await writer.drain()
            return
        client = _Rewound(head, reader)
        await broker.external_connected(client, StreamWriterAdapter(writer), _LISTENER)
    except (OSError, EOFError, ValueError) as error:  # also TimeoutError and IncompleteReadError
        _log.debug("a client left or was no MQTT client: %s", error)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _read_connect_head(reader: asyncio.StreamReader) -> bytes:
    """A CONNECT packet up to and with its protocol version. ValueError if it is none."""
    head = await reader.readexactly(2)
    while head[-1] & 0x80 and len(head) < 5:  # the packet's length, seven bits a byte
        head += await reader.readexactly(1)
    name = await reader.readexactly(len(_CONNECT_HEAD))
    if head[0] != 0x10 or name != _CONNECT_HEAD:
        raise ValueError("the first packet is no CONNECT")
    return head + name + await reader.readexactly(1)


class _Rewound:
    """amqtt's reader interface over a stream whose first bytes were read already."""

    def __init__(self, head: bytes, reader: asyncio.StreamReader) -> None:
        self._head = head
        self._rest = StreamReaderAdapter(reader)

    async def read(self, n: int = -1) -> bytes:
        if not self._head:
            rest: bytes = await self._rest.read(n)
            return rest
        # amqtt asks for each field of the head by its size, so no read spans its end.
        part, self._head = self._head[:n], self._head[n:]
        return part

    def feed_eof(self) -> None:
        self._rest.feed_eof()


def _log_quietly(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """amqtt leaves tasks behind whose client has gone; nobody can act on that."""
    _log.debug("in the embedded broker: %s", context.get("exception") or context["message"])
