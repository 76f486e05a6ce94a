"""What a graph gave for a grey picture, and how it is to be read: the words of all layouts.

Here: the values that pass between recognising and reading, and what several layouts ask of numbers.
Not here: a layout (grids, distributions, queries, rows), choosing one (layouts).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.vision.detect.detections import Floats, Raw, Size
from edge.vision.detect.pixels import Pixels
from wire.manifest import Output

Array = npt.NDArray[Any]
Strides = tuple[int, ...]
Read = Callable[[Sequence[Array], int, float], Raw]
"""(outputs, which picture, floor): candidates of one picture with scores of at least the floor."""

STRIDES: tuple[Strides, ...] = (
    (8, 16, 32),
    (8, 16, 32, 64),
    (16, 32),
    (4, 8, 16, 32),
)
"""Of the cells that networks divide a picture into, the most usual first."""


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """One output and its value for a grey picture."""

    at: int
    """Its place among the outputs."""
    name: str
    value: Array

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape


@dataclass(frozen=True, slots=True)
class Seen:
    """All that a layout is recognised by."""

    outputs: tuple[Given, ...]
    size: Size
    """Of the input, in pixels."""
    labels: int | None
    """How many names are known for its classes."""
    output: Output
    """What model.toml says of it."""
    told: bool = False
    """Whether model.toml names the layout that is asked for: then sizes may be unusual."""
    sized: bool = False
    """Whether the graph has a second input that wants to know the picture's size."""
    task: str = ""
    """Ultralytics' word for what the network does."""
    background: bool = False
    """Whether the first of the names is a background's."""
    bytes: bool = False
    """Whether its input takes bytes."""

    def classes_fit(self, classes: int) -> bool:
        """Whether a head with so many classes fits the names that are known."""
        return classes >= 1 and self.labels in (None, classes)


@dataclass(frozen=True, slots=True)
class Reading:
    """How a graph's outputs are read."""

    layout: str
    classes: int | None
    """How many it tells apart; None: its outputs do not say."""
    read: Read
    pixels: Pixels
    """What its family usually wants."""
    overlaps: bool = True
    """Whether it gives several boxes for one object."""
    numbered: bool = False
    """Whether its classes are COCO's numbers, where `classes` is None and nobody names them."""
    first_open: bool = False
    """Whether its classes may count from 0, or from 1 as torchvision's do, and nobody says it."""
    names: tuple[str, ...] = ()
    """Of its classes, if nobody says others."""
    unnamed: bool = False
    """Whether its classes are COCO's so seldom that somebody must name them."""


def whole(outputs: Sequence[Array], at: int, index: int, rank: int) -> Array:
    """One picture's part of an output that has `rank` axes, or one less where the batch is lost.

    Half floats become floats.
    """
    value = outputs[at]
    part: Array = value[index] if value.ndim == rank else value
    return part.astype(np.float32) if part.dtype in (np.float16, np.float64) else part


def tables(seen: Seen) -> Iterator[tuple[Given, tuple[int, int]]]:
    """Outputs that are a table for each picture, and its rows and columns.

    Of several that differ none is meant, unless the layout is told; of equal ones the last, which
    in YOLOv9 is not the auxiliary one.
    """
    found = [
        given
        for given in seen.outputs
        if given.value.ndim == 3 or (given.value.ndim == 2 and given.shape[0] > 1)
    ]
    if not seen.told:
        found = found[-1:] if len({given.shape for given in found}) == 1 else []
    for given in found:
        yield given, (given.shape[-2], given.shape[-1])


@lru_cache(maxsize=64)
def cells(size: Size, strides: Strides) -> tuple[Floats, Floats]:
    """The cell (x, y) of each row of a head, and its stride (rows × 1)."""
    at, of = [], []
    for stride in strides:
        columns, rows = -(-size[0] // stride), -(-size[1] // stride)
        grid = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1)
        at.append(grid.reshape(-1, 2))
        of.append(np.full((columns * rows, 1), stride))
    return np.concatenate(at).astype(np.float32), np.concatenate(of).astype(np.float32)


def strides_of(size: Size, count: int, anchors: int = 1) -> Strides | None:
    """The strides whose cells are so many, each with so many anchors."""
    for strides in STRIDES:
        total = sum(-(-size[0] // s) * -(-size[1] // s) for s in strides)
        if total * anchors == count:
            return strides
    return None


def probable(values: Array) -> bool:
    """Whether all values may be probabilities."""
    return not values.size or bool(values.min() >= -1e-3 and values.max() <= 1 + 1e-3)


def sigmoid(values: Floats) -> Floats:
    shares: Floats = np.float32(1) / (np.float32(1) + np.exp(-np.clip(values, -80, 80)))
    return shares


def softmax(values: Floats) -> Floats:
    """Along the last axis."""
    raised = np.exp(values - values.max(axis=-1, keepdims=True))
    shares: Floats = raised / raised.sum(axis=-1, keepdims=True)
    return shares


def logit(probability: float) -> float:
    """What `sigmoid` makes that probability of."""
    share = min(max(probability, 1e-9), 1 - 1e-9)
    return float(np.log(share / (1 - share)))


def corners(boxes: Floats, form: str) -> Floats:
    """Boxes as x1, y1, x2, y2 of whatever form they have."""
    if form == "cxcywh":
        half = boxes[:, 2:4] * np.float32(0.5)
        return np.concatenate((boxes[:, :2] - half, boxes[:, :2] + half), axis=1)
    found: Floats = boxes[:, [1, 0, 3, 2]] if form == "yxyx" else boxes[:, :4]
    return found


def in_pixels(boxes: Floats, size: Size, unit: str | None) -> Floats:
    """Boxes in pixels of the input. Where nobody says the unit, none is above 2 in fractions."""
    if unit is None:
        fractions = bool(len(boxes)) and bool(np.abs(boxes).max() <= 2)
        unit = "fractions" if fractions else "pixels"
    if unit == "pixels":
        return boxes
    scaled: Floats = boxes * np.array(size * 2, np.float32)
    return scaled


def best_class(scores: Floats, floor: float) -> tuple[npt.NDArray[np.intp], Floats, Array]:
    """Rows × classes: the rows whose best class reaches the floor, that score, and the class."""
    if scores.shape[1] == 1:
        chosen = np.flatnonzero(scores[:, 0] >= floor)
        return chosen, scores[chosen, 0], np.zeros(len(chosen), np.int32)
    chosen = np.flatnonzero(scores.max(axis=1) >= floor)
    some = scores[chosen]
    classes = some.argmax(axis=1)
    return chosen, some[np.arange(len(some)), classes], classes.astype(np.int32)


def joined(parts: Sequence[Raw]) -> Raw:
    """All parts' candidates."""
    if not parts:
        return nothing()
    boxes, scores, classes = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Raw(boxes, scores, classes)


def nothing() -> Raw:
    """No candidate at all."""
    return Raw(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int32))
