"""The engine of rules beside a slow and obvious one: the same looks, the same events."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.vision.program import compile_task
from edge.vision.rules import START, State, close, step
from tests.edge.vision import judging, oracle
from tests.edge.vision.judging import Thing
from tests.edge.vision.oracle_scene import Body, Look, Told
from wire import specs
from wire.events import Event
from wire.facts import Fact

BEGIN_MS = 1_795_597_140_000
"""A Wednesday, 08:59:00 UTC: schedules have minutes, and looks are seconds apart."""
ZONES = {
    "pump": [[0.4, 0.4], [0.6, 0.4], [0.6, 0.8], [0.4, 0.8]],
    "lane": [[0.1, 0.2], [0.5, 0.3], [0.42, 0.72], [0.2, 0.6]],
    "bow": [[0.2, 0.2], [0.8, 0.8], [0.8, 0.2], [0.2, 0.6]],
}
LINES = {
    "exit": [[0.1, 0.5], [0.9, 0.5]],
    "gate": [[0.5, 0.9], [0.5, 0.3]],
    "slope": [[0.2, 0.2], [0.74, 0.66]],
}
LABELS = ("person", "car")
GAPS_MS = (1000, 500, 200, 100, 333, 1000, 500, 200, 2000, 3000, 1000, 500, 200, 100, 20_000)
DURATIONS_S = (0, 1, 0.2, 0.333, 0.5, 1.5, 2, 3, 5)

# --- what happens in front of the camera -------------------------------------------------------
# Feet stand on even thousandths, and margins are odd or halves: no distance is a margin, for what
# is said of one that is depends on the last bit of a float.

NEAR = [
    (500, 600), (400, 600), (398, 600), (396, 598), (394, 600), (390, 600), (388, 600), (380, 500),
    (500, 500), (500, 496), (500, 490), (500, 504), (500, 510), (500, 512), (494, 500), (506, 500),
    (600, 800), (604, 804), (608, 600), (100, 500), (92, 520), (92, 480), (470, 430), (300, 300),
]  # fmt: skip
FEET = st.one_of(
    st.sampled_from(NEAR),
    st.sampled_from(NEAR[:10]),
    st.tuples(st.integers(0, 500), st.integers(0, 500)).map(lambda at: (2 * at[0], 2 * at[1])),
)


@dataclass(frozen=True)
class Stay:
    """What an object does for some looks: it stands, or trembles between two places."""

    looks: int
    feet: tuple[tuple[int, int], tuple[int, int]]
    label: str
    how: str
    """seen, hidden, or gone: then it comes back as another one."""
    height: int


STAYS = st.builds(
    Stay,
    st.integers(1, 9),
    st.one_of(st.tuples(FEET, FEET), FEET.map(lambda foot: (foot, foot))),
    st.sampled_from(LABELS),
    st.sampled_from(("seen", "seen", "seen", "hidden", "gone")),
    st.sampled_from((50, 110, 210)),
)
VALUES: st.SearchStrategy[bool | float | str] = st.sampled_from(
    (True, False, "on", True, False, "on", 1.0, 7.5, 0.0, 5.0, "off")
)
MOMENTS = st.tuples(
    st.sampled_from(GAPS_MS),
    st.sampled_from((True, True, False)),  # whether it is a frame, or only a fact
    st.sampled_from(("", "a", "b", "", "ab")),  # which inputs speak
    VALUES,
    st.sampled_from((0, 0, 300, 700)),  # how long ago that became true, ms
)


@st.composite
def recordings(draw: st.DrawFn, longest: int = 40) -> list[Look]:
    """Looks at some objects, which the tracker has confirmed: each is seen at first."""
    moments = draw(st.lists(MOMENTS, min_size=longest // 2, max_size=longest))
    courses = draw(st.lists(st.lists(STAYS, min_size=2, max_size=8), min_size=1, max_size=4))
    walks = [_walk(stays, 100 * n) for n, stays in enumerate(courses, 1)]
    looks: list[Look] = []
    bodies: Sequence[Body] = ()
    facts: dict[str, Fact] = {}
    last_seen_ms: dict[int, int] = {}
    t_ms = BEGIN_MS + draw(st.sampled_from((0, 40_000, 55_000)))
    for gap_ms, is_frame, says, value, ago_ms in moments:
        t_ms += gap_ms
        for name in says:
            facts = facts | {name: Fact(input=name, value=value, t_ms=t_ms - ago_ms)}
        if is_frame or not looks:
            found = [body for body in (next(walk, None) for walk in walks) if body is not None]
            last_seen_ms |= {body.id: t_ms for body in found if body.seen}
            bodies = [replace(body, last_seen_ms=last_seen_ms[body.id]) for body in found]
        looks.append(Look(t_ms, bodies, facts))
    return looks


def _walk(stays: Sequence[Stay], number: int) -> Iterator[Body | None]:
    """An object at one frame after the other."""
    known = False
    for stay in stays:
        for n in range(stay.looks):
            if stay.how == "gone":
                number, known = number + known, False
                yield None
                continue
            seen = stay.how == "seen" or not known
            known = True
            yield Body(number, stay.label, stay.feet[n % 2], stay.height, seen, 0)


# --- what an operator may write ----------------------------------------------------------------

DURATIONS = st.sampled_from(DURATIONS_S)
CLASSES = st.sampled_from((["person", "car"], "person", "car"))
ZONED = st.sampled_from(("pump", None, "lane", "bow"))
LEAF_COUNTS = st.builds(
    lambda classes, zone, limits: {"count": _said({"class": classes, "in": zone})} | limits,
    CLASSES,
    ZONED,
    st.sampled_from(
        (
            {"at_least": 1},
            {"at_least": 2},
            {"at_most": 0},
            {"at_most": 1},
            {"at_least": 1, "at_most": 2},
        )
    ),
)
LEAF_INPUTS = st.builds(
    lambda name, asks, max_age: _said({"input": name, "max_age": max_age}) | asks,
    st.sampled_from(("a", "b")),
    st.sampled_from(
        (
            {"is": True},
            {"is": False},
            {"is": "on"},
            {"is": True},
            {"is": False},
            {"is": "on"},
            {"is": 1},
            {"above": 1},
            {"below": 5},
            {"above": 0.5, "below": 6},
        )
    ),
    st.sampled_from((None, None, None, 2.5)),
)
SCENES = st.recursive(
    st.one_of(LEAF_COUNTS, LEAF_INPUTS),
    lambda part: st.one_of(
        st.lists(part, min_size=1, max_size=3).map(lambda parts: {"all": parts}),
        st.lists(part, min_size=1, max_size=3).map(lambda parts: {"any": parts}),
        part.map(lambda one: {"not": one}),
    ),
    max_leaves=4,
)
WHILES = st.one_of(st.none(), st.none(), SCENES)
SCHEDULES = st.sampled_from(
    (None, None, None, {"active": "09:00-09:01"}, {"active": ["23:00-09:00", "09:01-24:00"]})
)
PATIENCE = {
    "for": DURATIONS,
    "clear": st.one_of(st.none(), DURATIONS),
    "grace": st.one_of(st.none(), DURATIONS),
}
COMMON = {
    "cooldown": DURATIONS,
    "severity": st.sampled_from(("info", "warning", "critical")),
    "update_every": st.sampled_from((0, 1, 2, 10)),
    "schedule": SCHEDULES,
}
PRESENCES = st.builds(
    lambda classes, zone, then: _said({"class": classes, "in": zone, "while": then}),
    CLASSES,
    ZONED,
    WHILES,
)
CROSSINGS = st.builds(
    lambda classes, line, way, then: _said(
        {"class": classes, "crosses": line, "direction": way, "while": then}
    ),
    CLASSES,
    st.sampled_from(tuple(LINES)),
    st.sampled_from((None, "left-to-right", "right-to-left", "both")),
    WHILES,
)
LASTING = st.fixed_dictionaries(
    {"when": st.one_of(PRESENCES, LEAF_COUNTS, SCENES)} | PATIENCE | COMMON
)
MOMENTARY = st.fixed_dictionaries({"when": CROSSINGS} | COMMON)
STEPS = st.lists(
    st.builds(
        lambda until, lasts, more_s, meanwhile, in_order: _said(
            {
                "until": until,
                "lasts": lasts if until is not None or lasts is not None else 1,
                "within": None if until is None or more_s is None else (lasts or 0) + more_s,
                "while": meanwhile,
                "in_order": in_order,
            }
        ),
        st.one_of(LEAF_INPUTS, LEAF_INPUTS, LEAF_COUNTS, SCENES, st.none()),
        st.one_of(st.none(), st.none(), DURATIONS),
        st.sampled_from((None, None, 0.5, 1, 3, 5)),
        WHILES,
        st.sampled_from((True, True, True, False)),
    ),
    min_size=1,
    max_size=4,
).map(lambda steps: [step | {"name": f"s{n}"} for n, step in enumerate(steps)])
PROCEDURES = st.fixed_dictionaries(
    {
        "procedure": st.builds(
            lambda begins, steps, ends: _said({"begins": begins, "steps": steps, "ends": ends}),
            st.one_of(LEAF_COUNTS, LEAF_INPUTS, SCENES),
            STEPS,
            st.one_of(st.none(), LEAF_INPUTS, SCENES),
        )
    }
    | PATIENCE
    | {"clear": st.one_of(DURATIONS, DURATIONS, DURATIONS, st.none())}
    | COMMON
)


def _said(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry without what is left out."""
    return {key: value for key, value in entry.items() if value is not None}


