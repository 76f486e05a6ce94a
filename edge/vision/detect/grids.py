"""Heads with one row for each cell or anchor of a grid: YOLOX, YOLOv5, YOLOv8 and their kin.

YOLOX: Ge et al. 2021. YOLOv5 to v7 put objectness between box and classes; YOLOv8, v9 and v11 have
none, and put the rows upright. Faces and plates (YOLO5Face, Qi et al. 2021) have landmarks as well.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edge.vision.detect.detections import Floats, Raw, Size
from edge.vision.detect.pixels import UNIT, UNIT_STRETCHED, YOLOX
from edge.vision.detect.reading import (
    Array,
    Given,
    Reading,
    Seen,
    Strides,
    best_class,
    cells,
    corners,
    in_pixels,
    logit,
    probable,
    sigmoid,
    strides_of,
    tables,
    whole,
)

ANCHORS = 3
"""Of each cell in YOLOv5 and v7."""
LANDMARKS = (8, 10, 12, 15, 34, 51)
"""Columns of 4, 5 or 17 points, with or without how visible each is."""
MAX_QUERIES = 1000
MAX_LANDMARK_CLASSES = 4
"""More classes than that, and the columns are taken for labels that are missing."""


@dataclass(frozen=True, slots=True)
class _Rows:
    """Boxes, objectness and classes in one table of each picture."""

    at: int
    size: Size
    classes: slice
    objectness: bool
    upright: bool
    """Whether a row of the head is a column of the table."""
    raw_scores: bool
    unit: str | None
    form: str = "cxcywh"

    def __call__(self, outputs: Sequence[Array], index: int, floor: float) -> Raw:
        table = whole(outputs, self.at, index, 3)
        if self.upright:
            chosen, scores, classes = self._upright(table, floor)
            boxes = table[:4, chosen].T
        else:
            chosen, scores, classes = self._flat(table, floor)
            boxes = table[chosen, :4]
        found = corners(boxes, self.form)
        return Raw(in_pixels(found, self.size, self.unit), scores, classes)

    def _upright(self, table: Floats, floor: float) -> tuple[Array, Floats, Array]:
        # Along whole rows of memory: much faster than turning the table first.
        values = table[self.classes]
        best = values.max(axis=0)
        chosen = np.flatnonzero(best >= (logit(floor) if self.raw_scores else floor))
        scores = sigmoid(best[chosen]) if self.raw_scores else best[chosen]
        return chosen, scores, values[:, chosen].argmax(axis=0).astype(np.int32)

    def _flat(self, table: Floats, floor: float) -> tuple[Array, Floats, Array]:
        if not self.objectness:
            scores = table[:, self.classes]
            chosen, best, classes = best_class(scores, logit(floor) if self.raw_scores else floor)
            return chosen, sigmoid(best) if self.raw_scores else best, classes
        # A class's score is at most 1, so a row below the floor here stays below it.
        chosen = np.flatnonzero(table[:, 4] >= (logit(floor) if self.raw_scores else floor))
        rows = table[chosen]
        classes = rows[:, self.classes].argmax(axis=1)
        of_object, of_class = rows[:, 4], rows[np.arange(len(rows)), self.classes.start + classes]
        if self.raw_scores:
            of_object, of_class = sigmoid(of_object), sigmoid(of_class)
        return chosen, of_object * of_class, classes.astype(np.int32)


@dataclass(frozen=True, slots=True)
class _Cells:
    """YOLOX's raw head: centre = (offset + cell) * stride, extent = exp(value) * stride."""

    rows: _Rows
    strides: Strides

    def __call__(self, outputs: Sequence[Array], index: int, floor: float) -> Raw:
        table = whole(outputs, self.rows.at, index, 3)
        chosen, scores, classes = self.rows._flat(table, floor)
        at, strides = cells(self.rows.size, self.strides)
        centre = (table[chosen, :2] + at[chosen]) * strides[chosen]
        extent = np.exp(np.minimum(table[chosen, 2:4], 20)) * strides[chosen]
        return Raw(corners(np.concatenate((centre, extent), axis=1), "cxcywh"), scores, classes)


def yolox(seen: Seen) -> Iterator[Reading]:
    """[pictures, cells, 5 + labels], strides 8, 16 and 32; offsets from each cell."""
    for given, (count, columns) in tables(seen):
        strides = strides_of(seen.size, count)
        classes = columns - 5
        if strides is None or not seen.classes_fit(classes) or _placed(given, seen.size):
            continue
        rows = _rows(seen, given, slice(5, columns), objectness=True)
        yield Reading("yolox", classes, _Cells(rows, strides), YOLOX)


