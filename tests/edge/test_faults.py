"""The fault `lost`: one incident of a camera, at the right times, however it flaps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.faults import LONGEST_STEADY_S, Lost
from wire.events import Event, lane_of

ZERO_MS = 1_800_000_000_000
TASKS = ("bay", "queue")


class Camera:
    """A stream whose pictures come when the test says so, looked after once a second."""

    def __init__(self) -> None:
        self.now_s = 500.0
        self.fault = Lost("bay-2", "main", "abc", self.now_s, ZERO_MS)
        self.events: list[Event] = []

    def t_ms(self) -> int:
        return ZERO_MS + round((self.now_s - 500.0) * 1000)

    def runs(self, seconds: int) -> "Camera":
        """Two pictures a second."""
        for _ in range(seconds * 2):
            self.now_s += 0.5
            self.events += self.fault.picture(self.now_s, self.t_ms())
            self.events += self.fault.silence(self.now_s, TASKS, "")
        return self

    def fails(self, seconds: int) -> "Camera":
        for _ in range(seconds):
            self.now_s += 1.0
            self.events += self.fault.silence(self.now_s, TASKS, "opening rtsp://h/s: refused")
        return self

    def told(self) -> list[tuple[str | None, float]]:
        """Phases with their seconds since the beginning."""
        return [(event.phase, (event.t_ms - ZERO_MS) / 1000) for event in self.events]


def test_a_camera_that_goes_and_comes_back_makes_one_incident() -> None:
    """It starts `grace_s` after the last picture and ends with the first one of a steady period."""
    camera = Camera().runs(20).fails(60).runs(60)
    assert camera.told() == [("start", 30.0), ("end", 80.5)]
    start, end = camera.events
    assert start.since_ms == end.since_ms == ZERO_MS + 20_000
    assert start.incident == end.incident
    assert (end.reason, start.reason) == ("cleared", "")


def test_the_start_says_what_is_blind_and_why() -> None:
    """It is an alarm of the camera; people read the stream, the tasks and the error."""
    (start,) = Camera().runs(1).fails(11).events
    assert (start.kind, start.camera, start.rule) == ("camera", "bay-2", "lost")
    assert lane_of(start) == "alarm"
    assert start.message == (
        "stream main gives no picture; tasks: bay, queue; opening rtsp://h/s: refused"
    )


def test_a_short_loss_is_none() -> None:
    """Less than the grace period makes no event, however often."""
    camera = Camera()
    for _ in range(40):
        camera.runs(5).fails(8)
    assert camera.events == []


@pytest.mark.parametrize(("up_s", "down_s"), [(20, 15), (3, 12), (1, 40)])
def test_a_camera_that_flaps_makes_one_incident(up_s: int, down_s: int) -> None:
    """Forty losses without a steady period between them are one incident, which ends once."""
    camera = Camera().runs(5)
    for _ in range(40):
        camera.fails(down_s).runs(up_s)
    last_up_s = camera.now_s - 500.0 - up_s + 0.5
    camera.runs(60)
    assert camera.told() == [("start", 15.0), ("end", last_up_s)]


def test_a_camera_that_flaps_slowly_must_be_steady_for_longer() -> None:
    """A minute up and a quarter down, for two hours, is two incidents, not a hundred."""
    camera = Camera().runs(60)
    for _ in range(96):
        camera.fails(15).runs(60)
    assert [phase for phase, _ in camera.told()] == ["start", "end", "start"]


def test_a_camera_that_was_well_for_long_is_found_again_soon() -> None:
    """What is asked of a flapping camera is forgotten after a good time."""
    camera = Camera().runs(60).fails(15).runs(60).fails(15).runs(90)
    camera.runs(int(LONGEST_STEADY_S)).fails(15).runs(31)
    assert [phase for phase, _ in camera.told()] == ["start", "end"] * 3


def test_a_camera_that_never_answers_is_lost() -> None:
    """Without any picture it counts as seen when it was first wanted."""
    camera = Camera().fails(30)
    assert camera.told() == [("start", 10.0)]
    assert camera.events[0].since_ms == ZERO_MS


def test_an_open_incident_ends_with_its_stream() -> None:
    """It ends at the last picture, or where the loss was noticed; then there is none to end."""
    camera = Camera().runs(5).fails(30)
    (end,) = camera.fault.close("interrupted")
    assert (end.phase, end.reason, end.t_ms) == ("end", "interrupted", ZERO_MS + 15_000)
    assert camera.fault.close("interrupted") == []
    flapping = Camera().runs(5).fails(30).runs(10)
    (end,) = flapping.fault.close("removed")
    assert (end.reason, end.t_ms) == ("removed", ZERO_MS + 45_000)


def test_many_tasks_and_a_long_error_stay_one_sentence() -> None:
    """What is told is bounded, and says how much is left out."""
    fault = Lost("c", "main", "s", 0.0, 0)
    (start,) = fault.silence(10.0, [f"task-{n}" for n in range(64)], "x" * 10_000)
    assert "task-9 and 54 more" in start.message
    assert len(start.message) < 600


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=20))
def test_incidents_never_overlap_and_time_goes_forward(periods: list[tuple[int, int]]) -> None:
    """Starts and ends take turns, each incident has its own id, and none ends before it starts."""
    camera = Camera()
    for up_s, down_s in periods:
        camera.runs(up_s).fails(down_s)
    camera.events += camera.fault.close("interrupted")
    assert not camera.fault.is_open
    starts, ends = camera.events[::2], camera.events[1::2]
    assert len({event.incident for event in starts}) == len(starts) == len(ends)
    for start, end in zip(starts, ends, strict=True):
        assert (start.phase, end.phase) == ("start", "end")
        assert start.incident == end.incident
        assert start.t_ms <= end.t_ms
