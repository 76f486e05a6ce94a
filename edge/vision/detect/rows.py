"""Graphs that end in a list of found objects: suppression, or a network that needs none, is inside.

One table of rows (YOLOv10, exports with suppression), or boxes, scores and classes apart (RT-DETR
and DEIM with a size input, EfficientNMS, TensorFlow, MMDeploy, torchvision).
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edge.vision.detect.detections import Floats, Raw, Size
from edge.vision.detect.pixels import CAFFE, IMAGENET, PLAIN, UNIT, UNIT_STRETCHED, YOLOX, Pixels
from edge.vision.detect.reading import (
    Array,
    Given,
    Reading,
    Seen,
    corners,
    in_pixels,
    nothing,
    probable,
    whole,
)

MAX_ROWS = 1000
"""Of one picture; a longer table is no list of found objects."""
MAX_COLUMNS = 64

_XYXY = ("x1", "y1", "x2", "y2")
OF_SIX: tuple[str, ...] = (*_XYXY, "score", "class")
"""YOLOv10 and Ultralytics' exports."""
OF_PADDLE: tuple[str, ...] = ("class", "score", *_XYXY)
OF_SEVEN: tuple[str, ...] = ("batch", *_XYXY, "class", "score")
"""YOLOv7's export with suppression."""
OF_OPENVINO: tuple[str, ...] = ("batch", "class", "score", *_XYXY)
"""DetectionOutput of Caffe and OpenVINO: [1, 1, rows, 7], in fractions."""

OF_FLAT: tuple[str, ...] = ("batch", *_XYXY, "score", "class")
"""YOLO-NAS's export with suppression, in its `flat` form."""

_WORDS = re.compile(r"batchno|classid|score|x1y1x2y2")
WITH_MORE = ("segment", "pose")
"""Ultralytics' tasks whose rows go on after the class: with a mask's weights, or landmarks."""
_COUNT = re.compile(r"num", re.IGNORECASE)
_CLASSES = re.compile(r"class|label|cls|categor", re.IGNORECASE)
_SCORES = re.compile(r"score|conf|prob", re.IGNORECASE)
TF_BOXES = "detection_boxes"
_TENSORFLOW = (TF_BOXES, "TFLite_Detection", "StatefulPartitionedCall")
"""In names of boxes that are y, x, y, x: of its detection API, its Lite, and EfficientDet-Lite."""


@dataclass(frozen=True, slots=True)
class _Table:
    """Rows of found objects; `columns` says what stands in them."""

    at: int
    rank: int
    """Of the output: 2, 3, or 4 with one axis of one; with a `batch` column all pictures' rows."""
    size: Size
    columns: tuple[str, ...]
    form: str
    unit: str | None
    first_class: int
    count_at: int | None
    """An output with the number of rows of each picture."""

    def __call__(self, outputs: Sequence[Array], index: int, floor: float) -> Raw:
        table = self._of(outputs, index)
        column = self.columns.index
        scores = table[:, column("score")]
        keep = np.flatnonzero(scores >= floor)
        boxes = table[keep][:, [column(name) for name in _XYXY]]
        classes = table[keep, column("class")].round().astype(np.int32) - self.first_class
        return Raw(
            in_pixels(corners(boxes, self.form), self.size, self.unit), scores[keep], classes
        )

    def _of(self, outputs: Sequence[Array], index: int) -> Floats:
        if "batch" in self.columns:
            table = outputs[self.at].reshape(-1, outputs[self.at].shape[-1]).astype(np.float32)
            mine: Floats = table[table[:, self.columns.index("batch")].round() == index]
            return mine
        if self.rank != 2:
            return whole(outputs, self.at, index, self.rank).reshape(-1, len(self.columns))
        table = outputs[self.at].astype(np.float32)
        if self.count_at is None:
            return table
        counts = outputs[self.count_at].reshape(-1).astype(np.int64)
        first = int(counts[:index].sum())
        return table[first : first + int(counts[index])]


