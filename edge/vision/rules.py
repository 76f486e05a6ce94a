"""Events out of tracks: what an operator's rules say of each look. Pure.

Here: presence, crossings, counts and their hysteresis. Not here: looking, tracking, clocks, files.

    program = compile_task(task, revision, scope)
    state = START
    state, events = step(program, state, tracks, pts_s, t_ms)     # once for each look
    events = close(program, state, "interrupted")                 # when there will be no more

Everything is measured in the stream's own time. What a condition holds for (one object, or the
scene) goes through `_judge`, the same for presence and count:

    nothing --holds--> holding --held for `for`--> open (start) --ceased for `clear`--> end
               ^          |                                                       |
               +--absent longer than `grace`                 `cooldown`, then nothing

An absence is the time between two looks at which the condition held. An incident ends at the last
moment at which it held. Incidents are numbered in the order in which they start.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from edge.vision.geometry import Box, Line, Point, crosses, foot_point, inside, side
from wire import specs
from wire.events import Event, Phase

SCENE = 0
"""What a condition of the scene holds for; tracks are numbered from 1."""
LEAST_GRACE_S = 1.0
EPSILON_S = 1e-6
LINE_MARGIN = 0.005
LINE_MARGIN_OF_HEIGHT = 0.05
"""An object is on neither side of a line while its foot is this near, in parts of its height."""


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
class _Rule:
    """A rule with its durations in seconds."""

    rule: specs.Rule
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
    rules: tuple[_Rule, ...]


@dataclass(frozen=True, slots=True)
class _Moment:
    pts_s: float
    t_ms: int


@dataclass(frozen=True, slots=True)
class _Sight:
    """What an event tells of the object or the scene."""

    label: str = ""
    track: int | None = None
    score: float | None = None
    box: Box | None = None
    count: int | None = None


@dataclass(frozen=True, slots=True)
class _Hold:
    """A condition that holds, or did so a short while ago."""

    since: _Moment
    last: _Moment
    sight: _Sight
    incident: str | None = None


@dataclass(frozen=True, slots=True)
class _Memory:
    """What one rule remembers. Each map forgets: holds after grace, the others as noted."""

    holds: Mapping[int, _Hold] = field(default_factory=dict)
    cool_until_s: Mapping[int, float] = field(default_factory=dict)
    """Until when an object opens no new incident; forgotten then."""
    sides: Mapping[int, tuple[float, Point]] = field(default_factory=dict)
    """Where an object was last clearly on a side of the line; forgotten with its track."""


@dataclass(frozen=True, slots=True)
class State:
    """Everything that rules remember from look to look."""

    incidents: int = 0
    memories: Mapping[str, _Memory] = field(default_factory=dict)
    """By rule."""


START = State()


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


def _compiled(rule: specs.Rule, fps: float) -> _Rule:
    grace_s = rule.grace if rule.grace is not None else max(LEAST_GRACE_S, 2 / fps)
    clear_s = rule.clear if rule.clear is not None else grace_s
    return _Rule(rule, rule.for_, grace_s, clear_s, rule.cooldown)


def longest_absence_s(program: Program) -> float:
    """How long a track must be kept unseen so that every rule's grace and clear have a meaning."""
    return max(max(rule.grace_s, rule.clear_s) for rule in program.rules)


def step(
    program: Program, state: State, tracks: Sequence[Track], pts_s: float, t_ms: int
) -> tuple[State, list[Event]]:
    """The state after a look, and what became true with it.

    `tracks` are the confirmed ones, seen or not; `pts_s` grows from look to look.
    """
    now = _Moment(pts_s, t_ms)
    events: list[Event] = []
    memories = {}
    incidents = state.incidents
    for rule in program.rules:
        memory = state.memories.get(rule.rule.name, _Memory())
        match rule.rule.when:
            case specs.Crossing() as crossing:
                memory, found = _crossed(program, rule, crossing, memory, tracks, now)
            case specs.Presence() as presence:
                present = _present(program, presence, tracks)
                memory, found, incidents = _judge(program, rule, memory, present, now, incidents)
            case scene:
                holding = _scene(program, rule, scene, tracks, now)
                memory, found, incidents = _judge(program, rule, memory, holding, now, incidents)
        memories[rule.rule.name] = memory
        events += found
    return State(incidents, memories), events


def close(program: Program, state: State, reason: str) -> list[Event]:
    """The ends of all open incidents, each at the last moment at which it held."""
    return [
        _end(program, rule, hold, reason)
        for rule in program.rules
        for hold in state.memories.get(rule.rule.name, _Memory()).holds.values()
        if hold.incident is not None
    ]


# --- what holds --------------------------------------------------------------------------------


def _present(
    program: Program, presence: specs.Presence, tracks: Sequence[Track]
) -> dict[int, _Sight]:
    """The objects for which a presence holds at this look."""
    return {
        track.id: _sight(track)
        for track in tracks
        if track.seen and _is_in(program, presence, track)
    }


def _is_in(program: Program, what: specs.Presence | specs.Counted, track: Track) -> bool:
    if track.label not in what.classes:
        return False
    return what.zone is None or inside(foot_point(track.box), program.zones[what.zone])


def _scene(
    program: Program,
    rule: _Rule,
    condition: specs.SceneCondition,
    tracks: Sequence[Track],
    now: _Moment,
) -> dict[int, _Sight]:
    """The scene, if its condition holds at this look.

    An object that is hidden for no longer than `grace` still counts, where it is expected.
    """
    there = [t for t in tracks if now.pts_s - t.last_pts_s <= rule.grace_s + EPSILON_S]
    if not _holds(program, condition, there):
        return {}
    if isinstance(condition, specs.Count):
        return {SCENE: _Sight(count=_count(program, condition, there))}
    return {SCENE: _Sight()}


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


