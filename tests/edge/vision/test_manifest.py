"""Manifests: found by name or path, and refused with a reason."""

import hashlib
from pathlib import Path

import pytest

from edge.vision.manifest import ModelError, at, find
from wire.manifest import COCO_LABELS, COCO_NUMBERED

WEIGHTS = b"not a network, but a file with a hash"


def model(folder: Path, **changed: str) -> Path:
    """A folder with a model's manifest and file; `changed` replaces lines of the manifest."""
    folder.mkdir(parents=True)
    (folder / "net.onnx").write_bytes(WEIGHTS)
    lines = {
        "name": f'name = "{folder.name}"',
        "version": 'version = "1"',
        "layout": 'layout = "yolox"',
        "file": 'file = "net.onnx"',
        "sha256": f'sha256 = "{hashlib.sha256(WEIGHTS).hexdigest()}"',
        "size_bytes": f"size_bytes = {len(WEIGHTS)}",
        "labels": 'labels = ["person", "car"]',
        "input": '[input]\nname = "images"\nwidth = 320\nheight = 192\ncolor = "RGB"\npad = 0',
        "measured": "[measured]\nmap = 0.5",
    }
    (folder / "model.toml").write_text("\n".join((lines | changed).values()))
    return folder


def test_a_model_is_found_by_its_name(tmp_path: Path) -> None:
    """The first folder that has the name wins; the manifest says what it says."""
    model(tmp_path / "b" / "tiny")
    model(tmp_path / "c" / "tiny", labels='labels = ["other"]')
    found = find([tmp_path / "a", tmp_path / "b", tmp_path / "c"], "tiny")
    assert found.labels == ("person", "car")
    assert (found.input.width, found.input.height) == (320, 192)
    assert (found.input.color, found.input.pad, found.input.resize) == ("RGB", 0, None)
    assert found.path == tmp_path / "b" / "tiny" / "net.onnx"


def test_of_a_bare_file_nothing_is_assumed(tmp_path: Path) -> None:
    """Without a manifest its graph says what it is: layout, labels, pixels and size are open."""
    (tmp_path / "yolox_nano.onnx").write_bytes(WEIGHTS)
    found = find([tmp_path], "yolox-nano")
    assert found == at(tmp_path / "yolox_nano.onnx")
    assert (found.layout, found.labels, found.input.color) == ("auto", (), None)
    assert found.input.width is None


def test_coco_has_eighty_names() -> None:
    """The order of the names is the order of the network's classes."""
    assert len(COCO_LABELS) == len(set(COCO_LABELS)) == 80
    assert [COCO_LABELS[n] for n in (0, 2, 7, 9, 79)] == [
        "person", "car", "truck", "traffic light", "toothbrush",
    ]  # fmt: skip
    assert [COCO_NUMBERED[n - 1] for n in (1, 3, 8, 12, 13, 90)] == [
        "person", "car", "truck", "-", "stop sign", "toothbrush",
    ]  # fmt: skip
    assert [name for name in COCO_NUMBERED if name != "-"] == list(COCO_LABELS)


def test_a_path_leads_to_the_manifest_beside_it(tmp_path: Path) -> None:
    """A folder, its manifest and its file all mean the same model."""
    folder = model(tmp_path / "tiny")
    assert at(folder) == at(folder / "model.toml") == at(folder / "net.onnx")


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"sha256": f'sha256 = "{"0" * 64}"'}, "not the file that its manifest describes"),
        ({"size_bytes": "size_bytes = 1"}, "37 bytes instead of 1"),
        ({"file": 'file = "../../secret"'}, "file: write a plain file name"),
        ({"file": 'file = "absent.onnx"'}, "is missing"),
        ({"labels": "labels = 3"}, "labels"),
        ({"input": '[input]\ncolor = "GREY"'}, r"input\.color"),
        ({"layout": "layout = "}, "no valid TOML"),
    ],
    ids=["hash", "size", "outside", "missing", "labels", "color", "syntax"],
)
def test_a_bad_manifest_is_refused(tmp_path: Path, changed: dict[str, str], why: str) -> None:
    """The error names what is wrong."""
    folder = model(tmp_path / "tiny", **changed)
    with pytest.raises(ModelError, match=why):
        find([tmp_path], folder.name)


@pytest.mark.parametrize("name", ["absent", "../tiny", "", "a/b"])
def test_a_name_that_is_none_is_refused(tmp_path: Path, name: str) -> None:
    """A name never becomes a path out of the folders."""
    with pytest.raises(ModelError, match="model"):
        find([tmp_path / "models"], name)


def test_an_empty_hash_is_not_verified(tmp_path: Path) -> None:
    """A model in the making has none yet."""
    model(tmp_path / "tiny", sha256='sha256 = ""')
    assert find([tmp_path], "tiny").sha256 == ""
