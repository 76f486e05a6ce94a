"""Do the sizes of a stream's packets tell that something moves? Learned for each stream. Pure.

Here: what is usual while nothing moves, and whether more than that has meant motion so far. Not
here: looking at pictures (vision/motion.py), and what is decoded then (watch.py).

    sizes.note(...) for each packet, sizes.label(...) for each picture that was looked at
    if sizes.suggests: decode a picture now

An encoder spends more bits where pictures differ. What non-key packets of the last `WINDOW_S` sum
up to is divided by what they usually do; so neither bit rate nor slow drift matter, nor B-frames:
packets are compared with others of the same turn, the first of them in time being 0. What still
pictures reach about once in ten minutes is the limit (noise, a clock, the encoder's own habits are
below it). Sizes are informative if most visits exceeded that as they began, and alarms seldom were
false. With a constant bit rate that does not happen, and nothing is ever suggested.

All times are stream time (pts) in seconds.
"""

import math
from collections import deque

WINDOW_S = 0.6
"""So much of a stream is summed up: longer than a group of B-frames, shorter than any visit."""
MARGIN = 1.1
"""Something moves if sizes are so many times what still pictures reach."""
BLOCK_S = 30.0
"""The largest window of so much still time is remembered..."""
BLOCKS = 40
"""... for so many times of that."""
LEAST_BLOCKS = 6
PER_CHANCE = 20
"""One block among so many (ten minutes) may exceed the limit: chance, or motion that was missed."""
VISITS = 50
"""Of so many visits the largest window as they began is remembered."""
LEAST_VISITS = 8
LEAST_TOLD = 0.5
"""So much of them must exceed the limit: to be told earlier only at times is worth it, too."""
BEGINS_S = 1.0
"""So long does a visit begin. Later on, what differs from the empty scene may stand still."""
USUAL_PACKETS = 200
"""What is usual follows so many packets of still pictures."""
VERDICT_S = 0.5
"""If nothing has moved for so long after an alarm, it was a false one."""
MOST_FALSE = 3
FALSE_S = 600.0
"""More false alarms than `MOST_FALSE` in this time: no more are given for as long."""
_TURNS = 8
_UNLABELLED = 1024


