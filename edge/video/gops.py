"""What is learned of a stream's key packets: how often they come, what they give.

Here: the learning, packet by packet. Not here: decoding a key packet by itself for a test
(decode.py), what follows for the decoding (demand.py, watch.py).
"""

from collections import deque

from edge.video.demand import Traits
from edge.video.source import Packet

REMEMBERED_GOPS = 8
INTRA_PACKETS = 10
"""So many key packets in a row: the stream has no others."""
TRIALS = 6
PASSES = 2
"""A key packet must give a whole picture by itself so often, in at most so many trials."""
PATIENCE_S = 15.0
"""If it cannot be told for so long how a stream's GOPs are, it is planned without."""


class Gops:
    """What is learned of a stream's key packets. `traits` tells it."""

    def __init__(self) -> None:
        self._intervals: deque[float] = deque(maxlen=REMEMBERED_GOPS)
        self._first_s: float | None = None
        self._last_s = 0.0
        self._key_s: float | None = None
        self._open_s = 0.0
        self._keys = 0
        self._keys_in_a_row = 0
        self._trials = 0
        self._passes = 0

    def again(self) -> "Gops":
        """For another connection to the same camera: its GOPs are as they were."""
        fresh = Gops()
        fresh._intervals = self._intervals
        fresh._passes = min(self._passes, PASSES - 1)
        return fresh

    def note(self, packet: Packet) -> None:
        """A packet has come."""
        if self._first_s is None:
            self._first_s = packet.pts_s
        self._last_s = packet.pts_s
        if packet.is_key:
            self._keys += 1
            if self._key_s is not None:
                self._intervals.append(packet.pts_s - self._key_s)
            self._key_s = packet.pts_s
            self._keys_in_a_row += 1
        else:
            self._keys_in_a_row = 0
        if self._key_s is not None:
            self._open_s = packet.pts_s - self._key_s

    @property
    def wants_trial(self) -> bool:
        """Whether the key packet that has just come should be decoded by itself, for a test.

        The first of a connection proves nothing: each stream begins with a whole picture.
        """
        return self._keys > 1 and self._passes < PASSES and self._trials < TRIALS

    def tried(self, whole: bool) -> None:
        """What came of such a test."""
        self._trials += 1
        self._passes = self._passes + 1 if whole else 0

    def distrust(self) -> None:
        """A key packet gave no picture after all."""
        self._trials = self._passes = 0

    @property
    def settled(self) -> bool:
        """Whether enough is known to plan, or it will not be known soon."""
        if self._first_s is not None and self._last_s - self._first_s > PATIENCE_S:
            return True
        return bool(self._intervals) and (self._passes >= PASSES or self._trials >= TRIALS)

    @property
    def intra_only(self) -> bool:
        """Whether there are no other packets than key packets."""
        return self._keys_in_a_row >= INTRA_PACKETS

    @property
    def traits(self) -> Traits:
        """GOP length in seconds, as the longest of the last ones; what key packets give."""
        longest_s = max(self._intervals, default=None)
        return Traits(
            gop_s=None if longest_s is None else max(longest_s, self._open_s),
            keys_alone=True
            if self._passes >= PASSES
            else False
            if self._trials >= TRIALS
            else None,
            intra_only=self.intra_only,
        )
