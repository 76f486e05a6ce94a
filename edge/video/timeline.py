"""A stream's time out of a container's stamps, whatever those say.

Here: stamps that jump, wrap, are missing or made up. Not here: whether a camera keeps pace with the
clock (arrivals.py), the time of pictures (decode.py).
"""

import math
from fractions import Fraction

import av
from av.video.stream import VideoStream

from edge.video.arrivals import CREEP

FALLBACK_FPS = 25.0
SANE_FPS = (0.1, 240.0)
REORDER_S = 1.0
"""Stamps may go back by this much: pictures that are sent in another order than they are shown."""
RECORDING_GAP_S = 600.0
"""A longer hole between two packets of a recording is a jump of the recorder's clock."""
AHEAD_S = 2.0
"""A camera's stamps that leap further ahead of the clock than this have jumped."""
SETTLE_S = 5.0
"""How long a connection may take to send what it had kept when it was opened."""
FOLLOW_S = 10.0
"""How often a camera's time is brought back to the clock's, by at most `CREEP` of it."""

_ARRIVAL_BASE = Fraction(1, 90_000)
_LEAST_STEP_S = 0.001


def frame_rate(video: VideoStream) -> float:
    """A believable number of frames a second; `FALLBACK_FPS` where a container says nonsense."""
    low, high = SANE_FPS
    for rate in (video.guessed_rate, video.average_rate):
        if rate is not None and low <= rate <= high:
            return float(rate)
    return FALLBACK_FPS


class Timeline:
    """Makes a container's stamps into a stream's time; it rewrites them in the packets.

    Decode stamps never fall back by more than `REORDER_S` and never leap by more than `gap_s`. A
    recording's packet that has no such stamp comes one frame after the one before; a camera's when
    it arrives. A camera whose clock is off a little is brought back, so that a connection of weeks
    still tells the right time.
    """

    def __init__(self, begin_s: float, gap_s: float, recorded: bool) -> None:
        self.end_s = begin_s
        """Where the next pass of a recording begins: one frame after the last."""
        self.moved = False
        """Whether this pass has seen a packet."""
        self._gap_s = gap_s
        self._recorded = recorded
        self._stamped = True
        self._time_base = _ARRIVAL_BASE
        self._ticks_a_s = 90_000.0
        self._step = self._least = 1
        self._offset: int | None = None
        self._decode = 0
        self._began_s = 0.0
        self._early_s = 0.0
        """Arrival minus stream time of the most punctual packet of the first `SETTLE_S`."""
        self._follow_at_s = 0.0
        self._least_s = math.inf
        """As `_early_s`, of the last `FOLLOW_S`."""

    def begin(self, video: VideoStream, *, stamped: bool = True) -> None:
        """Another pass: what comes next follows on what was.

        `stamped` is false for formats without stamps, for which FFmpeg makes some up; a camera's
        packets are then timed by their arrival alone.
        """
        self.moved = False
        self._stamped = stamped or self._recorded
        self._time_base = (video.time_base or _ARRIVAL_BASE) if self._stamped else _ARRIVAL_BASE
        self._ticks_a_s = self._time_base.denominator / self._time_base.numerator
        self._least = max(1, round(_LEAST_STEP_S * self._ticks_a_s))
        self._step = max(1, round(1 / (self._time_base * Fraction(frame_rate(video)))))
        first = round(self.end_s / self._time_base)
        self._decode = first - self._step
        # A camera's start time is a guess made before its first reports; a recording's is exact.
        known = self._recorded and video.start_time is not None
        self._offset = first - (video.start_time or 0) if known else None

    def stamp(self, data: "av.Packet[VideoStream]", now_s: float) -> tuple[float, float]:
        """When a packet is shown and when it is decoded, in seconds of the stream.

        `now_s` is when it arrived, by a monotonic clock.
        """
        given = data.dts if data.dts is not None else data.pts
        if not self._stamped:
            data.time_base, data.duration, data.pts, given = self._time_base, 0, None, None
        believed = given is not None
        if given is None:
            decode = self._turn(now_s)
        else:
            if self._offset is None:
                shown = data.pts if data.pts is not None else given
                first = min(given, shown) if self._recorded else shown
                self._offset = self._turn(now_s) - first
            decode = given + self._offset
            if self.moved and self._has_jumped(decode, now_s):
                turn = self._turn(now_s)
                self._offset += turn - decode
                decode, believed = turn, False
            data.pts = None if data.pts is None else data.pts + self._offset
        data.dts = decode
        self._decode = decode
        self._settle(now_s, believed)
        self.moved = True
        pts = decode if data.pts is None else data.pts
        self.end_s = max(self.end_s, self._seconds(pts + self._step))
        return self._seconds(pts), self._seconds(decode)

    def _turn(self, now_s: float) -> int:
        """The decode stamp of a packet that has none, or one that cannot be."""
        following = self._decode + self._step
        if self._recorded or not self.moved:
            return following
        arrived = round((now_s - self._early_s) * self._ticks_a_s)
        if not self._stamped or self._seconds(following - arrived) > AHEAD_S:
            following = self._decode + self._least
        return max(following, arrived)

    def _has_jumped(self, decode: int, now_s: float) -> bool:
        leap_s = self._seconds(decode - self._decode)
        if not -REORDER_S <= leap_s <= self._gap_s:
            return True
        settled = not self._recorded and now_s > self._began_s + SETTLE_S
        ahead_s = self._seconds(decode) - (now_s - self._early_s)
        return settled and leap_s > REORDER_S and ahead_s > AHEAD_S

    def _settle(self, now_s: float, believed: bool) -> None:
        """Learn from the first packets when the others are to be expected; then keep to that."""
        early_s = now_s - self._seconds(self._decode)
        if not self.moved:
            self._began_s, self._early_s = now_s, early_s
            self._follow_at_s, self._least_s = now_s + SETTLE_S + FOLLOW_S, math.inf
        elif self._recorded or not self._stamped:
            return
        elif now_s <= self._began_s + SETTLE_S:
            self._early_s = min(self._early_s, early_s) if believed else self._early_s
        elif now_s < self._follow_at_s:
            self._least_s = min(self._least_s, early_s)
        else:
            self._follow(now_s)

    def _follow(self, now_s: float) -> None:
        """Shift what comes by less than half a frame towards where it is expected."""
        most = min(CREEP * FOLLOW_S * self._ticks_a_s, self._step / 2)
        off = min(self._least_s - self._early_s, FOLLOW_S) * self._ticks_a_s
        if self._offset is not None:
            self._offset += round(max(-most, min(off, most)))
        self._follow_at_s, self._least_s = now_s + FOLLOW_S, math.inf

    def _seconds(self, ticks: int) -> float:
        # Not by way of Fraction: this runs for every packet of every stream.
        return ticks / self._ticks_a_s
