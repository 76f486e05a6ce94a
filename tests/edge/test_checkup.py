"""A camera that goes blind: what a replay and a decode process say, and what they say no more."""

import asyncio
import io
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.days import FAULTS
from edge.pipe import Apply, Beat, Finish, Finished, Happened, Settings, Stored
from edge.process import Process
from edge.reconcile import Start, StreamKey, StreamWork, TaskWork
from edge.replay import command, replay
from edge.shards import SHARD
from edge.vision.detect import Detector
from edge.vision.manifest import find
from tests.parts import clips
from wire import specs
from wire.events import Event, decode_event

MODELS = Path(__file__).parents[2] / "models"
FPS = 10
BEGINS_S, ENDS_S, LASTS_S = 30, 48, 62
GOP_S = 2


def task(decode: str = "adaptive") -> specs.Task:
    """Nobody is there, which is told after five seconds."""
    parsed = specs.parse(
        {
            "kind": "Task",
            "metadata": {"name": "alone", "station": "s"},
            "spec": {
                "camera": "bay",
                "decode": decode,
                "model": {"name": "forecourt-nano"},
                "rules": [
                    {
                        "name": "nobody",
                        "when": {"count": {"class": "person"}, "at_most": 0},
                        "for": "5s",
                        "min_visit": "3s",
                    }
                ],
            },
        }
    )
    assert isinstance(parsed, specs.Task)
    return parsed


def yard(fault: str, what: str) -> Iterator[clips.Picture]:
    """A yard with a sensor's noise; from `BEGINS_S` to `ENDS_S` something is wrong."""
    rng = np.random.default_rng(5)
    drawn = np.full((180, 320), 120, np.uint8)
    for _ in range(60):
        left, top = int(rng.integers(300)), int(rng.integers(170))
        corner = (left + int(rng.integers(8, 60)), top + int(rng.integers(8, 40)))
        cv2.rectangle(drawn, (left, top), corner, (int(rng.integers(40, 220)),), -1)
    still = None
    for number in range(LASTS_S * FPS):
        grey = np.clip(drawn + 2.5 * rng.standard_normal(drawn.shape), 0, 255).astype(np.uint8)
        if BEGINS_S <= number / FPS < ENDS_S:
            still = grey if still is None else still
            grey = still if fault == "frozen" else FAULTS[fault][what](grey, rng)
        yield np.repeat(grey[:, :, None], 3, axis=2)


def recording(folder: Path, fault: str, what: str = "") -> Path:
    return clips.write(
        folder / "yard.mp4",
        yard(fault, what),
        fps=FPS,
        g=str(FPS * GOP_S),
        preset="ultrafast",
        qp="23",  # a still is coded the same in each key frame
    )


@pytest.mark.parametrize(
    ("fault", "what", "decode"),
    [
        ("covered", "cloth", "full"),
        ("black", "no signal", "adaptive"),
        ("frozen", "", "adaptive"),
    ],
)
def test_a_blind_camera_is_told_and_no_rule_is_applied_meanwhile(
    tmp_path: Path, fault: str, what: str, decode: str
) -> None:
    """I10: also where only key frames are decoded; what is open ends with it, and begins anew."""
    detector = Detector(find([MODELS], "forecourt-nano"), threads=1)
    file = recording(tmp_path, fault, what)
    events = list(replay(file, task(decode), detector, health=specs.Health()))
    told = [event for event in events if event.kind == "camera"]
    assert [(event.rule, event.phase) for event in told] == [(fault, "start"), (fault, "end")]
    start, end = told
    assert start.since_ms is not None
    assert BEGINS_S * 1000 <= start.since_ms <= (BEGINS_S + GOP_S) * 1000
    assert start.t_ms <= (BEGINS_S + (10 if fault == "frozen" else 5)) * 1000
    assert ENDS_S * 1000 <= end.t_ms <= (ENDS_S + GOP_S) * 1000
    assert "tasks: alone" in start.message
    rules = [event for event in events if event.kind != "camera"]
    assert [(event.phase, event.reason) for event in rules] == [
        ("start", ""),
        ("end", "interrupted"),
        ("start", ""),
        ("end", "interrupted"),
    ]
    assert rules[1].t_ms <= start.since_ms + GOP_S * 1000
    assert rules[2].since_ms is not None
    assert rules[2].since_ms >= end.t_ms


def test_a_moved_camera_is_told_and_rules_go_on(tmp_path: Path) -> None:
    """Its incidents stay open."""
    detector = Detector(find([MODELS], "forecourt-nano"), threads=1)
    file = recording(tmp_path, "moved", "across 10 %, down 5 %")
    events = list(replay(file, task(), detector, health=specs.Health()))
    assert [(event.rule, event.phase) for event in events if event.kind == "camera"] == [
        ("moved", "start"),
        ("moved", "end"),
    ]
    assert [event.phase for event in events if event.kind != "camera"] == ["start", "end"]


def test_the_command_tells_faults_unless_it_is_told_not_to(tmp_path: Path) -> None:
    """`--no-health` is as before."""
    file = recording(tmp_path, "black", "no light")
    task_file = tmp_path / "task.json"
    task_file.write_bytes(specs.canonical(task()))
    kinds = []
    for health in (True, False):
        out = io.BytesIO()
        given = {"files": [file], "task_file": task_file, "models": [MODELS], "health": health}
        assert command(**given, out=out, err=io.StringIO()) == 0  # type: ignore[arg-type]
        kinds.append({decode_event(line).kind for line in out.getvalue().splitlines()})
    assert kinds == [{"camera", "count"}, {"count"}]


async def _until_told(process: Process, work: StreamWork) -> tuple[Beat, list[Event]]:
    """The first beat that names a fault, and the events up to the fault's end."""
    process.send(Settings(models=(str(MODELS),), boot="b", threads=1, log_level="warning"))
    process.send(Apply((Start(work),)))
    beat, events = None, []
    while True:
        message = await process.inbox.get()
        assert message is not None, "the shard ended"
        if isinstance(message, Beat) and beat is None and any(s.faults for s in message.streams):
            beat = message
        if isinstance(message, Happened):
            process.send(Stored(message.number))
            events += [decode_event(each) for each in message.events]
        ended = any((e.rule, e.phase) == ("covered", "end") for e in events)
        if beat is not None and ended:
            break
    process.send(Finish())
    while not isinstance(message, Finished):
        message = await process.inbox.get()
    return beat, events


def test_a_decode_process_names_the_fault_and_its_tasks_are_degraded(tmp_path: Path) -> None:
    """I10: heartbeat, the task's state and the incidents all say that nobody looks."""

    async def told() -> tuple[Beat, list[Event]]:
        process = Process("test", SHARD, threads=1)
        file = recording(tmp_path, "covered", "bag")
        stream = specs.Stream(url=f"file://{file}", loop=True, pace="fast")
        work = StreamWork(StreamKey("bay", "main"), stream, (TaskWork(task("full"), 1),))
        try:
            return await _until_told(process, work)
        finally:
            await asyncio.to_thread(process.end)

    beat, events = asyncio.run(asyncio.wait_for(told(), 55))
    (stream,), (state,) = beat.streams, beat.tasks
    assert stream.faults == ["covered"]
    assert (state.state, state.reason) == ("Degraded", "its camera: covered")
    start = next(event for event in events if event.rule == "covered")
    assert (start.kind, start.phase, start.severity) == ("camera", "start", "warning")
    assert start.boot == "b"
    assert any((event.rule, event.reason) == ("nobody", "interrupted") for event in events)
