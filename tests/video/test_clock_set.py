"""A worker's clock that is set while its cameras run: by NTP at last, or by hand."""

from edge.clock import SystemClock
from edge.desk import Desk
from edge.reader import Look, Reader
from edge.reconcile import StreamKey, StreamWork, TaskWork
from edge.video.decode import Frame
from tests.parts import rtsp
from tests.waiting import wait_for
from wire import specs

DAY_MS = 86_400_000


class SetClock(SystemClock):
    """The real clock, which somebody may set."""

    ahead_ms = 0

    def wall_ms(self) -> int:
        """UTC, as this worker believes."""
        return super().wall_ms() + self.ahead_ms


def watched(url: str) -> StreamWork:
    """A camera's stream with a task."""
    task = specs.parse(
        {
            "kind": "Task",
            "metadata": {"name": "t", "station": "s"},
            "spec": {
                "camera": "c",
                "model": {"name": "m"},
                "rules": [{"name": "r", "when": {"class": "car"}}],
            },
        }
    )
    assert isinstance(task, specs.Task)
    return StreamWork(StreamKey("c", "main"), specs.Stream(url=url), (TaskWork(task, 1),))


def lateness_ms(reader: Reader, desk: Desk[Look], clock: SetClock) -> int:
    """By how much a stream's next picture is older than the wall clock says."""
    frames: list[Frame] = []
    reader.show(frames.append)
    while not frames:
        job = desk.take()
        assert not isinstance(job, Look)
        job()
    return clock.wall_ms() - frames[0].t_ms


def test_pictures_follow_a_clock_that_is_set() -> None:
    """Their times are the new clock's within seconds: facts and schedules are of that time too."""
    clock = SetClock()
    desk: Desk[Look] = Desk()
    with rtsp.serving() as camera:
        reader = Reader(watched(camera.url), desk, clock, lambda reader: None)
        reader.start()
        try:
            assert abs(lateness_ms(reader, desk, clock)) < 2000
            for ahead_ms in (DAY_MS, -DAY_MS):
                clock.ahead_ms = ahead_ms
                wait_for(
                    lambda: abs(lateness_ms(reader, desk, clock)) < 2000, 20, "the new clock's time"
                )
                assert abs(reader.boot_offset_ms - clock.boot_ms() + clock.wall_ms()) < 100
        finally:
            reader.stop()
            reader.join(20)
