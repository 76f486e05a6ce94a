"""A day at a station in small: hours, inputs and a procedure, through the reader and a replay."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from zoneinfo import ZoneInfo

import numpy as np
import pytest
import yaml

from edge.accounts import TaskStatus
from edge.analysis import Analysis
from edge.coverage import Coverage
from edge.desk import Desk
from edge.reader import Look, Reader
from edge.reconcile import StreamKey, StreamWork, TaskWork
from edge.replay import ReplayError, command, read_facts, replay
from edge.video.decode import Frame
from edge.vision.detect import Detections, Detector
from tests.parts import clips
from tests.parts.clock import SteppedClock
from wire import specs
from wire.events import Event, encode_event

BERLIN = ZoneInfo("Europe/Berlin")
BEGIN_MS = 1_795_564_795_000  # 2026-11-25, 00:59:55 in Berlin
TRUCK, PERSON = (0.3, 0.3, 0.7, 0.8), (0.1, 0.4, 0.2, 0.7)
UNLOADING: dict[str, Any] = {
    "name": "unloading",
    "procedure": {
        "begins": {"count": {"class": "truck"}, "at_least": 1},
        "steps": [
            {"name": "grounded", "until": {"input": "ground", "is": "connected"}, "within": "4s"},
            {
                "name": "settled",
                "lasts": "3s",
                "while": {"count": {"class": "person"}, "at_least": 1},
            },
            {"name": "connected", "until": {"input": "hose", "is": True}},
        ],
    },
    "clear": "2s",
    "severity": "critical",
}


def task(*rules: dict[str, Any], name: str = "t", **spec: Any) -> specs.Task:
    """A task that looks five times a second."""
    made = specs.parse(
        {
            "kind": "Task",
            "metadata": {"name": name, "station": "s"},
            "spec": {"camera": "c", "fps": 5, "model": {"name": "m"}, "rules": list(rules)} | spec,
        }
    )
    assert isinstance(made, specs.Task)
    return made


class Script:
    """A detector that knows when who is there, in seconds of the recording."""

    labels = ("person", "truck")

    def __init__(self, truck: tuple[float, float], person: tuple[float, float]) -> None:
        self._there = (("truck", TRUCK, truck), ("person", PERSON, person))

    def detect_frame(self, frame: Frame) -> Detections:
        seen = [(name, box) for name, box, (a, b) in self._there if a <= frame.pts_s < b]
        return Detections(
            np.array([box for _, box in seen], np.float32).reshape(-1, 4),
            np.full(len(seen), 0.9, np.float32),
            tuple(name for name, _ in seen),
        )


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty seconds, ten pictures a second."""
    path = tmp_path_factory.mktemp("recording") / "bay.mp4"
    return clips.write(path, clips.moving_square(200))


def replayed(recording: Path, made: specs.Task, facts: Sequence[dict[str, Any]]) -> list[Event]:
    """The events of a replay in Berlin's first hour of a day, with a truck from 1 s to 15 s."""
    file = recording.with_suffix(".jsonl")
    file.write_text("\n".join(map(json.dumps, facts)))
    detector = cast("Detector", Script((1.0, 15.0), (1.0, 15.0)))
    return list(
        replay(
            recording,
            made,
            detector,
            decode="full",
            start_ms=BEGIN_MS,
            zone=BERLIN,
            facts=read_facts(file, BEGIN_MS),
        )
    )


def course(events: Sequence[Event]) -> list[tuple[str | None, str, str, float]]:
    """(phase, step, reason, seconds of the recording)."""
    return [(e.phase, e.step, e.reason, (e.t_ms - BEGIN_MS) / 1000) for e in events]


GROUNDED = {"input": "ground", "value": "connected", "at_s": 2.5}
CONNECTED = {"input": "hose", "value": True, "t_ms": BEGIN_MS + 9_100}


def test_a_procedure_is_followed_through_a_recording(recording: Path) -> None:
    """Steps are done when inputs say so, between looks too; two runs give the same bytes."""
    made = task(UNLOADING)
    events = replayed(recording, made, [CONNECTED, GROUNDED])
    assert course(events) == [
        ("start", "grounded", "", 1.0),
        ("update", "grounded", "", 2.5),
        ("update", "settled", "", 5.5),
        ("update", "connected", "", 9.1),
        ("end", "connected", "completed", 16.0),  # hidden for a second it would still count
    ]
    assert [stage.step for stage in events[-1].trace] == ["grounded", "settled", "connected"]
    again = replayed(recording, made, [CONNECTED, GROUNDED])
    assert [encode_event(event) for event in again] == [encode_event(event) for event in events]


def test_a_step_that_is_left_out_is_an_alarm_that_names_it(recording: Path) -> None:
    """Nobody grounds the truck: late, then the hose is out of order, then all is skipped."""
    events = replayed(recording, task(UNLOADING), [CONNECTED])
    assert [(phase, step, why) for phase, step, why, _ in course(events)] == [
        ("start", "grounded", ""),
        (None, "grounded", "late"),
        (None, "connected", "out-of-order"),
        (None, "grounded", "skipped"),
        (None, "settled", "skipped"),
        (None, "connected", "skipped"),
        ("end", "grounded", "violated"),
    ]
    assert {e.severity for e in events if e.phase is None} == {"critical"}


