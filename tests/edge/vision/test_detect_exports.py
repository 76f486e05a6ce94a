"""Graphs with the names, shapes and inputs that public exporters give them."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edge.vision.detect import Detections, Detector
from edge.vision.manifest import ModelError
from tests.edge.vision.test_detect_layouts import assert_found, manifest, seen_by
from tests.parts import graphs, heads
from wire.manifest import Output

Arrays = dict[str, npt.NDArray[Any]]
FRACTIONS = np.array(heads.BOX, np.float32) / heads.SIDE


def assert_seen(seen: Detections, label: str) -> None:
    """One object where the known one is."""
    assert seen.labels == (label,)
    assert seen.scores.tolist() == pytest.approx([heads.SCORE], abs=2e-3)
    assert (seen.boxes[0] * heads.SIDE).tolist() == pytest.approx(heads.BOX, abs=0.05)


@pytest.mark.parametrize("kind", heads.FACES)
def test_face_detectors_need_no_manifest(kind: str, tmp_path: Path) -> None:
    """What they find is called a face."""
    layout, outputs = heads.FACES[kind]
    detector = Detector(manifest(graphs.constant(tmp_path / "x.onnx", outputs()), labels=()))
    assert detector.layout == layout
    assert_seen(seen_by(detector), "face")


def torchvision(number: int) -> Arrays:
    """Boxes first, no axis of pictures, and 0 is the background."""
    return {
        "boxes": np.array([heads.BOX], np.float32),
        "labels": np.array([number], np.int64),
        "scores": np.array([heads.SCORE], np.float32),
    }


def test_torchvision_counts_from_one(tmp_path: Path) -> None:
    """Bare, its numbers are COCO's; with labels somebody must say where they begin."""
    path = graphs.constant(tmp_path / "x.onnx", torchvision(3))
    assert_seen(seen_by(Detector(manifest(path, labels=()))), "car")
    path = graphs.constant(tmp_path / "y.onnx", torchvision(2))
    with pytest.raises(ModelError, match=r"0 is the background; .*first_class = 1"):
        Detector(manifest(path))
    assert_found(seen_by(Detector(manifest(path, output=Output(first_class=1)))))
    with_background = ("__background__", "person", "car")
    assert_found(seen_by(Detector(manifest(path, labels=with_background))))


def test_a_picture_may_lack_the_axis_of_pictures(tmp_path: Path) -> None:
    """An input of [3, height, width] is given one picture at a time."""
    path = graphs.constant(tmp_path / "x.onnx", torchvision(3), shape=(3, 64, 64))
    detector = Detector(manifest(path, labels=()))
    for _ in range(3):
        assert_seen(seen_by(detector), "car")


def test_a_mask_of_the_picture_is_filled(tmp_path: Path) -> None:
    """DETR of Hugging Face asks which pixels are the picture's."""
    path = graphs.constant(
        tmp_path / "x.onnx",
        heads.detr_softmax(),
        name="pixel_values",
        more={"pixel_mask": (np.int64, ("batch", 32, "width"))},
    )
    assert_found(seen_by(Detector(manifest(path))))


@pytest.mark.parametrize("outputs", [{"dets": (1, 0, 5), "labels": (1, 0)}, {"output": (0, 7)}])
def test_a_list_of_nothing_is_recognised(
    outputs: dict[str, tuple[int, ...]], tmp_path: Path
) -> None:
    """Exports with suppression give no row at all for a grey picture."""
    made: Arrays = {
        name: np.zeros(shape, np.int64 if name == "labels" else np.float32)
        for name, shape in outputs.items()
    }
    detector = Detector(manifest(graphs.constant(tmp_path / "x.onnx", made)))
    assert detector.layout in ("labelled-boxes", "rows")
    assert len(seen_by(detector)) == 0


def yolov4() -> Arrays:
    made = heads.scored_boxes()
    return {"boxes": made["boxes"][:, :, None], "confs": made["confs"]}


def rfdetr() -> Arrays:
    """One column more than labels, and still no softmax."""
    made = heads.detr_sigmoid()
    more = np.full((1, 20, 1), -10, np.float32)
    return {
        "dets": made["pred_boxes"],
        "labels": np.concatenate((made["pred_logits"], more), axis=2),
    }


def nas_flat() -> Arrays:
    return {"graph2_flat_predictions": np.array([[0, *heads.BOX, heads.SCORE, 1]], np.float32)}


def efficientdet_lite() -> Arrays:
    boxes = np.zeros((1, 25, 4), np.float32)
    boxes[0, 0] = FRACTIONS[[1, 0, 3, 2]]
    scores = np.full((1, 25), 0.01, np.float32)
    scores[0, 0] = heads.SCORE
    return {
        "StatefulPartitionedCall:3": boxes,
        "StatefulPartitionedCall:2": np.ones((1, 25), np.float32),
        "StatefulPartitionedCall:1": scores,
        "StatefulPartitionedCall:0": np.array([25], np.float32),
    }


def paddle_without_suppression() -> Arrays:
    made = heads.scored_boxes()
    return {"tmp_17": made["boxes"], "concat_14": made["confs"].transpose(0, 2, 1).copy()}


