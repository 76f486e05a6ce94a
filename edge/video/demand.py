"""How much of a stream its rules need to see. Pure, and it explains itself.

Here: the shortest visit that each rule must see, and how little decoding sees it while nothing
changes. Not here: decoding, waking up, what happens under a short budget.

    demand = joined(of_task(task) for task in tasks_of_the_stream)
    plan = idle(demand, traits)

A visit is a stretch of time during which something is to be seen: an object in a zone, five cars in
a queue, a person who interrupts an absence. It is seen if a picture is decoded during it; then what
was skipped before that picture is decoded too (ring.py), so that looking seldom shifts no times.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeGuard

from wire import specs

MOMENT_S = 1.0
"""The shortest visit where no duration says otherwise: about what a car takes to cross a line."""
LONGEST_LOOK_S = 2.0
"""Key frames are left out only up to this, however long visits are: whoever comes should be seen
soon, and there is little left to save."""
PLATE_S = 5.0
"""A vehicle that stands for so long is to be seen where plates are read."""
MOST_OF_A_GOP = 0.75
"""When more than this part of each GOP must be decoded, all of it is: waking costs more."""
_EPSILON_S = 1e-6

_PRIORITIES: tuple[specs.Priority, ...] = ("low", "normal", "high")


@dataclass(frozen=True, slots=True)
class Need:
    """What one rule (or `plates`) needs: no visit of `min_visit_s` or longer may be missed."""

    rule: str
    min_visit_s: float
    why: str


@dataclass(frozen=True, slots=True)
class Demand:
    """What one task, or all tasks of a stream together, need of its decoding.

    `fps` is how many pictures a second are analysed while something happens; `full` forbids to
    decode less than everything.
    """

    fps: float
    min_visit_s: float
    full: bool
    needs: tuple[Need, ...]
    priority: specs.Priority


@dataclass(frozen=True, slots=True)
class Traits:
    """What was learned of a stream; None is not known yet.

    `gop_s` is the longest time between two key frames (infinite: there is no second one),
    `keys_alone` whether a key packet gives a picture without the packets after it, `intra_only`
    whether each packet is a key frame, as with MJPEG.
    """

    gop_s: float | None = None
    keys_alone: bool | None = None
    intra_only: bool = False


@dataclass(frozen=True, slots=True)
class Idle:
    """How a stream is decoded while nothing changes.

    FULL: every frame. KEY: one key frame each `key_every_s` (a whole number of GOPs), and of each
    GOP that is begun the frames up to the first one that is `then_s` or more after its key frame.
    """

    level: Literal["KEY", "FULL"]
    key_every_s: float
    then_s: float
    why: str


def of_task(task: specs.Task) -> Demand:
    """A task's demand is the strictest of its rules'; the needs stand in the order of the rules."""
    spec = task.spec
    needs = tuple(_need(rule) for rule in spec.rules)
    if spec.plates is not None:
        needs += (Need("plates", PLATE_S, "a vehicle that stands for so long has its plate read"),)
    shortest_s = min(need.min_visit_s for need in needs)
    return Demand(spec.fps, shortest_s, spec.decode == "full", needs, spec.priority)


def joined(demands: Iterable[Demand]) -> Demand:
    """The strictest of each: one decode serves all tasks of a stream.

    Raises ValueError if there is no demand at all: such a stream is OFF.
    """
    all_of_them = tuple(demands)
    if not all_of_them:
        raise ValueError("no task wants this stream: there is nothing to decode")
    return Demand(
        fps=max(demand.fps for demand in all_of_them),
        min_visit_s=min(demand.min_visit_s for demand in all_of_them),
        full=any(demand.full for demand in all_of_them),
        needs=tuple(need for demand in all_of_them for need in demand.needs),
        priority=max((demand.priority for demand in all_of_them), key=_PRIORITIES.index),
    )


def idle(demand: Demand, traits: Traits) -> Idle:
    """The least decoding after which no visit that a rule must see can have been missed.

    Unless it is FULL, two pictures are never further apart than the shortest visit, or than one
    frame of the stream where frames are rarer than that.
    """
    visit_s, gop_s = demand.min_visit_s, traits.gop_s
    if demand.full:
        return _full("a task asks for every frame (decode: full)")
    if traits.keys_alone is False:
        return _full(
            "with intra refresh no key packet gives a picture by itself: all must be decoded"
        )
    if traits.intra_only:
        look_s = min(visit_s, MOMENT_S)
        every_s = _whole_gops(look_s, gop_s) if _is_known(gop_s) else look_s
        why = f"every frame is a key frame: one each {shown_s(every_s)} will do"
        return Idle("KEY", every_s, 0.0, why)
    if traits.keys_alone is None:
        return _full("it is not known yet whether its key frames can be decoded alone")
    if gop_s == math.inf:
        return _full("it sends no second key frame")
    if not _is_known(gop_s):
        return _full("it is not known yet how often its key frames come")
    gop, visit = f"a GOP of {shown_s(gop_s)}", f"the shortest visit ({shown_s(visit_s)})"
    if gop_s <= visit_s:
        every_s = _whole_gops(min(visit_s, LONGEST_LOOK_S), gop_s)
        will_do = "each key frame" if every_s == gop_s else f"one key frame each {shown_s(every_s)}"
        return Idle("KEY", every_s, 0.0, f"{gop} is no longer than {visit}: {will_do} will do")
    then_s = gop_s - visit_s
    if then_s > MOST_OF_A_GOP * gop_s:
        return _full(f"{gop} is far longer than {visit}: nearly all would be decoded anyway")
    why = f"{gop} is longer than {visit}: its first {shown_s(then_s)} must be decoded too"
    return Idle("KEY", gop_s, then_s, why)


def shown_s(seconds: float) -> str:
    """`3 s`, `0.25 s`, `90 s`: a duration for people."""
    return f"{f'{seconds:.3f}'.rstrip('0').rstrip('.')} s"


def _need(rule: specs.Rule) -> Need:
    if rule.min_visit is not None:
        return Need(rule.name, rule.min_visit, "its min_visit says so")
    if next(specs.leaves(rule), None) is None:
        return Need(rule.name, LONGEST_LOOK_S, "it asks the station's inputs, not the picture")
    if rule.when is None:
        return Need(rule.name, MOMENT_S, "a moment may begin, end or break a procedure")
    if isinstance(rule.when, specs.Crossing):
        return Need(rule.name, MOMENT_S, "crossing a line takes a moment")
    if rule.for_ == 0:
        return Need(rule.name, MOMENT_S, "it has no `for`: a moment makes an incident")
    if rule.for_ > MOMENT_S and _waits_for_absence(rule.when):
        # However long its grace: an object that vanishes counts for as long, and so interrupts.
        return Need(rule.name, MOMENT_S, "a moment interrupts what it waits for (at_most, not)")
    return Need(rule.name, rule.for_, "its `for`: a shorter visit makes no incident")


def _waits_for_absence(condition: specs.Condition) -> bool:
    """Whether some part of a condition holds while something is not there."""
    match condition:
        case specs.Presence() | specs.Crossing():
            return condition.while_ is not None and _waits_for_absence(condition.while_)
        case specs.Not():
            return _looks(condition.not_)
        case specs.Count():
            return condition.at_most is not None
        case specs.All():
            return any(map(_waits_for_absence, condition.all))
        case specs.Any_():
            return any(map(_waits_for_absence, condition.any))
    return False


def _looks(condition: specs.Condition) -> bool:
    """Whether some part of a condition asks the picture, and not the station's inputs alone."""
    match condition:
        case specs.Input():
            return False
        case specs.Not():
            return _looks(condition.not_)
        case specs.All():
            return any(map(_looks, condition.all))
        case specs.Any_():
            return any(map(_looks, condition.any))
    return True


def _is_known(gop_s: float | None) -> TypeGuard[float]:
    return gop_s is not None and 0 < gop_s < math.inf


def _whole_gops(at_most_s: float, gop_s: float) -> float:
    """The longest time of whole GOPs, at least one, that is not above `at_most_s`."""
    return gop_s * max(1, math.floor((at_most_s + _EPSILON_S) / gop_s))


def _full(why: str) -> Idle:
    return Idle("FULL", 0.0, 0.0, why)
