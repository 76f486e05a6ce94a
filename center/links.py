"""Links to several brokers that know nothing of each other, behind the face of one.

Here: one link a broker, numbers of connections that are unique over all of them, by which broker a
worker can be reached. Not here: the link itself (wire/link), what is said (downlink, ingest).

A worker is at one broker at a time, and moves when that one is gone. Where it was last heard is
remembered as a hint only: nothing is wrong if it is outdated, or if a message goes by all brokers,
for each names the session that it is meant for.
"""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from wire import topics
from wire.link import Broker, Down, Link, LinkEvent, Received, Up
from wire.topics import UpTopic

WHEREVER = 0
"""In place of a connection's number: wherever the topic's worker is."""
MAX_HINTS = 50_000
"""Workers remembered; of one that is forgotten, messages go by all brokers."""

_log = logging.getLogger("forecourt.links")


class Links:
    """One link to each broker; `on_event` is called on the threads of all of them.

    Number n of link i is known here as n * links + i, which is never 0.
    """

    def __init__(
        self,
        brokers: Sequence[Broker],
        client_id: str,
        subscribe: Sequence[str],
        on_event: Callable[[LinkEvent], None],
        *,
        backoff_s: tuple[float, float],
        receive_window: int,
    ) -> None:
        self._on_event = on_event
        self._last_heard: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()  # of the hints
        self._links = [
            Link(
                [broker],
                client_id,
                subscribe,
                partial(self._hear, index, broker),
                backoff_s=backoff_s,
                receive_window=receive_window,
            )
            for index, broker in enumerate(brokers)
        ]

    @property
    def connection(self) -> int | None:
        """`WHEREVER` while any broker is connected, None while none is."""
        return WHEREVER if self._up() else None

    def start(self) -> None:
        """Begin to connect."""
        for link in self._links:
            link.start()

    def stop(self, timeout_s: float) -> None:
        """End all links, within `timeout_s`."""
        for link in self._links:
            link.stop(timeout_s / len(self._links))

    def publish(
        self,
        connection: int,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        expires_s: int | None = None,
    ) -> bool:
        """Hand a message over to one connection, or to `WHEREVER` its worker is.

        True if at least one took it. Raises as `Link.publish` does.
        """

        def hand_over(number: int) -> bool:
            number, index = divmod(number, len(self._links))
            return self._links[index].publish(number, topic, payload, qos=qos, expires_s=expires_s)

        if connection != WHEREVER:
            return hand_over(connection)
        hint = self._last_heard.get(topics.parse(topic).worker)
        if hint is not None and hand_over(hint):
            return True
        taken = [hand_over(number) for number in self._up() if number != hint]
        return any(taken)

    def ack(self, message: Received) -> None:
        """Acknowledge a message to the broker that it came from."""
        number, index = divmod(message.connection, len(self._links))
        self._links[index].ack(replace(message, connection=number))

    def stats(self) -> dict[str, float]:
        """Counters and sizes of all links together; of ages, the highest."""
        every = [link.stats() for link in self._links]
        return {
            name: max(one[name] for one in every)
            if name.endswith("_age_s")
            else sum(one[name] for one in every)
            for name in every[0]
        }

    def _up(self) -> list[int]:
        numbers = ((index, link.connection) for index, link in enumerate(self._links))
        return [self._known_as(number, index) for index, number in numbers if number is not None]

    def _known_as(self, number: int, index: int) -> int:
        return number * len(self._links) + index

    def _hear(self, index: int, broker: Broker, event: LinkEvent) -> None:
        event = replace(event, connection=self._known_as(event.connection, index))
        match event:
            case Received():
                self._remember(event.topic, event.connection)
            case Up():
                _log.info("connected to the broker %s", broker)
            case Down():
                _log.warning("lost the broker %s: %s", broker, event.reason)
        self._on_event(event)

    def _remember(self, topic: str, connection: int) -> None:
        try:
            parsed = topics.parse(topic)
        except ValueError:
            return  # the downlink counts and logs what is not ours
        if isinstance(parsed, UpTopic) and parsed.channel == "will":
            return  # a broker's word, and maybe that of the one which the worker has left
        with self._lock:
            self._last_heard[parsed.worker] = connection
            self._last_heard.move_to_end(parsed.worker)
            if len(self._last_heard) > MAX_HINTS:
                self._last_heard.popitem(last=False)
