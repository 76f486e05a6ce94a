"""Trials: a network that sees is let in, and one that does not is refused with what to do."""

import base64
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge.clock import SystemClock
from edge.vision import trial
from edge.vision.detect import Detector
from edge.vision.manifest import Manifest, ModelError, bare, find, read
from edge.vision.trial import Trial
from tests.parts import graphs, heads
from tests.parts.clips import asset

MODELS = Path(__file__).parents[3] / "models"


def tried(detector: Detector) -> Trial:
    return trial.try_out(detector, SystemClock())


def small(path: Path, outputs: heads.Arrays, **said: Any) -> Detector:
    """A small graph with what a model.toml says."""
    given: dict[str, Any] = {
        "name": "small",
        "path": graphs.constant(path / "small.onnx", outputs),
        "labels": heads.LABELS,
    }
    return Detector(Manifest.model_validate(given | said))


@pytest.mark.parametrize("name", ["yolox_nano", "deimv2_atto_coco", "picodet_s_320_coco"])
def test_real_detectors_find_all_in_the_known_picture(name: str) -> None:
    """Person, car and truck, each with a score of 0.3 and more."""
    came = tried(Detector(bare(asset(f"models/{name}.onnx"))))
    assert (came.ok, came.reason) == (True, "it finds 3 of 3 known objects")
    for label in ("person", "car", "truck"):
        assert max(each.score for each in came.found if each.label == label) >= 0.3
    assert came.ms > 0


def test_our_own_detector_finds_all_in_the_known_picture() -> None:
    """The one that is in the repository."""
    came = tried(Detector(find([MODELS], "forecourt-nano")))
    assert (came.ok, came.reason) == (True, "it finds 3 of 3 known objects")


def test_a_network_for_other_pixels_is_refused(tmp_path: Path) -> None:
    """Same names and shapes, but trained otherwise: the reason has the lines to write."""
    path = graphs.other_pixels(asset("models/yolox_nano.onnx"), tmp_path / "net.onnx")
    came = tried(Detector(bare(path)))
    assert not came.ok
    assert "does not find person, car, truck" in came.reason
    said = came.reason.rpartition("model.toml says ")[2]
    lines = said.replace("[input] ", "[input]\n")
    for key in (", scale", ", mean", ", std"):
        lines = lines.replace(key, key.replace(", ", "\n"))
    (tmp_path / "model.toml").write_text(f'name = "net"\nfile = "net.onnx"\n{lines}\n')
    assert tried(Detector(read(tmp_path / "model.toml"))).reason == "it finds 3 of 3 known objects"


def test_a_network_that_finds_nothing_is_refused(tmp_path: Path) -> None:
    """As one that was quantised badly: it loads, has the right shape, and is blind."""
    head = np.zeros((1, 7, heads.CELLS), np.float32)
    came = tried(small(tmp_path, {"output0": head}))
    assert not came.ok
    assert "does not find person, car, truck, but nothing at all" in came.reason
    assert '[check] picture and find what it must see, or picture = "none"' in came.reason


def test_a_network_that_fails_on_a_picture_is_no_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the runtime raises is the model's problem, with its name: the process goes on."""
    detector = small(tmp_path, {"output0": np.zeros((1, 7, heads.CELLS), np.float32)})

    def fails(images: object, shapes: object) -> None:
        raise RuntimeError("Non-zero status code returned\nand more")

    monkeypatch.setattr(detector, "detect", fails)
    with pytest.raises(ModelError, match="model small: it fails on a picture, RuntimeError: Non-z"):
        tried(detector)


def test_outputs_that_nobody_expects_are_a_reason(tmp_path: Path) -> None:
    """A number without axes, for one, is refused in words."""
    with pytest.raises(ModelError, match="model small: "):
        small(tmp_path, {"output0": np.array(1.0, np.float32)})


def test_a_network_that_sees_things_everywhere_is_refused(tmp_path: Path) -> None:
    """Hundreds of sure boxes in a grey picture are rubbish."""
    rows = np.zeros((1, 300, 6), np.float32)
    rows[0, :, 0] = np.arange(300) % 60
    rows[0, :, 2] = rows[0, :, 0] + 3
    rows[0, :, 3], rows[0, :, 4] = 3, 0.9
    came = tried(small(tmp_path, {"output0": rows}))
    assert not came.ok
    assert "in a picture of nothing but grey it is sure of 300 objects" in came.reason


def known(**said: Any) -> dict[str, Any]:
    return {"check": {"picture": "yard.png", **said}}


def yard(folder: Path) -> bytes:
    """A picture beside the manifest, of the shape that the small graphs' object is known in."""
    data = cv2.imencode(".png", np.full((64, 64, 3), 90, np.uint8))[1].tobytes()
    (folder / "yard.png").write_bytes(data)
    return data


def test_a_manifest_may_bring_its_own_picture(tmp_path: Path) -> None:
    """With what must be found there; a box, where one is given, must be about there."""
    yard(tmp_path)
    head = heads.rows_of_six()
    box = [side / heads.SIDE for side in heads.BOX]
    found = known(find=[{"label": "car", "box": box}])
    assert tried(small(tmp_path, head, **found)).ok
    elsewhere = known(find=[{"label": "car", "box": [0, 0, 0.1, 0.1]}])
    assert "does not find car, but car 0.90" in tried(small(tmp_path, head, **elsewhere)).reason
    other = known(find=[{"label": "person"}])
    assert not tried(small(tmp_path, head, **other)).ok
    assert tried(small(tmp_path, head, **known())).ok, "anything will do where nothing is said"
    strange = known(find=[{"label": "zebra"}])
    with pytest.raises(ModelError, match=r"check\.find names 'zebra'"):
        tried(small(tmp_path, head, **strange))


def test_a_picture_may_stand_in_the_manifest(tmp_path: Path) -> None:
    """Inline, so that it goes wherever the manifest goes."""
    picture = np.full((64, 64, 3), 90, np.uint8)
    data = base64.b64encode(cv2.imencode(".jpg", picture)[1].tobytes()).decode()
    check = {"picture": f"data:image/jpeg;base64,{data}", "find": [{"label": "car"}]}
    assert tried(small(tmp_path, heads.rows_of_six(), check=check)).ok


@pytest.mark.parametrize(
    ("check", "content", "why"),
    [
        ({"picture": "yard.png"}, None, "cannot be read: No such file"),
        ({"picture": "yard.png"}, b"no picture", "neither JPEG nor PNG"),
        ({"picture": "yard.png"}, b"x" * (4 * 1024**2 + 1), "larger than 4 MiB"),
        ({"picture": "data:image/jpeg;base64,!"}, None, "no base64"),
    ],
    ids=["absent", "text", "large", "inline"],
)
def test_a_picture_that_cannot_be_read_is_an_error(
    check: dict[str, Any], content: bytes | None, why: str, tmp_path: Path
) -> None:
    """The error names the file and what is wrong."""
    if content is not None:
        (tmp_path / "yard.png").write_bytes(content)
    with pytest.raises(ModelError, match=why):
        tried(small(tmp_path, heads.rows_of_six(), check=check))


def test_a_network_may_go_without_a_picture(tmp_path: Path) -> None:
    """Where its manifest says so, or where our picture shows nothing that it knows."""
    without = tried(small(tmp_path, heads.rows_of_six(), check={"picture": "none"}))
    assert (without.ok, without.reason) == (True, "it was tried on empty pictures only")
    others = small(tmp_path, heads.rows_of_six(), labels=("flame", "smoke"))
    assert tried(others).reason == "it was tried on empty pictures only"
