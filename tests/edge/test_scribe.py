"""The thread that reads plates: what waits, what is shed, how long it rests; a shard around it."""

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, cast

import numpy as np
import pytest

from edge import ocr, scribe
from edge.blackbox import Recorder
from edge.budget import STEPS
from edge.clock import SystemClock
from edge.pipe import Happened, Settings
from edge.plates import Ask
from edge.reader import Look, Reader
from edge.reconcile import StreamKey, StreamWork, TaskWork
from edge.scribe import EVERY_S, WAITING, Scribe, rest_s
from edge.shard import Shard
from edge.video.decode import Frame, still
from edge.vision.detect import Detections, Detector
from edge.vision.manifest import ModelError
from edge.vision.plates import Reading, Standing
from edge.vision.track import Track
from edge.watch import Seen
from tests.parts import clips
from tests.parts.clock import SteppedClock
from tests.waiting import wait_for
from wire import specs
from wire.events import Event, decode_event
from wire.messages import ItemObserved

CAR = Track(1, "car", 0.9, (0.1, 0.1, 0.9, 0.9), True, 0.0, 0.0)


class SlowOcr:
    """Reads when it is let; the first picture makes it fail if it `fails`."""

    def __init__(self) -> None:
        self.may_read = threading.Semaphore(0)
        self.began = threading.Event()
        self.fails = False

    def read(self, image: object, detector: object) -> Sequence[Reading]:
        """One plate, always the same."""
        self.began.set()
        assert self.may_read.acquire(timeout=20)
        if self.fails:
            self.fails = False
            raise RuntimeError("no memory for this picture")
        return [Reading("AB 12 CDE", 0.9)]


def task(**plates: Any) -> specs.Task:
    spec = {
        "camera": "c",
        "model": {"name": "m"},
        "rules": [{"name": "r", "when": {"class": "car"}, "for": "1h"}],
        "plates": {"keep": "text", **plates},
    }
    found = specs.parse({"kind": "Task", "metadata": {"name": "t", "station": "s"}, "spec": spec})
    assert isinstance(found, specs.Task)
    return found


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> SlowOcr:
    """What a scribe reads with."""
    made = SlowOcr()
    monkeypatch.setattr(scribe, "Ocr", lambda: made)
    monkeypatch.setattr(scribe, "rest_s", lambda took_s: 0.0)
    return made


def at_work(slow: SlowOcr) -> Scribe:
    clock = SystemClock()
    reader = Scribe((), b"k", clock, Recorder(clock))
    assert reader.plates_of(TaskWork(task(), 1), ("car",)) is not None
    return reader


def an_ask() -> Ask:
    return Ask(Standing("any", 0.6), CAR, 1.0, 1000, clips.grey(90), None)


def test_what_waits_is_bounded_and_the_oldest_goes_first(slow: SlowOcr) -> None:
    """I8: while one is read so many wait; one more, and the oldest is given back and counted."""
    reader = at_work(slow)
    slot = Recorder(SystemClock()).none
    told: list[tuple[int, bool]] = []

    def done(number: int, found: Sequence[Reading] | None, _: str) -> None:
        told.append((number, found is None))

    for number in range(WAITING + 3):
        reader.put(an_ask(), slot, partial(done, number))
        if number == 0:
            assert slow.began.wait(20)
    assert told == [(1, True), (2, True)]
    assert reader.shed == 2
    for _ in range(WAITING + 1):
        slow.may_read.release()
    wait_for(lambda: len(told) == WAITING + 3, 20, "all are answered")
    assert told[2:] == [(0, False)] + [(number, False) for number in range(3, WAITING + 3)]


def test_a_picture_that_makes_it_fail_does_not_end_it(slow: SlowOcr) -> None:
    """The failure is told with that picture; the next one is a new chance."""
    slow.fails = True
    reader = at_work(slow)
    told: list[tuple[int, str]] = []
    for _ in range(2):
        reader.put(
            an_ask(),
            Recorder(SystemClock()).none,
            lambda found, why: told.append((len(found or ()), why)),
        )
        slow.may_read.release()
    wait_for(lambda: len(told) == 2, 20, "both are answered")
    assert told == [(0, "plates cannot be read: RuntimeError: no memory for this picture"), (1, "")]


def test_it_takes_a_quarter_of_a_core_at_most() -> None:
    """One reading a second, and more seldom where one takes long."""
    assert rest_s(0.1) == EVERY_S - 0.1
    assert rest_s(0.5) / (0.5 + rest_s(0.5)) == 0.75


# --- in a shard --------------------------------------------------------------------------------


class OneCar:
    """A network that sees a car which stands."""

    labels = ("car",)

    def detect_frame(self, frame: Frame) -> Detections:
        """It."""
        return Detections(np.array([CAR.box], np.float32), np.array([0.9], np.float32), ("car",))