@dataclass(frozen=True, slots=True)
class _Apart:
    """Boxes, scores and classes of found objects in outputs of their own."""

    boxes_at: int
    scores_at: int | None
    """None: the fifth column of the boxes."""
    classes_at: int
    count_at: int | None
    size: Size
    form: str
    unit: str | None
    first_class: int

    def __call__(self, outputs: Sequence[Array], index: int, floor: float) -> Raw:
        boxes = whole(outputs, self.boxes_at, index, 3)
        classes = whole(outputs, self.classes_at, index, 2)
        at = self.scores_at
        scores = boxes[:, 4] if at is None else whole(outputs, at, index, 2)
        if self.count_at is not None:
            counts = outputs[self.count_at].reshape(-1)
            boxes, scores, classes = (
                each[: int(counts[index])] for each in (boxes, scores, classes)
            )
        keep = np.flatnonzero(scores >= floor)
        if not len(keep):
            return nothing()
        found = in_pixels(corners(boxes[keep], self.form), self.size, self.unit)
        numbers = classes[keep].round().astype(np.int32) - self.first_class
        return Raw(found, scores[keep].astype(np.float32), numbers)


def rows(seen: Seen) -> Iterator[Reading]:
    """[pictures, rows, 6]: x1, y1, x2, y2, score, class; or all pictures' rows, with its number."""
    counts = [given for given in seen.outputs if _is_count(given)]
    if not counts and len(seen.outputs) == 2:  # Paddle's names say nothing
        numbers = [given for given in seen.outputs if given.value.dtype.kind in "iu"]
        counts = [given for given in numbers if given.value.size == 1]
    masks = seen.task == "segment"
    tables = [g for g in seen.outputs if g not in counts and not (masks and g.value.ndim == 4)]
    for given in tables:
        columns = seen.output.columns or _columns(given, bool(counts), seen.task)
        wide = given.value.ndim >= 2 and given.value.dtype.kind == "f"
        if columns is None or not wide or len(columns) != given.shape[-1]:
            continue
        if set(columns) < {*_XYXY, "score", "class"} or given.shape[-2] > MAX_ROWS:
            continue
        if len(tables) > 1 and not seen.told and seen.output.columns is None:
            continue
        read = _Table(
            given.at,
            given.value.ndim,
            seen.size,
            columns,
            seen.output.boxes or "xyxy",
            seen.output.unit or ("fractions" if given.value.ndim == 4 else None),
            seen.output.first_class or 0,
            counts[0].at if counts else None,
        )
        unnamed = columns == OF_OPENVINO
        yield Reading("rows", None, read, _usual(columns), overlaps=False, unnamed=unnamed)


def _usual(columns: Sequence[str]) -> Pixels:
    if columns == OF_PADDLE:
        return IMAGENET
    if columns == OF_OPENVINO:
        return Pixels("BGR", resize="stretch")
    return YOLOX if columns[:2] == ("batch", "class") else UNIT


def _columns(given: Given, counted: bool, task: str) -> tuple[str, ...] | None:
    """What stands in a table's rows, by its name and its shape."""
    words = _WORDS.findall(given.name)  # as batchno_classid_score_x1y1x2y2
    if given.value.ndim >= 2 and {"classid", "score", "x1y1x2y2"} <= set(words):
        said: list[str] = []
        for word in words:
            short = {"batchno": "batch", "classid": "class", "x1y1x2y2": ""}.get(word, word)
            said += [short] if short else list(_XYXY)
        return tuple(said + ["-"] * (given.shape[-1] - len(said)))
    match given.value.ndim, given.shape[-1]:
        case 2, 6:
            return OF_PADDLE if counted else OF_SIX
        case 3, 6:
            return OF_SIX
        case 3, wide if task in WITH_MORE and _goes_on(given.value):
            return (*OF_SIX, *"-" * (wide - len(OF_SIX)))
        case 2, 7:
            return OF_FLAT if "flat_predictions" in given.name else OF_SEVEN
        case 4, 7 if given.shape[:2] == (1, 1):
            return OF_OPENVINO
    return None


