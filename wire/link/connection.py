"""One MQTT connection: a paho client and the loop that serves it, from CONNECT to its end.

Here: everything that touches paho, and the cures of its traps: callbacks that kill its thread,
`select()` and fd 1024, a queue that outlives the connection, acknowledging what was not stored.
Not here: when to connect again and to which broker (link.py).
"""

import contextlib
import logging
import secrets
import select
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from wire.link.broker import Broker
from wire.link.events import LinkEvent, Received, Up

MAX_PACKET_BYTES = 512 * 1024
MAX_QUEUED_PUBLISHES = 1000
PACKET_OVERHEAD_BYTES = 64  # headers and properties around topic and payload, generously
POLL_MS = 500
POLL_WITH_DEADLINE_MS = 50

MqttVersion = Literal["5", "3.1.1"]

_VERSIONS: dict[MqttVersion, MQTTProtocolVersion] = {
    "5": MQTTProtocolVersion.MQTTv5,
    "3.1.1": MQTTProtocolVersion.MQTTv311,
}
_UNSUPPORTED_VERSION = 0x84
_QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)
"""A broker that joins small packets (Nagle) waits for this with each one."""

_log = logging.getLogger("forecourt.link")


@dataclass(frozen=True, slots=True)
class Publish:
    """A message to send; `expires_s` is for MQTT 5 only."""

    topic: str
    payload: bytes
    qos: int
    expires_s: int | None

    def packet_bytes(self) -> int:
        """Upper bound of the size of its packet."""
        return len(self.topic.encode()) + len(self.payload) + PACKET_OVERHEAD_BYTES


class Count(Protocol):
    """Adds to a counter of the link, from any thread."""

    def __call__(self, name: str, by: int = 1) -> None: ...


@dataclass(frozen=True, slots=True)
class Terms:
    """What all connections of a link have in common."""

    client_id: str
    subscribe: tuple[str, ...]
    will: Callable[[str], tuple[str, bytes]] | None  # session -> topic, payload
    tls: Callable[[], ssl.SSLContext]
    keepalive_s: int
    connect_timeout_s: float
    max_inflight: int
    receive_window: int
    emit: Callable[[LinkEvent], bool]  # never raises; false when the callback failed
    count: Count