def tasks(rule: st.SearchStrategy[dict[str, Any]], most: int) -> st.SearchStrategy[specs.Task]:
    """Tasks of such rules."""
    return st.builds(
        lambda rules, fps: judging.task(
            *({"name": f"r{n}"} | _said(rule) for n, rule in enumerate(rules)),
            fps=fps,
            zones=ZONES,
            lines=LINES,
        ),
        st.lists(rule, min_size=1, max_size=most),
        st.sampled_from((1, 2, 5)),
    )


# --- one beside the other ----------------------------------------------------------------------


def judged(task: specs.Task, looks: Sequence[Look], end: str) -> list[Told]:
    """The events of the engine, as the oracle tells them."""
    program = compile_task(task, 3, "scope")
    state: State = START
    found: list[tuple[int, Event]] = []
    for n, look in enumerate(looks):
        pts_s = (look.t_ms - BEGIN_MS) / 1000
        things = [_thing(body) for body in look.bodies]
        state, events = step(program, state, things, pts_s, look.t_ms, look.says)
        found += [(n, event) for event in events]
    found += [(len(looks), event) for event in close(program, state, end)]
    numbers: dict[str, dict[str, int]] = {}
    for _, event in found:
        ids = numbers.setdefault(event.rule, {})
        if event.incident is not None:
            ids.setdefault(event.incident, len(ids) + 1)
    return [_told(look, event, numbers[event.rule]) for look, event in found]


