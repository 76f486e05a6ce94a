"""An inbox: a bounded queue of link messages and the thread that works through it in groups.

Here: the bound, the grouping, and the one place where work that the database refused is tried
again. Not here: what a message means (downlink, ingest).

A message is acknowledged to the broker when it was handled or given up. Nothing is lost by giving
up: no correctness rests on the broker, and a worker sends again what was not answered. But an
unacknowledged message would hold the broker's window for ever.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable

from center import db
from center.metrics import Metrics
from wire.link import Received

_log = logging.getLogger("forecourt.inbox")

Handle = Callable[[list[Received]], None]


class Inbox(threading.Thread):
    """Calls `handle` with the messages that wait, oldest first, at most `max_group` at once.

    After a first message it waits `linger_s` for more. `nudge` makes it call `handle` even if no
    message waits, and so does the passing of `tick_s`. `urgent` ones go before all others. `handle`
    may raise one of `db.UNAVAILABLE`: then it is called again with the same messages until it
    succeeds.
    """

    def __init__(
        self,
        name: str,
        handle: Handle,
        ack: Callable[[Received], None],
        metrics: Metrics,
        *,
        max_waiting: int = 1000,
        max_group: int = 100,
        linger_s: float = 0.0,
        retry_s: float = 1.0,
        tick_s: float | None = None,
        urgent: Callable[[Received], bool] = lambda message: False,
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._handler = handle
        self._ack = ack
        self._metrics = metrics
        self._max_waiting = max_waiting
        self._max_group = max_group
        self._linger_s = linger_s
        self._retry_s = retry_s
        self._tick_s = tick_s
        self._is_urgent = urgent
        self._urgent: deque[Received] = deque()
        self._waiting: deque[Received] = deque()
        self._nudged = False
        self._changed = threading.Condition()
        self._stopping = threading.Event()

    @property
    def waiting(self) -> int:
        """How many messages wait."""
        return len(self._urgent) + len(self._waiting)

    def offer(self, message: Received) -> None:
        """Take a message in, or discard it where too many wait. Never blocks."""
        with self._changed:
            if self.waiting < self._max_waiting:
                (self._urgent if self._is_urgent(message) else self._waiting).append(message)
                self._changed.notify()
                return
        self._discard(message)

    def nudge(self) -> None:
        """There is something to do besides messages."""
        with self._changed:
            self._nudged = True
            self._changed.notify()

    def stop(self, timeout_s: float = 2.0) -> None:
        """End the thread; what still waits is left to be sent again."""
        self._stopping.set()
        self.nudge()
        if self.is_alive():
            self.join(timeout_s)

    def run(self) -> None:
        """The thread: one group after another, until `stop`."""
        while not self._stopping.is_set():
            with self._changed:
                self._changed.wait_for(lambda: self.waiting or self._nudged, self._tick_s)
            if self._linger_s and self.waiting < self._max_group:
                self._stopping.wait(self._linger_s)
            if not self._stopping.is_set():
                self._work(self._take())

    def _take(self) -> list[Received]:
        with self._changed:
            self._nudged = False
            group: list[Received] = []
            for queue in (self._urgent, self._waiting):
                while queue and len(group) < self._max_group:
                    group.append(queue.popleft())
            return group

    def _work(self, group: list[Received]) -> None:
        """Handle a group; if it fails for a reason that will not pass, each message by itself."""
        while not self._stopping.is_set():
            try:
                self._handler(group)
            except db.UNAVAILABLE as error:
                self._metrics.count("database_retries_total")
                cause = str(error).partition("\n")[0]
                _log.warning(
                    "%s: the database cannot do it now, trying again: %s", self.name, cause
                )
                self._stopping.wait(self._retry_s)
                continue
            except Exception:  # a fault of ours must not end the thread, nor block a lane
                _log.exception("%s: %d messages could not be handled", self.name, len(group))
                if len(group) > 1:
                    for message in group:
                        self._work([message])
                elif group:
                    self._discard(group[0])
                return
            for message in group:
                self._ack(message)
            return

    def _discard(self, message: Received) -> None:
        self._metrics.count("messages_discarded_total")
        self._ack(message)