def detectron2() -> Arrays:
    """As torchvision's, but with the picture's size, and classes that count from 0."""
    return {**torchvision(1), "image_size": np.array([64, 64], np.int64)}


EXPORTS = {
    "paddle-without-suppression": paddle_without_suppression,
    "detectron2": detectron2,
    "yolov4": yolov4,
    "rf-detr": rfdetr,
    "yolo-nas-flat": nas_flat,
    "efficientdet-lite": efficientdet_lite,
}


@pytest.mark.parametrize("kind", EXPORTS)
def test_an_export_is_read_with_its_labels(kind: str, tmp_path: Path) -> None:
    """The known object is found."""
    path = graphs.constant(tmp_path / "x.onnx", EXPORTS[kind]())
    assert_found(seen_by(Detector(manifest(path))))


def test_a_background_may_have_a_name(tmp_path: Path) -> None:
    """Files of labels often begin with it; it is never found."""
    path = graphs.constant(tmp_path / "x.onnx", heads.ssd())
    detector = Detector(manifest(path, labels=("background", *heads.LABELS)))
    assert detector.layout == "ssd"
    assert_found(seen_by(detector))


@pytest.mark.parametrize("labels", [heads.LABELS, ("background", *heads.LABELS)])
def test_an_ssd_before_its_softmax_is_no_detr(labels: tuple[str, ...], tmp_path: Path) -> None:
    """It is refused bare, and read if the layout is named."""
    made = heads.ssd()
    outputs = {"boxes": made["boxes"], "scores": np.log(made["scores"] + 1e-4)}
    path = graphs.constant(tmp_path / "x.onnx", outputs)
    with pytest.raises(ModelError, match="say labels, layout and"):
        Detector(manifest(path, labels=labels))
    assert_found(seen_by(Detector(manifest(path, labels=labels, layout="ssd"))))


@pytest.mark.parametrize(("task", "more"), [("segment", 32), ("pose", 51)])
def test_rows_that_go_on_are_read_up_to_the_class(task: str, more: int, tmp_path: Path) -> None:
    """YOLO26's masks and landmarks follow; only the metadata tell such rows from others."""
    rows = np.concatenate(
        (heads.rows_of_six()["output0"], np.full((1, 300, more), 7, np.float32)), axis=2
    )
    outputs: Arrays = {"output0": rows}
    if task == "segment":
        outputs["output1"] = np.zeros((1, 32, 16, 16), np.float32)
    path = graphs.constant(tmp_path / "x.onnx", outputs, metadata={"task": task})
    detector = Detector(manifest(path))
    assert detector.layout == "rows"
    assert_found(seen_by(detector))


def test_upright_heads_with_masks_are_no_rows(tmp_path: Path) -> None:
    """Though the metadata say that they have some."""
    path = graphs.constant(tmp_path / "x.onnx", heads.yolov8_masks(), metadata={"task": "segment"})
    assert_found(seen_by(Detector(manifest(path))))


REFUSED: dict[str, tuple[Arrays, str]] = {
    "openvino": (
        {"detection_out": np.zeros((1, 1, 100, 7), np.float32)},
        'nobody names them; write into model.toml: labels = .*"background"',
    ),
    "raw-maps": (
        {f"m{side}": np.zeros((1, 255, side, side), np.float32) for side in (8, 4, 2)},
        "raw maps of an anchor-based YOLO",
    ),
    "strides-apart": (
        {
            f"{kind}{rows}": np.full((1, rows, columns), 0.1, np.float32)
            for kind, columns in (("box", 4), ("score", 3))
            for rows in (128, 32, 8)
        },
        "of no layout that is supported",
    ),
    "segmenters": (
        {name: np.zeros((1, 21, 64, 64), np.float32) for name in ("out", "aux")},
        "maps of the whole picture",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_bare_export_is_refused_with_its_reason(kind: str, tmp_path: Path) -> None:
    """Rather than read as something else."""
    outputs, why = REFUSED[kind]
    path = graphs.constant(tmp_path / "x.onnx", outputs)
    with pytest.raises(ModelError, match=why):
        Detector(manifest(path, labels=()))


def test_labels_decide_between_heads_of_other_classes(tmp_path: Path) -> None:
    """A head that is YOLOX's with one class or YOLOv8's with two asks for the labels alone."""
    head = np.zeros((1, 3549, 6), np.float32)
    path = graphs.constant(tmp_path / "x.onnx", {"output": head}, shape=(1, 3, 416, 416))
    with pytest.raises(ModelError, match=r"yolox with 1 labels; write into model\.toml: labels = "):
        Detector(manifest(path, labels=()))
    assert Detector(manifest(path, labels=("text",))).layout == "yolox"


def test_one_grey_channel_of_open_width_is_no_picture(tmp_path: Path) -> None:
    """Networks that read text take it; colours are not meant by what is left open."""
    path = graphs.constant(tmp_path / "x.onnx", heads.yolov8(), shape=(1, 1, 64, "width"))
    with pytest.raises(ModelError, match="none is a picture in colour"):
        Detector(manifest(path))
