"""How well detectors find what is in labelled pictures: through our path, and without it.

    python -m benchmarks.pictures --json

Here: mean average precision of the assets' COCO detectors, ours beside the same network run by the
reference below. The reference shares nothing with `edge/`: its own resizing, decoding and
suppression, as the networks' authors publish them. The metric is pycocotools', and is proven
against a published result first. Not here: tracks and rules (accuracy), speed (detect).
"""

import argparse
import contextlib
import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime as ort  # type: ignore[import-untyped]
from pycocotools.coco import COCO  # type: ignore[import-untyped]
from pycocotools.cocoeval import COCOeval  # type: ignore[import-untyped]

from edge.video.decode import Frame, frames, starting_at
from edge.video.source import Packet
from edge.vision.detect import Detections, Detector, fitted
from edge.vision.manifest import bare

FLOOR = 0.01
"""Score down to which detections count: average precision looks at weak ones too."""
OVERLAP = 0.45
ORACLE_AP = 0.503647
DETECTORS = ("yolox_nano", "deimv2_atto_coco", "picodet_s_320_coco")

Picture = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Row = tuple[str, float, tuple[float, float, float, float]]
"""Label, score, box as x, y, width, height in pixels."""
Rows = Sequence[Row]
Finder = Callable[[Path], Rows]


@dataclass(frozen=True, slots=True)
class Labelled:
    """Pictures and the truth about them, from one file of the assets."""

    folder: Path
    truth: COCO

    def files(self) -> Iterator[tuple[int, Path]]:
        """Each picture's number and file."""
        for entry in self.truth.loadImgs(sorted(self.truth.getImgIds())):
            yield entry["id"], self.folder / entry["file_name"]


def measured(assets: Path) -> dict[str, Any]:
    """AP and AP50 of each detector on the assets' photographs, ours and the reference's.

    `map_diff` is of the same pixels; `frame_diff` of frames as a stream has them, which FFmpeg
    resizes: 0.2 of 255 grey levels apart from OpenCV's, and on 38 pictures even that is seen.
    """
    names = coco_names(assets)
    sets = [_labelled(assets, part) for part in ("train2017", "val2017")]
    detectors: dict[str, dict[str, float]] = {}
    for name in DETECTORS:
        path = assets / "models" / f"{name}.onnx"
        ours, theirs = _score(sets, stills(path)), _score(sets, reference(name, path, names))
        frames_ = _score(sets, streamed(path))
        detectors[name] = {
            "ap": ours[0],
            "ap50": ours[1],
            "reference_ap": theirs[0],
            "reference_ap50": theirs[1],
            "map_diff": _difference(ours, theirs),
            "frame_ap": frames_[0],
            "frame_ap50": frames_[1],
            "frame_diff": _difference(frames_, theirs),
        }
    oracle = oracle_ap(assets)
    return {
        "pictures": sum(len(each.truth.getImgIds()) for each in sets),
        "boxes": sum(len(each.truth.getAnnIds()) for each in sets),
        "oracle_ap": oracle,
        "oracle_expected": ORACLE_AP,
        "detectors": detectors,
        "map_diff_max": max(each["map_diff"] for each in detectors.values()),
        "frame_diff_max": max(each["frame_diff"] for each in detectors.values()),
    }


def _difference(one: Sequence[float], other: Sequence[float]) -> float:
    return round(max(abs(a - b) for a, b in zip(one, other, strict=True)), 4)


def oracle_ap(assets: Path) -> float:
    """The metric on detections whose average precision is published."""
    folder = assets / "eval" / "coco_metrics_reference"
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(folder / "sampled_gts_bbox_area.json"))
        found = truth.loadRes(str(folder / "cocoapi_results.json"))
    return round(_evaluated(truth, found)[0], 6)


# --- our path ---


def stills(model: Path) -> Finder:
    """The way of a still picture: read as the reference reads it, so that pixels are the same."""
    detector = Detector(bare(model), floor=FLOOR)

    def find(file: Path) -> Sequence[Row]:
        picture = _read(file)
        size = picture.shape[1], picture.shape[0]
        image = fitted(picture, detector.pixels, detector.input_size)
        return _rows(detector.detect([image], [size])[0], size)

    return find


