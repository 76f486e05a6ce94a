"""How much may be on its way to the center at once: pure, no clock.

A slow line queues whatever it is given, and an alarm waits behind all of it. So the bytes that are
unanswered are kept to what the line carries in a fraction of a second, as the acks tell: more while
they come as fast as the fastest did, less when they begin to queue (the idea of LEDBAT, RFC 6817).

Not here: batches and their numbers (lanes), when to send again (uplink).
"""

from dataclasses import dataclass

LEAST_BYTES = 4 * 1024
MOST_BYTES = 512 * 1024
_START_BYTES = 16 * 1024
_SHORT_S = 0.25
"""Queueing below this leaves room for more."""
_LONG_S = 0.5
"""Queueing above this is too much."""
_FORGET = 1.01
"""The fastest answer counts for a while only: lines change."""


@dataclass
class Pace:
    """The bytes that may be unanswered, learned from answers."""

    budget_bytes: float = _START_BYTES
    packed: float = 0.3
    """Bytes on the wire ÷ bytes of the events, as the latest batches had it."""
    _fastest_s: float = float("inf")
    _settled_bytes: float = 0.0
    """Bytes that must still be answered before a cut shows its effect."""

    def batch_bytes(self) -> int:
        """Bytes of events, before compression, that one batch should hold."""
        return int(max(LEAST_BYTES, self.budget_bytes / 3) / max(self.packed, 0.05))

    def sent(self, raw_bytes: int, wire_bytes: int) -> None:
        """A batch was handed over: how well do the events of this worker pack?"""
        if raw_bytes:
            self.packed += 0.2 * (min(1.0, wire_bytes / raw_bytes) - self.packed)

    def answered(self, wire_bytes: int, took_s: float) -> None:
        """A batch of that size was acknowledged after that time."""
        self._fastest_s = min(self._fastest_s * _FORGET, took_s)
        self._settled_bytes -= wire_bytes
        queued_s = took_s - self._fastest_s
        if queued_s < _SHORT_S:
            self.budget_bytes = min(MOST_BYTES, self.budget_bytes + wire_bytes)
        elif queued_s > _LONG_S and self._settled_bytes <= 0:
            self._settled_bytes = self.budget_bytes
            self.budget_bytes = max(LEAST_BYTES, self.budget_bytes * 0.6)

    def unanswered(self) -> None:
        """An answer did not come in time: begin again with little."""
        self.budget_bytes = max(LEAST_BYTES, self.budget_bytes / 4)
