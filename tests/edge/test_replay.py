"""Replay: the command as an operator runs it, on real recordings with the real network."""

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge.replay import Summary, command, read_task, replay
from edge.vision.detect import Detector
from edge.vision.manifest import bare
from tests.parts import clips
from wire import specs
from wire.events import decode_event

START = "2026-03-01T12:00:00Z"
START_MS = 1_772_366_400_000

TASK: dict[str, Any] = {
    "kind": "Task",
    "metadata": {"name": "someone", "station": "s0001"},
    "spec": {
        "camera": "hall",
        "fps": 5,
        "model": {"name": "yolox-nano"},
        "rules": [{"name": "someone", "when": {"class": "person"}, "for": "1s"}],
    },
}


def written(folder: Path, task: object) -> Path:
    path = folder / "task.yaml"
    path.write_text(task if isinstance(task, str) else yaml.safe_dump(task))
    return path


def run(files: list[Path], task_file: Path, **given: Any) -> tuple[int, list[str], str]:
    """Exit code, lines on stdout, text on stderr."""
    out, err = io.BytesIO(), io.StringIO()
    given = {"models": [clips.asset("models/yolox_nano.onnx").parent], "start": START} | given
    code = command(files=files, task_file=task_file, out=out, err=err, **given)
    return code, out.getvalue().decode().splitlines(), err.getvalue()


@pytest.fixture
def worker() -> Path:
    return clips.asset("videos/worker-zone-detection.gif")


def test_events_come_as_lines_and_the_sum_last(tmp_path: Path, worker: Path) -> None:
    """Events are JSON lines in the words of the wire; the summary goes to stderr."""
    code, lines, said = run([worker], written(tmp_path, TASK))
    assert code == 0
    start, end = (decode_event(line.encode()) for line in lines)
    assert (start.phase, end.phase, end.reason) == ("start", "end", "interrupted")
    assert start.since_ms is not None
    assert START_MS <= start.since_ms < START_MS + 600
    assert start.t_ms == start.since_ms + 1000
    assert start.incident == end.incident
    assert str(start.incident).endswith("-someone-1")
    assert "1 files: 4.7 s of video" in said
    assert "71 frames decoded, 24 analysed, 0 unchanged, 0 decode errors, 2 events" in said


def test_two_runs_give_the_same_bytes(tmp_path: Path, worker: Path) -> None:
    """Same files, same task, same machine: identical output, whatever was loaded in between."""
    files = [worker, clips.asset("videos/test2-cam-person1.mkv")]
    task_file = written(tmp_path, TASK)
    first = run(files, task_file)
    assert len(first[1]) >= 4
    assert run(files, task_file)[1] == first[1]


def test_with_json_the_last_line_is_the_summary(tmp_path: Path, worker: Path) -> None:
    """One JSON object with what was read, decoded, analysed and how fast."""
    code, lines, _ = run([worker, tmp_path / "absent.mp4"], written(tmp_path, TASK), as_json=True)
    summary = json.loads(lines[-1])
    assert code == 2
    assert (summary["files"], summary["frames_decoded"], summary["frames_analysed"]) == (2, 71, 24)
    assert summary["packets"] >= 71
    assert summary["events"] == len(lines) - 1
    assert summary["times_real_time"] > 0
    assert len(summary["failed"]) == 1


def test_files_are_independent_of_each_other(tmp_path: Path, worker: Path) -> None:
    """Each file begins at the start time with its own ids; a bad one does not stop the next."""
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no video")
    copy = tmp_path / "copy.gif"
    copy.write_bytes(worker.read_bytes())
    code, lines, said = run([bad, worker, copy], written(tmp_path, TASK))
    assert code == 2
    assert lines[:2] == lines[2:]
    assert said.count("bad.mp4") == 1
    assert "3 files, 1 failed" in said


def test_a_path_may_name_the_model(tmp_path: Path, worker: Path) -> None:
    """`--model` takes a file, whatever the task names."""
    named = TASK | {"spec": TASK["spec"] | {"model": {"name": "another"}}}
    task_file = written(tmp_path, named)
    assert run([worker], task_file)[0] == 2
    model = str(clips.asset("models/yolox_nano.onnx"))
    assert run([worker], task_file, model=model)[0] == 0