class Connection:
    """Use it once. `publish`, `ack`, `drop`, `wake` and `sizes` may be called from any thread; all
    else, and with it every call into paho, belongs to the thread that calls `run`.
    """

    def __init__(self, number: int, broker: Broker, version: MqttVersion, terms: Terms) -> None:
        self.number = number
        self.broker = broker
        self.version = version
        self.session = secrets.token_hex(16)
        self.up = False
        self.up_at: float | None = None  # monotonic
        self.heard_at: float | None = None  # monotonic
        self.reached = False  # TCP and TLS stood
        self.answered = False  # there was a CONNACK, whatever it said
        self.version_refused = False
        self.ended: str | None = None  # why
        self._terms = terms
        self._lock = threading.Lock()  # never held while paho or a callback runs
        self._publishes: deque[Publish] = deque()
        self._acks: deque[int] = deque()
        self._unacked: set[int] = set()  # message ids, so at most 65535
        self._in_flight: dict[int, float] = {}  # message id -> monotonic time of its PUBLISH
        self._window = terms.max_inflight
        self._limit_bytes = MAX_PACKET_BYTES
        self._lost_messages = 0
        self._dropped = ""  # why somebody wants it to end
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2,
            terms.client_id,
            clean_session=None if version == "5" else True,
            protocol=_VERSIONS[version],
            reconnect_on_failure=False,
            manual_ack=True,
        )

    def publish(self, message: Publish) -> bool:
        """Queue for this connection; false when it is not up, its queue is full, or its broker
        takes no packet of that size.
        """
        if message.packet_bytes() > self._limit_bytes:
            return False
        with self._lock:
            if not self.up or len(self._publishes) >= MAX_QUEUED_PUBLISHES:
                return False
            self._publishes.append(message)
        self.wake()
        return True

    def ack(self, mid: int) -> bool:
        """Queue a PUBACK; false when `mid` is not waiting for one."""
        with self._lock:
            if not self.up or mid not in self._unacked:
                return False
            self._unacked.discard(mid)
            self._acks.append(mid)
        self.wake()
        return True

    def drop(self, reason: str) -> None:
        """End this connection: whoever uses it finds nobody on the other side."""
        self._dropped = reason
        self.wake()

    def wake(self) -> None:
        """Interrupt the poll. A full pipe wakes already, and a closed one has nobody to wake."""
        with contextlib.suppress(OSError):
            self._wake_writer.send(b"\0")

    def sizes(self) -> dict[str, int]:
        return {
            "queued": len(self._publishes),
            "in_flight": len(self._in_flight),
            "unacked": len(self._unacked),
        }

    def run(self, flush_until: Callable[[], float | None]) -> None:
        """Connect and serve until the connection ends; `ended` says why.

        `flush_until` gives None, or once the link stops the monotonic time by which what was
        handed over must have gone. Raises OSError, and whatever `will` and `tls` raise.
        """
        try:
            self._connect()
            self.reached = True
            self._serve(flush_until)
        finally:
            self._close()

    def _connect(self) -> None:
        client, terms = self._client, self._terms
        client.connect_timeout = terms.connect_timeout_s
        client.max_inflight_messages_set(terms.max_inflight)
        client.max_queued_messages_set(terms.max_inflight)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        client.on_socket_register_write = _write_later
        if self.broker.username is not None:
            client.username_pw_set(self.broker.username, self.broker.password)
        if self.broker.tls:
            context = terms.tls()
            context.sslsocket_class = _TlsSocket
            client.tls_set_context(context)
        if terms.will is not None:
            client.will_set(*terms.will(self.session), qos=1)
        address = self.broker.host, self.broker.port, terms.keepalive_s
        if self.version == "3.1.1":
            client.connect(*address)
            return
        properties = _properties(
            PacketTypes.CONNECT,
            SessionExpiryInterval=0,
            ReceiveMaximum=terms.receive_window,
            MaximumPacketSize=MAX_PACKET_BYTES,
        )
        client.connect(*address, clean_start=True, properties=properties)

    def _serve(self, flush_until: Callable[[], float | None]) -> None:
        client = self._client
        sock: Any = client.socket()
        # Questions and answers in turn: held back to be joined (Nagle) they would cost 40 ms each.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        inside_tls: Callable[[], int] = getattr(sock, "pending", lambda: 0)  # bytes
        poll = select.poll()  # not select(), which ends at fd 1023
        poll.register(self._wake_reader, select.POLLIN)
        up_by = time.monotonic() + self._terms.connect_timeout_s
        while self.ended is None:
            poll.register(sock, select.POLLIN | (select.POLLOUT if client.want_write() else 0))
            waits = self.up and flush_until() is None
            for fd, flags in poll.poll(POLL_MS if waits else POLL_WITH_DEADLINE_MS):
                if fd == self._wake_reader.fileno():
                    self._wake_reader.recv(4096)
                elif flags & ~select.POLLOUT:
                    self.heard_at = time.monotonic()
                    if _QUICKACK is not None:  # it does not last
                        sock.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
                    client.loop_read()
            while self.ended is None and inside_tls():
                client.loop_read()
            self._hand_over()
            client.loop_misc()
            self.ended = self.ended or self._overdue(up_by, flush_until())

    def _hand_over(self) -> None:
        """Give paho what was queued, never more than it can send at once without a queue."""
        client = self._client
        while self._acks:
            client.ack(self._acks.popleft(), 1)
        if client.want_write():
            client.loop_write()
        while (
            self._publishes
            and len(self._in_flight) < self._window
            and not client.want_write()
            and self.ended is None
        ):
            message = self._publishes.popleft()
            properties = None
            if self.version == "5" and message.expires_s is not None:
                properties = _properties(
                    PacketTypes.PUBLISH, MessageExpiryInterval=message.expires_s
                )
            info = client.publish(
                message.topic, message.payload, message.qos, properties=properties
            )
            if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
                self._terms.count("dropped_stale")
                continue
            if message.qos:
                self._in_flight[info.mid] = time.monotonic()
            self._terms.count("published")
            client.loop_write()

    def _overdue(self, up_by: float, flush_until: float | None) -> str | None:
        """Why this connection must end now although nothing has ended it, or None."""
        now = time.monotonic()
        if flush_until is not None:
            handed_over = self._publishes or self._acks or self._in_flight
            if not self.up or not handed_over or now >= flush_until:
                return "stopped"
        if self._dropped:
            return self._dropped
        if not self.up and now >= up_by:
            missing = "SUBACK" if self.answered else "CONNACK"
            return f"no {missing} within {self._terms.connect_timeout_s:g} s"
        puback_s = 2 * self._terms.keepalive_s
        if self._in_flight and now - next(iter(self._in_flight.values())) > puback_s:
            return f"no PUBACK within {puback_s} s"
        if self._lost_messages >= self._terms.receive_window:
            return f"the callback failed for {self._lost_messages} messages, the whole window"
        return None

    def _close(self) -> None:
        with self._lock:  # from here on nothing is queued any more
            self.up = False
            self._terms.count("dropped_stale", len(self._publishes) + len(self._acks))
            self._publishes.clear()
            self._acks.clear()
        if self._client.socket() is not None:
            self._client.disconnect()
            self._client.loop_write()
        unwritable: Any = self._client.socket()
        if unwritable is not None:  # the DISCONNECT could not be sent
            unwritable.close()
        self._wake_reader.close()
        self._wake_writer.close()

    def _announce(self) -> None:
        """Say once that the connection serves: on SUBACK, or on a message that overtook it."""
        if self.up or self.ended is not None:
            return
        self.up, self.up_at = True, time.monotonic()
        self._terms.count("connects")
        _log.info(
            "%s: connection %d is up, %s by MQTT %s",
            *(self._terms.client_id, self.number, self.broker, self.version),
        )
        if not self._terms.emit(Up(self.number, self.session)):
            self.ended = "the callback failed for Up, so nobody would use this connection"

    def _on_connect(
        self, client: paho.Client, _: Any, flags: Any, reason: ReasonCode, given: Properties | None
    ) -> None:
        self.answered = True
        if reason.is_failure:
            self.version_refused = reason.value == _UNSUPPORTED_VERSION
            self.ended = f"refused by the broker: {reason}"
            return
        # paho heeds neither of these two.
        self._window = min(self._window, getattr(given, "ReceiveMaximum", self._window))
        self._limit_bytes = getattr(given, "MaximumPacketSize", MAX_PACKET_BYTES)
        if self._limit_bytes < MAX_PACKET_BYTES:
            _log.warning(
                "%s: %s takes packets of %d bytes at most; raise its limit to %d",
                *(self._terms.client_id, self.broker, self._limit_bytes, MAX_PACKET_BYTES),
            )
        if self._terms.subscribe:
            client.subscribe([(topic, 1) for topic in self._terms.subscribe])
        else:
            self._announce()

    def _on_subscribe(
        self, client: paho.Client, _: Any, mid: int, reasons: Sequence[ReasonCode], given: Any
    ) -> None:
        answers = zip(self._terms.subscribe, reasons, strict=False)
        refused = [f"{topic} ({reason})" for topic, reason in answers if reason.is_failure]
        if refused:
            self.ended = f"subscription refused by the broker: {', '.join(refused)}"
        else:
            self._announce()

    def _on_disconnect(
        self,
        client: paho.Client,
        _: Any,
        flags: paho.DisconnectFlags,
        reason: ReasonCode,
        given: Any,
    ) -> None:
        what = "ended by the broker" if flags.is_disconnect_packet_from_server else "lost"
        self.ended = self.ended or f"connection {what}: {reason}"

    def _on_publish(
        self, client: paho.Client, _: Any, mid: int, reason: ReasonCode, given: Any
    ) -> None:
        self._in_flight.pop(mid, None)
        if reason.is_failure:
            self._terms.count("publishes_refused_by_broker")
            _log.debug("%s: the broker refused a publish: %s", self._terms.client_id, reason)

    def _on_message(self, client: paho.Client, _: Any, message: paho.MQTTMessage) -> None:
        self._announce()
        self._terms.count("received")
        if message.qos:
            self._unacked.add(message.mid)
        payload = bytes(message.payload)
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""
        if not topic or len(payload) > MAX_PACKET_BYTES:  # MQTT 3.1.1 cannot announce a limit
            self._terms.count("dropped_unreadable")
            self.ack(message.mid)
            return
        received = Received(self.number, topic, payload, message.mid, message.qos)
        if not self._terms.emit(received) and message.qos:
            self._lost_messages += 1


def _properties(packet: int, **values: int) -> Properties:
    properties = Properties(packet)  # type: ignore[no-untyped-call]  # paho left it untyped
    for name, value in values.items():
        setattr(properties, name, value)
    return properties


class _TlsSocket(ssl.SSLSocket):
    """Closes itself when its handshake fails, as paho leaves that to the garbage collector."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise


def _write_later(*_: object) -> None:
    """Its presence keeps paho from writing inside `publish` and `ack`; our loop writes."""