class Sizes:
    """One stream's packet sizes. It goes on over reconnections; for one thread."""

    def __init__(self) -> None:
        self.suggests = False
        """Look now: the last packet made the window larger than still pictures ever do."""
        self._now_s = -math.inf
        self._turn = 0
        self._usual = [0.0] * _TURNS
        self._counted = [0] * _TURNS
        self._window: deque[tuple[float, int, float]] = deque()
        """Of each packet: time, size, and what was usual."""
        self._window_size = 0
        self._window_usual = 0.0
        self._whole_s = math.inf
        """When the window is filled."""
        self._unlabelled: deque[tuple[float, int, int, float]] = deque(maxlen=_UNLABELLED)
        """Of each packet whose picture is not judged yet: time, turn, size, and the ratio."""
        self._labelled_s = -math.inf
        self._moved = True
        self._since_s = math.inf
        """So long have labels been the same, without gaps while something moves."""
        self._block = 0.0
        self._block_s = 0.0
        self._blocks: deque[float] = deque(maxlen=BLOCKS)
        self._visit: float | None = None
        self._visits: deque[float] = deque(maxlen=VISITS)
        self._limit = math.inf
        self._tells = False
        self._alarm_s: float | None = None
        self._false_s: deque[float] = deque(maxlen=MOST_FALSE + 1)
        self._distrusted_until_s = -math.inf

    # --- packets ---

    def note(self, packet_size: int, is_key: bool, pts_s: float) -> None:
        """A packet has come, in the order of decoding; its size is in bytes."""
        self.suggests = False
        if is_key:
            self._now_s = max(self._now_s, pts_s)
            self._turn = 0
            self._empty_window(self._now_s)
            return
        if pts_s > self._now_s:
            self._now_s = pts_s
            turn = self._turn = 0
        else:
            turn = self._turn = min(self._turn + 1, _TURNS - 1)
        now_s, window = self._now_s, self._window
        usual = self._usual[turn] or packet_size
        window.append((now_s, packet_size, usual))
        self._window_size += packet_size
        self._window_usual += usual
        while window[0][0] <= now_s - WINDOW_S:
            _, old_size, old_usual = window.popleft()
            self._window_size -= old_size
            self._window_usual -= old_usual
        ratio = 0.0
        if now_s >= self._whole_s and self._window_usual > 0:
            ratio = self._window_size / self._window_usual
        self._unlabelled.append((now_s, turn, packet_size, ratio))
        if ratio > self._limit:
            self._exceeded(now_s)

    def _empty_window(self, now_s: float) -> None:
        self._window.clear()
        self._window_size = 0
        self._window_usual = 0.0
        self._whole_s = now_s + WINDOW_S

    def _exceeded(self, now_s: float) -> None:
        """An alarm, if it is the first one since it was still."""
        if self._alarm_s is None and not self._moved and now_s > self._since_s + WINDOW_S:
            self._alarm_s = now_s
            self._empty_window(now_s)
            self.suggests = self.informative

    # --- pictures ---

    def label(self, pts_s: float, moved: bool) -> None:
        """Whether anything had moved in a picture, compared with the one before it.

        If not, the time between them was still.
        """
        gap_s = pts_s - self._labelled_s
        if gap_s <= 0:
            return
        self._labelled_s = pts_s
        self._judge_alarm(pts_s, moved)
        if moved is not self._moved:
            self._moved, self._since_s = moved, pts_s
            self._visit = 0.0 if moved else None
        highest = 0.0
        unlabelled = self._unlabelled
        while unlabelled and unlabelled[0][0] <= pts_s:
            at_s, turn, size, ratio = unlabelled.popleft()
            if moved or at_s > self._since_s + WINDOW_S:
                highest = max(highest, ratio)
            if not moved and at_s > self._since_s:
                self._learn(turn, size)
        if moved:
            self._add_moving(pts_s, highest)
        elif self._since_s < pts_s:
            self._add_still(gap_s, highest)

    def _learn(self, turn: int, size: int) -> None:
        """A packet of a still picture."""
        counted = self._counted[turn] = min(self._counted[turn] + 1, USUAL_PACKETS)
        self._usual[turn] += (size - self._usual[turn]) / counted

    def _add_still(self, seconds: float, ratio: float) -> None:
        self._block = max(self._block, ratio)
        self._block_s += min(seconds, BLOCK_S)
        if self._block_s >= BLOCK_S:
            self._blocks.append(self._block)
            self._block = self._block_s = 0.0
            self._judge()

    def _add_moving(self, pts_s: float, ratio: float) -> None:
        """The beginning of a visit, what came since the last still picture included."""
        if self._visit is None:
            return
        self._visit = max(self._visit, ratio)
        if pts_s - self._since_s >= BEGINS_S:
            self._visits.append(self._visit)
            self._visit = None
            self._judge()

    # --- what is known ---

    @property
    def informative(self) -> bool:
        """Whether sizes have told motion from stillness so far, and not raised false alarms."""
        return self._tells and self._now_s >= self._distrusted_until_s

    def _judge(self) -> None:
        """The limit is learned of still pictures alone, so moving ones are a test of it."""
        if len(self._blocks) < LEAST_BLOCKS:
            return
        highest = sorted(self._blocks, reverse=True)
        self._limit = MARGIN * highest[len(highest) // PER_CHANCE]
        told = sum(visit > self._limit for visit in self._visits)
        self._tells = len(self._visits) >= LEAST_VISITS and told >= LEAST_TOLD * len(self._visits)

    def _judge_alarm(self, pts_s: float, moved: bool) -> None:
        """What became of an alarm, whether anybody was told of it or not."""
        if self._alarm_s is None:
            return
        if moved:
            self._alarm_s = None
        elif pts_s >= self._alarm_s + VERDICT_S:
            self._alarm_s = None
            self._false_s.append(pts_s)
            if len(self._false_s) > MOST_FALSE and pts_s - self._false_s[0] < FALSE_S:
                self._false_s.clear()
                self._distrusted_until_s = pts_s + FALSE_S
