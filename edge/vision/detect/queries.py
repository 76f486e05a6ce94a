"""Heads that give boxes in one output and all classes' scores in another: DETR, SSD and the like.

DETR (Carion et al. 2020) and its kin: scores still to become probabilities, boxes as fractions.
SSD (Liu et al. 2016): a softmax with the background among the classes, boxes already decoded.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from edge.vision.detect.detections import Floats, Raw, Size
from edge.vision.detect.pixels import CENTRED, IMAGENET, PLAIN, UNIT, UNIT_STRETCHED
from edge.vision.detect.reading import (
    Array,
    Given,
    Reading,
    Seen,
    best_class,
    corners,
    in_pixels,
    logit,
    probable,
    sigmoid,
    softmax,
    whole,
)

COCO_HEADS = (80, 90, 91)
"""Classes of heads that were trained on COCO: its names, its numbers from 1, and from 0."""
_SCORES = re.compile(r"score|logit|conf|cls|class|label|prob", re.IGNORECASE)
_BOXES = re.compile(r"box|loc|coord|dets", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Queries:
    """A row of boxes and a row of scores for each query or anchor."""

    boxes_at: int
    scores_at: int
    size: Size
    classes: slice
    """Columns of the scores that are classes."""
    scores: str
    form: str
    unit: str | None
    upright: bool = False
    """Whether the scores are labels × rows."""
    first: int = 0
    """The label of the first of these columns."""

    def __call__(self, outputs: Sequence[Array], index: int, floor: float) -> Raw:
        values = _of(outputs, self.scores_at, index)
        if self.upright:
            values = values.T
        if self.scores == "softmax":
            values = softmax(values)
        of_classes = values[:, self.classes]
        raw = self.scores == "sigmoid"
        chosen, best, classes = best_class(of_classes, logit(floor) if raw else floor)
        boxes = _of(outputs, self.boxes_at, index)
        unit = self.unit or _unit(boxes)
        found = in_pixels(corners(boxes[chosen], self.form), self.size, unit)
        return Raw(found, sigmoid(best) if raw else best, classes + np.int32(self.first))


def detr(seen: Seen) -> Iterator[Reading]:
    """[pictures, queries, labels] and [pictures, queries, 4]: cx, cy, w, h as fractions.

    A sigmoid where the scores are as many as the labels. Where there is one more, the last is no
    object, and a softmax is meant if it wins for most queries of a picture without any. In RF-DETR
    it does not, and all are small.
    """
    for boxes, scores in _pairs(seen):
        values, places = _first(scores), _first(boxes)
        plain = seen.output.scores == "plain"
        if not seen.told and (probable(values) or places.min() < -0.01 or places.max() > 1.5):
            continue
        for classes, used, softly in _heads(seen, values.shape[1], "last"):
            if not seen.told and _first_wins(values):
                continue  # an SSD's scores before their softmax
            softly = softly and _for_softmax(values)
            kind = seen.output.scores or ("softmax" if softly else "sigmoid")
            read = _Queries(
                boxes.at,
                scores.at,
                seen.size,
                used,
                "plain" if plain else kind,
                seen.output.boxes or "cxcywh",
                seen.output.unit or "fractions",
            )
            usual = IMAGENET if softly or "dets" in boxes.name else UNIT_STRETCHED
            yield Reading("detr", classes, read, usual, overlaps=False)


def ssd(seen: Seen) -> Iterator[Reading]:
    """[pictures, anchors, 1 + labels] and [pictures, anchors, 4]: x1, y1, x2, y2 as fractions.

    The scores are probabilities, the first that of the background.
    """
    for boxes, scores in _pairs(seen):
        values = _first(scores)
        if not seen.told and (not probable(values) or not _are_corners(_first(boxes))):
            continue
        if not seen.told and seen.labels is None and not _sums_to_one(values):
            continue
        columns = values.shape[1]
        named = seen.background and seen.labels == columns  # the background has a name as well
        ways = [(columns, slice(1, columns), True)] if named else _heads(seen, columns, "first")
        for classes, used, softly in ways:
            if not softly and seen.output.background != "none":
                continue
            read = _Queries(
                boxes.at,
                scores.at,
                seen.size,
                used,
                seen.output.scores or ("plain" if probable(values) else "softmax"),
                seen.output.boxes or "xyxy",
                seen.output.unit,
                first=int(named),
            )
            yield Reading("ssd", classes, read, CENTRED)


def scored_boxes(seen: Seen) -> Iterator[Reading]:
    """[pictures, rows, labels] of probabilities and [pictures, rows, 4]: x1, y1, x2, y2.

    Paddle's exports without suppression have the scores upright: [pictures, labels, rows].
    """
    upright = _upright(seen)
    for boxes, scores in upright or _pairs(seen):
        values = _first(scores).T if upright else _first(scores)
        if not seen.told and (not probable(values) or (_sums_to_one(values) and not seen.labels)):
            continue
        if not seen.told and seen.background and _sums_to_one(values):
            continue
        if not seen.classes_fit(values.shape[1]):
            continue
        places = _first(boxes)
        form = seen.output.boxes or ("xyxy" if _are_corners(places) else "cxcywh")
        if not seen.told and form == "cxcywh" and places[:, 2:].min() < 0:
            continue
        read = _Queries(
            boxes.at,
            scores.at,
            seen.size,
            slice(0, values.shape[1]),
            seen.output.scores or "plain",
            form,
            seen.output.unit,
            bool(upright),
        )
        usual = PLAIN if seen.bytes else UNIT_STRETCHED if seen.sized else UNIT
        yield Reading("scored-boxes", values.shape[1], read, usual)


def _first_wins(values: Floats) -> bool:
    """Whether the first column is no clear no and the largest in most rows: a background."""
    if values.shape[1] == 1 or np.median(values[:, 0]) <= logit(0.25):
        return False
    return bool((values[:, 0] > values[:, 1:].max(axis=1)).mean() > 0.5)


def _for_softmax(values: Floats) -> bool:
    """Whether the last column wins in most rows, or some column is no clear no."""
    best = values.max(axis=1)
    return bool(np.median(best) > logit(0.25) or (values[:, -1] >= best).mean() > 0.5)


def _heads(seen: Seen, columns: int, background: str) -> Iterator[tuple[int, slice, bool]]:
    """Ways to share columns out: labels, their columns, whether one more stands for no object."""
    told = seen.output.background
    if told is None and seen.labels is None and columns == 91:
        told = "first" if background == "first" else "none"  # COCO's numbers, from 1 or from 0
    if told in (None, "none") and seen.classes_fit(columns):
        yield columns, slice(0, columns), False
    if told != "none" and seen.classes_fit(columns - 1):
        first = (told or background) == "first"
        yield columns - 1, slice(1, columns) if first else slice(0, columns - 1), True


def _pairs(seen: Seen) -> Iterator[tuple[Given, Given]]:
    """Outputs of boxes and of scores with as many rows."""
    flat = [given for given in seen.outputs if _flat_shape(given) is not None]
    shapes = filter(None, map(_flat_shape, flat))
    if not seen.told and len({rows for rows, columns in shapes if columns == 4}) > 1:
        return  # boxes of each stride apart: raw heads, as faces' are
    for boxes in flat:
        for scores in flat:
            rows, four = _flat_shape(boxes) or (0, 0)
            others, columns = _flat_shape(scores) or (0, 0)
            if boxes is scores or rows != others or four != 4 or not rows or not columns:
                continue
            named = _SCORES.search(scores.name) and not _BOXES.search(scores.name)
            misnamed = _SCORES.search(boxes.name) and not _BOXES.search(boxes.name)
            if columns != 4 or (named and not misnamed):
                yield boxes, scores


def _upright(seen: Seen) -> list[tuple[Given, Given]]:
    """A network's only two outputs, if they are boxes and scores that stand upright."""
    return [
        (boxes, scores)
        for boxes, scores in permutations(seen.outputs, 2)
        if len(seen.outputs) == 2
        and boxes.value.ndim == scores.value.ndim == 3
        and boxes.value.dtype.kind == scores.value.dtype.kind == "f"
        and boxes.shape[2] == 4
        and boxes.shape[1] == scores.shape[2] != scores.shape[1]
    ]


def _flat_shape(given: Given) -> tuple[int, int] | None:
    """Rows and columns of a picture's table; an axis of one between them does not count."""
    shape, value = given.shape, given.value
    if value.dtype.kind != "f":
        return None
    if value.ndim == 4 and shape[2] == 1:
        return shape[1], shape[3]
    return (shape[-2], shape[-1]) if value.ndim in (2, 3) else None


def _of(outputs: Sequence[Array], at: int, index: int) -> Floats:
    """One picture's table; an axis of one between rows and columns is left out."""
    part = whole(outputs, at, index, max(3, outputs[at].ndim))
    return part[:, 0] if part.ndim == 3 else part


def _first(given: Given) -> Floats:
    return _of([given.value], 0, 0)


def _sums_to_one(values: Floats) -> bool:
    return bool(np.abs(values.sum(axis=1) - 1).max() < 0.02)


def _are_corners(boxes: Floats) -> bool:
    """Whether hardly any box ends before it begins."""
    reversed_ = (boxes[:, 2:] < boxes[:, :2] - 1e-3).any(axis=1)
    return bool(reversed_.mean() < 0.01)


def _unit(boxes: Floats) -> str:
    return "fractions" if np.quantile(np.abs(boxes), 0.99) <= 2 else "pixels"