def test_a_schedule_is_of_the_station(recording: Path) -> None:
    """At one o'clock in Berlin the task is at work no more: what was open ends at that moment."""
    made = task(
        {"name": "lorry", "when": {"class": "truck"}},
        {"name": "somebody", "when": {"class": "person"}, "schedule": {"active": "01:00-02:00"}},
        schedule={"active": "23:00-01:00"},
    )
    events = replayed(recording, made, [])
    assert [(e.rule, e.phase, e.reason, (e.t_ms - BEGIN_MS) / 1000) for e in events] == [
        ("lorry", "start", "", 1.0),
        ("lorry", "end", "inactive", 4.8),
    ]


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ('{"input": "Nozzle", "value": 1, "at_s": 1}', "facts.jsonl:1: no fact"),
        ('\n{"input": "n", "value": 1}', "facts.jsonl:2: give either at_s or t_ms"),
        ('{"input": "n", "value": 1, "at_s": 1, "t_ms": 1}', "give either at_s or t_ms"),
        ('{"input": "n", "value": 1, "at": 1}', "no fact: .*unknown field `at`"),
        ('{"input": "n", "value": [1], "at_s": 1}', "no fact"),
        ('{"input": "n", "value": "' + "x" * 5000 + '", "at_s": 1}', "longer than 4096 bytes"),
        ('{"input": "n", "value": 1, "at_s": -1e9}', "no fact: .*before 1970"),
        ('{"input": "n", "value": 1, "at_s": 1e300}', "no fact"),
        ("at_s: 1", "no fact"),
    ],
)
def test_what_is_no_fact_is_refused_with_its_line(tmp_path: Path, lines: str, why: str) -> None:
    """Nothing is replayed with half of what inputs said."""
    file = tmp_path / "facts.jsonl"
    file.write_text(lines)
    with pytest.raises(ReplayError, match=why):
        read_facts(file, 1_000_000)


def test_the_command_names_a_zone_and_a_file_that_are_not_there(tmp_path: Path) -> None:
    """Exit code 2, and what to write instead."""
    written = tmp_path / "task.yaml"
    written.write_text(
        yaml.safe_dump(specs.document(task({"name": "r", "when": {"class": "car"}})))
    )
    model = str(clips.asset("models/yolox_nano.onnx"))
    for given, why in (
        ({"time_zone": "Mars"}, "--time-zone Mars: there is none; write for example Europe/Berlin"),
        ({"inputs": tmp_path / "none.jsonl"}, "none.jsonl: cannot be read: No such file"),
    ):
        out, err = io.BytesIO(), io.StringIO()
        files = [tmp_path / "bay.mp4"]
        code = command(
            files=files, task_file=written, model=model, out=out, err=err, **given
        )  # fmt: skip
        assert (code, out.getvalue()) == (2, b"")
        assert why in err.getvalue()


# --- live --------------------------------------------------------------------------------------


def test_a_stream_is_off_while_none_of_its_tasks_is_at_work() -> None:
    """I10: what nobody wants at this hour is not decoded, and was not missed."""
    clock = SteppedClock(BEGIN_MS)
    detector = cast("Detector", SimpleNamespace(labels=("truck",)))
    rule = {"name": "r", "when": {"class": "truck"}}
    works, tasks = [], {}
    for name, hours in (("night", "23:00-01:00"), ("day", "01:00-23:00")):
        made = task(rule, name=name, schedule={"active": hours, "days": ["tue", "wed"]})
        work = TaskWork(made, 1, "Europe/Berlin")
        works.append(work)
        analysis = Analysis(work.task, 1, detector, name, zone=BERLIN)
        tasks[name] = TaskStatus(work, Coverage(5.0, clock), analysis)
    stream = StreamWork(StreamKey("c", "main"), specs.Stream(url="rtsp://h/1"), tuple(works))
    reader = Reader(stream, Desk[Look](), clock, lambda _: None)
    reader.tasks = tasks

    reader.watch_with(tuple(works))
    assert tuple(reader.watch.analyses) == (tasks["night"].analysis,)
    assert tasks["day"].observed(reader, BEGIN_MS).reason.startswith("not active until")
    reader._unseen(2.0)
    assert (tasks["night"].coverage.ratio(), tasks["day"].coverage.ratio()) == (0.0, None)

    clock.step(4.9)
    assert reader.heed_schedules() == []
    clock.step(0.1)
    assert reader.heed_schedules() == [tasks["night"]]
    assert tuple(reader.watch.analyses) == (tasks["day"].analysis,)

    clock.step(22 * 3600)  # 23:00 on Wednesday
    assert reader.heed_schedules() == [tasks["day"]]
    clock.step(2 * 3600)  # 01:00 on Thursday, when neither begins
    assert reader.heed_schedules() == [tasks["night"]]
    assert tuple(reader.watch.analyses) == ()
