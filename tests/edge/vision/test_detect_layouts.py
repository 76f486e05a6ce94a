"""Layouts: a small graph of each is recognised by itself, and its known object is found."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edge.vision.detect import LAYOUTS, Detections, Detector
from edge.vision.manifest import Manifest, ModelError
from tests.parts import graphs, heads
from wire.manifest import Input, Output

GREY = np.full((heads.SIDE, heads.SIDE, 3), 114, np.uint8)
SHAPE = (heads.SIDE, heads.SIDE)


def manifest(path: Path, **said: Any) -> Manifest:
    """What a model.toml beside the graph says."""
    given: dict[str, Any] = {"name": "small", "path": path, "labels": heads.LABELS}
    return Manifest(**given | said)


def seen_by(detector: Detector) -> Detections:
    [seen] = detector.detect([GREY], [SHAPE])
    return seen


def assert_found(seen: Detections) -> None:
    """The known object, and no other."""
    assert seen.labels == ("car",)
    assert seen.scores.tolist() == pytest.approx([heads.SCORE], abs=2e-3)
    assert (seen.boxes[0] * heads.SIDE).tolist() == pytest.approx(heads.BOX, abs=0.05)


@pytest.mark.parametrize("kind", heads.HEADS)
def test_a_layout_is_recognised_and_read(kind: str, tmp_path: Path) -> None:
    """With the labels alone: the layout's word, and the object where it is."""
    layout, outputs = heads.HEADS[kind]
    detector = Detector(manifest(graphs.constant(tmp_path / "small.onnx", outputs())))
    assert detector.layout == layout
    assert_found(seen_by(detector))


@pytest.mark.parametrize("kind", heads.HEADS)
def test_a_layout_that_is_named_is_read_alike(kind: str, tmp_path: Path) -> None:
    """Naming what would be recognised changes nothing."""
    layout, outputs = heads.HEADS[kind]
    path = graphs.constant(tmp_path / "small.onnx", outputs())
    assert_found(seen_by(Detector(manifest(path, layout=layout))))


@pytest.mark.parametrize("kind", heads.HEADS)
def test_a_layout_is_read_in_half_floats(kind: str, tmp_path: Path) -> None:
    """A float16 graph is recognised and read alike, but for its exactness."""
    layout, outputs = heads.HEADS[kind]
    half = {
        name: value.astype(np.float16) if value.dtype == np.float32 else value
        for name, value in outputs().items()
    }
    detector = Detector(manifest(graphs.constant(tmp_path / "small.onnx", half, dtype=np.float16)))
    assert detector.layout == layout
    assert_found(seen_by(detector))


PER_PICTURE = [kind for kind in heads.HEADS if kind not in ("rows-openvino", "no-batch-axis")]


@pytest.mark.parametrize("kind", PER_PICTURE)
def test_a_batch_gives_each_picture_its_own(kind: str, tmp_path: Path) -> None:
    """Whether a graph that takes any number of pictures tells them apart or not."""
    outputs = heads.HEADS[kind][1]()
    path = graphs.constant(
        tmp_path / "small.onnx", outputs, shape=("batch", 3, 64, 64), batched=True
    )
    detector = Detector(manifest(path))
    for seen in detector.detect([GREY] * 11, [SHAPE] * 11):
        assert_found(seen)


def test_every_layout_has_a_graph() -> None:
    """None is left untested."""
    given = (*heads.HEADS.values(), *heads.FACES.values())
    assert {layout for layout, _ in given} == set(LAYOUTS)


def test_a_fixed_batch_is_filled(tmp_path: Path) -> None:
    """A graph for four pictures gets four, however many there are."""
    made = {name: np.tile(value, (4, 1, 1)) for name, value in heads.yolov8().items()}
    detector = Detector(manifest(graphs.constant(tmp_path / "x.onnx", made, shape=(4, 3, 64, 64))))
    seen = detector.detect([GREY] * 6, [SHAPE] * 6)
    assert len(seen) == 6
    for one in seen:
        assert_found(one)


def with_labels(columns: int) -> dict[str, npt.NDArray[Any]]:
    """A YOLOv8 head with so many classes."""
    head = np.zeros((1, 4 + columns, heads.CELLS), np.float32)
    head[0, :4, 5] = heads.MIDDLE
    head[0, 4 + 2, 5] = heads.SCORE
    return {"output0": head}


def test_labels_come_from_the_graph(tmp_path: Path) -> None:
    """Ultralytics writes them into the metadata, with the task; model.toml would win."""
    names = {"names": "{0: 'nozzle', 1: 'hose', 2: 'cone'}", "task": "detect"}
    path = graphs.constant(tmp_path / "x.onnx", with_labels(3), metadata=names)
    assert seen_by(Detector(manifest(path, labels=()))).labels == ("cone",)
    assert seen_by(Detector(manifest(path))).labels == ("truck",)


def test_eighty_classes_are_those_of_coco(tmp_path: Path) -> None:
    """Where nobody says names."""
    path = graphs.constant(tmp_path / "x.onnx", with_labels(80))
    assert seen_by(Detector(manifest(path, labels=()))).labels == ("car",)


