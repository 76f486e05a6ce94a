"""`forecourt call`: words in, a worker's answer out."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run
from tests.cli.fake_center import FakeCenter

JPEG = b"\xff\xd8\xff a picture"
PICTURE = {"jpeg": base64.b64encode(JPEG).decode(), "width": 640, "height": 360, "t_ms": 5}


def answered(**result: Any) -> tuple[int, object]:
    return 200, {"id": "1", "ok": True, "result": result, "error": ""}


def test_words_become_arguments(run: Run, center: FakeCenter) -> None:
    """The worker, the method, arguments of the right types and the time to wait are sent."""
    center.sentence = answered(codec="h264", fps=25.0)
    ran = run("call", "w1", "probe", "camera=yard", "stream=sub", "--timeout", "20")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines() == ["codec: h264", "fps: 25.0"]
    assert center.requests == [("POST", "/workers/w1/calls")]
    center.sentence = answered(lines=["a \x1b[2J", "b"], omitted=3)
    ran = run("call", "w1", "log", "lines=50")
    assert ran.out == "a \N{REPLACEMENT CHARACTER}[2J\nb\n"
    assert "3 more" in ran.err
    assert center.posted == [
        {"method": "probe", "args": {"camera": "yard", "stream": "sub"}, "timeout_s": 20.0},
        {"method": "log", "args": {"lines": 50}, "timeout_s": 10.0},
    ]


def test_json_is_the_answer(run: Run, center: FakeCenter) -> None:
    """One object on the last line, as the center gives it."""
    center.sentence = answered(worker="w1")
    ran = run("call", "w1", "config", "--json")
    assert json.loads(ran.out)["result"] == {"worker": "w1"}


def test_a_picture_goes_to_a_file(run: Run, center: FakeCenter, tmp_path: Path) -> None:
    """The JPEG is written, and said what and where; never to the terminal."""
    center.sentence = answered(**PICTURE)
    ran = run("call", "w1", "picture", "camera=yard", "width=640", "-o", "yard.jpg")
    assert ran.code == 0, ran.err
    assert (tmp_path / "yard.jpg").read_bytes() == JPEG
    assert "file: yard.jpg" in ran.out
    assert "jpeg:" not in ran.out
    ran = run("call", "w1", "picture", "camera=yard", "-o", "yard.jpg", "--json")
    assert json.loads(ran.out)["result"] == {
        "width": 640, "height": 360, "t_ms": 5, "file": "yard.jpg", "size_bytes": len(JPEG),
    }  # fmt: skip
    ran = run("call", "w1", "picture", "camera=yard", "-o", "missing/yard.jpg")
    assert (ran.code, "cannot write" in ran.err) == (2, True)
    center.sentence = answered(jpeg=base64.b64encode(b"<html>").decode())
    ran = run("call", "w1", "picture", "camera=yard", "-o", "other.jpg")
    assert (ran.code, "is no picture" in ran.err) == (1, True)
    assert not (tmp_path / "other.jpg").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("w1", "reboot"), "there are probe, picture, log, config"),
        (("w1", "probe"), "give either camera or url"),
        (("w1", "probe", "yard"), "'yard' is no KEY=VALUE"),
        (("w1", "probe", "camera=a", "camera=b"), "camera is given twice"),
        (("w1", "log", "lines=many"), "lines:"),
        (("w1", "log", "lines=5", "-o", "log.txt"), "-o is for pictures"),
        (("w1", "config", "verbose=1"), "verbose: unknown key"),
        (("w1", "picture", "camera=yard"), "give -o FILE"),
        (("W1", "config"), "is no name"),
    ],
    ids=str,
)
def test_bad_words_are_not_sent(
    run: Run, center: FakeCenter, words: tuple[str, ...], told: str
) -> None:
    """Exit code 2, a sentence, and no request."""
    ran = run("call", *words)
    assert (ran.code, ran.out) == (2, "")
    assert told in ran.err
    assert center.requests == []


@pytest.mark.parametrize(
    ("status", "answer", "told"),
    [
        (409, {"detail": "worker w1 is not online (Autonomous)"}, "not online (Autonomous)"),
        (504, {"detail": "worker w1 did not answer within 10 s"}, "did not answer within 10 s"),
        (200, {"id": "1", "ok": False, "result": {}, "error": "no camera 'x'"}, "no camera 'x'"),
        (200, {"hello": "world"}, "does not behave like a center"),
    ],
    ids=["away", "late", "refused", "strange"],
)
def test_what_fails_is_told(
    run: Run, center: FakeCenter, status: int, answer: object, told: str
) -> None:
    """Exit code 1 and the center's or the worker's sentence."""
    center.sentence = (status, answer)
    ran = run("call", "w1", "config")
    assert (ran.code, ran.out) == (1, "")
    assert told in ran.err
