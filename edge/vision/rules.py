"""Events out of tracks: what an operator's rules say of each look. Pure.

Here: how long conditions hold, crossings, incidents. Not here: what holds at one look (program.py),
procedures (procedures.py), looking, tracking, clocks, files.

    program = compile_task(task, revision, scope)
    state = START
    state, events = step(program, state, tracks, pts_s, t_ms)     # once for each look
    events = close(program, state, "interrupted")                 # when there will be no more

Everything is measured in the stream's own time. What a condition holds for (one object, or the
scene) goes through `_judge`, the same for presence and count:

    nothing --holds--> holding --held for `for`--> open (start) --ceased for `clear`--> end
               ^          |                         |  ^                              |
               +--absent longer than `grace`        +--+ update             `cooldown`, then nothing

Absence is judged at the looks at which the condition does not hold; it lasts since the last look at
which it did. An incident ends at the last moment at which it held. It is updated when its object
gets another name, or its count a new peak, but no more often than `update_every`; its end tells the
peak. Incidents are numbered in the order in which they start.

Outside of its `schedule` a rule remembers nothing; what is open ends then as `inactive`.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace

from edge.vision import procedures
from edge.vision.geometry import Point, crosses, foot_point, side
from edge.vision.procedures import Moment
from edge.vision.program import (
    EPSILON_S,
    SCENE,
    Look,
    Program,
    ReadyRule,
    Sight,
    Track,
    Within,
    holding,
    holds_meanwhile,
    margin,
    sight_of,
    within,
)
from wire import specs
from wire.events import Event, Phase
from wire.facts import Fact

_NOTHING = Sight()


@dataclass(frozen=True, slots=True)
class _Hold:
    """A condition that holds, or did so a short while ago."""

    since: Moment
    last: Moment
    sight: Sight
    """What is told of it; of counts the highest since `since`."""
    incident: str | None = None
    told: Sight = _NOTHING
    """As of the incident's last event."""
    told_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Memory:
    """What one rule remembers. Each map forgets: holds after grace, the others as noted."""

    holds: Mapping[int, _Hold] = field(default_factory=dict)
    cool_until_s: Mapping[int, float] = field(default_factory=dict)
    """Until when an object opens no new incident; forgotten then, or with its track."""
    sides: Mapping[int, tuple[float, Point]] = field(default_factory=dict)
    """Where an object was last clearly on a side of the line; forgotten with its track."""
    procedure: procedures.Memory = procedures.NOTHING


@dataclass(frozen=True, slots=True)
class State:
    """Everything that rules remember from look to look."""

    incidents: int = 0
    memories: Mapping[str, _Memory] = field(default_factory=dict)
    """By rule."""
    within: Within = frozenset()


START = State()
_NO_INPUTS: Mapping[str, Fact] = {}


def step(
    program: Program,
    state: State,
    tracks: Sequence[Track],
    pts_s: float,
    t_ms: int,
    inputs: Mapping[str, Fact] = _NO_INPUTS,
) -> tuple[State, list[Event]]:
    """The state after a look, and what became true with it.

    `tracks` are the confirmed ones, seen or not; `pts_s` grows from look to look; `inputs` are what
    the station's inputs say at that moment.
    """
    now = Moment(pts_s, t_ms)
    there = within(program, tracks, state.within)
    look = Look(tracks, there, inputs, pts_s, t_ms)
    events: list[Event] = []
    memories = {}
    incidents = state.incidents
    alive = {SCENE, *(track.id for track in tracks)}
    for rule in program.rules:
        memory = state.memories.get(rule.spec.name, _Memory())
        found: list[Event]
        if not specs.is_active(rule.spec.schedule, t_ms, program.zone):
            memory, found = _Memory(), _ends(program, rule, memory, "inactive")
        elif rule.spec.procedure is not None:
            after, found, incidents = procedures.judge(
                program, rule, rule.spec.procedure, memory.procedure, look, incidents
            )
            memory = replace(memory, procedure=after)
        elif isinstance(rule.spec.when, specs.Crossing):
            memory = _still_cool(memory, alive, pts_s)
            memory, found = _crossed(program, rule, rule.spec.when, memory, look, now)
        else:
            memory = _still_cool(memory, alive, pts_s)
            held = holding(program, rule, look)
            memory, found, incidents = _judge(program, rule, memory, held, now, incidents)
        memories[rule.spec.name] = memory
        events += found
    return State(incidents, memories, there), events