# --- what follows ------------------------------------------------------------------------------


def _judge(
    program: Program,
    rule: _Rule,
    memory: _Memory,
    holding: Mapping[int, _Sight],
    now: _Moment,
    incidents: int,
) -> tuple[_Memory, list[Event], int]:
    """One look at everything that a rule's condition holds, or held, for."""
    events: list[Event] = []
    cool = {key: until for key, until in memory.cool_until_s.items() if until > now.pts_s}
    holds: dict[int, _Hold] = {}
    for key in _in_order(memory.holds, holding):
        hold = memory.holds.get(key)
        if hold is not None and _ceased(rule, hold, now):
            if hold.incident is not None:
                events.append(_end(program, rule, hold, "cleared"))
                if hold.last.pts_s + rule.cooldown_s > now.pts_s:
                    cool[key] = hold.last.pts_s + rule.cooldown_s
            hold = None
        sight = holding.get(key)
        if sight is not None:
            hold = _Hold(now, now, sight) if hold is None else replace(hold, last=now, sight=sight)
            due_s = max(hold.since.pts_s + rule.for_s, memory.cool_until_s.get(key, 0.0))
            if hold.incident is None and key not in cool and now.pts_s >= due_s - EPSILON_S:
                incidents += 1
                hold = replace(hold, incident=f"{program.scope}-{program.task}-{incidents}")
                events.append(_start(program, rule, hold, due_s))
        if hold is not None:
            holds[key] = hold
    return replace(memory, holds=holds, cool_until_s=cool), events, incidents


def _in_order(held: Iterable[int], holding: Iterable[int]) -> list[int]:
    """What held before or holds now, by number, so that equal input gives equal output."""
    return sorted({*held, *holding})


def _ceased(rule: _Rule, hold: _Hold, now: _Moment) -> bool:
    """Whether the condition has been absent for too long; an open incident allows `clear`."""
    allowed_s = rule.grace_s if hold.incident is None else rule.clear_s
    return now.pts_s - hold.last.pts_s > allowed_s + EPSILON_S


def _crossed(
    program: Program,
    rule: _Rule,
    crossing: specs.Crossing,
    memory: _Memory,
    tracks: Sequence[Track],
    now: _Moment,
) -> tuple[_Memory, list[Event]]:
    """One event for each object that has come clearly to the other side across the line."""
    line = program.lines[crossing.line]
    events: list[Event] = []
    cool = {key: until for key, until in memory.cool_until_s.items() if until > now.pts_s}
    sides: dict[int, tuple[float, Point]] = {}
    for track in tracks:
        before = memory.sides.get(track.id)
        if before is not None:
            sides[track.id] = before
        if not track.seen or track.label not in crossing.classes:
            continue
        foot = foot_point(track.box)
        here = side(foot, line)
        height = track.box[3] - track.box[1]
        if abs(here) <= max(LINE_MARGIN, LINE_MARGIN_OF_HEIGHT * height):
            continue
        sides[track.id] = (here, foot)
        if before is None or (before[0] > 0) == (here > 0) or not crosses(before[1], foot, line):
            continue
        direction = "left-to-right" if before[0] > 0 else "right-to-left"
        if crossing.direction in (direction, "both") and track.id not in cool:
            events.append(_event(program, rule, _sight(track), now.t_ms, direction=direction))
            if rule.cooldown_s:
                cool[track.id] = now.pts_s + rule.cooldown_s
    return replace(memory, sides=sides, cool_until_s=cool), events


# --- events ------------------------------------------------------------------------------------


def _sight(track: Track) -> _Sight:
    x1, y1, x2, y2 = (round(value, 4) for value in track.box)
    return _Sight(track.label, track.id, round(track.score, 3), (x1, y1, x2, y2))


def _start(program: Program, rule: _Rule, hold: _Hold, due_s: float) -> Event:
    began_ms = hold.since.t_ms + round((due_s - hold.since.pts_s) * 1000)
    return _event(
        program, rule, hold.sight, began_ms,
        phase="start", incident=hold.incident, since_ms=hold.since.t_ms,
    )  # fmt: skip


def _end(program: Program, rule: _Rule, hold: _Hold, reason: str) -> Event:
    return _event(
        program, rule, hold.sight, hold.last.t_ms,
        phase="end", incident=hold.incident, since_ms=hold.since.t_ms, reason=reason,
    )  # fmt: skip


def _event(
    program: Program,
    rule: _Rule,
    sight: _Sight,
    t_ms: int,
    *,
    phase: Phase | None = None,
    incident: str | None = None,
    since_ms: int | None = None,
    reason: str = "",
    direction: str = "",
) -> Event:
    when = rule.rule.when
    zone = line = ""
    match when:
        case specs.Presence():
            zone = when.zone or ""
        case specs.Count():
            zone = when.count.zone or ""
        case specs.Crossing():
            line = when.line
    return Event(
        kind=rule.rule.kind,
        t_ms=t_ms,
        camera=program.camera,
        severity=rule.rule.severity,
        task=program.task,
        task_revision=program.revision,
        rule=rule.rule.name,
        phase=phase,
        incident=incident,
        since_ms=since_ms,
        reason=reason,
        label=sight.label,
        track=sight.track,
        score=sight.score,
        box=sight.box,
        count=sight.count,
        zone=zone,
        line=line,
        direction=direction,
    )
