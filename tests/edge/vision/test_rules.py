"""Rules: what an operator wrote is what happens. Sentences first, then properties."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.vision.program import compile_task, longest_absence_s
from edge.vision.rules import START, State, close, step
from tests.edge.vision import judging
from tests.edge.vision.judging import INSIDE, OUTSIDE, T0_MS, Thing, standing
from wire import specs
from wire.events import Event

FPS = 5


def task(*rules: dict[str, Any], fps: float = FPS) -> specs.Task:
    return judging.task(*rules, fps=fps)


def run(
    rules: specs.Task, looks: Sequence[tuple[float, Sequence[Thing]]], end: str = ""
) -> list[Event]:
    """The events of looks (time, tracks), and of the end if there is a reason for one."""
    program = compile_task(rules, 3, "scope")
    state: State = START
    events: list[Event] = []
    for pts_s, tracks in looks:
        seen = [replace(track, last_pts_s=pts_s) if track.seen else track for track in tracks]
        state, found = step(program, state, seen, pts_s, T0_MS + round(pts_s * 1000))
        events += found
    return events + (close(program, state, end) if end else [])


def looks_at(*there: bool) -> list[tuple[float, list[Thing]]]:
    """One person, five looks a second: in the zone or not."""
    return [(n / FPS, [Thing(1, INSIDE if here else OUTSIDE)]) for n, here in enumerate(there)]


def told(events: Sequence[Event]) -> list[tuple[str | None, float, float | None]]:
    """(phase, time, since) in seconds of the stream."""
    return [
        (
            event.phase,
            (event.t_ms - T0_MS) / 1000,
            None if event.since_ms is None else (event.since_ms - T0_MS) / 1000,
        )
        for event in events
    ]


PRESENCE = {"name": "person-at-pump", "when": {"class": "person", "in": "pump"}}

# --- presence ----------------------------------------------------------------------------------


def test_a_person_in_a_zone_for_three_seconds_starts_an_incident() -> None:
    """The start tells when `for` was reached and when it all began; the end, when it last held."""
    there = [False] * 2 + [True] * 20 + [False] * 10
    events = run(task(PRESENCE | {"for": "3s", "severity": "critical"}), looks_at(*there))
    assert told(events) == [("start", 3.4, 0.4), ("end", 4.2, 0.4)]
    start, end = events
    assert start.incident == end.incident == "scope-bay-1"
    assert (start.kind, start.rule, start.severity) == ("presence", "person-at-pump", "critical")
    assert (start.task, start.task_revision, start.camera) == ("bay", 3, "cam")
    assert (start.label, start.track, start.score, start.zone) == ("person", 1, 0.8, "pump")
    assert start.box == pytest.approx(INSIDE)
    assert end.reason == "cleared"


def test_a_shorter_visit_is_nothing() -> None:
    """Less than `for` makes no event at all."""
    assert run(task(PRESENCE | {"for": "3s"}), looks_at(*[True] * 15, *[False] * 20)) == []


def test_for_survives_a_short_absence() -> None:
    """An absence up to `grace` does not begin `for` anew; a longer one does."""
    short = [True] * 10 + [False] * 4 + [True] * 10
    assert told(run(task(PRESENCE | {"for": "3s"}), looks_at(*short)))[0] == ("start", 3.0, 0.0)
    long = [True] * 10 + [False] * 6 + [True] * 10
    assert run(task(PRESENCE | {"for": "3s"}), looks_at(*long)) == []


def test_an_incident_waits_for_clear_before_it_ends() -> None:
    """An open incident survives absences up to `clear` and ends at the last held moment."""
    there = [True] * 5 + [False] * 20 + [True] * 5 + [False] * 40
    events = run(task(PRESENCE | {"clear": "5s"}), looks_at(*there))
    assert told(events) == [("start", 0.0, 0.0), ("end", 5.8, 0.0)]


def test_a_lost_track_is_an_absence_like_any_other() -> None:
    """An object that the tracker has forgotten ends its incident at its last sight."""
    looks = [(n / 5, [Thing(1, INSIDE)] if n < 5 else []) for n in range(20)]
    assert told(run(task(PRESENCE), looks)) == [("start", 0.0, 0.0), ("end", 0.8, 0.0)]


def test_an_expected_object_is_not_present() -> None:
    """Where a hidden object is expected to be is no evidence that it is there."""
    looks = [(n / 5, [Thing(1, INSIDE, seen=n < 5)]) for n in range(20)]
    assert told(run(task(PRESENCE), looks)) == [("start", 0.0, 0.0), ("end", 0.8, 0.0)]


def test_each_object_has_its_own_incident() -> None:
    """Two people in a zone are two incidents, numbered in the order in which they start."""
    looks = [
        (n / 5, [Thing(1, INSIDE), Thing(2, INSIDE)] if n >= 3 else [Thing(1, INSIDE)])
        for n in range(6)
    ]
    events = run(task(PRESENCE), looks, end="removed")
    assert [(e.phase, e.track, e.incident, e.reason) for e in events] == [
        ("start", 1, "scope-bay-1", ""),
        ("start", 2, "scope-bay-2", ""),
        ("end", 1, "scope-bay-1", "removed"),
        ("end", 2, "scope-bay-2", "removed"),
    ]


def test_only_the_named_classes_count() -> None:
    """A car is no person; a rule may name both."""
    looks = [(0.0, [Thing(1, INSIDE, label="car")])]
    assert run(task(PRESENCE), looks) == []
    both = PRESENCE | {"when": {"class": ["person", "car"], "in": "pump"}}
    assert [event.label for event in run(task(both), looks)] == ["car"]


def test_without_a_zone_the_whole_picture_counts() -> None:
    """`in` may be left out."""
    events = run(
        task({"name": "anyone", "when": {"class": "person"}}), [(0.0, [Thing(1, OUTSIDE)])]
    )
    assert [(event.phase, event.zone) for event in events] == [("start", "")]


def test_the_foot_decides() -> None:
    """A tall box that reaches into a zone from below it does not stand in it."""
    tall = standing(0.5, 0.95, height=0.6)
    assert run(task(PRESENCE), [(0.0, [Thing(1, tall)])]) == []


def test_cooldown_keeps_an_object_quiet() -> None:
    """After an incident the same object opens none for `cooldown`; another object may."""
    there = [True] * 5 + [False] * 8 + [True] * 40
    looks = [
        (pts_s, [*tracks, Thing(2, INSIDE if n >= 20 else OUTSIDE)])
        for n, (pts_s, tracks) in enumerate(looks_at(*there))
    ]
    events = run(task(PRESENCE | {"cooldown": "6s"}), looks)
    assert [(e.phase, e.track, (e.t_ms - T0_MS) / 1000) for e in events] == [
        ("start", 1, 0.0),
        ("end", 1, 0.8),
        ("start", 2, 4.0),
        ("start", 1, 6.8),
    ]


def test_grace_defaults_to_a_second_or_two_looks() -> None:
    """Slow looks get a longer grace, so that one missed look never breaks `for`."""
    assert longest_absence_s(compile_task(task(PRESENCE, fps=5), 1, "s")) == 1.0
    assert longest_absence_s(compile_task(task(PRESENCE, fps=0.5), 1, "s")) == 4.0
    assert longest_absence_s(compile_task(task(PRESENCE | {"grace": "7s"}), 1, "s")) == 7.0


def test_an_interrupted_incident_ends_at_its_last_seen_time() -> None:
    """Nothing is known of the time after the last look, so nothing is told of it."""
    events = run(task(PRESENCE), looks_at(True, True, True, False), end="interrupted")
    assert told(events) == [("start", 0.0, 0.0), ("end", 0.4, 0.0)]
    assert events[-1].reason == "interrupted"


# --- crossings ---------------------------------------------------------------------------------

CROSSING: dict[str, Any] = {
    "name": "drive-out",
    "when": {"class": "car", "crosses": "exit"},
    "severity": "info",
}


def drive(*feet: tuple[float, float]) -> list[tuple[float, list[Thing]]]:
    return [(n / 5, [Thing(1, standing(x, y), label="car")]) for n, (x, y) in enumerate(feet)]


def test_a_car_that_drives_down_over_a_line_drawn_to_the_right_goes_left_to_right() -> None:
    """Seen along the line the upper side is left: down is left-to-right, up is right-to-left."""
    down = run(task(CROSSING), drive((0.5, 0.3), (0.5, 0.45), (0.5, 0.55), (0.5, 0.7)))
    assert [(e.direction, e.phase, e.line, e.t_ms - T0_MS) for e in down] == [
        ("left-to-right", None, "exit", 400)
    ]
    assert down[0].incident is None
    up = run(task(CROSSING), drive((0.5, 0.7), (0.5, 0.3)))
    assert [event.direction for event in up] == ["right-to-left"]


@pytest.mark.parametrize(
    ("direction", "crossings"), [("left-to-right", 1), ("right-to-left", 1), ("both", 2)]
)
def test_a_rule_may_want_one_direction(direction: str, crossings: int) -> None:
    """There and back is one crossing each way."""
    rule = CROSSING | {"when": CROSSING["when"] | {"direction": direction}}
    events = run(task(rule), drive((0.5, 0.3), (0.5, 0.7), (0.5, 0.3)))
    assert len(events) == crossings


def test_a_vehicle_that_stands_on_the_line_does_not_flutter() -> None:
    """Small movements around the line are no crossings; driving on is one."""
    around = [(0.5, 0.5 + 0.008 * (-1) ** n) for n in range(30)]
    events = run(task(CROSSING), drive((0.5, 0.4), *around, (0.5, 0.6)))
    assert [event.direction for event in events] == ["left-to-right"]


def test_a_way_past_the_end_of_a_line_is_no_crossing() -> None:
    """The line ends at its points."""
    assert run(task(CROSSING), drive((0.95, 0.3), (0.95, 0.7))) == []


def test_what_appears_behind_the_line_has_not_crossed_it() -> None:
    """The first sight of an object only tells on which side it is."""
    assert run(task(CROSSING), drive((0.5, 0.7), (0.5, 0.75))) == []


def test_a_crossing_behind_an_obstacle_is_noticed_when_the_object_is_back() -> None:
    """Looks at which an object is hidden are passed over."""
    looks = drive((0.5, 0.3), (0.5, 0.48), (0.5, 0.6))
    looks[1] = (0.2, [Thing(1, standing(0.5, 0.48), label="car", seen=False)])
    assert len(run(task(CROSSING), looks)) == 1


def test_cooldown_keeps_a_crossing_object_quiet() -> None:
    """Back and forth within `cooldown` is told once."""
    ways = [(0.5, 0.3), (0.5, 0.7)] * 3
    assert len(run(task(CROSSING | {"cooldown": "10s"}), drive(*ways))) == 1
    assert len(run(task(CROSSING), drive(*ways))) == 5


# --- the scene ---------------------------------------------------------------------------------

QUEUE: dict[str, Any] = {
    "name": "queue",
    "when": {"count": {"class": "car", "in": "pump"}, "at_least": 2},
    "for": "1s",
}


def cars(*counts: int) -> list[tuple[float, list[Thing]]]:
    return [
        (n / 5, [Thing(k + 1, INSIDE, label="car") for k in range(count)])
        for n, count in enumerate(counts)
    ]


def test_a_queue_is_one_incident_of_the_scene() -> None:
    """It starts when enough have been there for long enough, whoever they are."""
    events = run(task(QUEUE), cars(*[1] * 3, *[2] * 4, *[3] * 6, *[1] * 10))
    assert told(events) == [("start", 1.6, 0.6), ("end", 2.4, 0.6)]
    assert [(e.kind, e.count, e.zone, e.track) for e in events] == [
        ("count", 3, "pump", None),
        ("count", 3, "pump", None),
    ]


def test_a_hidden_car_still_counts_for_a_while() -> None:
    """An object counts while its last sight is at most `grace` old."""
    hidden = [
        (n / 5, [Thing(1, INSIDE, label="car"), Thing(2, INSIDE, label="car", seen=n < 5,
                                                      last_pts_s=0.8)])
        for n in range(15)
    ]  # fmt: skip
    events = run(task(QUEUE | {"for": 0, "grace": "1s", "clear": 0}), hidden)
    assert told(events) == [("start", 0.0, 0.0), ("end", 1.8, 0.0)]


@pytest.mark.parametrize(
    ("condition", "counts"),
    [
        ({"count": {"class": "car"}, "at_most": 1}, [0, 1]),
        ({"count": {"class": "car"}, "at_least": 1, "at_most": 2}, [1, 2]),
        ({"not": {"count": {"class": "car"}, "at_least": 2}}, [0, 1]),
        (
            {"any": [{"count": {"class": "car"}, "at_least": 3},
                     {"count": {"class": "car"}, "at_most": 0}]},
            [0, 3],
        ),
        (
            {"all": [{"count": {"class": "car"}, "at_least": 1},
                     {"not": {"count": {"class": "car", "in": "pump"}, "at_least": 3}}]},
            [1, 2],
        ),
    ],
    ids=["at_most", "between", "not", "any", "all"],
)  # fmt: skip
def test_conditions_of_the_scene_join(condition: dict[str, Any], counts: list[int]) -> None:
    """`all`, `any` and `not` mean what they say."""
    rule = {"name": "scene", "when": condition}
    assert [n for n in range(4) if run(task(rule), cars(n))] == counts


def test_unattended_unloading() -> None:
    """A truck without a person for the time given is one incident, until someone comes."""
    rule = {
        "name": "unattended",
        "when": {
            "all": [
                {"count": {"class": "truck", "in": "pump"}, "at_least": 1},
                {"count": {"class": "person", "in": "pump"}, "at_most": 0},
            ]
        },
        "for": "2s",
        "clear": "0s",
    }
    looks = [
        (
            n / 5,
            [Thing(1, INSIDE, label="truck"), Thing(2, INSIDE if n < 5 or n > 30 else OUTSIDE)],
        )
        for n in range(40)
    ]
    assert told(run(task(rule), looks)) == [("start", 3.0, 1.0), ("end", 6.0, 1.0)]


# --- properties --------------------------------------------------------------------------------

visits = st.lists(st.tuples(st.booleans(), st.integers(1, 8)), max_size=12).map(
    lambda runs: [here for here, length in runs for _ in range(length)]
)
tenths = st.integers(0, 30).map(lambda value: value / 10)


def oracle(
    there: list[bool], for_s: float, grace_s: float, clear_s: float
) -> list[tuple[str, float, float]]:
    """The same rule, told again in the plainest way: in whole looks of 0.2 s."""
    told_: list[tuple[str, float, float]] = []
    first = last = None
    is_open = False
    for n, here in enumerate(there):
        if here:
            first = n if first is None else first
            last = n
            if not is_open and round((n - first) / FPS, 6) >= for_s:
                is_open = True
                told_.append(("start", round(first / FPS + for_s, 3), first / FPS))
        elif first is not None and last is not None:
            allowed_s = clear_s if is_open else grace_s
            if round((n - last) / FPS, 6) > allowed_s:
                if is_open:
                    told_.append(("end", last / FPS, first / FPS))
                first, is_open = None, False
    return told_


@given(visits, tenths, tenths, tenths)
def test_presence_agrees_with_the_plainest_telling(
    there: list[bool], for_s: float, grace_s: float, clear_s: float
) -> None:
    """For any visits and durations the events are those of the plain definition."""
    rule = PRESENCE | {"for": for_s, "grace": grace_s, "clear": clear_s}
    assert told(run(task(rule), looks_at(*there))) == oracle(there, for_s, grace_s, clear_s)


@given(st.lists(visits, min_size=1, max_size=4), tenths, tenths)
def test_objects_do_not_disturb_each_other(
    visitors: list[list[bool]], for_s: float, cooldown_s: float
) -> None:
    """What is told of an object does not depend on who else is there."""
    rules = task(PRESENCE | {"for": for_s, "cooldown": cooldown_s})
    length = max(map(len, visitors))
    together = [
        (
            n / FPS,
            [
                Thing(k + 1, INSIDE if n < len(there) and there[n] else OUTSIDE)
                for k, there in enumerate(visitors)
            ],
        )
        for n in range(length)
    ]
    events = run(rules, together)
    for number, there in enumerate(visitors, start=1):
        alone = run(rules, looks_at(*there, *[False] * (length - len(there))))
        assert told([e for e in events if e.track == number]) == told(alone)


@given(st.lists(visits, min_size=1, max_size=4), tenths, tenths, tenths)
def test_every_start_has_one_end_not_before_it(
    visitors: list[list[bool]], for_s: float, clear_s: float, cooldown_s: float
) -> None:
    """Incidents have their own numbers, each starts once and ends once, and no end precedes it."""
    rules = task(PRESENCE | {"for": for_s, "clear": clear_s, "cooldown": cooldown_s}, QUEUE)
    looks = [
        (
            n / FPS,
            [
                Thing(k + 1, INSIDE)
                for k, there in enumerate(visitors)
                if n < len(there) and there[n]
            ],
        )
        for n in range(max(map(len, visitors)))
    ]
    events = run(rules, looks, end="interrupted")
    starts = {event.incident: event for event in events if event.phase == "start"}
    ends = [event for event in events if event.phase == "end"]
    assert sorted(str(e.incident) for e in ends) == sorted(map(str, starts))
    for end in ends:
        start = starts[end.incident]
        assert start.since_ms is not None
        assert start.since_ms <= start.t_ms <= end.t_ms
    assert events == run(rules, looks, end="interrupted")


def test_state_stays_small_over_a_long_life() -> None:
    """Thousands of objects that came, crossed and went leave nothing in the state."""
    rules = task(PRESENCE | {"cooldown": "30d"}, CROSSING | {"cooldown": "30d"}, QUEUE)
    program = compile_task(rules, 1, "s")
    state = START
    for n in range(3000):
        pts_s = n * 2.0
        label = "person" if n % 2 else "car"
        box = INSIDE if n % 4 < 2 else standing(0.5, 0.3)
        state, _ = step(program, state, [Thing(n // 4 + 1, box, label, last_pts_s=pts_s)], pts_s, n)
    sizes = [
        len(kept)
        for memory in state.memories.values()
        for kept in (memory.holds, memory.cool_until_s, memory.sides)
    ]
    assert max(sizes) <= 2
