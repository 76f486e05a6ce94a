"""A task's rules made ready, and what holds at one look. Pure.

Here: which objects and scenes a rule's condition holds for. Not here: for how long it has held, and
what becomes of that (rules.py, procedures.py).

Conditions have three values: an input that never said anything is *unknown* (None), and so is what
depends on it alone. Only what is known to hold makes events (Kleene's strong logic).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, tzinfo
from typing import Protocol

from edge.vision.geometry import Box, Line, Point, distance, foot_point, inside
from wire import specs
from wire.facts import Fact

SCENE = 0
"""What a condition of the scene holds for; tracks are numbered from 1."""
LEAST_GRACE_S = 1.0
PROCEDURE_CLEAR_S = 30.0
EPSILON_S = 1e-6
"""Times that differ by less are the same: they are sums of fractions."""
MARGIN = 0.005
MARGIN_OF_HEIGHT = 0.05
"""How near a line or a zone's edge a foot must be to count as where it was, in parts of its height:
boxes tremble, and an object that stands on an edge must not come and go."""


class Track(Protocol):
    """What rules need of a track: see edge.vision.track.Track."""

    @property
    def id(self) -> int: ...
    @property
    def label(self) -> str: ...
    @property
    def score(self) -> float: ...
    @property
    def box(self) -> Box: ...
    @property
    def seen(self) -> bool: ...
    @property
    def last_pts_s(self) -> float: ...


Within = frozenset[tuple[str, int]]
"""Which objects are in which zones: (zone, track)."""


@dataclass(frozen=True, slots=True)
class Look:
    """What is known at one moment: objects, where they are, and what the station's inputs say."""

    tracks: Sequence[Track]
    within: Within
    inputs: Mapping[str, Fact]
    pts_s: float
    t_ms: int


@dataclass(frozen=True, slots=True)
class ReadyRule:
    """A rule with its durations in seconds."""

    spec: specs.Rule
    for_s: float
    grace_s: float
    clear_s: float
    cooldown_s: float


@dataclass(frozen=True, slots=True)
class Program:
    """A task made ready. `scope` makes its incidents' ids unique among all runs of it."""

    task: str
    revision: int
    camera: str
    scope: str
    zones: Mapping[str, Sequence[Point]]
    lines: Mapping[str, Line]
    rules: tuple[ReadyRule, ...]
    zone: tzinfo = UTC
    """The station's time zone, in which schedules are read."""

    def incident(self, number: int) -> str:
        """The id of the task's incident of that number."""
        return f"{self.scope}-{self.task}-{number}"


@dataclass(frozen=True, slots=True)
class Sight:
    """What an event tells of the object or the scene."""

    label: str = ""
    track: int | None = None
    score: float | None = None
    box: Box | None = None
    count: int | None = None


def compile_task(task: specs.Task, revision: int, scope: str, zone: tzinfo = UTC) -> Program:
    """A task's rules, ready to be stepped."""
    spec = task.spec
    return Program(
        task=task.metadata.name,
        revision=revision,
        camera=spec.camera,
        scope=scope,
        zones={name: spec.zones[name] for name in sorted(set(_zones(spec.rules)))},
        lines=spec.lines,
        rules=tuple(_compiled(rule, spec.fps) for rule in spec.rules),
        zone=zone,
    )


def _zones(rules: Iterable[specs.Rule]) -> Iterator[str]:
    for rule in rules:
        for _, leaf in specs.leaves(rule):
            if isinstance(leaf, specs.Presence | specs.Counted) and leaf.zone is not None:
                yield leaf.zone


def _compiled(rule: specs.Rule, fps: float) -> ReadyRule:
    grace_s = rule.grace if rule.grace is not None else max(LEAST_GRACE_S, 2 / fps)
    least_s = grace_s if rule.procedure is None else max(grace_s, PROCEDURE_CLEAR_S)
    clear_s = rule.clear if rule.clear is not None else least_s
    return ReadyRule(rule, rule.for_, grace_s, clear_s, rule.cooldown)


def longest_absence_s(program: Program) -> float:
    """How long a track must be kept unseen so that every rule's grace and clear have a meaning."""
    return max(max(rule.grace_s, rule.clear_s) for rule in program.rules)