class Stage:
    """A shard that sees a car, a stream (not started) of one task, and the analyst's part."""

    def __init__(self, agent: Connection, far: Connection, patch: pytest.MonkeyPatch) -> None:
        settings = Settings(models=(), boot="b", threads=1, log_level="info", plates_key=b"k")
        self.agent = agent
        self.shard = Shard(far, settings, SteppedClock())
        patch.setattr(self.shard._detectors, "get", lambda name: cast(Detector, OneCar()))
        work = TaskWork(task(), 7)
        stream = StreamWork(StreamKey("c", "main"), specs.Stream(url="rtsp://h/1"), (work,))
        self.reader = Reader(stream, self.shard._desk, SteppedClock(), lambda reader: None)
        self.shard._readers[stream.key] = self.reader
        self.shard._set_tasks(self.reader, (work,))
        self.answers = 0
        """Readings that the analyst has taken in."""
        analysis = self.reader.tasks["t"].analysis
        if analysis is not None:
            answer = analysis.answer

            def counted(ask: Ask, readings: Sequence[Reading] | None) -> list[Event]:
                self.answers += 1
                return answer(ask, readings)

            patch.setattr(analysis, "answer", counted)

    def look(self, begin_s: int, end_s: int) -> None:
        """Five looks a second at a grey picture."""
        analysis = self.reader.tasks["t"].analysis
        assert analysis is not None
        for number in range(begin_s * 5, end_s * 5):
            grey = still(clips.grey(90, 320, 240))
            frame = replace(grey, pts_s=number / 5, t_ms=number * 200)
            self.shard._look(Look(self.reader, Seen(frame, (analysis,)), 0.0))

    def judge(self, answers: int) -> None:
        """The analyst's errands, until so many readings were taken in."""
        while self.answers < answers:
            errand = self.shard._desk.take()
            assert callable(errand)
            errand()

    def observed(self) -> ItemObserved:
        """What the task reports."""
        return self.reader.tasks["t"].observed(self.reader, 0)


@pytest.fixture
def stage(slow: SlowOcr, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """With a slow reader."""
    with pipe() as (agent, far):
        yield Stage(agent, far, monkeypatch)


@contextmanager
def pipe() -> Iterator[tuple[Connection, Connection]]:
    """The agent's end and the shard's."""
    ours, theirs = socket.socketpair()
    agent, far = Connection(ours.detach()), Connection(theirs.detach())
    with agent, far:
        yield agent, far


def test_a_reading_becomes_an_event_of_the_task(stage: Stage, slow: SlowOcr) -> None:
    """From looks through the scribe's thread and back to the analyst, out of the pipe."""
    for number in (1, 2):
        stage.look(4 * number, 4 * number + 4)
        slow.may_read.release()
        stage.judge(number)
    message = stage.agent.recv()
    assert isinstance(message, Happened)
    event = decode_event(message.events[0])
    assert (event.kind, event.plate, event.score) == ("plate", "AB12CDE", 0.9)
    assert (event.boot, event.task_revision, event.coverage) == ("b", 7, 1.0)


def test_where_the_cpu_is_short_looks_go_first(stage: Stage, slow: SlowOcr) -> None:
    """A stream that is degraded has no plates read; they are counted as not read."""
    stage.reader.step = STEPS[1]
    stage.look(0, 3)
    stage.judge(1)
    assert stage.shard._scribe.shed == 1
    assert not slow.began.is_set()


def test_a_failure_degrades_the_task_until_one_is_read(stage: Stage, slow: SlowOcr) -> None:
    """What cannot be done is told; rules go on meanwhile."""
    slow.fails = True
    states = []
    for number in (1, 2):
        stage.look(4 * number, 4 * number + 4)
        slow.may_read.release()
        stage.judge(number)
        observed = stage.observed()
        states.append((observed.state, "plates cannot be read" in observed.reason))
    assert states[0] == ("Degraded", True)
    assert states[1][1] is False


def test_a_worker_without_the_library_rejects_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the line that installs it."""
    monkeypatch.setattr(ocr, "find_spec", lambda _: None)
    with pipe() as (agent, far):
        observed = Stage(agent, far, monkeypatch).observed()
    assert observed.state == "Rejected"
    assert "pip install 'forecourt[edge,plates]'" in observed.reason


def test_a_detector_of_plates_that_is_missing_rejects_the_task(slow: SlowOcr) -> None:
    """It is named as any other model."""
    clock = SystemClock()
    with pytest.raises(ModelError, match="model 'no-such' is not in"):
        Scribe((), b"k", clock, Recorder(clock)).plates_of(
            TaskWork(task(detector="no-such"), 1), ("car",)
        )