def _goes_on(table: Array) -> bool:
    """Whether its rows are x1, y1, x2, y2, score, class, and more: few, all classes whole."""
    _, count, columns = table.shape
    if count > MAX_ROWS or not len(OF_SIX) < columns <= MAX_COLUMNS:
        return False
    return probable(table[..., 4]) and bool((table[..., 5] % 1 == 0).all())


def labelled_boxes(seen: Seen) -> Iterator[Reading]:
    """[pictures, rows, 4] boxes, [pictures, rows] scores and classes, perhaps a count of rows."""
    usable = [g for g in seen.outputs if not g.name.startswith("raw_")]
    tables = [g for g in usable if g.value.ndim in (2, 3) and g.shape[-1] in (4, 5)]
    named = [g for g in tables if "box" in g.name.lower() or "dets" in g.name.lower()]
    for boxes in named or tables:
        flat = [
            g
            for g in usable
            if g.value.ndim == boxes.value.ndim - 1
            and g.shape[-1] == boxes.shape[-2]
            and not _is_count(g)
        ]
        classes, scores = _told_apart(flat, boxes.shape[-1] == 5)
        if classes is None or (scores is None and boxes.shape[-1] != 5):
            continue
        tensorflow = any(name in boxes.name for name in _TENSORFLOW)
        counts = [g for g in usable if _is_count(g) and g not in (boxes, classes, scores)]
        lists = [g for g in seen.outputs if g.value.ndim == 1]  # Detectron2 has one more
        like_torchvision = boxes.at == 0 and boxes.value.ndim == 2 and len(lists) == len(flat) == 2
        open_ = like_torchvision and scores is not None and seen.output.first_class is None
        one = TF_BOXES in boxes.name and seen.output.first_class is None
        one = one or (open_ and seen.labels is None)
        read = _Apart(
            boxes.at,
            None if scores is None else scores.at,
            classes.at,
            counts[0].at if counts else None,
            seen.size,
            seen.output.boxes or ("yxyx" if tensorflow else "xyxy"),
            seen.output.unit,
            1 if one else seen.output.first_class or 0,
        )
        usual = UNIT
        if seen.sized:
            usual = UNIT_STRETCHED
        elif scores is None:
            usual = Pixels(CAFFE.color, CAFFE.scale, CAFFE.mean, CAFFE.std)
        elif tensorflow or seen.bytes:
            usual = PLAIN
        yield Reading(
            "labelled-boxes",
            None,
            read,
            usual,
            overlaps=False,
            numbered=tensorflow or one,
            first_open=open_,
        )


def _is_count(given: Given) -> bool:
    """Whether it says for each picture how many rows there are."""
    small = given.value.size == (given.shape[0] if given.value.ndim else 1)
    return small and given.value.ndim <= 2 and bool(_COUNT.search(given.name))


def _told_apart(flat: Sequence[Given], with_scores: bool) -> tuple[Given | None, Given | None]:
    """Which output is classes and which scores: by name, by type, or by what is in them."""
    classes = [g for g in flat if _CLASSES.search(g.name) and not _SCORES.search(g.name)]
    scores = [g for g in flat if _SCORES.search(g.name)]
    if len(classes) != 1:
        classes = [g for g in flat if g.value.dtype.kind in "iu"]
    if with_scores:
        left = classes or list(flat)
        return (left[0], None) if len(left) == 1 else (None, None)
    if len(classes) != 1 and len(flat) == 2:
        classes = [g for g in flat if bool((g.value % 1 == 0).all())]
    if len(classes) == 1 and len(scores) != 1:
        scores = [g for g in flat if g is not classes[0]]
    if len(classes) != 1 or len(scores) != 1:
        return None, None
    return classes[0], scores[0]