def within(program: Program, tracks: Iterable[Track], before: Within) -> Within:
    """Which objects are in which zones now; a step over the edge of where one was is none."""
    found = []
    for track in tracks:
        foot, near = foot_point(track.box), margin(track)
        for name, polygon in program.zones.items():
            was = (name, track.id) in before
            if inside(foot, polygon) or (was and distance(foot, polygon) <= near):
                found.append((name, track.id))
    return frozenset(found)


def margin(track: Track) -> float:
    """How far an object's foot may be off an edge and still count as where it was."""
    return max(MARGIN, MARGIN_OF_HEIGHT * (track.box[3] - track.box[1]))


def holding(program: Program, rule: ReadyRule, look: Look) -> dict[int, Sight]:
    """What a rule's condition holds for at this look: tracks by number, or the scene.

    A crossing is a moment and holds for nothing; neither does a procedure.
    """
    match rule.spec.when:
        case specs.Crossing() | None:
            return {}
        case specs.Presence() as presence:
            if not holds_meanwhile(rule, presence, look):
                return {}
            there = (t for t in look.tracks if t.seen and _is_in(presence, t, look.within))
            return {track.id: sight_of(track) for track in there}
        case scene:
            return _scene(rule, scene, look)


def holds_meanwhile(
    rule: ReadyRule, condition: specs.Presence | specs.Crossing, look: Look
) -> bool:
    """Whether the scene is as an object's condition wants it to be meanwhile (`while`)."""
    return condition.while_ is None or holds(rule, condition.while_, look) is True


def sight_of(track: Track) -> Sight:
    """A track as events tell of it, rounded to what is worth telling."""
    x1, y1, x2, y2 = (round(value, 4) for value in track.box)
    return Sight(track.label, track.id, round(track.score, 3), (x1, y1, x2, y2))


def _scene(rule: ReadyRule, condition: specs.SceneCondition, look: Look) -> dict[int, Sight]:
    """The scene, if its condition holds at this look."""
    if not holds(rule, condition, look):
        return {}
    if isinstance(condition, specs.Count):
        return {SCENE: Sight(count=_count(rule, condition, look))}
    return {SCENE: Sight()}


def holds(rule: ReadyRule, condition: specs.SceneCondition, look: Look) -> bool | None:
    """Whether a condition of the scene holds; None: nobody knows.

    An object that is hidden for no longer than `grace` still counts, where it is expected.
    """
    match condition:
        case specs.Count():
            count = _count(rule, condition, look)
            enough = condition.at_least is None or count >= condition.at_least
            return enough and (condition.at_most is None or count <= condition.at_most)
        case specs.Input():
            return _says(condition, look)
        case specs.All():
            parts = [holds(rule, part, look) for part in condition.all]
            return False if False in parts else None if None in parts else True
        case specs.Any_():
            parts = [holds(rule, part, look) for part in condition.any]
            return True if True in parts else None if None in parts else False
        case specs.Not():
            part = holds(rule, condition.not_, look)
            return None if part is None else not part


def _says(condition: specs.Input, look: Look) -> bool | None:
    """Whether an input says what is asked for; text is neither above nor below a number."""
    fact = look.inputs.get(condition.input)
    if fact is None:
        return None
    if condition.max_age is not None and look.t_ms - fact.t_ms > condition.max_age * 1000:
        return None
    value = fact.value
    if condition.is_ is not None:
        # For Python true is 1, and nobody else means that.
        return isinstance(value, bool) == isinstance(condition.is_, bool) and value == condition.is_
    if isinstance(value, bool | str):
        return False
    high_enough = condition.above is None or value > condition.above
    return high_enough and (condition.below is None or value < condition.below)


def _count(rule: ReadyRule, condition: specs.Count, look: Look) -> int:
    oldest_s = look.pts_s - rule.grace_s - EPSILON_S
    there = (track for track in look.tracks if track.seen or track.last_pts_s >= oldest_s)
    return sum(_is_in(condition.count, track, look.within) for track in there)


def _is_in(what: specs.Presence | specs.Counted, track: Track, within: Within) -> bool:
    if track.label not in what.classes:
        return False
    return what.zone is None or (what.zone, track.id) in within
