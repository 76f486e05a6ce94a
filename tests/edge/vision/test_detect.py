"""Detections: the real network on real pictures, and files that are no network."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt
import pytest

from edge.vision.detect import SCORE_FLOOR, Detections, Detector, fitted
from edge.vision.manifest import Manifest, ModelError, bare, read
from tests.parts import graphs, heads
from tests.parts.clips import asset
from wire.manifest import Input


@pytest.fixture(scope="module")
def detector() -> Detector:
    """The real network."""
    return Detector(bare(asset("models/yolox_nano.onnx")))


def picture_at(path: Path) -> npt.NDArray[np.uint8]:
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
        picture = picture_at(asset("eval/coco_cc_by/val2017") / entry["file_name"])
        height, width = picture.shape[:2]
        [seen] = detector.detect(
            [fitted(picture, detector.pixels, detector.input_size)], [(width, height)]
        )
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
    picture = picture_at(sorted(asset("eval/coco_cc_by/val2017").glob("*.jpg"))[0])
    [seen] = detector.detect(
        [fitted(picture, detector.pixels, detector.input_size)],
        [(picture.shape[1], picture.shape[0])],
    )
    assert len(seen) == len(seen.boxes) == len(seen.scores) > 0
    assert seen.boxes.dtype == seen.scores.dtype == np.float32
    assert (seen.boxes >= 0).all()
    assert (seen.boxes <= 1).all()
    assert (seen.boxes[:, 2:] >= seen.boxes[:, :2]).all()
    assert (seen.scores >= SCORE_FLOOR).all()
    assert list(seen.scores) == sorted(seen.scores, reverse=True)


def test_pictures_of_one_call_do_not_mix(detector: Detector) -> None:
    """Each picture gets its own detections, in order; a grey one gets none."""
    pictures = [
        picture_at(path) for path in sorted(asset("eval/coco_cc_by/val2017").glob("*.jpg"))[:2]
    ]
    images = [fitted(picture, detector.pixels, detector.input_size) for picture in pictures]
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


def test_what_is_no_network_is_refused(tmp_path: Path) -> None:
    """A file that cannot be loaded is an error that names it."""
    file = tmp_path / "broken.onnx"
    file.write_bytes(b"onnx?" * 100)
    with pytest.raises(ModelError, match=r"model broken: .*broken\.onnx is no ONNX network"):
        Detector(bare(file))
    with pytest.raises(ModelError, match="cannot be read"):
        Detector(bare(tmp_path / "absent.onnx"))


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"layout": "yolov99"}, "layout 'yolov99' is unknown; known: auto, yolox"),
        ({"labels": ("person",)}, "look like the layout yolox with 80 labels, but 1 are known"),
        ({"layout": "ssd"}, "do not fit the layout ssd"),
        ({"input": Input(width=320, height=320)}, "its graph wants width 416"),
        ({"input": Input(name="pixels")}, "no input 'pixels', only images"),
    ],
    ids=["layout", "labels", "other", "size", "input"],
)
def test_a_manifest_that_does_not_fit_is_refused(changed: dict[str, object], why: str) -> None:
    """The error says what the graph has and what the manifest says."""
    manifest = bare(asset("models/yolox_nano.onnx"))
    with pytest.raises(ModelError, match=why):
        Detector(Manifest(**(dict(manifest) | changed)))


PUBLIC: dict[str, tuple[str, dict[str, str]]] = {
    "yolox_nano": ("yolox", {}),
    "deimv2_atto_coco": ("labelled-boxes", {}),
    "picodet_s_320_coco": ("picodet", {}),
}
"""Detectors of the assets that need no model.toml."""


def pictures(video: str, *, keys: bool = True) -> Iterator[npt.NDArray[np.uint8]]:
    """The key frames of a real recording, or every sixth picture."""
    with av.open(str(asset(f"videos/{video}"))) as container:
        if keys:
            container.streams.video[0].codec_context.skip_frame = "NONKEY"
        for number, frame in enumerate(container.decode(video=0)):
            if keys or number % 6 == 0:
                yield np.asarray(frame.to_ndarray(format="bgr24"), np.uint8)


def seen_in(detector: Detector, picture: npt.NDArray[np.uint8]) -> Detections:
    image = fitted(picture, detector.pixels, detector.input_size)
    [seen] = detector.detect([image], [(picture.shape[1], picture.shape[0])])
    return seen


@pytest.mark.parametrize("name", PUBLIC)
def test_public_detectors_need_no_manifest(name: str) -> None:
    """Recognised by their graphs, they find cars and people in real recordings."""
    detector = Detector(bare(asset(f"models/{name}.onnx")))
    assert detector.layout == PUBLIC[name][0]
    for video, label in (("traffic_camera.mp4", "car"), ("Retail02_short.mp4", "person")):
        found: Counter[str] = Counter()
        for picture in pictures(video):
            seen = seen_in(detector, picture)
            found.update(
                name for name, score in zip(seen.labels, seen.scores, strict=True) if score > 0.4
            )
        assert found[label] >= 5, (video, found)
        assert found.most_common(1)[0][0] == label, (video, found)


def with_manifest(folder: Path, name: str, lines: str) -> Detector:
    """A network of the assets with a model.toml of a few lines beside it."""
    (folder / "net.onnx").symlink_to(asset(f"models/{name}.onnx"))
    (folder / "model.toml").write_text(f'name = "net"\nfile = "net.onnx"\n{lines}\n')
    return Detector(read(folder / "model.toml"))


def test_a_face_detector_needs_one_line(tmp_path: Path) -> None:
    """With its label it finds the man at the door, about where his head is."""
    detector = with_manifest(tmp_path, "ultraface_rfb_320", 'labels = ["face"]')
    assert detector.layout == "ssd"
    people = Detector(bare(asset("models/yolox_nano.onnx")))
    within = 0
    for picture in pictures("test2-cam-person1.mkv", keys=False):
        faces, bodies = seen_in(detector, picture), seen_in(people, picture)
        if not len(faces) or faces.scores[0] < 0.7:
            continue
        x, y = (faces.boxes[0, :2] + faces.boxes[0, 2:]) / 2
        bodies_here = [b for b, n in zip(bodies.boxes, bodies.labels, strict=True) if n == "person"]
        within += any(b[0] < x < b[2] and b[1] < y < (b[1] + b[3]) / 2 for b in bodies_here)
    assert within >= 3


def test_a_plate_detector_needs_its_labels(tmp_path: Path) -> None:
    """And finds the one plate in each of two photographs."""
    lines = 'labels = ["single", "double"]\n[input]\nresize = "letterbox"\npad = 0'
    detector = with_manifest(tmp_path, "hyperlpr_plate_320", lines)
    assert detector.layout == "yolov5-face"
    truth = {"2.jpg": [0.19, 0.35, 0.49, 0.72], "test_img.jpg": [0.913, 0.694, 0.977, 0.787]}
    for name, box in truth.items():
        seen = seen_in(detector, picture_at(asset("eval/plates_hyperlpr") / name))
        strong = seen.boxes[seen.scores > 0.4]
        assert seen.labels[0] == "single"
        assert len(strong) == 1
        assert overlap(strong[0], box) > 0.7


# --- what the input may be ---

COLOURS = (50.0, 100.0, 200.0)
"""Blue, green, red."""


def told_pixels(path: Path, side: tuple[int, int] = (64, 64), **wants: Any) -> list[float]:
    """The means of what an echo's three channels were shown, for a picture of one colour."""
    manifest = Manifest(name="echo", path=path, labels=("a", "b"), input=Input(**wants))
    detector = Detector(manifest)
    picture = np.empty((side[1], side[0], 3), np.uint8)
    picture[:] = COLOURS
    box = seen_in(detector, picture).boxes[0] * 64
    return [float(value) for value in box[:3] - np.array([10, 20, 30])]