def close(program: Program, state: State, reason: str) -> list[Event]:
    """The ends of all open incidents, each at the last moment at which it held."""
    return [
        event
        for rule in program.rules
        for event in _ends(program, rule, state.memories.get(rule.spec.name, _Memory()), reason)
    ]


def _ends(program: Program, rule: ReadyRule, memory: _Memory, reason: str) -> list[Event]:
    """The ends of one rule's open incidents."""
    ended = [_end(program, rule, hold, reason) for hold in memory.holds.values() if hold.incident]
    if rule.spec.procedure is None:
        return ended
    return procedures.close(program, rule, memory.procedure, reason)


# --- what follows ------------------------------------------------------------------------------


def _still_cool(memory: _Memory, alive: Container[int], pts_s: float) -> _Memory:
    """Forget the cooldowns of objects that are gone, and those that are over with nothing held."""
    if not memory.cool_until_s:
        return memory
    cool = {
        key: until_s
        for key, until_s in memory.cool_until_s.items()
        if key in alive and (until_s > pts_s + EPSILON_S or key in memory.holds)
    }
    return replace(memory, cool_until_s=cool)


def _judge(
    program: Program,
    rule: ReadyRule,
    memory: _Memory,
    held: Mapping[int, Sight],
    now: Moment,
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
            hold = _Hold(now, now, sight) if hold is None else _seen_again(hold, now, sight)
            due_s = max(hold.since.pts_s + rule.for_s, cool.get(key, 0.0))
            if hold.incident is None and now.pts_s >= due_s - EPSILON_S:
                incidents += 1
                hold = replace(hold, incident=program.incident(incidents))
                hold = replace(hold, told=hold.sight, told_s=now.pts_s)
                events.append(_start(program, rule, hold, due_s))
            elif hold.incident is not None and _has_news(rule, hold, now):
                hold = replace(hold, told=hold.sight, told_s=now.pts_s)
                events.append(_update(program, rule, hold))
        elif hold is not None and _ceased(rule, hold, now):
            if hold.incident is not None:
                events.append(_end(program, rule, hold, "cleared"))
                cool[key] = hold.last.pts_s + rule.cooldown_s
            hold = None
        if hold is not None:
            holds[key] = hold
    return replace(memory, holds=holds, cool_until_s=cool), events, incidents


def _seen_again(hold: _Hold, now: Moment, sight: Sight) -> _Hold:
    counts = [each.count for each in (hold.sight, sight) if each.count is not None]
    return replace(hold, last=now, sight=replace(sight, count=max(counts, default=None)))


def _has_news(rule: ReadyRule, hold: _Hold, now: Moment) -> bool:
    """Whether an open incident has become something else, and may say so again."""
    same = (hold.sight.label, hold.sight.count) == (hold.told.label, hold.told.count)
    return not same and now.pts_s - hold.told_s >= rule.spec.update_every - EPSILON_S


def _ceased(rule: ReadyRule, hold: _Hold, now: Moment) -> bool:
    """Whether the condition has been absent for too long; an open incident allows `clear`."""
    allowed_s = rule.grace_s if hold.incident is None else rule.clear_s
    return now.pts_s - hold.last.pts_s > allowed_s + EPSILON_S


def _crossed(
    program: Program,
    rule: ReadyRule,
    crossing: specs.Crossing,
    memory: _Memory,
    look: Look,
    now: Moment,
) -> tuple[_Memory, list[Event]]:
    """One event for each object that has come clearly to the other side across the line."""
    line = program.lines[crossing.line]
    events: list[Event] = []
    cool = dict(memory.cool_until_s)
    sides: dict[int, tuple[float, Point]] = {}
    meanwhile = holds_meanwhile(rule, crossing, look)
    for track in look.tracks:
        before = memory.sides.get(track.id)
        if before is not None:
            sides[track.id] = before
        if not track.seen or track.label not in crossing.classes:
            continue
        foot = foot_point(track.box)
        here = side(foot, line)
        if abs(here) <= margin(track):
            continue
        sides[track.id] = (here, foot)
        if before is None or (before[0] > 0) == (here > 0) or not crosses(before[1], foot, line):
            continue
        direction = "left-to-right" if before[0] > 0 else "right-to-left"
        wanted = meanwhile and crossing.direction in (direction, "both")
        if wanted and track.id not in cool:
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


def _update(program: Program, rule: ReadyRule, hold: _Hold) -> Event:
    return _event(
        program, rule, hold.sight, hold.last.t_ms,
        phase="update", incident=hold.incident, since_ms=hold.since.t_ms,
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
