"""Heads that give each side's distance as a distribution: NanoDet, PicoDet, raw YOLOv8.

Generalized Focal Loss (Li et al. 2020): a side's distance from the cell's centre is the mean of a
softmax over bins 0, 1, 2..., in strides. One table of all cells, or maps for each stride.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from edge.vision.detect.detections import Floats, Raw, Size
from edge.vision.detect.pixels import CAFFE, IMAGENET, UNIT, Pixels
from edge.vision.detect.reading import (
    STRIDES,
    Array,
    Given,
    Reading,
    Seen,
    Strides,
    best_class,
    cells,
    joined,
    logit,
    probable,
    sigmoid,
    softmax,
    strides_of,
    tables,
    whole,
)

BINS = (8, 16, 17)
"""Of one side in NanoDet and PicoDet, YOLOv8, and the paper."""
SIDES = 4


@dataclass(frozen=True, slots=True)
class _Part:
    """Where the classes and the distances of one stride, or of all, are found."""

    strides: Strides
    scores_at: int
    scores: slice
    sides_at: int
    sides: slice
    maps: bool
    """Whether they are [pictures, channels, rows, columns]."""


@dataclass(frozen=True, slots=True)
class _Distributions:
    parts: tuple[_Part, ...]
    size: Size
    raw_scores: bool
    middle: float
    """Where in its cell a cell's centre is: 0.5, or 0 in NanoDet-Plus."""

    def __call__(self, outputs: Sequence[Array], index: int, floor: float) -> Raw:
        return joined([self._of(part, outputs, index, floor) for part in self.parts])

    def _of(self, part: _Part, outputs: Sequence[Array], index: int, floor: float) -> Raw:
        scores = _table(outputs, part.scores_at, index, part.maps)[:, part.scores]
        chosen, best, classes = best_class(scores, logit(floor) if self.raw_scores else floor)
        sides = _table(outputs, part.sides_at, index, part.maps)[chosen, part.sides]
        reach = _distances(sides)
        at, strides = cells(self.size, part.strides)
        centre = (at[chosen] + np.float32(self.middle)) * strides[chosen]
        reach *= strides[chosen]
        boxes = np.concatenate((centre - reach[:, :2], centre + reach[:, 2:]), axis=1)
        return Raw(boxes, sigmoid(best) if self.raw_scores else best, classes)


def _table(outputs: Sequence[Array], at: int, index: int, maps: bool) -> Floats:
    """Rows × columns of one picture."""
    if not maps:
        return whole(outputs, at, index, 3)
    planes = whole(outputs, at, index, 4)
    return planes.reshape(planes.shape[0], -1).T


def _distances(sides: Floats) -> Floats:
    """Rows × 4 distances in strides: left, top, right, bottom."""
    bins = sides.shape[1] // SIDES
    shares = softmax(sides.reshape(-1, SIDES, bins))
    return shares @ np.arange(bins, dtype=np.float32)


def nanodet(seen: Seen) -> Iterator[Reading]:
    """[pictures, cells, labels + 4 * bins], strides 8 to 32, or 8 to 64 (NanoDet-Plus)."""
    for given, (count, columns) in tables(seen):
        strides = strides_of(seen.size, count)
        if strides is None:
            continue
        for bins in BINS:
            classes = columns - SIDES * bins
            if not seen.classes_fit(classes):
                continue
            part = _Part(
                strides, given.at, slice(0, classes), given.at, slice(classes, columns), False
            )
            table = whole([given.value], 0, 0, 3)
            read = _Distributions(
                (part,), seen.size, _raw(seen, [table[:, :classes]]), 0.5 if len(strides) < 4 else 0
            )
            yield Reading("nanodet", classes, read, CAFFE)


def picodet(seen: Seen) -> Iterator[Reading]:
    """For each stride a map of classes and one of distances: [pictures, cells, columns] each.

    Raw YOLOv8 has [pictures, columns, rows, columns] maps, both kinds in one or apart.
    """
    for strides in STRIDES:
        levels = _levels(seen, strides)
        if levels is None:
            continue
        for bins in BINS:
            parts = [_part(seen, maps, stride, bins) for maps, stride in levels]
            kept = tuple(part for part in parts if part is not None)
            if len(kept) < len(parts) or not _alike(kept):
                continue
            classes = kept[0].scores.stop - kept[0].scores.start
            values = [
                _table([g.value for g in seen.outputs], part.scores_at, 0, part.maps)[
                    :, part.scores
                ]
                for part in kept
            ]
            read = _Distributions(kept, seen.size, _raw(seen, values), 0.5)
            yield Reading("picodet", classes, read, _usual(kept))


def _usual(parts: Sequence[_Part]) -> Pixels:
    return UNIT if parts[0].maps else IMAGENET


def _alike(parts: Sequence[_Part]) -> bool:
    return all(
        (one.scores, one.sides, one.maps) == (other.scores, other.sides, other.maps)
        for one, other in pairwise(parts)
    )


def _levels(seen: Seen, strides: Strides) -> list[tuple[list[Given], int]] | None:
    """The outputs of each stride; None if they are not all outputs, and as many for each."""
    levels = []
    for stride in strides:
        rows, columns = -(-seen.size[1] // stride), -(-seen.size[0] // stride)
        maps = [
            given
            for given in seen.outputs
            if (given.value.ndim == 4 and given.shape[2:] == (rows, columns))
            or (given.value.ndim in (2, 3) and given.shape[-2] == rows * columns)
        ]
        levels.append((maps, stride))
    counts = {len(maps) for maps, _ in levels}
    fits = len(counts) == 1 and counts <= {1, 2, 3} and len(strides) > 1
    return levels if fits and sum(len(m) for m, _ in levels) == len(seen.outputs) else None


def _part(seen: Seen, maps: Sequence[Given], stride: int, bins: int) -> _Part | None:
    """Which of a stride's outputs are classes and which distances, for so many bins."""
    deep = [given.shape[1] if given.value.ndim == 4 else given.shape[-1] for given in maps]
    as_maps = maps[0].value.ndim == 4
    if len(maps) == 1:
        classes = deep[0] - SIDES * bins
        if not as_maps or not seen.classes_fit(classes):
            return None
        at, sides = maps[0].at, SIDES * bins
        return _Part((stride,), at, slice(sides, deep[0]), at, slice(0, sides), True)
    if len(maps) == 3:  # the third is the sum of the scores, which some exports add
        rest = [n for n, depth in enumerate(deep) if depth != 1]
        if len(rest) != 2:
            return None
        maps, deep = [maps[n] for n in rest], [deep[n] for n in rest]
    for scores, sides in ((0, 1), (1, 0)):
        if deep[sides] == SIDES * bins and seen.classes_fit(deep[scores]):
            return _Part(
                (stride,),
                maps[scores].at,
                slice(0, deep[scores]),
                maps[sides].at,
                slice(0, deep[sides]),
                as_maps,
            )
    return None


def _raw(seen: Seen, scores: Sequence[Array]) -> bool:
    """Whether the scores are still to become probabilities."""
    if seen.output.scores is not None:
        return seen.output.scores != "plain"
    return not all(map(probable, scores))
