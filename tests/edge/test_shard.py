"""What a shard does with a look: failures are reported, a task that is gone sees nothing."""

import socket
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from edge.accounts import TaskStatus
from edge.analysis import Analysis
from edge.coverage import Coverage
from edge.desk import Desk
from edge.pipe import Given, Settings, Supply, Withheld
from edge.reader import Look, Reader
from edge.reconcile import StreamKey, StreamWork, TaskWork
from edge.shard import Shard
from edge.video.decode import Frame, still
from edge.vision.detect import Detections, Detector
from edge.watch import Seen
from tests.parts import clips
from tests.parts.clock import SteppedClock
from tests.parts.models import published
from wire import specs
from wire.events import Event
from wire.models import canonical

FRAME = cast(Frame, SimpleNamespace(pts_s=1.0, t_ms=1000, size=(64, 64)))


def task() -> specs.Task:
    """A task with one rule."""
    parsed = specs.parse(
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
    assert isinstance(parsed, specs.Task)
    return parsed


class FailingDetector:
    """A network that loads and then fails on every picture."""

    labels = ("car",)

    def __init__(self) -> None:
        self.asked = 0

    def detect_frame(self, frame: Frame) -> Any:
        """Raises, as a runtime that is out of memory does."""
        self.asked += 1
        raise RuntimeError("no memory for this picture")


@pytest.fixture
def shard() -> Iterator[Shard]:
    """A shard whose agent listens to nothing."""
    ours, theirs = socket.socketpair()
    with ours:
        settings = Settings(models=(), boot="b", threads=1, log_level="info")
        pipe = Connection(theirs.detach())
        yield Shard(pipe, settings, SteppedClock())
        pipe.close()


def watched(detector: FailingDetector) -> tuple[Reader, TaskStatus, Analysis]:
    """A reader (not started) with one task at work."""
    work = TaskWork(task(), 7)
    stream = StreamWork(StreamKey("c", "main"), specs.Stream(url="rtsp://h/1"), (work,))
    reader = Reader(stream, Desk(), SteppedClock(), lambda reader: None)
    analysis = Analysis(work.task, 7, cast(Detector, detector), "x")
    status = TaskStatus(work, Coverage(5.0, SteppedClock()), analysis)
    reader.tasks = {"t": status}
    reader.watch_with((work,))
    return reader, status, analysis


def test_a_model_that_fails_is_no_coverage_and_is_told(shard: Shard) -> None:
    """I10: what was not analysed is not counted as analysed, and the task says why."""
    reader, status, analysis = watched(FailingDetector())
    for _ in range(10):
        shard._look(Look(reader, Seen(FRAME, (analysis,)), 0.0))
    assert status.coverage.ratio() == 0.0
    observed = status.observed(reader, 0)
    assert (observed.state, observed.revision) == ("Degraded", 7)
    assert "no memory for this picture" in observed.reason


def test_a_frame_that_waited_for_a_task_that_is_gone_is_not_looked_at(shard: Shard) -> None:
    """After a task was removed or changed, its old analysis opens no incident any more."""
    detector = FailingDetector()
    reader, _, analysis = watched(detector)
    reader.tasks = {}
    shard._look(Look(reader, Seen(FRAME, (analysis,)), 0.0))
    assert detector.asked == 0


def test_a_frame_that_waited_when_the_task_s_hours_ended_opens_nothing(
    shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it opened would stand until the hours begin again: nothing is looked at until then."""
    detector = FailingDetector()
    reader, _, analysis = watched(detector)
    monkeypatch.setattr(Analysis, "is_active", lambda _self, t_ms: t_ms == FRAME.t_ms)
    assert len(reader.heed_schedules()) == 1
    shard._look(Look(reader, Seen(FRAME, (analysis,)), 0.0))
    assert detector.asked == 0


def test_a_stream_that_was_stopped_tells_of_no_fault_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What its last pictures show would be an incident without an end."""
    health = specs.Health.model_validate({"black": {"after": 0}})
    stream, works = specs.Stream(url="rtsp://h/1"), (TaskWork(task(), 7),)
    work = StreamWork(StreamKey("c", "main"), stream, works, health)
    reader = Reader(work, Desk(), SteppedClock(), lambda _: None)
    told: list[Event] = []
    monkeypatch.setattr(reader, "_say", told.extend)
    black = still(clips.grey(0, 320, 240))
    for pts_s in (1.0, 2.0):
        reader._inspect(replace(black, pts_s=pts_s))
    reader.stop()
    for pts_s in (3.0, 4.0):
        reader._inspect(replace(black, pts_s=pts_s))
    assert [(event.rule, event.phase) for event in told] == [("black", "start"), ("black", "end")]


def test_the_desk_keeps_one_frame_a_stream_and_starves_none() -> None:
    """A newer frame takes the place of the older one of its stream, and waits no longer for it."""
    desk: Desk[Look] = Desk()
    reader, _, analysis = watched(FailingDetector())
    other, _, _ = watched(FailingDetector())
    other.key = StreamKey("c2", "main")
    first, second = (Look(reader, Seen(FRAME, (analysis,)), 0.0) for _ in range(2))
    elsewhere = Look(other, Seen(FRAME, ()), 0.0)
    assert desk.put(reader.key, first) is None
    assert desk.put(other.key, elsewhere) is None
    assert desk.put(reader.key, second) is first
    assert desk.take() is second
    assert desk.put(reader.key, first) is None
    assert desk.take() is elsewhere


class SeeingDetector:
    """A network that sees one car, always at the same place."""

    labels = ("car",)
    asked = 0

    def detect_frame(self, frame: Frame) -> Detections:
        """One car."""
        self.asked += 1
        box = np.array([[0.2, 0.2, 0.6, 0.6]], np.float32)
        return Detections(box, np.array([0.9], np.float32), ("car",))


def test_incidents_survive_another_version_of_the_model(
    shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two looks the eye is exchanged; what is followed and what is open goes on."""
    old, new = SeeingDetector(), SeeingDetector()
    reader, status, analysis = watched(cast(Any, old))
    shard._readers[reader.key] = reader
    told: list[Event] = []
    monkeypatch.setattr(shard, "_tell", lambda _reader, events: told.extend(events))

    def look(pts_s: float) -> None:
        frame = cast(Frame, SimpleNamespace(pts_s=pts_s, t_ms=round(pts_s * 1000), size=(64, 64)))
        shard._look(Look(reader, Seen(frame, (analysis,)), 0.0))

    for number in range(5):
        look(1 + number / 5)
    monkeypatch.setattr(shard._detectors, "current", lambda name: new)
    shard._take_newest()
    for number in range(5, 10):
        look(1 + number / 5)
    assert (old.asked, new.asked) == (5, 5)
    assert status.failure == ""
    begun = [event.incident for event in told if event.phase == "start"]
    ended = [event.incident for event in analysis.close("removed")]
    assert len(begun) == 1
    assert ended == begun


def test_a_task_waits_for_its_model_and_the_agent_hears_of_one_that_does_not_load(
    shard: Shard, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It says how far the model is, and when that cannot be loaded, why; the beat names it."""
    reader, _, _ = watched(FailingDetector())
    reader.tasks = {}
    shard._readers[reader.key] = reader
    said: list[Any] = []
    monkeypatch.setattr(shard._outgoing, "send", said.append)

    def state() -> tuple[str, str]:
        observed = reader.tasks["t"].observed(reader, 0)
        return observed.state, observed.reason

    shard._supplied(Supply(withheld=(Withheld("m", "fetching 1.0 MB", False),)))
    shard._set_tasks(reader, (TaskWork(task(), 7),))
    assert state() == ("Starting", "the center's model m: fetching 1.0 MB")
    shard._supplied(Supply(withheld=(Withheld("m", "fetching 1.0 MB: 40 %", False),)))
    assert state() == ("Starting", "the center's model m: fetching 1.0 MB: 40 %")
    document = canonical(published(b"none", name="m"))
    (tmp_path / "m.onnx").write_bytes(b"none")
    shard._supplied(Supply((Given("m", str(tmp_path / "m.onnx"), document),)))
    assert state()[0] == "Rejected"
    assert "m.onnx" in state()[1]
    shard._send_beat()
    ((name, refused, why),) = said[-1].refused
    assert (name, refused) == ("m", document)
    assert "m.onnx" in why
