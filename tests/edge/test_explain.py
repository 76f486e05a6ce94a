"""Explain: what an operator is told of a file's tasks, through the command."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from edge.__main__ import app

RULES: list[dict[str, Any]] = [
    {"name": "loiterer", "when": {"class": "person"}, "for": "3s"},
    {"name": "drive-out", "when": {"class": "car", "crosses": "exit"}},
    {"name": "nobody", "when": {"count": {"class": "person"}, "at_most": 0}, "for": "5m"},
]


def task(name: str, *rules: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {
        "kind": "Task",
        "metadata": {"name": name, "station": "s1"},
        "spec": {
            "camera": "bay",
            "model": {"name": "m"},
            "lines": {"exit": [[0.1, 0.5], [0.9, 0.5]]},
            "rules": list(rules),
        }
        | spec,
    }


def explain(folder: Path, documents: Sequence[object], *options: str) -> tuple[int, str, str]:
    """Exit code, stdout, stderr."""
    path = folder / "tasks.yaml"
    path.write_text(yaml.safe_dump_all(documents))
    done = CliRunner().invoke(app, ["explain", str(path), *options])
    return done.exit_code, done.stdout, done.stderr


def test_each_rule_is_told_and_what_it_means_for_usual_cameras(tmp_path: Path) -> None:
    """Rule by rule the shortest visit and why, then how an idle stream is decoded."""
    code, said, _ = explain(tmp_path, [task("bay-2", *RULES)])
    assert code == 0
    assert said == (
        "task bay-2 on bay/main: 5 looks a second while something happens, priority normal, "
        "decode adaptive\n"
        "  rule       must see  why\n"
        "  loiterer        3 s  its `for`: a shorter visit makes no incident\n"
        "  drive-out       1 s  crossing a line takes a moment\n"
        "  nobody          1 s  a moment interrupts what it waits for (at_most, not)\n"
        "\n"
        "stream bay/main while nothing changes (strictest: drive-out, 1 s):\n"
        "  decoded    why\n"
        "  KEY        a GOP of 1 s is no longer than the shortest visit (1 s): "
        "each key frame will do\n"
        "  KEY + 1 s  a GOP of 2 s is longer than the shortest visit (1 s): "
        "its first 1 s must be decoded too\n"
        "  KEY + 3 s  a GOP of 4 s is longer than the shortest visit (1 s): "
        "its first 3 s must be decoded too\n"
        "  FULL       a GOP of 10 s is far longer than the shortest visit (1 s): "
        "nearly all would be decoded anyway\n"
        "  FULL       with intra refresh no key packet gives a picture by itself: "
        "all must be decoded\n"
    )


def test_the_camera_s_own_gop_gives_one_answer(tmp_path: Path) -> None:
    """`--gop` replaces the usual cameras by the operator's."""
    _, said, _ = explain(tmp_path, [task("bay-2", RULES[0])], "--gop", "500ms")
    assert said.splitlines()[-2:] == [
        "  decoded  why",
        "  KEY      a GOP of 0.5 s is no longer than the shortest visit (3 s): "
        "one key frame each 2 s will do",
    ]


def test_tasks_of_one_stream_are_joined_and_others_are_not(tmp_path: Path) -> None:
    """One decode serves a stream; the rule that makes it dear is named with its task."""
    documents = [
        {"kind": "Station", "metadata": {"name": "s1"}},
        task("calm", RULES[0], fps=2),
        task("exit", RULES[1], priority="high", fps=8),
        task("far", RULES[0], stream="sub", decode="full"),
    ]
    _, said, _ = explain(tmp_path, documents)
    assert [line for line in said.splitlines() if line.startswith("stream")] == [
        "stream bay/main while nothing changes (strictest: drive-out of exit, 1 s):",
        "stream bay/sub while nothing changes (strictest: loiterer, 3 s):",
    ]
    assert said.splitlines()[-1] == "  FULL     a task asks for every frame (decode: full)"
    assert said.count("decode: full") == 1

    _, printed, _ = explain(tmp_path, documents, "--json", "--gop", "2s")
    told = json.loads(printed)
    assert [each["task"] for each in told["tasks"]] == ["calm", "exit", "far"]
    assert told["tasks"][0]["needs"] == [
        {
            "rule": "loiterer",
            "min_visit_s": 3.0,
            "why": "its `for`: a shorter visit makes no incident",
        }
    ]
    main, sub = told["streams"]
    assert (main["tasks"], sub["tasks"]) == (["calm", "exit"], ["far"])
    assert (main["fps"], main["min_visit_s"], main["priority"]) == (8.0, 1.0, "high")
    assert [(plan["level"], plan["then_s"]) for plan in main["idle"]] == [("KEY", 1.0)]
    assert [(plan["level"], plan["gop_s"]) for plan in sub["idle"]] == [("FULL", 2.0)]


