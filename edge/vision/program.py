"""A task's rules made ready, and what holds at one look. Pure, and without memory.

Here: which objects and scenes a rule's condition holds for. Not here: for how long it has held, and
what becomes of that (rules.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from edge.vision.geometry import Box, Line, Point, foot_point, inside
from wire import specs

SCENE = 0
"""What a condition of the scene holds for; tracks are numbered from 1."""
LEAST_GRACE_S = 1.0
EPSILON_S = 1e-6
"""Times that differ by less are the same: they are sums of fractions."""


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


@dataclass(frozen=True, slots=True)
class Sight:
    """What an event tells of the object or the scene."""

    label: str = ""
    track: int | None = None
    score: float | None = None
    box: Box | None = None
    count: int | None = None


def compile_task(task: specs.Task, revision: int, scope: str) -> Program:
    """A task's rules, ready to be stepped."""
    spec = task.spec
    return Program(
        task=task.metadata.name,
        revision=revision,
        camera=spec.camera,
        scope=scope,
        zones=spec.zones,
        lines=spec.lines,
        rules=tuple(_compiled(rule, spec.fps) for rule in spec.rules),
    )


def _compiled(rule: specs.Rule, fps: float) -> ReadyRule:
    grace_s = rule.grace if rule.grace is not None else max(LEAST_GRACE_S, 2 / fps)
    clear_s = rule.clear if rule.clear is not None else grace_s
    return ReadyRule(rule, rule.for_, grace_s, clear_s, rule.cooldown)


def longest_absence_s(program: Program) -> float:
    """How long a track must be kept unseen so that every rule's grace and clear have a meaning."""
    return max(max(rule.grace_s, rule.clear_s) for rule in program.rules)


def holding(
    program: Program, rule: ReadyRule, tracks: Sequence[Track], pts_s: float
) -> dict[int, Sight]:
    """What a rule's condition holds for at this look: tracks by number, or the scene.

    A crossing is a moment and holds for nothing.
    """
    match rule.spec.when:
        case specs.Crossing():
            return {}
        case specs.Presence() as presence:
            there = (t for t in tracks if t.seen and _is_in(program, presence, t))
            return {track.id: sight_of(track) for track in there}
        case scene:
            return _scene(program, rule, scene, tracks, pts_s)


def sight_of(track: Track) -> Sight:
    """A track as events tell of it, rounded to what is worth telling."""
    x1, y1, x2, y2 = (round(value, 4) for value in track.box)
    return Sight(track.label, track.id, round(track.score, 3), (x1, y1, x2, y2))


def _scene(
    program: Program,
    rule: ReadyRule,
    condition: specs.SceneCondition,
    tracks: Sequence[Track],
    pts_s: float,
) -> dict[int, Sight]:
    """The scene, if its condition holds at this look.

    An object that is hidden for no longer than `grace` still counts, where it is expected.
    """
    there = [t for t in tracks if pts_s - t.last_pts_s <= rule.grace_s + EPSILON_S]
    if not _holds(program, condition, there):
        return {}
    if isinstance(condition, specs.Count):
        return {SCENE: Sight(count=_count(program, condition, there))}
    return {SCENE: Sight()}


def _holds(program: Program, condition: specs.SceneCondition, tracks: Sequence[Track]) -> bool:
    match condition:
        case specs.Count():
            count = _count(program, condition, tracks)
            enough = condition.at_least is None or count >= condition.at_least
            return enough and (condition.at_most is None or count <= condition.at_most)
        case specs.All():
            return all(_holds(program, part, tracks) for part in condition.all)
        case specs.Any_():
            return any(_holds(program, part, tracks) for part in condition.any)
        case specs.Not():
            return not _holds(program, condition.not_, tracks)


def _count(program: Program, condition: specs.Count, tracks: Sequence[Track]) -> int:
    return sum(_is_in(program, condition.count, track) for track in tracks)


def _is_in(program: Program, what: specs.Presence | specs.Counted, track: Track) -> bool:
    if track.label not in what.classes:
        return False
    return what.zone is None or inside(foot_point(track.box), program.zones[what.zone])
