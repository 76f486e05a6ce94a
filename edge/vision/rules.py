"""Events out of tracks: what an operator's rules say of each look. Pure.

Here: how long conditions hold, crossings, incidents. Not here: what holds at one look (program.py),
looking, tracking, clocks, files.

    program = compile_task(task, revision, scope)
    state = START
    state, events = step(program, state, tracks, pts_s, t_ms)     # once for each look
    events = close(program, state, "interrupted")                 # when there will be no more

Everything is measured in the stream's own time. What a condition holds for (one object, or the
scene) goes through `_judge`, the same for presence and count:

    nothing --holds--> holding --held for `for`--> open (start) --ceased for `clear`--> end
               ^          |                                                       |
               +--absent longer than `grace`                 `cooldown`, then nothing

Absence is judged at the looks at which the condition does not hold; it lasts since the last look at
which it did. An incident ends at the last moment at which it held. Incidents are numbered in the
order in which they start.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace

from edge.vision.geometry import Point, crosses, foot_point, side
from edge.vision.program import (
    EPSILON_S,
    SCENE,
    Program,
    ReadyRule,
    Sight,
    Track,
    holding,
    sight_of,
)
from wire import specs
from wire.events import Event, Phase

LINE_MARGIN = 0.005
LINE_MARGIN_OF_HEIGHT = 0.05
"""An object is on neither side of a line while its foot is this near, in parts of its height."""


@dataclass(frozen=True, slots=True)
class _Moment:
    pts_s: float
    t_ms: int


@dataclass(frozen=True, slots=True)
class _Hold:
    """A condition that holds, or did so a short while ago."""

    since: _Moment
    last: _Moment
    sight: Sight
    incident: str | None = None


@dataclass(frozen=True, slots=True)
class _Memory:
    """What one rule remembers. Each map forgets: holds after grace, the others as noted."""

    holds: Mapping[int, _Hold] = field(default_factory=dict)
    cool_until_s: Mapping[int, float] = field(default_factory=dict)
    """Until when an object opens no new incident; forgotten then, or with its track."""
    sides: Mapping[int, tuple[float, Point]] = field(default_factory=dict)
    """Where an object was last clearly on a side of the line; forgotten with its track."""


@dataclass(frozen=True, slots=True)
class State:
    """Everything that rules remember from look to look."""

    incidents: int = 0
    memories: Mapping[str, _Memory] = field(default_factory=dict)
    """By rule."""


START = State()


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
    alive = {SCENE, *(track.id for track in tracks)}
    for rule in program.rules:
        memory = state.memories.get(rule.spec.name, _Memory())
        memory = _still_cool(memory, alive, pts_s)
        if isinstance(rule.spec.when, specs.Crossing):
            memory, found = _crossed(program, rule, rule.spec.when, memory, tracks, now)
        else:
            held = holding(program, rule, tracks, pts_s)
            memory, found, incidents = _judge(program, rule, memory, held, now, incidents)
        memories[rule.spec.name] = memory
        events += found
    return State(incidents, memories), events


def close(program: Program, state: State, reason: str) -> list[Event]:
    """The ends of all open incidents, each at the last moment at which it held."""
    return [
        _end(program, rule, hold, reason)
        for rule in program.rules
        for hold in state.memories.get(rule.spec.name, _Memory()).holds.values()
        if hold.incident is not None
    ]


# --- what follows ------------------------------------------------------------------------------


def _still_cool(memory: _Memory, alive: Container[int], pts_s: float) -> _Memory:
    """Forget the cooldowns of objects that are gone, and those that are over with nothing held."""
    if not memory.cool_until_s:
        return memory
    cool = {
        key: until_s
        for key, until_s in memory.cool_until_s.items()
        if key in alive and (until_s > pts_s or key in memory.holds)
    }
    return replace(memory, cool_until_s=cool)


def _judge(
    program: Program,
    rule: ReadyRule,
    memory: _Memory,
    held: Mapping[int, Sight],
    now: _Moment,
    incidents: int,
) -> tuple[_Memory, list[Event], int]:
    """One look at everything that a rule's condition holds, or held, for."""
    events: list[Event] = []
    cool = dict(memory.cool_until_s)
    holds: dict[int, _Hold] = {}
    for key in sorted({*memory.holds, *held}):
        hold = memory.holds.get(key)
        sight = held.get(key)
        if sight is not None:
            hold = _Hold(now, now, sight) if hold is None else replace(hold, last=now, sight=sight)
            due_s = max(hold.since.pts_s + rule.for_s, cool.get(key, 0.0))
            if hold.incident is None and now.pts_s >= due_s - EPSILON_S:
                incidents += 1
                hold = replace(hold, incident=f"{program.scope}-{program.task}-{incidents}")
                events.append(_start(program, rule, hold, due_s))
        elif hold is not None and _ceased(rule, hold, now):
            if hold.incident is not None:
                events.append(_end(program, rule, hold, "cleared"))
                cool[key] = hold.last.pts_s + rule.cooldown_s
            hold = None
        if hold is not None:
            holds[key] = hold
    return replace(memory, holds=holds, cool_until_s=cool), events, incidents


def _ceased(rule: ReadyRule, hold: _Hold, now: _Moment) -> bool:
    """Whether the condition has been absent for too long; an open incident allows `clear`."""
    allowed_s = rule.grace_s if hold.incident is None else rule.clear_s
    return now.pts_s - hold.last.pts_s > allowed_s + EPSILON_S


def _crossed(
    program: Program,
    rule: ReadyRule,
    crossing: specs.Crossing,
    memory: _Memory,
    tracks: Sequence[Track],
    now: _Moment,
) -> tuple[_Memory, list[Event]]:
    """One event for each object that has come clearly to the other side across the line."""
    line = program.lines[crossing.line]
    events: list[Event] = []
    cool = dict(memory.cool_until_s)
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
            events.append(_event(program, rule, sight_of(track), now.t_ms, direction=direction))
            if rule.cooldown_s:
                cool[track.id] = now.pts_s + rule.cooldown_s
    return replace(memory, sides=sides, cool_until_s=cool), events


# --- events ------------------------------------------------------------------------------------


def _start(program: Program, rule: ReadyRule, hold: _Hold, due_s: float) -> Event:
    began_ms = hold.since.t_ms + round((due_s - hold.since.pts_s) * 1000)
    return _event(
        program, rule, hold.sight, began_ms,
        phase="start", incident=hold.incident, since_ms=hold.since.t_ms,
    )  # fmt: skip


def _end(program: Program, rule: ReadyRule, hold: _Hold, reason: str) -> Event:
    return _event(
        program, rule, hold.sight, hold.last.t_ms,
        phase="end", incident=hold.incident, since_ms=hold.since.t_ms, reason=reason,
    )  # fmt: skip


def _event(
    program: Program,
    rule: ReadyRule,
    sight: Sight,
    t_ms: int,
    *,
    phase: Phase | None = None,
    incident: str | None = None,
    since_ms: int | None = None,
    reason: str = "",
    direction: str = "",
) -> Event:
    when = rule.spec.when
    zone = line = ""
    match when:
        case specs.Presence():
            zone = when.zone or ""
        case specs.Count():
            zone = when.count.zone or ""
        case specs.Crossing():
            line = when.line
    return Event(
        kind=rule.spec.kind,
        t_ms=t_ms,
        camera=program.camera,
        severity=rule.spec.severity,
        task=program.task,
        task_revision=program.revision,
        rule=rule.spec.name,
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
