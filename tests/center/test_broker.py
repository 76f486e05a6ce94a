"""The embedded broker: where it listens, what it carries, how it ends."""

import socket
import threading

import pytest

from center.broker import EmbeddedBroker
from tests.waiting import wait_for
from wire.link import Broker, Link, LinkEvent, Received, Up

WAIT_S = 10.0
CONNECT_V5 = b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x01z"
CONNECT_V311 = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01z"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "", "broker.example"])
def test_it_refuses_to_listen_beyond_this_machine(host: str) -> None:
    """A broker that admits everybody says so instead of binding an address others can reach."""
    broker = EmbeddedBroker()
    with pytest.raises(ValueError, match="only on a loopback address"):
        broker.start(host)
    assert broker.port is None


def test_half_a_mebibyte_passes_through() -> None:
    """A message of nearly 512 KiB arrives whole."""
    events: list[LinkEvent] = []
    with EmbeddedBroker() as broker:
        assert broker.port is not None
        link = Link([Broker("127.0.0.1", broker.port)], "test", ["t"], events.append)
        link.start()
        up = wait_for(lambda: [e for e in events if isinstance(e, Up)], WAIT_S, "the link up")[0]
        payload = bytes(range(256)) * 2047
        assert link.publish(up.connection, "t", payload)
        got = wait_for(lambda: [e for e in events if isinstance(e, Received)], WAIT_S, "a message")
        assert got[0].payload == payload
        link.stop()


def test_it_stops_with_clients_connected_and_starts_again_on_its_port() -> None:
    """Stopping ends connections, the thread and the port; the same object starts again."""
    broker = EmbeddedBroker()
    port = broker.start()
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as client:
        client.sendall(CONNECT_V311)
        assert client.recv(4) == b"\x20\x02\x00\x00"
        broker.stop()
        assert client.recv(1) == b""
    broker.stop()
    assert "embedded-broker" not in {thread.name for thread in threading.enumerate()}
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=WAIT_S)
    assert broker.start(port=port) == port
    with pytest.raises(RuntimeError, match="runs already"):
        broker.start()
    broker.stop()


def test_a_taken_port_is_an_error_and_leaves_nothing_running() -> None:
    """A port in use raises OSError, after which another start works."""
    broker = EmbeddedBroker()
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(OSError, match="in use"),
    ):
        broker.start(port=taken.getsockname()[1])
    assert broker.start() > 0
    broker.stop()


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (CONNECT_V5, b"\x20\x02\x00\x01"),
        (b"GET / HTTP/1.1\r\n\r\n", b""),
        (b"\x10\xff\xff\xff\xff\x00\x04MQTT\x04", b""),
    ],
)
def test_what_is_no_mqtt_3_1_1_is_refused_at_once(sent: bytes, answer: bytes) -> None:
    """MQTT 5 is told its version is not spoken, other protocols are cut off; others go on."""
    with EmbeddedBroker() as broker:
        with socket.create_connection(("127.0.0.1", broker.port or 0), timeout=WAIT_S) as client:
            client.sendall(sent)
            received = b""
            try:
                while chunk := client.recv(100):
                    received += chunk
            except ConnectionResetError:  # bytes that it never read were still on their way
                assert received == b""
            assert received == answer
        with socket.create_connection(("127.0.0.1", broker.port or 0), timeout=WAIT_S) as client:
            client.sendall(CONNECT_V311)
            assert client.recv(4) == b"\x20\x02\x00\x00"
