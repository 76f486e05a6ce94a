"""Detections: the real network on real pictures, and files that are no network."""

import json
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from edge.vision.detect import SCORE_FLOOR, Detections, Detector, decode_yolox
from edge.vision.manifest import Manifest, ModelError, bare
from tests.parts.clips import asset
from wire.manifest import Input


@pytest.fixture(scope="module")
def detector() -> Detector:
    """The real network."""
    return Detector(bare(asset("models/yolox_nano.onnx")))


def letterboxed(picture: npt.NDArray[np.uint8], size: int = 416) -> npt.NDArray[np.uint8]:
    height, width = picture.shape[:2]
    ratio = min(size / width, size / height)
    scaled = cv2.resize(picture, (round(width * ratio), round(height * ratio)))
    image = np.full((size, size, 3), 114, np.uint8)
    image[: scaled.shape[0], : scaled.shape[1]] = scaled
    return image


def read(path: Path) -> npt.NDArray[np.uint8]:
    picture = cv2.imread(str(path))
    assert picture is not None
    return picture.astype(np.uint8)


def overlap(a: npt.NDArray[np.floating], b: list[float]) -> float:
    shared = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(
        0.0, min(a[3], b[3]) - max(a[1], b[1])
    )
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return float(shared / (areas - shared))


def test_finds_the_large_objects_of_real_pictures(detector: Detector) -> None:
    """Of the large labelled objects of 17 photographs at least 70 % are found where they are."""
    truth = json.loads(asset("eval/coco_cc_by/instances_val2017_subset.json").read_text())
    names = {category["id"]: category["name"] for category in truth["categories"]}
    found = wanted = 0
    for entry in truth["images"]:
        picture = read(asset("eval/coco_cc_by/val2017") / entry["file_name"])
        height, width = picture.shape[:2]
        [seen] = detector.detect([letterboxed(picture)], [(width, height)])
        for label in truth["annotations"]:
            x, y, w, h = label["bbox"]
            if label["image_id"] != entry["id"] or w * h < 0.05 * width * height:
                continue
            wanted += 1
            box = [x / width, y / height, (x + w) / width, (y + h) / height]
            found += any(
                name == names[label["category_id"]] and score >= 0.35 and overlap(at, box) > 0.5
                for name, score, at in zip(seen.labels, seen.scores, seen.boxes, strict=True)
            )
    assert wanted > 20
    assert found / wanted >= 0.7


def test_detections_are_within_their_bounds(detector: Detector) -> None:
    """Boxes lie within the picture, scores above the floor, the best first."""
    picture = read(sorted(asset("eval/coco_cc_by/val2017").glob("*.jpg"))[0])
    [seen] = detector.detect([letterboxed(picture)], [(picture.shape[1], picture.shape[0])])
    assert len(seen) == len(seen.boxes) == len(seen.scores) > 0
    assert seen.boxes.dtype == seen.scores.dtype == np.float32
    assert (seen.boxes >= 0).all()
    assert (seen.boxes <= 1).all()
    assert (seen.boxes[:, 2:] >= seen.boxes[:, :2]).all()
    assert (seen.scores >= SCORE_FLOOR).all()
    assert list(seen.scores) == sorted(seen.scores, reverse=True)


def test_pictures_of_one_call_do_not_mix(detector: Detector) -> None:
    """Each picture gets its own detections, in order; a grey one gets none."""
    pictures = [read(path) for path in sorted(asset("eval/coco_cc_by/val2017").glob("*.jpg"))[:2]]
    images = [letterboxed(picture) for picture in pictures]
    grey = np.full((416, 416, 3), 114, np.uint8)
    shapes = [(picture.shape[1], picture.shape[0]) for picture in pictures]
    together = detector.detect([images[0], grey, images[1]], [shapes[0], (64, 64), shapes[1]])
    assert len(together[1]) == 0
    for alone, seen in zip(images, (together[0], together[2]), strict=True):
        [expected] = detector.detect([alone], [shapes[0 if alone is images[0] else 1]])
        assert_same(seen, expected)


def assert_same(one: Detections, other: Detections) -> None:
    assert one.labels == other.labels
    assert np.array_equal(one.boxes, other.boxes)
    assert np.array_equal(one.scores, other.scores)


def test_yolox_heads_are_decoded_by_cell_and_stride() -> None:
    """A cell's offset and extent are in units of its stride, counted from the cell's corner."""
    head = np.zeros((1, 64 + 16 + 4, 7), np.float32)
    # Second row, third column of the coarsest but one level: cell (2, 1) at stride 16.
    head[0, 64 + 1 * 4 + 2] = [0.5, 0.5, np.log(2), np.log(1), 0.9, 0.1, 0.8]
    raw = decode_yolox([head], 0, (64, 64), 2)
    assert raw.boxes.round(3).tolist() == [[24.0, 16.0, 56.0, 32.0]]
    assert raw.scores.tolist() == pytest.approx([0.72])
    assert raw.classes.tolist() == [1]


def test_what_is_no_network_is_refused(tmp_path: Path) -> None:
    """A file that cannot be loaded is an error that names it."""
    file = tmp_path / "broken.onnx"
    file.write_bytes(b"onnx?" * 100)
    with pytest.raises(ModelError, match=r"model broken: .*broken\.onnx is no ONNX network"):
        Detector(bare(file))
    with pytest.raises(ModelError, match="cannot be read"):
        Detector(bare(tmp_path / "absent.onnx"))


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("picodet_s_320_coco", r"its output has the shape \[1, 1600, 80\]"),
        ("ultraface_rfb_320", "its output has the shape"),
        ("hyperlpr_plate_320", r"gives \[1, 2100, 85\]"),
        ("deimv2_atto_coco", "fails on a grey picture"),
    ],
)
def test_a_network_of_another_layout_is_refused(name: str, why: str) -> None:
    """Real networks that are no YOLOX are not put to work on wrong assumptions."""
    with pytest.raises(ModelError, match=why):
        Detector(bare(asset(f"models/{name}.onnx")))


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"layout": "yolov99"}, "layout 'yolov99' is unknown; known: yolox"),
        ({"labels": ("person",)}, "layout yolox with 1 labels"),
        ({"input": Input(width=320, height=320)}, "its graph wants width 416"),
        ({"input": Input(name="pixels")}, "no input 'pixels', only images"),
    ],
    ids=["layout", "labels", "size", "input"],
)
def test_a_manifest_that_does_not_fit_is_refused(changed: dict[str, object], why: str) -> None:
    """The error says what the graph has and what the manifest says."""
    manifest = bare(asset("models/yolox_nano.onnx"))
    with pytest.raises(ModelError, match=why):
        Detector(Manifest(**(dict(manifest) | changed)))
