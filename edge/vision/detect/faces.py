"""Heads of face detectors: for each stride scores, boxes and landmarks, in outputs of their own.

YuNet (Wu et al. 2023) is OpenCV's, SCRFD (Guo et al. 2021) InsightFace's. Landmarks are not read.
Not here: faces and plates in one table (grids).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edge.vision.detect.detections import Raw, Size
from edge.vision.detect.pixels import SCRFD, Pixels
from edge.vision.detect.reading import (
    Array,
    Reading,
    Seen,
    cells,
    corners,
    joined,
    probable,
    whole,
)

_STRIDES = ((8, 16, 32), (8, 16, 32, 64, 128))
_NAMES = ("face",)
_YUNET = Pixels("BGR", pad=0)


@dataclass(frozen=True, slots=True)
class _Level:
    """The outputs of one stride."""

    stride: int
    scores_at: tuple[int, ...]
    boxes_at: int


@dataclass(frozen=True, slots=True)
class _Faces:
    levels: tuple[_Level, ...]
    size: Size
    anchors: int
    """Of each cell, one after the other."""
    distances: bool
    """Whether boxes are distances to the sides, and not centre and logarithm of the extent."""

    def __call__(self, outputs: Sequence[Array], index: int, floor: float) -> Raw:
        return joined([self._of(level, outputs, index, floor) for level in self.levels])

    def _of(self, level: _Level, outputs: Sequence[Array], index: int, floor: float) -> Raw:
        factors = [whole(outputs, at, index, 3)[:, 0].clip(0, 1) for at in level.scores_at]
        scores = factors[0] if len(factors) == 1 else np.sqrt(factors[0] * factors[1])
        chosen = np.flatnonzero(scores >= floor)
        boxes = whole(outputs, level.boxes_at, index, 3)[chosen]
        at = cells(self.size, (level.stride,))[0][chosen // self.anchors]
        if self.distances:
            boxes = np.concatenate((at - boxes[:, :2], at + boxes[:, 2:]), axis=1)
        else:
            extent = np.exp(np.minimum(boxes[:, 2:], 20))
            boxes = corners(np.concatenate((at + boxes[:, :2], extent), axis=1), "cxcywh")
        return Raw(
            boxes * np.float32(level.stride), scores[chosen], np.zeros(len(chosen), np.int32)
        )


def yunet(seen: Seen) -> Iterator[Reading]:
    """For each stride two of [pictures, cells, 1], [pictures, cells, 4], and landmarks.

    The scores are a class and an objectness; boxes are as YOLOX's.
    """
    levels = _levels(seen, 1, scores=2)
    if levels:
        read = _Faces(levels, seen.size, 1, distances=False)
        yield Reading("yunet", 1, read, _YUNET, names=_NAMES)


def scrfd(seen: Seen) -> Iterator[Reading]:
    """For each stride [rows, 1], [rows, 4], and perhaps landmarks: two rows for each cell, or one.

    Boxes are distances from a cell's corner, in strides.
    """
    for anchors in (2, 1):
        levels = _levels(seen, anchors, scores=1)
        if levels:
            read = _Faces(levels, seen.size, anchors, distances=True)
            yield Reading("scrfd", 1, read, SCRFD, names=_NAMES)
            return


def _levels(seen: Seen, anchors: int, *, scores: int) -> tuple[_Level, ...]:
    """The outputs of each stride; empty if they do not fit."""
    if not seen.classes_fit(1):
        return ()
    for strides in _STRIDES:
        found, used = [], 0
        for stride in strides:
            rows = anchors * -(-seen.size[0] // stride) * -(-seen.size[1] // stride)
            mine = [g for g in seen.outputs if g.value.ndim in (2, 3) and g.shape[-2] == rows]
            ones = tuple(g.at for g in mine if g.shape[-1] == 1 and probable(g.value))
            fours = [g.at for g in mine if g.shape[-1] == 4]
            if len(ones) == scores and len(fours) == 1:
                found.append(_Level(stride, ones, fours[0]))
                used += len(mine)
        if len(found) == len(strides) and used == len(seen.outputs):
            return tuple(found)
    return ()