def streamed(model: Path) -> Finder:
    """The way of a stream's frame in a shard: FFmpeg decodes and resizes it."""
    detector = Detector(bare(model), floor=FLOOR)

    def find(file: Path) -> Sequence[Row]:
        frame = _frame(file)
        return _rows(detector.detect_frame(frame), frame.size)

    return find


def _rows(seen: Detections, size: tuple[int, int]) -> Sequence[Row]:
    scale = np.array(size * 2, np.float64)
    return [
        (label, float(score), (x1, y1, x2 - x1, y2 - y1))
        for label, score, (x1, y1, x2, y2) in zip(
            seen.labels, seen.scores, (seen.boxes * scale).tolist(), strict=True
        )
    ]


def _frame(file: Path) -> Frame:
    with av.open(str(file)) as container:
        track = container.streams.video[0]
        whole = [
            Packet(data, 0.0, True, data.size, 25.0) for data in container.demux(track) if data.size
        ]
        return next(frames([*whole, Packet(None, 1.0, False, 0)], anchor=starting_at(0)))


# --- the reference: each network as its authors run it, in a few lines ---


def reference(name: str, model: Path, names: Sequence[str]) -> Finder:
    """A network without any of our code."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    run = {"yolox_nano": _yolox, "deimv2_atto_coco": _deim, "picodet_s_320_coco": _picodet}[name]

    def find(file: Path) -> Sequence[Row]:
        boxes, scores, classes = run(session, _read(file))
        return [
            (names[number], float(score), (float(x1), float(y1), float(x2 - x1), float(y2 - y1)))
            for (x1, y1, x2, y2), score, number in zip(boxes, scores, classes, strict=True)
            if score >= FLOOR
        ]

    return find


Boxes = tuple[Floats, Floats, npt.NDArray[np.int64]]


def _yolox(session: Any, picture: Picture) -> Boxes:
    ratio = min(416 / picture.shape[0], 416 / picture.shape[1])
    padded = np.full((416, 416, 3), 114, np.float32)
    small = _resized(picture, round(picture.shape[1] * ratio), round(picture.shape[0] * ratio))
    padded[: small.shape[0], : small.shape[1]] = small
    [[rows]] = session.run(None, {"images": padded.transpose(2, 0, 1)[None]})
    first = 0
    for stride in (8, 16, 32):
        side = 416 // stride
        for row in range(side):
            for column in range(side):
                at = rows[first + row * side + column]
                at[0], at[1] = (at[0] + column) * stride, (at[1] + row) * stride
                at[2], at[3] = np.exp(at[2]) * stride, np.exp(at[3]) * stride
        first += side * side
    boxes = np.stack(
        (
            rows[:, 0] - rows[:, 2] / 2,
            rows[:, 1] - rows[:, 3] / 2,
            rows[:, 0] + rows[:, 2] / 2,
            rows[:, 1] + rows[:, 3] / 2,
        ),
        axis=1,
    )
    scores = rows[:, 5:] * rows[:, 4:5]
    return _suppressed(boxes / ratio, scores.max(axis=1), scores.argmax(axis=1))


def _deim(session: Any, picture: Picture) -> Boxes:
    small = _resized(picture, 320, 320)[:, :, ::-1] / np.float32(255)
    sizes = np.array([[picture.shape[1], picture.shape[0]]], np.int64)
    feeds = {"images": small.transpose(2, 0, 1)[None], "orig_target_sizes": sizes}
    [classes], [boxes], [scores] = session.run(None, feeds)
    return boxes, scores, classes


def _picodet(session: Any, picture: Picture) -> Boxes:
    small = _resized(picture, 320, 320)[:, :, ::-1].astype(np.float32) / 255
    small = (small - np.array([0.485, 0.456, 0.406], np.float32)) / np.array(
        [0.229, 0.224, 0.225], np.float32
    )
    maps = session.run(None, {"image": small.transpose(2, 0, 1)[None].astype(np.float32)})
    boxes, scores = [], []
    for level, stride in enumerate((8, 16, 32, 64)):
        side = 320 // stride
        for cell in range(side * side):
            bins = maps[level + 4][0, cell].reshape(4, 8)
            bins = np.exp(bins - bins.max(axis=1, keepdims=True))
            reach = (bins / bins.sum(axis=1, keepdims=True)) @ np.arange(8) * stride
            x, y = (cell % side + 0.5) * stride, (cell // side + 0.5) * stride
            boxes.append((x - reach[0], y - reach[1], x + reach[2], y + reach[3]))
            scores.append(maps[level][0, cell])
    whole, judged = np.array(boxes, np.float32), np.array(scores, np.float32)
    whole *= np.array([picture.shape[1] / 320, picture.shape[0] / 320] * 2, np.float32)
    return _suppressed(whole, judged.max(axis=1), judged.argmax(axis=1))


def _read(file: Path) -> Picture:
    picture = cv2.imread(str(file))
    assert picture is not None, file
    return picture.astype(np.uint8, copy=False)


def _resized(picture: Picture, width: int, height: int) -> Picture:
    """By area, or linearly where it grows. The authors do both linearly: AP50 changes by 0.01."""
    grows = width >= picture.shape[1]
    how = cv2.INTER_LINEAR if grows else cv2.INTER_AREA
    return cv2.resize(picture, (width, height), interpolation=how).astype(np.uint8, copy=False)


def _suppressed(boxes: Floats, scores: Floats, classes: npt.NDArray[np.int64]) -> Boxes:
    """The plain greedy way, class by class."""
    kept: list[int] = []
    for best in np.argsort(-scores, kind="stable"):
        if scores[best] < FLOOR:
            break
        if all(classes[k] != classes[best] or _iou(boxes[k], boxes[best]) <= OVERLAP for k in kept):
            kept.append(int(best))
    return boxes[kept], scores[kept], classes[kept]


def _iou(one: Floats, other: Floats) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return float(width * height / (sum(areas) - width * height))


# --- the metric ---


def _labelled(assets: Path, part: str) -> Labelled:
    folder = assets / "eval" / "coco_cc_by"
    with contextlib.redirect_stdout(io.StringIO()):
        return Labelled(folder / part, COCO(str(folder / f"instances_{part}_subset.json")))


def _score(sets: Sequence[Labelled], find: Finder) -> tuple[float, float]:
    """AP and AP50 over all pictures together."""
    numbers = {c["name"]: c["id"] for c in sets[0].truth.loadCats(sets[0].truth.getCatIds())}
    whole: dict[str, list[Any]] = {"images": [], "annotations": [], "categories": []}
    results: list[dict[str, Any]] = []
    for each in sets:
        whole["images"] += each.truth.dataset["images"]
        whole["annotations"] += each.truth.dataset["annotations"]
        whole["categories"] = each.truth.dataset["categories"]
        for number, file in each.files():
            results += [
                {
                    "image_id": number,
                    "category_id": numbers[label],
                    "bbox": list(box),
                    "score": score,
                }
                for label, score, box in find(file)
                if label in numbers
            ]
    whole["annotations"] = [
        {**one, "id": count} for count, one in enumerate(whole["annotations"], 1)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = whole
        truth.createIndex()
        found = truth.loadRes(results)
    ap, ap50 = _evaluated(truth, found)
    return round(ap, 4), round(ap50, 4)


def _evaluated(truth: COCO, found: COCO) -> tuple[float, float]:
    with contextlib.redirect_stdout(io.StringIO()):
        judged = COCOeval(truth, found, "bbox")
        judged.evaluate()
        judged.accumulate()
        judged.summarize()
    return float(judged.stats[0]), float(judged.stats[1])


def coco_names(assets: Path) -> tuple[str, ...]:
    """The eighty names, as the truth's own file numbers them."""
    file = assets / "eval" / "coco_cc_by" / "instances_val2017_subset.json"
    categories = json.loads(file.read_text())["categories"]
    return tuple(each["name"] for each in sorted(categories, key=lambda each: int(each["id"])))


def main() -> None:
    """Measure, and tell."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    default = Path(os.environ.get("FORECOURT_ASSETS", "../shared/assets"))
    parser.add_argument("--assets", type=Path, default=default)
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    asked = parser.parse_args()
    result = measured(asked.assets)
    shown = json.dumps(result) if asked.json else json.dumps(result, indent=2)
    sys.stdout.write(shown + "\n")


if __name__ == "__main__":
    main()
