"""A link whose events a test can wait for, and servers that misbehave on purpose."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from tests.waiting import wait_for
from wire.link import Broker, Down, Link, LinkEvent, Received, Up

WAIT_S = 10.0
QUICK = (0.02, 0.1)  # back-off, seconds
Event = TypeVar("Event", Up, Down, Received)


@dataclass
class Heard:
    """Everything that a link told, in order; `before` runs first, on the link's thread."""

    before: Callable[[LinkEvent], None] | None = None
    events: list[LinkEvent] = field(default_factory=list)

    def __call__(self, event: LinkEvent) -> None:
        self.events.append(event)
        if self.before is not None:
            self.before(event)

    def all(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]

    def wait(self, kind: type[Event], count: int = 1) -> Event:
        """The `count`-th event of that kind."""
        what = f"{kind.__name__} number {count}"
        return wait_for(lambda: self.all(kind)[count - 1 :], WAIT_S, what)[0]

    def payloads(self) -> list[bytes]:
        return [message.payload for message in self.all(Received)]


@contextmanager
def linked(
    *urls: str,
    subscribe: tuple[str, ...] = (),
    before: Callable[[LinkEvent], None] | None = None,
    **options: object,
) -> Iterator[tuple[Link, Heard]]:
    heard = Heard(before)
    brokers = [Broker.parse(url) for url in urls]
    settings: dict[str, object] = {"backoff_s": QUICK, **options}
    link = Link(brokers, "test", subscribe, heard, **settings)  # type: ignore[arg-type]  # options
    link.start()
    try:
        yield link, heard
    finally:
        link.stop()


@contextmanager
def server(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """A TCP server that is no broker: `serve` gets each connection, which stays open after it."""
    kept: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                kept.append(client)
                serve(client)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"mqtt://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(WAIT_S)
    for client in kept:
        client.close()


def publish_raw(url: str, topic: bytes, payload: bytes) -> None:
    """Publish past every limit of ours, with QoS 0 and MQTT 3.1.1."""
    length, encoded = 2 + len(topic) + len(payload), b""
    while length >= 0x80:
        encoded += bytes([length & 0x7F | 0x80])
        length >>= 7
    packet = b"\x30" + encoded + bytes([length]) + len(topic).to_bytes(2, "big") + topic + payload
    with socket.create_connection(("127.0.0.1", Broker.parse(url).port)) as client:
        client.sendall(b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x3c\x00\x02zz")
        assert client.recv(4) == b"\x20\x02\x00\x00"
        client.sendall(packet + b"\xc0\x00")
        assert client.recv(2) == b"\xd0\x00"  # PINGRESP: it has read the message


def fail_on_received(event: LinkEvent) -> None:
    if isinstance(event, Received):
        raise RuntimeError("a bug in the callback")
