"""Packets on their way from the thread that reads a stream to the one that decodes it.

Here: the hand-over and its bounds. Not here: reading (source.py), decoding (watch.py).

Reading never waits for decoding: a camera would be held up, and what it sends be lost by chance.
So when decoding falls behind by more than the bounds, what waits is left out up to the newest key
packet, whole, and counted; a recording without pace waits instead.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from edge.video.source import Packet

MAX_BYTES = 16 * 1024 * 1024
MAX_S = 8.0
"""A catch-up of a long GOP takes seconds; whoever is later than this is never in time again."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """When a packet came, by both clocks."""

    now_s: float
    wall_ms: int

    def clock_set_s(self, since: "Arrival") -> float:
        """By how much the wall clock was set since then, forward or back."""
        return abs(self.wall_ms - since.wall_ms - 1000 * (self.now_s - since.now_s)) / 1000


class Inlet:
    """One connection's packets, for one thread at each end."""

    def __init__(
        self,
        monotonic_s: Callable[[], float],
        wall_ms: Callable[[], int],
        *,
        patient: bool = False,
        max_bytes: int = MAX_BYTES,
        max_s: float = MAX_S,
    ) -> None:
        """`patient`: the reading thread waits while the bounds are reached; nothing is left out."""
        self.dropped_s = 0.0
        """Stream time that was left out because decoding was too far behind."""
        self.arrived = Arrival(monotonic_s(), wall_ms())
        """When the packet came that was taken last."""
        self.end_s = 0.0
        """Stream time of the newest packet."""
        self._monotonic_s = monotonic_s
        self._wall_ms = wall_ms
        self._patient = patient
        self._max_bytes = max_bytes
        self._max_s = max_s
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Packet, Arrival]] = deque()
        self._bytes = 0
        self._needs_key = False
        self._left_out_s = 0.0
        """While a key packet is needed: up to where `dropped_s` counts."""
        self._closed = False
        self._failure: Exception | None = None

    def fill(self, packets: Iterable[Packet]) -> None:
        """On the reading thread: hand over packets until their end, or until `close`."""
        try:
            for packet in packets:
                if not self._put(packet):
                    break
        except Exception as error:
            self._failure = error
        self.close()

    def close(self) -> None:
        """No more packets, from either end; what waits may still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Packet]:
        """On the decoding thread: packets as they come; then raises why there are no more."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    break
                packet, self.arrived = self._waiting.popleft()
                self._bytes -= packet.size_bytes
                if self._patient:
                    self._changed.notify_all()
            yield packet
        if self._failure is not None:
            raise self._failure

    @property
    def closed(self) -> bool:
        """Whether it takes no more."""
        return self._closed

    @property
    def behind_s(self) -> float:
        """How long ago the packet came that was taken last, while others wait; else 0."""
        return self._monotonic_s() - self.arrived.now_s if self._waiting else 0.0

    def _put(self, packet: Packet) -> bool:
        arrival = Arrival(self._monotonic_s(), self._wall_ms())
        with self._changed:
            if self._patient:
                self._changed.wait_for(lambda: self._closed or not self._is_full(packet))
            if self._closed:
                return False
            self.end_s = max(self.end_s, packet.pts_s)
            if self._needs_key:
                self.dropped_s += max(0.0, packet.pts_s - self._left_out_s)
                self._left_out_s = packet.pts_s
                if packet.data is not None and not packet.is_key:
                    return True
                self._waiting.append((Packet(None, packet.pts_s, False, 0), arrival))
                self._needs_key = False
            self._waiting.append((packet, arrival))
            self._bytes += packet.size_bytes
            if not self._patient and self._is_full(packet):
                self._leave_out(packet, arrival)
            self._changed.notify_all()
        return True

    def _is_full(self, newest: Packet) -> bool:
        if not self._waiting or newest.data is None:
            return False
        oldest, _ = self._waiting[0]
        return self._bytes > self._max_bytes or newest.pts_s - oldest.pts_s > self._max_s

    def _leave_out(self, newest: Packet, arrival: Arrival) -> None:
        """Keep what begins with the newest key packet; nothing, if that is the oldest of all."""
        begins_s = self._waiting[0][0].pts_s
        keys = [n for n, (packet, _) in enumerate(self._waiting) if packet.is_key]
        start = keys[-1] if keys and keys[-1] > 0 else len(self._waiting)
        kept = list(self._waiting)[start:]
        self._needs_key = not kept
        until_s = self._left_out_s = kept[0][0].pts_s if kept else newest.pts_s
        self.dropped_s += max(0.0, until_s - begins_s)
        begins_again = Packet(None, until_s, False, 0)
        self._waiting = deque([(begins_again, arrival), *kept] if kept else [])
        self._bytes = sum(packet.size_bytes for packet, _ in kept)
