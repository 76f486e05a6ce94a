"""The link: a thread that keeps one connection to one of several brokers.

Here: attempts, broker and version of the next one, back-off, what other threads may call.
Not here: the connection itself (connection.py).
"""

import itertools
import logging
import random
import secrets
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

from wire.backoff import full_jitter
from wire.link.broker import Broker
from wire.link.connection import (
    MAX_PACKET_BYTES,
    Connection,
    MqttVersion,
    Publish,
    Terms,
)
from wire.link.events import Down, LinkEvent, Received, Up

_COUNTERS = (
    "attempts",
    "connects",
    "received",
    "published",
    "publishes_refused_by_broker",
    "refused_publishes",
    "dropped_stale",
    "dropped_unreadable",
    "callback_errors",
    "faults",
)
_SIZES = ("queued", "in_flight", "unacked")

_log = logging.getLogger("forecourt.link")


class Link(threading.Thread):
    """Keeps one connection to one of `brokers`, in the order given, beginning with the last good.

    `on_event` is called on the link's thread and must only enqueue: the link stands still while
    it runs. If it raises, that is counted and logged, and the message stays unacknowledged. Up
    and Down alternate; every Received lies between the Up and the Down of its connection.
    `on_good` is called likewise, with the broker of each connection that is up.

    `will` maps a session id to topic and payload; `tls` is called for each connection, so that
    rotated files are picked up. `connect_timeout_s` bounds the TCP and TLS steps and then the
    wait for CONNACK and SUBACK. `receive_window` bounds unacknowledged messages (MQTT 5 only).
    """

    def __init__(
        self,
        brokers: Sequence[Broker],
        client_id: str,
        subscribe: Sequence[str],
        on_event: Callable[[LinkEvent], None],
        *,
        on_good: Callable[[Broker], None] | None = None,
        will: Callable[[str], tuple[str, bytes]] | None = None,
        tls: Callable[[], ssl.SSLContext] | None = None,
        keepalive_s: int = 60,
        backoff_s: tuple[float, float] = (0.5, 60.0),
        max_inflight: int = 20,
        rng: random.Random | None = None,
        connect_timeout_s: float = 20.0,
        receive_window: int = 50,
    ) -> None:
        if not brokers:
            raise ValueError("a link needs at least one broker: give it a URL to connect to")
        super().__init__(name=f"link-{client_id}", daemon=True)
        self._brokers = tuple(brokers)
        self._at: Broker | None = None  # to try next; none: the first
        self._without_v5: set[Broker] = set()  # those that said so
        self._try_older: Broker | None = None  # one that left MQTT 5 unanswered just now
        self._on_event = on_event
        self._on_good = on_good
        self._backoff_s = backoff_s
        self._rng = rng or random.Random()
        self._counts: Counter[str] = Counter()
        self._counts_lock = threading.Lock()
        self._attempt: Connection | None = None
        self._dropped = 0  # the connection that was ended by `drop`
        self._heard_at = time.monotonic()
        self._stopping = threading.Event()
        self._flush_until: float | None = None  # monotonic
        self._terms = Terms(
            # The same id in two processes would make the broker end each for the other, for ever.
            client_id=f"{client_id}-{secrets.token_hex(4)}",
            subscribe=tuple(subscribe),
            will=will,
            tls=tls or ssl.create_default_context,
            keepalive_s=keepalive_s,
            connect_timeout_s=connect_timeout_s,
            max_inflight=max_inflight,
            receive_window=receive_window,
            emit=self._emit,
            count=self._count,
        )

    @property
    def connection(self) -> int | None:
        """The number of the connection that is up, None while down."""
        attempt = self._attempt
        return attempt.number if attempt is not None and attempt.up else None

    def publish(
        self,
        connection: int,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        expires_s: int | None = None,
    ) -> bool:
        """Hand a message over to `connection`. True is no promise that it arrives anywhere.

        False, with nothing kept: not on that connection, queue full, or larger than this broker
        takes. Raises ValueError for a topic, QoS or size that no connection would take.
        """
        message = Publish(topic, payload, qos, expires_s)
        if qos not in (0, 1):
            raise ValueError(f"cannot publish to {topic!r}: QoS must be 0 or 1, not {qos}")
        if not topic or any(mark in topic for mark in "+#\0"):
            raise ValueError(f"cannot publish to {topic!r}: a topic is not empty and has no + or #")
        if message.packet_bytes() > MAX_PACKET_BYTES:
            raise ValueError(
                f"cannot publish {len(payload)} bytes to {topic!r}: a packet holds "
                f"{MAX_PACKET_BYTES} bytes; send it in parts"
            )
        current = self._current(connection)
        handed_over = current is not None and current.publish(message)
        if not handed_over:
            self._count("refused_publishes")
        return handed_over

    def ack(self, message: Received) -> None:
        """Send the PUBACK of `message`, from any thread; ignored when its connection is gone, as
        the number may mean another message by now.
        """
        if message.qos == 0:
            return
        current = self._current(message.connection)
        if current is None or not current.ack(message.mid):
            self._count("dropped_stale")

    def reorder(self, brokers: Sequence[Broker]) -> None:
        """From now on choose among these, in this order. A connection that is up stays.

        Raises ValueError without any.
        """
        if not brokers:
            raise ValueError("a link needs at least one broker: give it an address to connect to")
        self._brokers = tuple(brokers)

    def drop(self, connection: int, reason: str) -> None:
        """End a connection on which nobody answers, and go on to the next broker."""
        current = self._current(connection)
        if current is not None:
            self._dropped = connection
            current.drop(reason)

    def stop(self, timeout_s: float = 5.0) -> None:
        """Send what was handed over, DISCONNECT (so the will is not sent) and end the thread.

        Returns after `timeout_s` at the latest, whatever the network does. Idempotent.
        """
        if not self._stopping.is_set():
            self._flush_until = time.monotonic() + 0.8 * timeout_s
            self._stopping.set()
        attempt = self._attempt
        if attempt is not None:
            attempt.wake()
        if self.ident is not None and threading.current_thread() is not self:
            self.join(timeout_s)

    def stats(self) -> dict[str, int | float]:
        """Counters since the start, current sizes, and the age in seconds of the last byte heard
        (before the first one, of the link).
        """
        attempt = self._attempt
        heard_at = (attempt.heard_at if attempt is not None else None) or self._heard_at
        sizes = attempt.sizes() if attempt is not None else dict.fromkeys(_SIZES, 0)
        with self._counts_lock:
            counts = {name: self._counts[name] for name in _COUNTERS}
        return {**counts, **sizes, "last_received_age_s": time.monotonic() - heard_at}

    def run(self) -> None:
        """The thread: one connection after another, until `stop`."""
        failures = 0
        last_reason = ""
        for number in itertools.count(1):
            if self._stopping.is_set():
                break
            attempt = self._run_once(number)
            reason = attempt.ended or "ended"
            if attempt.up_at is not None:
                self._emit(Down(number, reason))
                last_reason = ""
                if time.monotonic() - attempt.up_at > self._backoff_s[1]:
                    failures = 0
            if self._choose_next(attempt) or self._stopping.is_set():
                continue
            wait_s = full_jitter(failures, *self._backoff_s, self._rng)
            failures += 1
            _log.log(
                logging.DEBUG if reason == last_reason else logging.WARNING,
                "%s: down, %s: %s; next attempt in %.1f s",
                *(self._terms.client_id, attempt.broker, reason, wait_s),
            )
            last_reason = reason
            self._stopping.wait(wait_s)
        _log.info("%s: stopped", self._terms.client_id)

    def _run_once(self, number: int) -> Connection:
        self._count("attempts")
        broker = self._broker()
        attempt = Connection(number, broker, self._version(broker), self._terms)
        self._attempt = attempt
        try:
            attempt.run(lambda: self._flush_until)
        except OSError as error:
            attempt.ended = f"cannot connect: {error}"
        except Exception as error:  # a fault of will(), tls() or paho must not end the thread
            self._count("faults")
            _log.exception("%s: connection %d failed", self._terms.client_id, number)
            attempt.ended = f"{type(error).__name__}: {error}"
        self._attempt = None
        self._heard_at = attempt.heard_at or self._heard_at
        return attempt

    def _broker(self) -> Broker:
        """The one to try now: settled after the last attempt, unless the list has changed."""
        brokers = self._brokers
        self._without_v5.intersection_update(brokers)
        if self._at not in brokers:
            self._at = brokers[0]
        return self._at

    def _version(self, broker: Broker) -> MqttVersion:
        if broker.version != "auto":
            return broker.version
        return "3.1.1" if broker in self._without_v5 or broker == self._try_older else "5"

    def _choose_next(self, attempt: Connection) -> bool:
        """Settle broker and version of the next attempt; true when it need not wait.

        A refusal of MQTT 5 is remembered. Silence or a plain close may be one too, but also a
        proxy without its broker, so it only makes the next attempt at this broker an older one.
        """
        asked_v5 = attempt.broker.version == "auto" and attempt.version == "5"
        if asked_v5 and attempt.version_refused:
            self._without_v5.add(attempt.broker)
            return True
        unanswered = asked_v5 and attempt.reached and not attempt.answered
        self._try_older = attempt.broker if unanswered else None
        useless = attempt.up_at is None or attempt.number == self._dropped
        if useless and not unanswered:
            self._at = _after(attempt.broker, self._brokers)
        return False

    def _current(self, connection: int) -> Connection | None:
        attempt = self._attempt
        return attempt if attempt is not None and attempt.number == connection else None

    def _emit(self, event: LinkEvent) -> bool:
        try:
            self._on_event(event)
            attempt = self._attempt
            if isinstance(event, Up) and attempt is not None and self._on_good is not None:
                self._on_good(attempt.broker)
        except Exception:  # a bug up there must not take the connection with it
            self._count("callback_errors")
            what = type(event).__name__
            _log.exception("%s: the callback failed for a %s", self._terms.client_id, what)
            return False
        return True

    def _count(self, name: str, by: int = 1) -> None:
        with self._counts_lock:
            self._counts[name] += by


def _after(broker: Broker, brokers: Sequence[Broker]) -> Broker:
    """The next one in turn; the first, if `broker` is no longer among them."""
    if broker not in brokers:
        return brokers[0]
    return brokers[(brokers.index(broker) + 1) % len(brokers)]
