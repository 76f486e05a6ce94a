"""A task on a stream: which frames are looked at, and what an event says."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from edge.analysis import Analysis, unknown_classes
from edge.facts import Facts
from edge.video.decode import Frame
from edge.vision.detect import Detections, Detector
from wire import specs
from wire.events import Event, decode_event, encode_event
from wire.facts import Fact

LABELS = ("person", "car", "truck", "dog")


def task(fps: float = 5.0, **changed: Any) -> specs.Task:
    spec = {
        "camera": "cam",
        "fps": fps,
        "model": {"name": "m"},
        "rules": [{"name": "someone", "when": {"class": "person"}}],
    } | changed
    made = specs.parse({"kind": "Task", "metadata": {"name": "t", "station": "s"}, "spec": spec})
    assert isinstance(made, specs.Task)
    return made


def analysis(made: specs.Task, **outside: Any) -> Analysis:
    detector = cast("Detector", SimpleNamespace(labels=LABELS))
    return Analysis(made, 4, detector, "scope", **outside)


@dataclass(frozen=True)
class Moment:
    """All of a frame that choosing and judging need."""

    pts_s: float

    @property
    def t_ms(self) -> int:
        return round(self.pts_s * 1000)


def frame(pts_s: float) -> Frame:
    return cast("Frame", Moment(pts_s))


def seeing(*seen: tuple[str, float]) -> Detections:
    boxes = [(0.1 + 0.3 * n, 0.123456, 0.2 + 0.3 * n, 0.25) for n in range(len(seen))]
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array([score for _, score in seen], np.float32),
        tuple(label for label, _ in seen),
    )


def chosen(times: Sequence[float], fps: float) -> list[float]:
    made = analysis(task(fps))
    return [pts_s for pts_s in times if made.due(pts_s)]


def test_a_multiple_of_the_rate_is_chosen_evenly() -> None:
    """25 frames a second at 5 looks a second: every fifth."""
    times = [n / 25 for n in range(100)]
    assert chosen(times, 5) == times[::5]


@pytest.mark.parametrize("camera_fps", [12, 12.5, 15, 18, 24, 29.97, 30])
def test_other_rates_neither_drift_nor_exceed(camera_fps: float) -> None:
    """Each look is the frame nearest to its moment, over an hour of it."""
    times = [n / camera_fps for n in range(round(3600 * camera_fps))]
    looks = chosen(times, 5)
    assert len(looks) in (18_000, 18_001)
    off = [abs(pts_s - n / 5) for n, pts_s in enumerate(looks)]
    assert max(off) <= 0.5 / camera_fps + 1e-6


def test_a_slow_camera_is_looked_at_whole() -> None:
    """A camera with fewer frames than looks wanted: each frame is looked at."""
    times = [n / 4 for n in range(40)]
    assert chosen(times, 5) == times


def test_uneven_times_never_exceed_the_rate() -> None:
    """Bursts and pauses: never more looks than moments have passed."""
    noise = np.random.default_rng(3)
    times = np.cumsum(noise.choice([0.01, 0.04, 0.3, 1.7], 2000)).tolist()
    looks = chosen(times, 5)
    assert len(looks) <= (times[-1] - times[0]) * 5 + 2
    assert len(looks) > 500


def test_a_task_may_be_slowed_down_before_its_first_frame() -> None:
    """A task that comes while the CPU is short is asked what it expects before it has seen any."""
    made = analysis(task(5))
    made.slow_down(0.5)
    assert made.expects(3.0)
    assert [n / 10 for n in range(20) if made.due(n / 10)] == [0.0, 0.4, 0.8, 1.2, 1.6]


def test_a_new_connection_begins_anew() -> None:
    """Stream time that falls back to 0 is looked at from its first frame."""
    assert chosen([10.0, 10.1, 10.2, 0.0, 0.1, 0.2, 0.4], 5) == [10.0, 10.2, 0.0, 0.2, 0.4]


def test_an_event_says_who_saw_what() -> None:
    """Task, revision, rounded score and box, level and coverage are in the event, which encodes."""
    made = analysis(task())
    [event] = made.look(frame(0.0), seeing(("person", 0.87654)), coverage=0.98765)
    assert (event.task, event.task_revision, event.camera, event.rule) == ("t", 4, "cam", "someone")
    assert (event.score, event.coverage, event.level) == (0.877, 0.988, "FULL")
    assert event.box == (0.1, 0.1235, 0.2, 0.25)
    assert event.incident == "scope-t-1"
    assert decode_event(encode_event(event)) == event


def test_objects_that_no_rule_names_are_not_followed() -> None:
    """A dog takes no number from a task that asks for people."""
    made = analysis(task())
    [event] = made.look(frame(0.0), seeing(("dog", 0.9), ("person", 0.9)))
    assert (event.label, event.track) == ("person", 1)


def test_a_truck_may_be_seen_as_a_car_now_and_then() -> None:
    """A rule for trucks follows a truck through looks that call it a car."""
    made = analysis(task(rules=[{"name": "r", "when": {"class": "truck"}, "for": "1s"}]))
    labels = ["truck", "truck", "car", "truck", "car", "truck", "truck"]
    events = [
        event
        for n, label in enumerate(labels)
        for event in made.look(frame(n / 5), seeing((label, 0.7)))
    ]
    assert [(event.label, event.track, event.t_ms) for event in events] == [("truck", 1, 1000)]


def test_close_ends_what_is_open_and_numbers_go_on() -> None:
    """After a close the task may go on; its incidents get new numbers."""
    made = analysis(task())
    made.look(frame(0.0), seeing(("person", 0.9)))
    made.look(frame(0.2), seeing(("person", 0.9)))
    assert [(e.phase, e.reason, e.t_ms, e.incident) for e in made.close("removed")] == [
        ("end", "removed", 200, "scope-t-1")
    ]
    assert made.close("removed") == []
    [event] = made.look(frame(0.4), seeing(("person", 0.9)))
    assert event.incident == "scope-t-2"


def test_a_look_of_a_new_connection_interrupts_what_was_open() -> None:
    """Stream time that falls back means that nobody knows what happened in between."""
    made = analysis(task())
    made.look(frame(7.0), seeing(("person", 0.9)))
    events = made.look(frame(0.0), seeing(("person", 0.9)))
    assert [(e.phase, e.reason, e.t_ms, e.incident) for e in events] == [
        ("end", "interrupted", 7000, "scope-t-1"),
        ("start", "", 0, "scope-t-2"),
    ]


def test_a_class_that_the_model_lacks_is_named_with_its_path() -> None:
    """Every such class is a problem of the rule that names it."""
    made = task(
        model={"name": "m", "classes": ["person", "fox", "cat"]},
        rules=[
            {"name": "a", "when": {"class": ["person", "fox"]}},
            {"name": "b", "when": {"all": [{"count": {"class": "cat"}, "at_least": 1}]}},
        ],
    )
    assert [str(problem) for problem in unknown_classes(made, LABELS)] == [
        "spec.model.classes[1]: model 'm' knows no class 'fox'",
        "spec.model.classes[2]: model 'm' knows no class 'cat'",
        "spec.rules[0].when.class: model 'm' knows no class 'fox'",
        "spec.rules[1].when.all[0].count.class: model 'm' knows no class 'cat'",
    ]
    with pytest.raises(specs.SpecError, match="fox"):
        analysis(made)


# --- what comes from outside -------------------------------------------------------------------

LIFTED = {"class": "car", "while": {"input": "nozzle", "is": "lifted"}}


def lifted(facts: Facts, *moments_ms: int) -> None:
    """The nozzle is lifted at the first of these moments, hung up at the second, and so on."""
    for number, t_ms in enumerate(moments_ms):
        facts.put(Fact(input="nozzle", value="hung" if number % 2 else "lifted", t_ms=t_ms))


def told(events: Sequence[Event]) -> list[tuple[str | None, int]]:
    return [(event.phase, event.t_ms) for event in events]


def test_a_fact_that_came_and_went_between_two_looks_is_not_lost() -> None:
    """What an input said meanwhile is judged with the objects of the look before."""
    facts = Facts()
    made = analysis(task(rules=[{"name": "r", "when": LIFTED, "clear": 0}]), facts=facts)
    assert made.look(frame(0.0), seeing(("car", 0.9))) == []
    lifted(facts, 300, 700)
    events = made.look(frame(1.0), seeing(("car", 0.9)), coverage=1.0)
    assert told(events) == [("start", 300), ("end", 300)]
    assert {event.coverage for event in events} == {1.0}


def test_a_fact_that_comes_late_is_judged_with_the_next_look() -> None:
    """It was posted before the last look and arrived after it; by now it says something else."""
    facts = Facts()
    made = analysis(task(rules=[{"name": "r", "when": LIFTED, "clear": 0}]), facts=facts)
    made.look(frame(1.0), seeing(("car", 0.9)))
    lifted(facts, 900, 1100)
    assert told(made.look(frame(1.2), seeing(("car", 0.9)))) == [("start", 1001), ("end", 1001)]
    assert made.look(frame(1.4), seeing(("car", 0.9))) == []


def test_outside_of_its_schedule_a_task_sees_nothing() -> None:
    """I10: what is open ends as inactive at its last moment; the hours are the station's own."""
    zone = ZoneInfo("Asia/Kolkata")  # 00:00 UTC is 05:30 there
    made = analysis(task(schedule={"active": "05:30-05:31"}), zone=zone)
    assert [made.is_active(t_ms) for t_ms in (-1, 0, 59_999, 60_000)] == [False, True, True, False]
    assert made.rests_until(60_000) == made.rests_until(70_000) == "fri 05:30"
    assert [e.phase for e in made.look(frame(59.0), seeing(("person", 0.9)))] == ["start"]
    made.look(frame(59.9), seeing(("person", 0.9)))
    [end] = made.look(frame(60.0), seeing(("person", 0.9)))
    assert (end.phase, end.reason, end.t_ms) == ("end", "inactive", 59_900)
    assert made.look(frame(60.2), seeing(("person", 0.9))) == []
    assert made.carry(frame(60.4)) == []


def test_each_class_has_its_own_score() -> None:
    """`scores` says what an object of a class must score, `min_score` what any other must."""
    rules = [{"name": "r", "when": {"class": ["person", "truck", "car"]}}]
    model = {"name": "m", "min_score": 0.4, "scores": {"person": 0.7, "truck": 0.2}}
    made = analysis(task(rules=rules, model=model))
    seen = seeing(("person", 0.65), ("truck", 0.25), ("car", 0.35))
    events = [event for n in range(5) for event in made.look(frame(n / 5), seen)]
    assert [event.label for event in events] == ["truck"]
