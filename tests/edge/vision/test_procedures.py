"""Procedures: every step in its order and its time, or an alarm that names the step."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.edge.vision.judging import INSIDE, Moment, Thing, judged, seconds, task
from wire import specs
from wire.events import Event, lane_of

TRUCK = Thing(1, INSIDE, "truck")
PERSON = Thing(2, INSIDE, "person")
BEGINS = {"count": {"class": "truck", "in": "pump"}, "at_least": 1}
GROUND = {"name": "ground", "until": {"input": "ground-1", "is": "connected"}, "within": "60s"}
SETTLE = {"name": "settle", "lasts": "120s"}
HOSE = {"name": "hose", "until": {"input": "hose-1", "is": True}, "within": "60s"}
UNLOAD = {
    "name": "unload",
    "until": {"input": "hose-1", "is": False},
    "while": {"count": {"class": "person", "in": "pump"}, "at_least": 1},
}


def rule(*steps: dict[str, Any], **said: Any) -> dict[str, Any]:
    procedure = {"begins": BEGINS, "steps": list(steps)}
    return {"name": "unloading", "procedure": procedure, "severity": "critical", **said}


def run(
    rules: dict[str, Any],
    says: dict[int, dict[str, bool | float | str]],
    *,
    truck: range = range(10, 400),
    person: Sequence[int] = range(500),
    until_s: int = 460,
    end: str = "",
) -> list[Event]:
    """One look a second: when the truck and the person are there, and what inputs say when."""
    moments = [
        Moment(
            float(s),
            [*([TRUCK] if s in truck else []), *([PERSON] if s in person else [])],
            says.get(s),
        )
        for s in range(until_s)
    ]
    return judged(task(rules), moments, end)


def course(events: Sequence[Event]) -> list[tuple[str | None, str, str, float | None]]:
    """(phase, step, reason, time) of each event."""
    return [(e.phase, e.step, e.reason, seconds(e.t_ms)) for e in events]


IN_ORDER: dict[int, dict[str, bool | float | str]] = {
    40: {"ground-1": "connected"},
    170: {"hose-1": True},
    300: {"hose-1": False},
}


def test_a_procedure_that_is_kept_is_one_incident_with_its_trace() -> None:
    """It begins with the truck, is updated with each step, and ends as completed with all steps."""
    events = run(rule(GROUND, SETTLE, HOSE, UNLOAD), IN_ORDER)
    assert course(events) == [
        ("start", "ground", "", 10.0),
        ("update", "ground", "", 40.0),
        ("update", "settle", "", 160.0),
        ("update", "hose", "", 170.0),
        ("update", "unload", "", 300.0),
        ("end", "unload", "completed", 400.0),
    ]
    assert {event.incident for event in events} == {"scope-bay-1"}
    assert {(event.kind, event.severity) for event in events} == {("procedure", "info")}
    assert {seconds(event.since_ms) for event in events} == {10.0}
    trace = [(s.step, seconds(s.since_ms), seconds(s.until_ms), s.broken) for s in events[-1].trace]
    assert trace == [
        ("ground", 10.0, 40.0, []),
        ("settle", 40.0, 160.0, []),
        ("hose", 160.0, 170.0, []),
        ("unload", 170.0, 300.0, []),
    ]
    assert events[1].message == "ground done after 30 s; next: settle"


def test_a_step_that_is_late_is_an_alarm_and_can_still_be_done() -> None:
    """The alarm is told when the time is over, once; the run ends as violated."""
    events = run(rule(GROUND), {100: {"ground-1": "connected"}})
    assert course(events) == [
        ("start", "ground", "", 10.0),
        (None, "ground", "late", 70.0),
        ("update", "ground", "", 100.0),
        ("end", "ground", "violated", 400.0),
    ]
    alarm = events[1]
    assert (alarm.severity, lane_of(alarm), alarm.incident) == ("critical", "alarm", None)
    assert alarm.message == "unloading: ground was not done within 60 s"
    assert events[-1].trace[0].broken == ["late"]


def test_a_step_that_is_done_too_soon_is_an_alarm() -> None:
    """`lasts` is the least time before `until` may come true: hoses wait for the charge to go."""
    settled = {"name": "settle", "until": HOSE["until"], "lasts": "120s"}
    events = run(rule(GROUND, settled), {40: {"ground-1": "connected"}, 100: {"hose-1": True}})
    assert course(events)[2:4] == [
        (None, "settle", "early", 100.0),
        ("update", "settle", "", 100.0),
    ]
    assert events[2].message == "unloading: settle was done before it had lasted 2 min"


def test_a_step_before_its_turn_is_an_alarm_and_done_when_its_turn_comes() -> None:
    """Connecting the hose before the ground is what must not happen."""
    says: dict[int, dict[str, bool | float | str]] = {
        20: {"hose-1": True},
        40: {"ground-1": "connected"},
    }
    events = run(rule(GROUND, HOSE), says)
    assert course(events) == [
        ("start", "ground", "", 10.0),
        (None, "hose", "out-of-order", 20.0),
        ("update", "ground", "", 40.0),
        ("update", "hose", "", 40.0),
        ("end", "hose", "violated", 400.0),
    ]
    assert [stage.broken for stage in events[-1].trace] == [[], ["out-of-order"]]


def test_order_is_not_asked_of_steps_that_need_none() -> None:
    """`in_order: false`, and what held when the procedure began, are no violation."""
    loose = HOSE | {"in_order": False}
    says: dict[int, dict[str, bool | float | str]] = {
        20: {"hose-1": True},
        40: {"ground-1": "connected"},
    }
    assert run(rule(GROUND, loose), says)[-1].reason == "completed"
    before: dict[int, dict[str, bool | float | str]] = {
        5: {"hose-1": True},
        40: {"ground-1": "connected"},
    }
    assert run(rule(GROUND, HOSE), before)[-1].reason == "completed"


def test_what_must_hold_all_the_time_may_lapse_for_grace() -> None:
    """The driver who steps aside is forgiven for `grace`; who leaves is told once."""
    unload = rule(UNLOAD | {"until": {"input": "hose-1", "is": False}}, grace="20s")
    says: dict[int, dict[str, bool | float | str]] = {0: {"hose-1": True}, 300: {"hose-1": False}}
    aside = [*range(100), *range(115, 500)]
    assert run(unload, says, person=aside)[-1].reason == "completed"
    gone = [*range(100), *range(200, 220), *range(300, 500)]
    events = run(unload, says, person=gone)
    # A person who is hidden still counts for `grace`, and then `grace` is forgiven.
    assert course(events)[1][:3] == (None, "unload", "interrupted")
    assert [event.reason for event in events].count("interrupted") == 1
    assert events[-1].reason == "violated"


def test_steps_that_were_never_done_are_told_when_the_truck_has_left() -> None:
    """Each is an alarm of its own; the run ends when the truck was seen last."""
    events = run(rule(GROUND | {"within": "1h"}, HOSE), {})
    assert course(events) == [
        ("start", "ground", "", 10.0),
        (None, "ground", "skipped", 400.0),
        (None, "hose", "skipped", 400.0),
        ("end", "ground", "violated", 400.0),
    ]


def test_a_truck_that_is_hidden_for_a_while_has_not_left() -> None:
    """The end must hold for `clear`, 30 s by default."""
    there = [Moment(float(s), [] if 100 <= s < 125 else [TRUCK]) for s in range(10, 400)]
    events = judged(task(rule(GROUND)), [Moment(0.0, (), {"ground-1": "connected"}), *there])
    assert [event.phase for event in events] == ["start", "update"]


def test_begins_must_hold_for_the_rules_for() -> None:
    """A truck that only passes begins nothing; the steps count from when it came."""
    assert run(rule(GROUND, **{"for": "30s"}), {}, truck=range(10, 30)) == []
    events = run(rule(GROUND, **{"for": "30s"}), {}, until_s=80)
    assert course(events) == [("start", "ground", "", 40.0), (None, "ground", "late", 70.0)]
    assert seconds(events[0].since_ms) == 10.0


def test_the_next_truck_is_the_next_run() -> None:
    """Runs are numbered, and `cooldown` keeps the next one away."""
    moments = [Moment(float(s), [TRUCK] if s % 200 < 100 else []) for s in range(400)]
    starts = [e for e in judged(task(rule(SETTLE)), moments) if e.phase == "start"]
    assert [event.incident for event in starts] == ["scope-bay-1", "scope-bay-2"]
    cool = judged(task(rule(SETTLE, cooldown="1h")), moments)
    assert len([event for event in cool if event.phase == "start"]) == 1


def test_a_truck_that_stays_after_the_end_begins_nothing_new() -> None:
    """Only when `begins` has ceased for longer than `grace` may it begin another run."""
    steps = rule(GROUND, clear="0s")
    steps["procedure"]["ends"] = {"input": "ground-1", "is": "stowed"}
    says: dict[int, dict[str, bool | float | str]] = {
        20: {"ground-1": "connected"},
        50: {"ground-1": "stowed"},
        120: {"ground-1": "free"},
    }
    # It is hidden for a moment, leaves at 100 s, and the next one comes at 110 s.
    there = [*range(10, 60), *range(62, 100), *range(110, 130)]
    moments = [Moment(float(s), [TRUCK] if s in there else [], says.get(s)) for s in range(130)]
    assert course(judged(task(steps), moments)) == [
        ("start", "ground", "", 10.0),
        ("update", "ground", "", 20.0),
        ("end", "ground", "completed", 50.0),
        ("start", "ground", "", 110.0),
        (None, "ground", "skipped", 110.0),
        ("end", "ground", "violated", 110.0),
    ]


def test_what_happens_after_the_end_does_not_count() -> None:
    """While the end is not sure yet the run stands still; then it is over, or goes on."""
    says: dict[int, dict[str, bool | float | str]] = {110: {"ground-1": "connected"}}
    left = run(rule(GROUND | {"within": "2m"}), says, truck=range(10, 100), until_s=200)
    assert course(left) == [
        ("start", "ground", "", 10.0),
        (None, "ground", "skipped", 100.0),
        ("end", "ground", "violated", 100.0),
    ]
    hidden = [Moment(float(s), [] if 100 <= s < 120 else [TRUCK], says.get(s)) for s in range(140)]
    assert course(judged(task(rule(GROUND | {"within": "105s"})), hidden)) == [
        ("start", "ground", "", 0.0),
        (None, "ground", "late", 105.0),
        ("update", "ground", "", 110.0),
    ]


def test_an_interrupted_run_ends_at_its_last_look() -> None:
    """After a crash or an outage nobody knows how it went on."""
    events = run(rule(GROUND, SETTLE), {}, until_s=50, end="interrupted")
    assert course(events)[-1] == ("end", "ground", "interrupted", 49.0)


EVENTFUL = st.lists(
    st.tuples(
        st.integers(1, 40),
        st.booleans(),
        st.booleans(),
        st.sampled_from([{}, {"ground-1": "connected"}, {"ground-1": "stowed"}, {"hose-1": True}]),
    ),
    max_size=12,
)


@given(EVENTFUL, st.integers(0, 20), st.integers(0, 20))
def test_every_run_has_its_end_and_tells_nothing_twice(
    stretches: list[tuple[int, bool, bool, dict[str, bool | float | str]]], for_s: int, clear_s: int
) -> None:
    """Whatever happens: runs do not overlap, steps follow each other, and a violation is one."""
    moments: list[Moment] = []
    for length, truck, person, says in stretches:
        for n in range(length):
            things = [*([TRUCK] if truck else []), *([PERSON] if person else [])]
            moments.append(Moment(float(len(moments)), things, None if n else says))
    steps = rule(GROUND, SETTLE | {"lasts": "9s"}, HOSE, UNLOAD, clear=clear_s)
    events = judged(task(steps | {"for": for_s}), moments, "interrupted")
    run: list[Event] = []
    told: set[tuple[str, str]] = set()
    for event in events:
        if event.phase == "start":
            assert not run
            told = set()
        if event.phase is None:
            assert (event.step, event.reason) not in told
            told.add((event.step, event.reason))
            continue
        run.append(event)
        assert event.incident == run[0].incident
        if event.phase == "end":
            assert (event.reason == "completed") <= (not told and len(event.trace) == 4)
            for before, after in zip(event.trace, event.trace[1:], strict=False):
                assert before.since_ms <= (before.until_ms or -1) == after.since_ms
            assert {s.step for s in event.trace if s.broken} <= {step for step, _ in told}
            run = []
    assert not run


@pytest.mark.parametrize(
    ("steps", "problem"),
    [
        ([{"name": "a"}], r"procedure.steps\[0\]: a step needs `until`, `lasts` or both"),
        ([SETTLE, SETTLE], "two steps are named 'settle'"),
        ([GROUND | {"lasts": "2m"}], "`lasts` is above `within`"),
        ([SETTLE | {"within": "3m"}], "`within` needs `until`"),
        ([GROUND | {"until": {"class": "person"}}], "a condition of the scene has one of"),
        ([GROUND | {"until": {"input": "Ground"}}], "lower-case"),
        ([GROUND | {"until": {"input": "g"}}], "an input needs `is`, or `above`"),
        ([], "needs at least 1"),
    ],
)
def test_a_procedure_that_makes_no_sense_is_refused(
    steps: list[dict[str, Any]], problem: str
) -> None:
    """The error carries the path of the step."""
    with pytest.raises(specs.SpecError, match=problem):
        task(rule(*steps))


def test_a_rule_is_a_condition_or_a_procedure() -> None:
    """Neither and both are refused."""
    with pytest.raises(specs.SpecError, match="either `when` or `procedure`"):
        task({"name": "r"})
    with pytest.raises(specs.SpecError, match="either `when` or `procedure`"):
        task(rule(SETTLE, when=BEGINS))
