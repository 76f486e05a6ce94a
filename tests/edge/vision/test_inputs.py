"""Conditions on what the station's inputs say, alone and beside what is seen."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from edge.vision.program import compile_task
from edge.vision.rules import START, step
from tests.edge.vision.judging import (
    INSIDE,
    OUTSIDE,
    T0_MS,
    Moment,
    Thing,
    judged,
    seconds,
    standing,
    task,
)
from wire import specs
from wire.facts import Fact

LIFTED = {"input": "nozzle-2", "is": "lifted"}
CAR = Thing(7, INSIDE, "car")


def holds(condition: dict[str, Any], **inputs: bool | float | str) -> bool:
    """Whether a condition of the scene makes an incident at a moment at which inputs say that."""
    rules = task({"name": "r", "when": condition})
    return bool(
        judged(rules, [Moment(0.0, (), {k.replace("_", "-"): v for k, v in inputs.items()})])
    )


@pytest.mark.parametrize(
    ("condition", "value", "result"),
    [
        ({"is": "lifted"}, "lifted", True),
        ({"is": "lifted"}, "hung", False),
        ({"is": True}, True, True),
        ({"is": True}, 1.0, False),
        ({"is": 1}, 1.0, True),
        ({"is": 1}, True, False),
        ({"is": False}, False, True),
        ({"above": 90}, 90.5, True),
        ({"above": 90}, 90.0, False),
        ({"below": 10}, 9.0, True),
        ({"above": 10, "below": 20}, 15.0, True),
        ({"above": 10, "below": 20}, 25.0, False),
        ({"above": 10}, "high", False),
        ({"above": 0}, True, False),
    ],
)
def test_an_input_says_what_is_asked_for(
    condition: dict[str, Any], value: bool | float | str, result: bool
) -> None:
    """Text is compared as it is, numbers with limits, and yes is no number."""
    assert holds({"input": "tank"} | condition, tank=value) is result


KNOWN_TRUE: dict[str, Any] = {"input": "a", "is": 1}
KNOWN_FALSE: dict[str, Any] = {"input": "a", "is": 2}
UNKNOWN: dict[str, Any] = {"input": "b", "is": 1}


@pytest.mark.parametrize(
    ("condition", "result"),
    [
        (UNKNOWN, False),
        ({"not": UNKNOWN}, False),
        ({"not": KNOWN_FALSE}, True),
        ({"all": [KNOWN_TRUE, UNKNOWN]}, False),
        ({"not": {"all": [KNOWN_TRUE, UNKNOWN]}}, False),
        ({"not": {"all": [KNOWN_FALSE, UNKNOWN]}}, True),
        ({"any": [KNOWN_TRUE, UNKNOWN]}, True),
        ({"any": [KNOWN_FALSE, UNKNOWN]}, False),
        ({"not": {"any": [KNOWN_FALSE, UNKNOWN]}}, False),
    ],
)
def test_what_nobody_knows_makes_no_event(condition: dict[str, Any], result: bool) -> None:
    """An input that never spoke is unknown, and so is its opposite."""
    assert holds(condition, a=1.0) is result


def test_a_fact_grows_old() -> None:
    """After `max_age` an input is unknown until it speaks again."""
    rule = {"name": "full", "when": {"input": "tank", "above": 90, "max_age": "30s"}}
    looks = [Moment(float(s), (), {"tank": 95.0} if s in (5, 100) else None) for s in range(120)]
    events = judged(task(rule), looks)
    told = [(event.phase, seconds(event.t_ms)) for event in events]
    assert told == [("start", 5.0), ("end", 35.0), ("start", 100.0)]


def test_an_object_is_followed_while_the_scene_allows() -> None:
    """`while`: a car at the pump counts from when the nozzle is lifted until it is hung up."""
    when = {"class": "car", "in": "pump", "while": LIFTED}
    says = {10: {"nozzle-2": "lifted"}, 50: {"nozzle-2": "hung"}}
    looks = [Moment(float(s), [CAR], says.get(s)) for s in range(80)]  # type: ignore[arg-type]
    events = judged(task({"name": "fuelling", "when": when, "for": "20s"}), looks)
    assert [(e.phase, seconds(e.t_ms), e.track) for e in events] == [
        ("start", 30.0, 7),
        ("end", 49.0, 7),
    ]


def test_a_car_that_leaves_with_the_nozzle_is_told_apart() -> None:
    """`while` with a crossing: only who drives out while the nozzle is lifted makes an event."""
    when = {"class": "car", "crosses": "exit", "while": LIFTED}
    rules = task({"name": "drive-off", "when": when, "severity": "critical"})
    way = [[Thing(7, standing(0.5, 0.3 + s / 20), "car")] for s in range(10)]
    for said, crossings in (("lifted", 1), ("hung", 0)):
        says: dict[str, bool | float | str] = {"nozzle-2": said}
        looks = [Moment(float(s), things, says if s == 0 else None) for s, things in enumerate(way)]
        assert len(judged(rules, looks)) == crossings


def test_inputs_join_counts() -> None:
    """A car at the pump for minutes, and nobody paid."""
    car = {"count": {"class": "car", "in": "pump"}, "at_least": 1}
    unpaid = {
        "name": "unpaid",
        "when": {"all": [car, {"input": "paid-2", "is": False}]},
        "for": "60s",
    }
    says: dict[int, dict[str, bool | float | str]] = {0: {"paid-2": False}, 200: {"paid-2": True}}
    looks = [Moment(float(s), [CAR] if s >= 30 else [], says.get(s)) for s in range(260)]
    told = [(event.phase, seconds(event.t_ms)) for event in judged(task(unpaid), looks)]
    assert told == [("start", 90.0), ("end", 199.0)]


def test_a_fact_between_two_frames_makes_nobody_vanish() -> None:
    """Who was seen in the frame before still counts, however long ago that frame was."""
    program = compile_task(
        task({"name": "there", "when": {"count": {"class": "car"}, "at_least": 1}}), 1, "s"
    )
    car, state, told = Thing(7, INSIDE, "car", last_pts_s=0.0), START, []
    for pts_s in (0.0, 3.0):
        state, events = step(program, state, [car], pts_s, T0_MS + round(pts_s * 1000))
        told += [event.phase for event in events]
    assert told == ["start"]


# --- updates -----------------------------------------------------------------------------------


def crowd(*counts: int) -> list[Moment]:
    """So many cars in the zone, a look a second."""
    return [
        Moment(float(s), [Thing(n + 1, INSIDE, "car") for n in range(count)])
        for s, count in enumerate(counts)
    ]


QUEUE = {"name": "queue", "when": {"count": {"class": "car", "in": "pump"}, "at_least": 2}}


def test_an_incident_tells_when_it_grows_and_no_more_often_than_it_may() -> None:
    """A new peak is told after `update_every` at the earliest, and the end tells the peak."""
    growing = [2] * 3 + [3] * 3 + [4] * 2 + [3] * 10 + [2] * 10 + [0] * 10
    events = judged(task(QUEUE | {"update_every": "5s"}), crowd(*growing))
    assert [(e.phase, seconds(e.t_ms), e.count) for e in events] == [
        ("start", 0.0, 2),
        ("update", 5.0, 3),
        ("update", 10.0, 4),
        ("end", 27.0, 4),
    ]
    assert len({event.incident for event in events}) == 1


def test_an_incident_that_does_not_grow_is_quiet() -> None:
    """Falling counts, and the same ones again, are no news."""
    events = judged(task(QUEUE), crowd(*[4] * 30, *[2] * 30, *[4] * 30, *[0] * 30))
    assert [event.phase for event in events] == ["start", "end"]


def test_an_object_with_another_name_is_news() -> None:
    """A track whose class turns out to be another is told once."""
    rule = {"name": "overstay", "when": {"class": ["car", "truck"], "in": "pump"}}
    looks = [Moment(float(s), [Thing(1, INSIDE, "car" if s < 20 else "truck")]) for s in range(60)]
    events = judged(task(rule), looks)
    assert [(e.phase, seconds(e.t_ms), e.label) for e in events] == [
        ("start", 0.0, "car"),
        ("update", 20.0, "truck"),
    ]


# --- schedules and edges -----------------------------------------------------------------------


def test_a_rule_rests_outside_of_its_schedule() -> None:
    """What is open ends as inactive at its last moment; later it is judged anew."""
    begin_ms = round(datetime(2026, 11, 25, 8, 0, tzinfo=UTC).timestamp() * 1000)
    zone = timezone(timedelta(hours=1))  # 09:00 there
    night = {"name": "night", "when": {"class": "car"}, "schedule": {"active": "09:01-09:02"}}
    program, state, told = compile_task(task(night), 1, "s", zone), START, []
    for s in range(180):
        track = Thing(1, INSIDE, "car", last_pts_s=float(s))
        state, events = step(program, state, [track], float(s), begin_ms + s * 1000)
        told += [(e.phase, e.reason, (e.t_ms - begin_ms) / 1000) for e in events]
    assert told == [("start", "", 60.0), ("end", "inactive", 119.0)]


def test_an_object_on_a_zones_edge_is_one_incident() -> None:
    """A box trembles by some pixels; the one who stands there does not come and go."""
    rule = {"name": "there", "when": {"class": "person", "in": "pump"}, "clear": "1s"}
    trembling = [standing(0.5, 0.8 + 0.006 * (-1) ** (n * n // 3)) for n in range(600)]
    looks = [Moment(n / 5, [Thing(1, box)]) for n, box in enumerate(trembling)]
    assert [e.phase for e in judged(task(rule, fps=5), looks)] == ["start"]
    gone = [*looks, *(Moment(120 + n / 5, [Thing(1, standing(0.5, 0.83))]) for n in range(20))]
    assert [e.phase for e in judged(task(rule, fps=5), gone)] == ["start", "end"]


def test_the_margin_lets_nobody_in() -> None:
    """Only who was inside may be a little outside."""
    rule = {"name": "there", "when": {"class": "person", "in": "pump"}}
    looks = [Moment(n / 5, [Thing(1, standing(0.5, 0.805))]) for n in range(20)]
    assert judged(task(rule, fps=5), looks) == []


def test_facts_are_of_a_wall_time() -> None:
    """`max_age` is measured by the clock on the wall, since inputs know no stream."""
    program = compile_task(
        task({"name": "r", "when": {"input": "tank", "is": 1, "max_age": "10s"}}), 1, "s"
    )
    old = {"tank": Fact(input="tank", value=1.0, t_ms=T0_MS - 10_001)}
    assert step(program, START, [], 0.0, T0_MS, old)[1] == []
    young = {"tank": Fact(input="tank", value=1.0, t_ms=T0_MS - 10_000)}
    assert len(step(program, START, [], 0.0, T0_MS, young)[1]) == 1


@pytest.mark.parametrize(
    ("condition", "problem"),
    [
        ({"input": "x"}, "an input needs `is`"),
        ({"input": "x", "is": 1, "above": 2}, "an input needs `is`"),
        ({"input": "x", "is": "y" * 201}, "at most 200"),
        ({"input": "x", "is": [1]}, "write text"),
        ({"input": "x", "above": "much"}, "valid number"),
        ({"class": "car", "while": {"class": "person"}}, r"when\.while: a condition of the scene"),
    ],
)
def test_a_condition_that_makes_no_sense_is_refused(
    condition: dict[str, Any], problem: str
) -> None:
    """The error says where and how it is written."""
    with pytest.raises(specs.SpecError, match=problem):
        task({"name": "r", "when": condition})


def test_outside_is_outside() -> None:
    """A `while` that never holds leaves a presence rule without events."""
    when = {"class": "car", "in": "pump", "while": LIFTED}
    looks = [Moment(float(s), [CAR, Thing(8, OUTSIDE, "car")]) for s in range(20)]
    assert judged(task({"name": "r", "when": when}), looks) == []