ECHOED: dict[str, tuple[dict[str, Any], dict[str, Any], list[float]]] = {
    "usual": ({}, {}, [200 / 255, 100 / 255, 50 / 255]),
    "bgr": ({}, {"color": "BGR"}, [50 / 255, 100 / 255, 200 / 255]),
    "plain": ({}, {"scale": 0.1}, [20, 10, 5]),
    "mean": ({}, {"mean": [100, 50, 25], "std": [10, 10, 5]}, [10, 5, 5]),
    "all": ({}, {"scale": 0.1, "mean": [10, 5, 0], "std": [2, 1, 1]}, [5, 5, 5]),
    "last": ({"shape": (1, 64, 64, 3)}, {}, [200 / 255, 100 / 255, 50 / 255]),
    "last-half": ({"shape": (1, 64, 64, 3), "dtype": np.float16}, {"scale": 0.1}, [20, 10, 5]),
    "half": ({"dtype": np.float16}, {"scale": 0.1}, [20, 10, 5]),
    "open": ({"shape": ("n", 3, "h", "w")}, {"width": 64, "height": 64, "scale": 0.1}, [20, 10, 5]),
}


@pytest.mark.parametrize("kind", ECHOED)
def test_pixels_are_given_as_wanted(kind: str, tmp_path: Path) -> None:
    """Colours, scale, mean and deviation, axes and types."""
    graph, wants, expected = ECHOED[kind]
    path = graphs.echo(tmp_path / "echo.onnx", **graph)
    assert told_pixels(path, **wants) == pytest.approx(expected, abs=0.05)