def yolov5(seen: Seen) -> Iterator[Reading]:
    """[pictures, anchors, 5 + labels]: box, objectness, classes; masks after them are not read."""
    for given, (count, columns) in tables(seen):
        anchors = strides_of(seen.size, count, ANCHORS)
        placed = strides_of(seen.size, count) is not None and _placed(given, seen.size)
        if anchors is None and not placed and not seen.told:
            continue
        classes = columns - 5 - _masks(seen)
        if seen.classes_fit(classes):
            rows = _rows(seen, given, slice(5, 5 + classes), objectness=True)
            yield Reading("yolov5", classes, rows, UNIT)


def yolov5_face(seen: Seen) -> Iterator[Reading]:
    """[pictures, anchors, 5 + landmarks + labels]: 4 or 5 points before the classes."""
    for given, (count, columns) in tables(seen):
        if strides_of(seen.size, count, ANCHORS) is None and not seen.told:
            continue
        for points in (8, 10):
            classes = columns - 5 - points
            if classes <= MAX_LANDMARK_CLASSES and seen.classes_fit(classes):
                rows = _rows(seen, given, slice(5 + points, columns), objectness=True)
                yield Reading("yolov5-face", classes, rows, UNIT)


def yolov8(seen: Seen) -> Iterator[Reading]:
    """[pictures, 4 + labels, cells], or turned; masks and landmarks after them are not read.

    Ultralytics' RT-DETR has a row for each query instead, and boxes as fractions.
    """
    for given, (one, other) in tables(seen):
        queries = _are_queries(given)
        for count, channels, upright in ((other, one, True), (one, other, False)):
            asked = seen.told or (queries and not upright)
            if strides_of(seen.size, count) is None and not asked:
                continue
            classes = channels - 4 - _masks(seen)
            beside = _beside(seen, classes)
            if beside is None:
                continue
            rows = _rows(seen, given, slice(4, 4 + classes - beside), upright=upright)
            usual = UNIT_STRETCHED if queries and not upright else UNIT
            yield Reading("yolov8", classes - beside, rows, usual)


def _are_queries(given: Given) -> bool:
    """Whether all rows are fractions and probabilities, and so few that they are no grid."""
    table = whole([given.value], 0, 0, 3)
    few = 0 < len(table) <= MAX_QUERIES
    return few and bool(table[:, :4].max() > 0) and probable(table)


def _beside(seen: Seen, classes: int) -> int | None:
    """How many of these columns are landmarks; None if they fit no number of labels."""
    if seen.classes_fit(classes) and seen.task != "pose":
        return 0
    if seen.labels is not None and seen.labels <= MAX_LANDMARK_CLASSES:
        more = classes - seen.labels
        if more in LANDMARKS or (seen.task == "pose" and more >= 0):
            return more
    return None


def _masks(seen: Seen) -> int:
    """Columns for the masks that are in a second output, [pictures, masks, height, width]."""
    maps = [given for given in seen.outputs if given.value.ndim == 4]
    tall = [given for given in maps if given.shape[2] >= seen.size[1] // 8]
    return tall[0].shape[1] if len(tall) == len(maps) == 1 else 0


def _rows(
    seen: Seen, given: Given, classes: slice, *, objectness: bool = False, upright: bool = False
) -> _Rows:
    table = whole([given.value], 0, 0, 3)
    table = table.T if upright else table
    judged = table[:, [4] if objectness else []], table[:, classes]
    raw = {"plain": False, "sigmoid": True, "softmax": True, None: not all(map(probable, judged))}
    return _Rows(
        given.at,
        seen.size,
        classes,
        objectness,
        upright,
        raw[seen.output.scores],
        seen.output.unit or _unit(table),
        seen.output.boxes or "cxcywh",
    )


def _unit(table: Floats) -> str:
    """The rows of a grid reach over all of the picture."""
    furthest = float(table[:, :2].max()) if len(table) else 0.0
    return "fractions" if 0 < furthest <= 2 else "pixels"


def _placed(given: Given, size: Size) -> bool:
    """Whether the centres lie all over the picture: then they are no offsets from cells."""
    across = whole([given.value], 0, 0, 3)[:, 0]
    return bool(len(across)) and bool(np.ptp(across) > size[0] / 2)