def _told(look: int, event: Event, numbers: dict[str, int]) -> Told:
    """What the guide says of an event; a violation is one of its own, whatever run it names."""
    own = event.kind == "procedure" and event.phase is None
    trace = [(s.step, s.since_ms, s.until_ms, tuple(sorted(s.broken))) for s in event.trace]
    return Told(
        look=look,
        rule=event.rule,
        kind=event.kind,
        phase=event.phase,
        t_ms=event.t_ms,
        severity=event.severity,
        incident=None if own or event.incident is None else numbers[event.incident],
        since_ms=None if own else event.since_ms,
        reason=event.reason,
        track=event.track,
        label=event.label,
        count=event.count,
        direction=event.direction,
        step=event.step if own or event.phase == "update" else "",
        trace=tuple(trace) if event.phase == "end" else (),
    )


def _thing(body: Body) -> Thing:
    (x, y), height = body.foot, body.height
    box = ((x - 50) / 1000, (y - height) / 1000, (x + 50) / 1000, y / 1000)
    last_pts_s = (body.last_seen_ms - BEGIN_MS) / 1000
    return Thing(body.id, box, body.label, 0.8, body.seen, last_pts_s)


def in_order(events: Sequence[Told]) -> list[Told]:
    """Look by look, rule by rule, object by object; beyond that the guide promises no order."""
    return sorted(events, key=lambda event: (event.look, event.rule, event.track or 0, *_at(event)))


def _at(event: Told) -> tuple[int, str, str, str]:
    """Between its start and its end a procedure tells of several steps at one look."""
    if event.kind != "procedure":
        return 0, "", "", ""
    place = {"start": 0, "end": 2}.get(event.phase or "", 1)
    return place, event.step, event.phase or "", event.reason


def agree(task: specs.Task, looks: Sequence[Look], end: str) -> None:
    """Both engines tell the same."""
    assert in_order(judged(task, looks, end)) == in_order(oracle.told(task, looks, end))


ENDS = st.sampled_from(("removed", "interrupted"))
INCIDENTS = given(tasks(LASTING, 2), recordings(), ENDS)
CROSSED = given(tasks(MOMENTARY, 2), recordings(), ENDS)
RUNS = given(tasks(PROCEDURES, 1), recordings(), ENDS)
FEW = settings(max_examples=50)
MANY = settings(max_examples=17_000)


@FEW
@INCIDENTS
def test_incidents_are_as_the_guide_says(task: specs.Task, looks: list[Look], end: str) -> None:
    """Presence, counts, inputs and what joins them, with all their times."""
    agree(task, looks, end)


@FEW
@CROSSED
def test_crossings_are_as_the_guide_says(task: specs.Task, looks: list[Look], end: str) -> None:
    """Whoever changes sides of a line between its points, and nobody else."""
    agree(task, looks, end)


@FEW
@RUNS
def test_procedures_are_as_the_guide_says(task: specs.Task, looks: list[Look], end: str) -> None:
    """Runs, their steps in turn, and whatever breaks them."""
    agree(task, looks, end)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "asked", [INCIDENTS, CROSSED, RUNS], ids=["incidents", "crossings", "runs"]
)
def test_for_long_all_is_as_the_guide_says(asked: Callable[..., Callable[[], None]]) -> None:
    """The three above with many more tasks and recordings."""
    MANY(asked(agree))()