def test_bytes_are_given_as_they_are(tmp_path: Path) -> None:
    """A graph that takes bytes holds the conversion itself."""
    path = graphs.echo(tmp_path / "echo.onnx", dtype=np.uint8, divide=10)
    assert told_pixels(path) == pytest.approx([20, 10, 5], abs=0.05)


@pytest.mark.parametrize(
    ("resize", "share"),
    [("letterbox", 0.5), ("letterbox-centred", 0.5), ("stretch", 1.0)],
)
def test_a_picture_lies_in_the_input_as_wanted(resize: str, share: float, tmp_path: Path) -> None:
    """Boxes are told of the picture, wherever it lies within the input."""
    path = graphs.constant(tmp_path / "small.onnx", heads.yolov8())
    manifest = Manifest(
        name="small", path=path, labels=heads.LABELS, input=Input.model_validate({"resize": resize})
    )
    seen = seen_in(Detector(manifest), np.zeros((32, 64, 3), np.uint8))
    top = 16 if resize == "letterbox-centred" else 0
    x1, y1, x2, y2 = (side / 64 for side in heads.BOX)
    y1, y2 = ((max(0.0, y - top / 64)) / share for y in (y1, y2))
    assert seen.boxes[0].tolist() == pytest.approx([x1, y1, x2, min(1.0, y2)], abs=1e-3)


def test_open_sizes_are_tried_until_one_runs(tmp_path: Path) -> None:
    """A graph that declares any size and takes one gets that one."""
    path = graphs.only_at(tmp_path / "picky.onnx", 416)
    detector = Detector(Manifest(name="picky", path=path, labels=("a", "b")))
    assert detector.input_size == (416, 416)


def test_a_size_that_does_not_run_is_refused(tmp_path: Path) -> None:
    """The error tells what was tried and what to write."""
    path = graphs.only_at(tmp_path / "picky.onnx", 416)
    wants = Input(width=320, height=320)
    with pytest.raises(ModelError, match=r"fails on a grey picture, 320x320: .*say input\.width"):
        Detector(Manifest(name="picky", path=path, labels=("a", "b"), input=wants))


def test_a_batch_that_is_none_is_taken_apart(tmp_path: Path) -> None:
    """A graph that declares any number of pictures and loses the axis gets one at a time."""
    path = graphs.constant(
        tmp_path / "x.onnx", heads.labels_boxes_scores_without_batch(), shape=("n", 3, 64, 64)
    )
    detector = Detector(Manifest(name="x", path=path, labels=heads.LABELS))
    grey = np.full((64, 64, 3), 114, np.uint8)
    for _ in range(2):
        seen = detector.detect([grey] * 3, [(64, 64)] * 3)
        assert [each.labels for each in seen] == [("car",)] * 3


def test_a_network_in_dynamic_eight_bits_is_run(tmp_path: Path) -> None:
    """A DETR of which the weights are bytes is fed and read as before."""
    path = graphs.quantised(asset("models/deimv2_atto_coco.onnx"), tmp_path / "int8.onnx")
    picture = next(pictures("Traffic.mp4"))
    assert "car" in seen_in(Detector(bare(path)), picture).labels[:5]


def test_a_network_in_static_eight_bits_is_run(tmp_path: Path) -> None:
    """So is one whose numbers are bytes all the way (QDQ)."""
    wanted = with_manifest(tmp_path, "ultraface_rfb_320", 'labels = ["face"]')
    picture = picture_at(asset("eval/plates_hyperlpr/2.jpg"))
    image = fitted(picture, wanted.pixels, wanted.input_size).transpose(2, 0, 1)[None]
    shown = ((image.astype(np.float32) - 127) / 128).astype(np.float32)
    path = graphs.quantised(wanted.manifest.path, tmp_path / "int8.onnx", [shown])
    detector = Detector(Manifest(name="int8", path=path, labels=("face",)))
    assert detector.layout == "ssd"
    assert seen_in(detector, picture).labels == seen_in(wanted, picture).labels


def test_what_is_not_installed_is_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    """The best provider that there is runs the network; the others are a warning."""
    detector = Detector(
        bare(asset("models/yolox_nano.onnx")), inference=("tensorrt", "cuda", "cpu")
    )
    assert detector.provider == "cpu"
    assert "not installed here, so not used for inference: tensorrt, cuda" in caplog.text