def test_every_problem_of_every_document_is_told(tmp_path: Path) -> None:
    """Exit code 2, one line for each problem, and nothing on stdout."""
    bad = task("bay-2", RULES[0] | {"min_visit": "soon"}, fps=0)
    code, said, why = explain(tmp_path, [task("calm", RULES[0]), bad, {"kind": "Tusk"}])
    assert (code, said) == (2, "")
    assert [line.partition("tasks.yaml: ")[2].partition(": ")[:1] for line in why.splitlines()] == [
        ("document 2",), ("document 2",), ("document 3",),
    ]  # fmt: skip
    assert "spec.rules[0].min_visit: 'soon' is no duration" in why
    assert "spec.fps: " in why


@pytest.mark.parametrize(
    ("documents", "options", "why"),
    [
        ([], [], "holds no Task"),
        ([{"kind": "Station", "metadata": {"name": "s1"}}], [], "holds no Task"),
        ([task("bay-2", RULES[0])], ["--gop", "often"], "--gop: 'often' is no duration"),
        ([task("bay-2", RULES[0])], ["--gop", "0"], "--gop 0: key frames are some time apart"),
    ],
)
def test_what_cannot_be_explained_is_refused(
    tmp_path: Path, documents: list[object], options: list[str], why: str
) -> None:
    """A file without a task, and a time that is none."""
    code, said, told = explain(tmp_path, documents, *options)
    assert (code, said) == (2, "")
    assert why in told


@pytest.mark.parametrize(
    ("content", "why"), [("a: [1", "no valid YAML: line 1"), (None, "cannot be read: No such file")]
)
def test_a_file_that_cannot_be_read_says_why(tmp_path: Path, content: str | None, why: str) -> None:
    """Broken YAML with its line, and a missing file."""
    path = tmp_path / "task.yaml"
    if content is not None:
        path.write_text(content)
    done = CliRunner().invoke(app, ["explain", str(path)])
    assert done.exit_code == 2
    assert why in done.stderr


def test_explaining_loads_no_decoder() -> None:
    """It answers at once, on a machine without cameras too."""
    heavy = "{'av', 'cv2', 'onnxruntime'}"
    script = f"import sys, edge.explain; sys.exit(len({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_hours_and_inputs_are_told(tmp_path: Path) -> None:
    """When a task is at work, and the names of inputs, which nobody can check but people."""
    pump = {"class": "car", "while": {"input": "nozzle-2", "is": "lifted"}}
    rules = [
        {"name": "fuelling", "when": pump, "schedule": {"active": "08:00-09:00"}},
        {"name": "full", "when": {"any": [{"input": "tank-2", "above": 90}, RULES[2]["when"]]}},
        {"name": "alone", "when": {"input": "tank-2", "below": 5}},
    ]
    hours = {"active": ["22:00-06:00", "12:00-13:00"], "days": ["mon", "fri"]}
    _, said, _ = explain(tmp_path, [task("bay-2", *rules, schedule=hours)])
    lines = said.splitlines()
    assert "  alone          2 s  it asks the station's inputs, not the picture" in lines
    first = lines.index(
        "  at work: 22:00-06:00, 12:00-13:00 on mon, fri, in the station's time zone"
    )
    assert lines[first + 1 : first + 3] == [
        "  fuelling: only 08:00-09:00",
        "  inputs that it asks: nozzle-2, tank-2",
    ]
    _, printed, _ = explain(tmp_path, [task("bay-2", *rules)], "--json")
    assert json.loads(printed)["tasks"][0]["inputs"] == ["nozzle-2", "tank-2"]