@pytest.mark.parametrize(
    ("task", "why"),
    [
        ("a: [1", "no valid YAML: line 1, column 6"),
        ("fps: 5\nfps: 50\n", "no valid YAML: line 2, column 1: 'fps' is written twice"),
        ("", "one Task is needed here, not 0 documents"),
        ("just text", "a resource is a mapping"),
        ({"kind": "Station", "metadata": {"name": "s"}}, "a Task is needed here"),
        (
            TASK | {"spec": TASK["spec"] | {"rules": [{"name": "r", "when": {"class": "fox"}}]}},
            r"spec\.rules\[0\]\.when\.class: model 'yolox-nano' knows no class 'fox'",
        ),
        (
            TASK
            | {
                "spec": TASK["spec"]
                | {"fps": 0, "rules": [{"name": "r", "when": {"class": "car", "in": "no"}}]}
            },
            r"spec\.fps: ",
        ),
    ],
    ids=["syntax", "twice", "empty", "text", "kind", "class", "field"],
)
def test_a_bad_task_is_refused_with_its_path(
    tmp_path: Path, worker: Path, task: object, why: str
) -> None:
    """Exit code 2 and one line for each problem; nothing is replayed."""
    code, lines, said = run([worker], written(tmp_path, task))
    assert (code, lines) == (2, [])
    assert re.search(why, said), said


def test_an_address_is_no_file(tmp_path: Path, worker: Path) -> None:
    """It is refused before anything is replayed, and its password is not shown."""
    camera = Path("rtsp://admin:hunter2@10.0.0.5/main")
    code, lines, said = run([worker, camera], written(tmp_path, TASK))
    assert (code, lines) == (2, [])
    assert said.startswith("rtsp: address: replay takes files")
    assert "hunter2" not in said


def test_a_missing_model_says_how_to_get_it(tmp_path: Path, worker: Path) -> None:
    """A name that is in no folder, and a card whose file was never pulled."""
    card = tmp_path / "models" / "yolox-nano" / "model.toml"
    for _ in range(2):
        code, lines, said = run([worker], written(tmp_path, TASK), models=[tmp_path / "models"])
        assert (code, lines) == (2, [])
        assert "run: forecourt models pull yolox-nano, or give --model FILE" in said
        card.parent.mkdir(parents=True, exist_ok=True)
        card.write_text('name = "yolox-nano"\nfile = "n.onnx"\nlabels = ["person"]\n')


@pytest.mark.parametrize("start", ["yesterday", "2026-13-01"])
def test_a_bad_start_is_refused(tmp_path: Path, worker: Path, start: str) -> None:
    """The error shows how a start is written."""
    code, _, said = run([worker], written(tmp_path, TASK), start=start)
    assert code == 2
    assert "2026-01-01T00:00:00Z" in said


def test_a_recording_may_be_cut_short(tmp_path: Path) -> None:
    """`limit_s` stops in the recording's own time; what is open ends there."""
    task = read_task(written(tmp_path, TASK))
    summary = Summary()
    detector = Detector(bare(clips.asset("models/yolox_nano.onnx")))
    recording = clips.asset("videos/one-by-one-person-detection.mp4")
    events = list(replay(recording, task, detector, decode="full", limit_s=10, summary=summary))
    assert [event.phase for event in events] == ["start", "end"]
    assert events[-1].reason == "interrupted"
    assert events[-1].t_ms <= 10_000
    assert summary.frames_analysed == 51


def test_a_bad_field_beside_others_is_not_alone(tmp_path: Path) -> None:
    """Every problem of a task is told at once."""
    bad = TASK | {"spec": TASK["spec"] | {"fps": 0, "colour": "red"}}
    with pytest.raises(specs.SpecError) as raised:
        read_task(written(tmp_path, bad))
    assert {problem.path for problem in raised.value.problems} == {
        ("spec", "fps"),
        ("spec", "colour"),
    }
