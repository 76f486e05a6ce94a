"""`forecourt-edge check-model`: what it prints, and its exit codes."""

import io
import json
from pathlib import Path

import pytest

from edge.clock import SystemClock
from edge.config import Config
from edge.model_check import command
from edge.vision.detect import PROVIDERS
from tests.parts import graphs, heads
from tests.parts.clips import asset

MODELS = Path(__file__).parents[2] / "models"


def run(file: Path, **asked: object) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    code = command(file, SystemClock(), out=out, err=err, **asked)  # type: ignore[arg-type]
    return code, out.getvalue(), err.getvalue()


def test_a_good_network_is_told_of() -> None:
    """Layout, input, labels, what it finds and how long it takes; exit code 0."""
    code, out, _ = run(MODELS / "forecourt-nano")
    assert code == 0
    for part in ("layout yolox, run by cpu", "416x256 BGR", "labels  6: person", "found   truck"):
        assert part in out
    assert out.endswith("good: it finds 3 of 3 known objects\n")


def test_json_has_the_same() -> None:
    """One object on one line."""
    code, out, _ = run(MODELS / "forecourt-nano" / "model.toml", as_json=True)
    told = json.loads(out)
    assert (code, told["ok"], told["layout"], told["input"]["width"]) == (0, True, "yolox", 416)
    assert {each["label"] for each in told["found"]} >= {"person", "car", "truck"}
    assert told["ms"] > 0


def test_another_picture_may_be_looked_at() -> None:
    """Then what is found is told, and nothing is asked for."""
    picture = asset("eval/plates_hyperlpr/test_img.jpg")
    code, out, _ = run(asset("models/yolox_nano.onnx"), picture=picture)
    assert code == 0
    assert "found   car 0.9" in out
    assert out.endswith("good: it was tried on the given picture\n")


def test_what_would_be_refused_ends_with_1(tmp_path: Path) -> None:
    """A network that does not see what is there."""
    (tmp_path / "model.toml").write_text(
        'name = "blind"\nfile = "blind.onnx"\nlabels = ["person", "car", "truck"]\n'
    )
    head = {"output0": heads.yolov8()["output0"] * 0}
    graphs.constant(tmp_path / "blind.onnx", head)
    code, out, _ = run(tmp_path)
    assert code == 1
    assert "REFUSED: in the known picture it does not find person, car, truck" in out


@pytest.mark.parametrize("as_json", [False, True])
def test_what_cannot_be_loaded_ends_with_2(as_json: bool, tmp_path: Path) -> None:
    """With the reason on stderr, or in the JSON."""
    (tmp_path / "net.onnx").write_bytes(b"no network")
    code, out, err = run(tmp_path / "net.onnx", as_json=as_json)
    assert code == 2
    said = json.loads(out)["reason"] if as_json else err
    assert "is no ONNX network that can be loaded" in said


def test_the_configuration_knows_the_same_providers() -> None:
    """Every word that the configuration takes has a name in ONNX Runtime, and no other has one."""
    words = tuple(PROVIDERS)
    given = {"worker": "w", "data": "d", "broker": "mqtt://h", "models": str(MODELS)}
    assert Config.model_validate({**given, "inference": words}).inference == words
    assert Config.model_validate(given).inference == ("cpu",)
    with pytest.raises(ValueError, match="inference"):
        Config.model_validate({**given, "inference": ["abacus"]})
