"""How much a task has seen of what it wanted to see: looks made ÷ looks wanted, lately.

Here: the sum. Not here: which looks are due (analysis), and what becomes of them (reader, shard).

A task's rules are applied together, so its coverage is that of each of its rules. What counts:

| what became of a look | wanted | made |
|---|---|---|
| analysed, live or retroactively | yes | yes |
| carried while idle: nothing had changed, which was seen | yes | yes |
| replaced by a newer frame, or the model failed on it | yes | no |
| left out because the stream is degraded: a task wants its own `fps` all the same | yes | no |
| catch-up that was dropped: the task's `fps` over the time between | yes | no |
| the camera was lost, or its decoder hung: the task's `fps` over that time | yes | no |

A look counts once its fate is known, in the second in which it is known.
"""

import math
import threading
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from edge.clock import Clock
from wire.messages import MAX_BELOW

WINDOW_S = 60
"""Whole seconds that are remembered."""


@dataclass(slots=True)
class _Second:
    at_s: int
    wanted: float = 0.0
    made: float = 0.0


class Coverage:
    """One task's looks of the last minute. May be used from any thread."""

    def __init__(self, fps: float, clock: Clock) -> None:
        """`fps` are the looks a second that the task wants."""
        self._fps = fps
        self._clock = clock
        self._lock = threading.Lock()
        self._seconds: deque[_Second] = deque(maxlen=WINDOW_S)

    def seen(self, looks: int = 1) -> None:
        """So many looks were made."""
        self._count(looks, looks)

    def missed(self, looks: int = 1) -> None:
        """So many looks were due and not made."""
        self._count(looks, 0)

    def carried(self, seconds: float) -> None:
        """Nothing changed for so long: a look at every moment would have seen the same."""
        self._count(self._fps * seconds, self._fps * seconds)

    def unseen(self, seconds: float) -> None:
        """For so long there was nothing to look at, or no time for it."""
        self._count(self._fps * seconds, 0)

    def ratio(self) -> float | None:
        """0..1, or None while nothing was wanted."""
        return ratio_of((self,))

    def looks(self) -> tuple[float, float]:
        """Looks (made, wanted) of the last minute."""
        oldest_s = self._now_s() - WINDOW_S
        with self._lock:
            recent = [second for second in self._seconds if second.at_s > oldest_s]
        return sum(second.made for second in recent), sum(second.wanted for second in recent)

    def _count(self, wanted: float, made: float) -> None:
        now_s = self._now_s()
        with self._lock:
            if not self._seconds or self._seconds[-1].at_s != now_s:
                self._seconds.append(_Second(now_s))
            self._seconds[-1].wanted += wanted
            self._seconds[-1].made += made

    def _now_s(self) -> int:
        return int(self._clock.monotonic_s())


def ratio_of(coverages: Iterable[Coverage]) -> float | None:
    """That of several tasks together, 0..1, or None while nothing was wanted."""
    looks = [coverage.looks() for coverage in coverages]
    wanted = sum(each[1] for each in looks)
    return sum(each[0] for each in looks) / wanted if wanted else None


def below(ratios: Mapping[str, float | None]) -> dict[str, float]:
    """The tasks that lack something, worst first, as a heartbeat names them (StreamHealth.tasks).

    Rounded down to a thousandth: what is not whole never looks so.
    """
    lacking = sorted((r, name) for name, r in ratios.items() if r is not None and r < 1)
    return {name: math.floor(ratio * 1000) / 1000 for ratio, name in lacking[:MAX_BELOW]}
