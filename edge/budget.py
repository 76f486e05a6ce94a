"""Who gets how much of the CPU, and who does with less when it is short: pure, time is passed in.

Here: dividing cores among shards, degrading and restoring a shard's streams, the share of catch-up.
Not here: what the machine allows (cpus), measuring, and what a step means for a decoder (watch).

A `Governor` stands on a ladder. Each rung is one step further down for one priority: first all of
`low` go to half their looks, then to a quarter, then to key frames only; then `normal`, then
`high`. On a rung the streams move one after the other, costliest first, and back in the reverse
order. So equals are never more than one step apart, nobody of a priority is degraded while a lower
one has steps left, and a stream that wakes or comes new is where the others of its priority are.
"""

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from edge.reconcile import StreamKey, StreamWork
from wire.specs import Priority

OVER_S = 2.0
"""So long must the CPU be short before a step is taken, and again before the next one."""
CALM_S = 10.0
"""So long must there be room before a step is taken back."""
LONGEST_CALM_S = 300.0
HELD_S = 30.0
"""A step that was taken back must hold for so long, or the next try waits twice as long."""
_ROOM = 0.8
"""There is room while less than this share of the budget is used: what a step gives back fits."""
_MISSED = 0.02
"""A worker that makes 98 % of its looks is well."""
_BEHIND_S = 1.0
_GAINS_S = 0.1
"""A stream that gains so much in a second catches up by itself."""
_CHEAP_CPU_S = 0.05
"""An idle stream that costs less in a second has nothing to give."""
_WAVES = 8
"""Rungs take as long with many streams as with few: so many decisions for all streams."""

PRIORITIES: tuple[Priority, ...] = ("low", "normal", "high")
"""In the order in which they are degraded."""
_WEIGHTS: Mapping[Priority, float] = {"low": 1.0, "normal": 2.0, "high": 4.0}


# --- among shards ------------------------------------------------------------------------------


def agent_share(cores: float) -> float:
    """What the agent keeps of the worker's cores: for the store, the uplink and the display."""
    return min(max(0.1, 0.1 * cores), cores / 2)


def priority(work: StreamWork) -> Priority:
    """A stream's priority: the highest of the tasks that watch it."""
    found = (task.task.spec.priority for task in work.tasks)
    return max(found, key=PRIORITIES.index, default="low")


def weight(works: Iterable[StreamWork]) -> float:
    """How much a shard with these streams counts when cores are divided."""
    return sum(_WEIGHTS[priority(work)] for work in works)


def divided(cores: float, weights: Sequence[float]) -> tuple[float, ...]:
    """Each shard's cores: what the agent leaves, by weight. A shard without streams gets none."""
    left, total = cores - agent_share(cores), sum(weights)
    return tuple(left * each / total if total else 0.0 for each in weights)


# --- among the streams of a shard --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StreamLoad:
    """What a stream has cost and suffered in the last second."""

    key: StreamKey
    priority: Priority
    fps: float
    """Looks a second that its tasks want."""
    awake: bool
    cpu_s: float
    """CPU seconds of decoding and analysis."""
    behind_s: float = 0.0
    """How far its newest analysed frame lags; 0 while the camera gives nothing."""
    missed: int = 0
    """Looks that were due at its present step and not made because others took the time."""


@dataclass(frozen=True, slots=True)
class Step:
    """How far a stream is degraded."""

    name: Literal["", "half", "quarter", "key"]
    fps_factor: float
    """Looks that are made ÷ looks that are wanted, at most."""
    level: Literal["FULL", "KEY"]
    """The most that is decoded."""


STEPS = (
    Step("", 1.0, "FULL"),
    Step("half", 0.5, "FULL"),
    Step("quarter", 0.25, "FULL"),
    Step("key", 0.25, "KEY"),
)
_LAST = len(STEPS) - 1
_RUNGS = _LAST * len(PRIORITIES)


