"""Whether a camera keeps pace with the clock.

Here: how late and how early its packets come, judged with the time passed in; pure. Not here: what
a packet's time is (timeline.py), waiting for packets (source.py).

A packet's delay is its arrival minus its stream time. Only its changes mean anything: the least and
the greatest delay are remembered, and creep towards each other so that a camera's clock may be off
a little.
"""

import math

LATE_BEYOND_S = 5.0
"""Packets may be late by the read timeout, the longest pause that is allowed, and this much."""
EARLY_S = 30.0
"""More than this is not a GOP that was kept for a new reader, but a recording at full speed."""
CREEP = 0.001
"""Seconds a second; a bad oscillator is off by a tenth of that."""
PACKETS_A_S = 500
"""Twice the packets of the highest believable frame rate."""
BURST_PACKETS = 10_000
MAX_PACKET_BYTES = 32 * 1024 * 1024
"""A larger one is no picture that anybody would send as video."""


class Arrivals:
    """The packets of one connection."""

    def __init__(self, read_timeout_s: float) -> None:
        self._late_s = read_timeout_s + LATE_BEYOND_S
        self._least_s = math.inf
        self._greatest_s = -math.inf
        self._at_s: float | None = None
        self._room = float(BURST_PACKETS)
        self._waited_s = self._busy_s = 0.0

    def judge(self, asked_s: float, now_s: float, decode_s: float) -> str:
        """What is wrong with the packet that came at `now_s`, and what to do; mostly nothing.

        `asked_s` is since when it was waited for: the time before was spent on the one before it.
        """
        passed_s = 0.0 if self._at_s is None else now_s - self._at_s
        self._at_s = now_s
        delay_s = now_s - decode_s
        self._least_s = min(self._least_s + CREEP * passed_s, delay_s)
        self._greatest_s = max(self._greatest_s - CREEP * passed_s, delay_s)
        late_s, early_s = delay_s - self._least_s, self._greatest_s - delay_s
        if late_s < 1.0:
            self._waited_s = self._busy_s = 0.0
        else:
            self._waited_s += now_s - asked_s
            self._busy_s += passed_s - (now_s - asked_s)
        self._room = min(BURST_PACKETS, self._room + PACKETS_A_S * passed_s) - 1
        if self._room < 0:
            return f"it sends more than {PACKETS_A_S} packets a second; look what it is set to"
        if early_s > EARLY_S:
            return (
                f"it sends faster than real time and is {early_s:.0f} s ahead; look whether the "
                "url is a live stream and its clock right"
            )
        if late_s > self._late_s and self._busy_s > self._waited_s:
            return (
                f"this worker reads it too slowly and is {late_s:.0f} s behind; give the worker "
                "less to do or more CPU"
            )
        if late_s > self._late_s:
            return (
                f"it sends slower than real time and is {late_s:.0f} s behind; look at the network "
                "and the camera's load, or choose a smaller stream"
            )
        return ""