def test_ninety_one_classes_are_the_numbers_of_coco(tmp_path: Path) -> None:
    """DETR's heads count from 0 as COCO's files do, with numbers that are never reported."""
    boxes = np.full((1, 20, 4), 0.5, np.float32)
    scores = np.full((1, 20, 91), -9, np.float32)
    scores[0, 0, 3], scores[0, 1, 12] = 5, 5
    path = graphs.constant(tmp_path / "x.onnx", {"logits": scores, "pred_boxes": boxes})
    assert seen_by(Detector(manifest(path, labels=()))).labels == ("car",)


def test_a_size_input_is_given_the_inputs_size(tmp_path: Path) -> None:
    """The second input of RT-DETR and DEIM is filled, so that boxes come in pixels of the input."""
    path = graphs.constant(
        tmp_path / "x.onnx",
        heads.labels_boxes_scores(),
        more={"orig_target_sizes": (np.int64, ("N", 2))},
    )
    detector = Detector(manifest(path))
    assert_found(seen_by(detector))
    assert detector.pixels.resize == "stretch"


def test_rows_of_any_order_are_read_as_told(tmp_path: Path) -> None:
    """`output.columns` says what stands in a row."""
    rows = np.zeros((1, 5, 7), np.float32)
    rows[0, 2] = [7, heads.SCORE, 1, *heads.BOX]
    told = Output.model_validate({"columns": ["-", "score", "class", "x1", "y1", "x2", "y2"]})
    path = graphs.constant(tmp_path / "x.onnx", {"found": rows})
    assert_found(seen_by(Detector(manifest(path, output=told))))


REFUSED: dict[str, tuple[dict[str, npt.NDArray[Any]], dict[str, Any], str]] = {
    "ambiguous": (
        {"out": np.zeros((1, 252, 6), np.float32)},
        {"labels": ("car",)},
        r'fit rows or yolov5 with 1 labels; write into model.toml: layout = "rows" or',
    ),
    "ambiguous-labels": (
        {"out": np.zeros((1, 252, 15), np.float32)},
        {"labels": ()},
        "fit yolov5 with 10 labels or yolov5-face with 2 labels",
    ),
    "no-names": (
        with_labels(3),
        {"labels": ()},
        "layout yolov8 with 3 classes, and nobody names them",
    ),
    "labels-do-not-fit": (
        with_labels(5),
        {},
        "look like the layout yolov8 with 5 labels, but 3 are known",
    ),
    "named-wrongly": (
        {"out": np.zeros((1, 4), np.float32)},
        {"layout": "yolov5"},
        r"out \[1, 4\] at 64x64 do not fit the layout yolov5, which has \[pictures, anchors",
    ),
    "unknown": (with_labels(3), {"layout": "yolov99"}, "'yolov99' is unknown; known: auto, yolox"),
    "classifier": ({"out": np.zeros((1, 1000), np.float32)}, {}, "classifier of whole pictures"),
    "segmentation": ({"out": np.zeros((1, 21, 64, 64), np.float32)}, {}, "segmentation or depth"),
    "anchor-maps": (
        {f"m{side}": np.zeros((1, 24, side, side), np.float32) for side in (8, 4, 2)},
        {},
        "raw maps of an anchor-based YOLO",
    ),
    "anchor-offsets": (
        {
            "loc": np.full((1, 50, 4), [0.5, 0.5, -2, -2], np.float32),
            "conf": np.full((1, 50, 4), 0.25, np.float32),
        },
        {},
        "offsets from anchors",
    ),
    "not-finite": ({"out": np.full((1, 7, 84), np.nan, np.float32)}, {}, "no finite numbers"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_read_is_refused_with_its_reason(kind: str, tmp_path: Path) -> None:
    """The reason names what was seen, and what to write."""
    outputs, said, why = REFUSED[kind]
    path = graphs.constant(tmp_path / "small.onnx", outputs)
    with pytest.raises(ModelError, match=f"model small: .*{why}"):
        Detector(manifest(path, **said))


@pytest.mark.parametrize(
    ("graph", "said", "why"),
    [
        ({"metadata": {"task": "obb"}}, {}, "task=obb: it gives turned boxes"),
        ({"shape": (1, 1, 64, 64)}, {}, r"'images' \[1, 1, 64, 64\].* none is a picture in colour"),
        ({"dtype": np.int32}, {}, "none is a picture in colour"),
        ({"more": {"mask": (np.float32, (1, 7))}}, {}, "nothing is known of its input 'mask'"),
        ({}, {"input": Input(name="pixels")}, "no input 'pixels', only images"),
        ({}, {"input": Input(width=32)}, "its graph wants width 64, its model.toml says 32"),
    ],
    ids=["task", "grey", "type", "input", "name", "size"],
)
def test_an_input_that_cannot_be_given_is_refused(
    graph: dict[str, Any], said: dict[str, Any], why: str, tmp_path: Path
) -> None:
    """The reason names the input and its shape."""
    path = graphs.constant(tmp_path / "small.onnx", heads.yolov8(), **graph)
    with pytest.raises(ModelError, match=why):
        Detector(manifest(path, **said))


def test_a_class_beyond_the_labels_is_an_error(tmp_path: Path) -> None:
    """Rows do not say how many classes there are; a number without a name is not passed over."""
    path = graphs.constant(tmp_path / "small.onnx", heads.rows_of_six())
    detector = Detector(manifest(path, labels=("person",)))
    with pytest.raises(ModelError, match="it finds class 1, and 1 labels are known"):
        seen_by(detector)