class Governor:
    """Keeps one shard within its budget. Ask it once a second."""

    def __init__(self) -> None:
        self._rung = 0
        self._moved: set[StreamKey] = set()
        """Those that have taken the step of this rung already."""
        self._seconds: deque[tuple[float, float]] = deque(maxlen=2)
        """(cores used, share of looks missed) of the latest seconds since the last step."""
        self._used_cores = 0.0
        self._behind_s = 0.0
        self._over_since_s: float | None = None
        self._calm_since_s: float | None = None
        self._restored_s = -math.inf
        self._calm_s = CALM_S

    def decide(
        self, loads: Sequence[StreamLoad], used_cores: float, budget_cores: float, now_s: float
    ) -> Mapping[StreamKey, Step]:
        """The step of every stream for the next second.

        `used_cores` are the CPU seconds a second of the whole shard since the last call.
        """
        self._moved &= {load.key for load in self._of_rung(loads)}
        if self._is_over(loads, used_cores, budget_cores):
            self._calm_since_s = None
            if self._over_since_s is None:
                self._over_since_s = now_s
            elif now_s - self._over_since_s >= OVER_S:
                self._degrade(loads)
                self._begin_anew()
                self._over_since_s = now_s
                if now_s - self._restored_s < HELD_S:
                    self._calm_s = min(2 * self._calm_s, LONGEST_CALM_S)
                    self._restored_s = -math.inf
        else:
            self._over_since_s = None
            if HELD_S <= now_s - self._restored_s < math.inf:
                self._calm_s, self._restored_s = CALM_S, -math.inf
            if self._used_cores > _ROOM * budget_cores:
                self._calm_since_s = None
            elif self._calm_since_s is None:
                self._calm_since_s = now_s
            elif now_s - self._calm_since_s >= self._calm_s and self._restore(loads):
                self._begin_anew()
                self._restored_s = now_s
        return {load.key: STEPS[self._depth(load)] for load in loads}

    def _is_over(self, loads: Sequence[StreamLoad], used_cores: float, budget_cores: float) -> bool:
        """Whether the CPU is short. A key frame makes a busy second: two are taken together."""
        wanted = sum(load.fps * STEPS[self._depth(load)].fps_factor for load in loads if load.awake)
        missed = sum(load.missed for load in loads) / max(wanted, 1.0)
        self._seconds.append((used_cores, missed))
        self._used_cores, missed = (
            sum(each) / len(each) for each in zip(*self._seconds, strict=True)
        )
        before_s = self._behind_s
        self._behind_s = max((load.behind_s for load in loads if load.awake), default=0.0)
        lags = self._behind_s > max(_BEHIND_S, before_s - _GAINS_S)
        return self._used_cores > budget_cores or missed > _MISSED or lags

    def _begin_anew(self) -> None:
        """After a step, only what is measured from now on counts."""
        self._seconds.clear()
        self._over_since_s = self._calm_since_s = None

    def _depth(self, load: StreamLoad) -> int:
        """The number of the stream's step, from where we stand on the ladder."""
        below = self._rung - _LAST * PRIORITIES.index(load.priority)
        return min(max(below, 0), _LAST) + (load.key in self._moved)

    def _degrade(self, loads: Sequence[StreamLoad]) -> None:
        """One step further for the next few; where all have taken it, on the next rung."""
        costly = _costly(loads)
        stood, moved = self._rung, self._moved
        while self._rung < _RUNGS:
            waiting = [x for x in self._of_rung(costly) if x.key not in self._moved]
            if waiting:
                self._moved = self._moved | {load.key for load in waiting[: _wave(costly)]}
                return
            self._rung, self._moved = self._rung + 1, set()
        self._rung, self._moved = stood, moved  # nobody has anything left to give

    def _restore(self, loads: Sequence[StreamLoad]) -> bool:
        """One step back for the last few that took one; whether there were any."""
        costly = _costly(loads)
        before = (self._rung, bool(self._moved))
        while True:
            moved = [load for load in self._of_rung(costly) if load.key in self._moved]
            if moved:
                self._moved = {load.key for load in moved[: -_wave(costly)]}
                return True
            if self._rung == 0:
                self._moved.clear()
                return before != (0, False)
            self._rung -= 1
            self._moved = {load.key for load in self._of_rung(costly)}

    def _of_rung(self, loads: Sequence[StreamLoad]) -> list[StreamLoad]:
        """Those whose turn it is on this rung, in the order given."""
        if self._rung == _RUNGS:
            return []
        turn = PRIORITIES[self._rung // _LAST]
        return [load for load in loads if load.priority == turn]


def _costly(loads: Sequence[StreamLoad]) -> list[StreamLoad]:
    """Those from which a step would take something, costliest first."""
    found = [load for load in loads if load.awake or load.cpu_s >= _CHEAP_CPU_S]
    return sorted(found, key=lambda load: (-load.cpu_s, load.key))


def _wave(costly: Sequence[StreamLoad]) -> int:
    """How many move at once."""
    return math.ceil(len(costly) / _WAVES)


# --- catch-up ----------------------------------------------------------------------------------


class CatchUp:
    """Catch-up's own share of the budget: a bucket of CPU seconds that fills at a steady rate.

    One that is spent makes retroactive decoding be dropped whole, so that live work is not late.
    What costs more than the bucket holds may be done when it is full: a long GOP has its chance.
    """

    def __init__(self, share: float = 0.3, burst_s: float = 10.0) -> None:
        """It holds `burst_s` seconds of the whole budget, and fills with `share` of it."""
        self._share = share
        self._burst_s = burst_s
        self._cores = math.inf
        self._held_s = math.inf
        self._at_s = -math.inf
        self.dropped = 0
        """Catch-ups that were not allowed."""

    def set_budget(self, cores: float, now_s: float) -> None:
        """The shard's cores from now on; before the first call, nothing is refused."""
        self._fill(now_s)
        self._cores = cores
        self._held_s = min(self._held_s, self._burst_s * cores)

    def allows(self, cost_s: float, now_s: float) -> bool:
        """Whether so many CPU seconds may be spent now; they are spent then."""
        self._fill(now_s)
        if self._held_s < min(cost_s, self._burst_s * self._cores):
            self.dropped += 1
            return False
        self._held_s -= cost_s
        return True

    def _fill(self, now_s: float) -> None:
        """What has come since the last time."""
        if self._cores < math.inf:
            passed_s = max(now_s - self._at_s, 0.0)
            filled_s = self._held_s + passed_s * self._share * self._cores
            self._held_s = min(filled_s, self._burst_s * self._cores)
        self._at_s = now_s
