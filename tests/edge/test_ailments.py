"""Faults of pictures: how long a sign must last, what is one incident, when rules are applied."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.ailments import LONGEST_STEADY_S, STEADY_S, Ailments
from wire import specs
from wire.events import Event, lane_of

ZERO_MS = 1_800_000_000_000
TASKS = ("bay", "queue")


class Camera:
    """A camera that is looked at once a second."""

    def __init__(self, **health: object) -> None:
        self.ailments = Ailments("bay-2", "main", "abc", specs.Health.model_validate(health))
        self.at_s = 0.0
        self.events: list[Event] = []

    def shows(self, seconds: int, *signs: str, every_s: float = 1.0) -> "Camera":
        for _ in range(seconds):
            self.at_s += every_s
            t_ms = ZERO_MS + round(self.at_s * 1000)
            found = dict.fromkeys(signs, self.at_s)
            self.events += self.ailments.look(found, self.at_s, t_ms, TASKS)
        return self

    def told(self) -> list[tuple[str, str | None, float]]:
        """Faults and phases, with their seconds since the beginning."""
        return [(e.rule, e.phase, (e.t_ms - ZERO_MS) / 1000) for e in self.events]


def test_a_fault_is_one_incident_from_its_first_sign_to_the_first_good_picture() -> None:
    """It starts once it has lasted, says since when, and ends as of the first steady picture."""
    camera = Camera().shows(5).shows(20, "covered").shows(20)
    assert camera.told() == [("covered", "start", 8.0), ("covered", "end", 26.0)]
    start, end = camera.events
    assert start.since_ms == end.since_ms == ZERO_MS + 6000
    assert start.incident == end.incident
    assert (start.reason, end.reason) == ("", "cleared")


def test_people_read_what_is_wrong_and_who_suffers() -> None:
    """It is an alarm of the camera that names its tasks."""
    (start,) = Camera().shows(3, "black").events
    assert (start.kind, start.camera, start.rule, start.task) == ("camera", "bay-2", "black", "")
    assert lane_of(start) == "alarm"
    assert start.message == "stream main: the picture is black; tasks: bay, queue (suspended)"
    (start,) = Camera().shows(3, "moved").events
    assert "go on" in start.message


def test_a_sign_in_one_picture_is_none_however_long_it_is_until_the_next() -> None:
    """One picture a minute, each second one with a sign, makes no event."""
    camera = Camera()
    for _ in range(30):
        camera.shows(1, "blurred", every_s=60).shows(1, every_s=60)
    assert camera.events == []


def test_two_pictures_with_a_sign_are_a_fault_where_they_come_seldom() -> None:
    """Key frames every 2 s find it in 2 s."""
    assert Camera().shows(2, "moved", every_s=2.0).told() == [("moved", "start", 4.0)]


def test_noise_before_a_covered_camera_may_look_like_edges_in_every_other_picture() -> None:
    """Covered, and turned between two key frames: that is covered, and nothing else."""
    camera = Camera()
    for _ in range(10):
        camera.shows(1, "covered").shows(1, "moved")
    assert camera.told() == [("covered", "start", 3.0)]
    assert camera.shows(20).told()[1:] == [("covered", "end", 20.0)]


def test_a_camera_that_blurs_while_it_is_turned_is_turned() -> None:
    """One picture without an edge, and then another view."""
    camera = Camera().shows(5).shows(1, "covered").shows(9, "moved")
    assert camera.told() == [("moved", "start", 9.0)]
    assert not camera.ailments.may_be_blind


def test_what_flaps_is_one_incident_that_must_be_gone_for_longer_and_longer() -> None:
    """Forty times covered and free again are few incidents."""
    camera = Camera()
    for _ in range(40):
        camera.shows(4, "covered").shows(8)
    starts = [event for event in camera.events if event.phase == "start"]
    assert len(starts) == 2
    camera.shows(round(2 * STEADY_S) + 1)
    assert [event.phase for event in camera.events] == ["start", "end", "start", "end"]


def test_a_flap_counts_no_more_after_a_long_while() -> None:
    """Then the first good seconds suffice again."""
    camera = Camera().shows(4, "black").shows(round(LONGEST_STEADY_S) + 20)
    camera.shows(4, "black").shows(6)
    assert [event.phase for event in camera.events] == ["start", "end"] * 2


def test_rules_are_blind_from_the_first_sign_and_see_again_after_steady_pictures() -> None:
    """A doubt suffices for not judging; only a fault that stands ends what is open."""
    camera = Camera().shows(3)
    ailments = camera.ailments
    assert (ailments.may_be_blind, ailments.is_blind) == (False, False)
    camera.shows(1, "covered")
    assert (ailments.may_be_blind, ailments.is_blind) == (True, False)
    camera.shows(3, "covered")
    assert (ailments.may_be_blind, ailments.is_blind) == (True, True)
    camera.shows(4)
    assert ailments.is_blind
    camera.shows(2)
    assert (ailments.may_be_blind, ailments.is_blind) == (False, False)


def test_rules_see_again_though_what_flaps_is_still_one_incident() -> None:
    """A camera that is covered now and then is not blind all the time."""
    camera = Camera()
    for _ in range(20):
        camera.shows(4, "covered").shows(7)
    assert camera.ailments.open == {"covered"}
    assert not camera.ailments.may_be_blind


@pytest.mark.parametrize("fault", ["over-exposed", "blurred", "moved"])
def test_other_faults_leave_rules_at_work(fault: str) -> None:
    """They are told, and no more."""
    camera = Camera().shows(5, fault)
    assert camera.ailments.open == {fault}
    assert not camera.ailments.may_be_blind


def test_the_spec_says_what_is_watched_for_how_long_and_how_grave_it_is() -> None:
    """`off` says nothing; another time and severity are heeded."""
    camera = Camera(blurred="off", moved={"after": "5s", "severity": "critical"})
    camera.shows(30, "blurred", "moved")
    assert camera.told() == [("moved", "start", 6.0)]
    assert camera.events[0].severity == "critical"
    assert camera.ailments.open == {"moved"}


def test_what_stands_is_closed_at_its_last_sign() -> None:
    """Never at an invented moment."""
    camera = Camera().shows(10, "frozen", "moved").shows(2)
    (first, second) = camera.ailments.close("interrupted")
    assert {first.rule, second.rule} == {"frozen", "moved"}
    assert first.t_ms == second.t_ms == ZERO_MS + 10_000
    assert (first.reason, camera.ailments.open) == ("interrupted", frozenset())
    assert camera.ailments.close("interrupted") == []


@given(
    st.lists(
        st.tuples(
            st.floats(0.04, 90), st.sets(st.sampled_from(["frozen", "black", "covered", "moved"]))
        ),
        max_size=60,
    )
)
def test_incidents_of_a_fault_follow_one_another(looks: list[tuple[float, set[str]]]) -> None:
    """Whatever is seen: start, end, start; times never fall, and each id is used once."""
    camera = Camera()
    for every_s, signs in looks:
        camera.shows(1, *sorted(signs), every_s=every_s)
    camera.events += camera.ailments.close("interrupted")
    by_fault: dict[str, list[Event]] = {}
    for event in camera.events:
        by_fault.setdefault(event.rule, []).append(event)
    for events in by_fault.values():
        assert [e.phase for e in events] == ["start", "end"] * (len(events) // 2)
        assert [e.t_ms for e in events] == sorted(e.t_ms for e in events)
        assert all(e.since_ms is not None and e.since_ms <= e.t_ms for e in events)
        assert len({e.incident for e in events}) == len(events) // 2
