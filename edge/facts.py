"""What the station's inputs say, and said lately: facts by input, each since its moment.

Here: a bounded table for those who judge and those who tell, for any thread. Not here: how facts
come in (inputs.py, display/inputs.py), where they are kept (store/facts.py), what a rule makes of
them.
"""

import threading
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from wire.facts import MAX_INPUTS, Fact

MAX_AHEAD_S = 10.0
"""A fact may be this far ahead of the worker's clock: nobody's clock is exact."""
KEPT = 64
"""Facts of one input; older ones are forgotten: pictures are judged seconds after they came."""


class Facts:
    """Facts by input, in the order of their moments, whatever the order in which they came.

    At the same moment the later word counts. Bounded: `refused` counts facts of inputs that were
    too many, and those older than all that are kept.
    """

    def __init__(self, most: int = KEPT) -> None:
        self._most = most
        self.refused = 0
        self._lock = threading.Lock()
        self._facts: dict[str, list[Fact]] = {}

    def put(self, fact: Fact) -> bool:
        """Take in a fact; whether that was news."""
        with self._lock:
            held = self._facts.get(fact.input, [])
            place = bisect_right(held, fact.t_ms, key=_t_ms)
            before = held[place - 1] if place else None
            if before is not None and _same(before, fact):
                return False
            if self._problem(fact, held):
                self.refused += 1
                return False
            if before is not None and before.t_ms == fact.t_ms:
                held[place - 1] = fact
            else:
                held.insert(place, fact)
                del held[: -self._most]
            self._facts[fact.input] = held
            return True

    def problem(self, fact: Fact) -> str:
        """Why a fact would be refused, for people, or ""."""
        with self._lock:
            return self._problem(fact, self._facts.get(fact.input, ()))

    def _problem(self, fact: Fact, held: Sequence[Fact]) -> str:
        if not held and len(self._facts) >= MAX_INPUTS:
            return (
                f"there are {MAX_INPUTS} inputs already, and this would be another one; to forget "
                "them all, stop the worker and delete its facts.db"
            )
        if len(held) >= self._most and fact.t_ms < held[0].t_ms:
            return f"it is older than the {self._most} facts of this input that are kept"
        return ""

    def heed_clock(self, now_ms: int) -> None:
        """What is said of a time too far ahead holds since now: the clock was taken back.

        Otherwise such facts would wait for their time, and stand before all that come until then.
        """
        with self._lock:
            for name, held in self._facts.items():
                if held[-1].t_ms > latest_ms(now_ms):
                    now = msgspec.structs.replace(held[-1], t_ms=now_ms)
                    self._facts[name] = [*held[: bisect_left(held, now_ms, key=_t_ms)], now]

    def kept(self) -> list[Fact]:
        """All facts, by the name of their input and their moments."""
        with self._lock:
            return [fact for _, held in sorted(self._facts.items()) for fact in held]

    def newest(self) -> list[Fact]:
        """What each input said last, by its name."""
        with self._lock:
            return [held[-1] for _, held in sorted(self._facts.items())]

    def at(self, t_ms: int, inputs: Iterable[str]) -> Mapping[str, Fact]:
        """What these inputs said at a moment (UTC milliseconds), those that said anything."""
        found = {}
        with self._lock:
            for name in inputs:
                held = self._facts.get(name, ())
                place = bisect_right(held, t_ms, key=_t_ms)
                if place:
                    found[name] = held[place - 1]
        return found

    def changes(self, after_ms: int, until_ms: int, inputs: Iterable[str]) -> list[int]:
        """The moments between two others since which any of these says something else."""
        with self._lock:
            return sorted(
                {
                    fact.t_ms
                    for name in inputs
                    for fact in self._facts.get(name, ())
                    if after_ms < fact.t_ms < until_ms
                }
            )


def latest_ms(now_ms: int) -> int:
    """The latest moment that a fact may be of."""
    return now_ms + round(MAX_AHEAD_S * 1000)


def _same(one: Fact, other: Fact) -> bool:
    # For Python true is 1, and nobody else means that.
    return one == other and isinstance(one.value, bool) == isinstance(other.value, bool)


def _t_ms(fact: Fact) -> int:
    return fact.t_ms
