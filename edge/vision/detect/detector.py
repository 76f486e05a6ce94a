"""A network at work: pictures in, detections out.

Here: which input is the picture, its size, the batch, the names of the classes. Not here: which
model (manifest.py), which pictures and what score counts (analysis.py), whether it sees anything
(trial.py).
"""

import ast
import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.vision.detect import layouts, suppression
from edge.vision.detect.detections import (
    SCORE_FLOOR,
    Detections,
    Image,
    Picture,
    Size,
)
from edge.vision.detect.graph import Graph, Tensor, first_line
from edge.vision.detect.pixels import PLAIN, Converter, Pixels, extent
from edge.vision.detect.reading import Given, Reading, Seen
from edge.vision.manifest import Manifest, ModelError
from wire.manifest import COCO_LABELS, COCO_NUMBERED, Input

log = logging.getLogger("forecourt.detect")

MAX_BATCH = 8
"""Pictures in one call of a network that takes any number."""
SIZES = (640, 416, 320, 512, 608, 800, 1024, 1280)
"""Tried where a graph leaves its size open and nobody says it."""
BACKGROUND = ("background", "bg", "none", "n/a")
MIN_SIDE = 16
NO_LABEL = "-"
"""A class that is never reported."""


class Detector:
    """A loaded network. Raises ModelError if it is none, or is not what its manifest says.

    `threads` bounds the cores that one call uses; `inference` are words of `graph.PROVIDERS`, best
    first. Detections below `floor` are dropped. Not for use by two threads at once.
    """

    def __init__(
        self,
        manifest: Manifest,
        *,
        threads: int = 1,
        inference: Sequence[str] = ("cpu",),
        floor: float = SCORE_FLOOR,
    ) -> None:
        self.manifest = manifest
        self._floor = floor
        try:
            self._graph = Graph(manifest.path, threads=threads, inference=inference)
            self._picture, self._sizes = _inputs(self._graph, manifest.input)
            known = manifest.labels or self._graph.labels()
            # One without the axis of pictures was given it.
            self._alone = self._picture not in self._graph.inputs
            self._size, self._last, seen = self._first_look(known)
            self._reading = layouts.recognised(seen, manifest.layout)
            self._labels = _named(self._reading, known, seen)
        except ModelError as error:
            raise ModelError(f"model {manifest.name}: {error}") from None
        except Exception as error:  # whatever it is, one network must not end all the others
            said = f"{type(error).__name__}: {first_line(error)}"
            raise ModelError(
                f"model {manifest.name}: what it gives cannot be read ({said}); "
                "say layout and [output] in its model.toml, or take another one"
            ) from error
        usual = PLAIN if self._picture.dtype == np.uint8 else self._reading.pixels
        self.pixels = usual.told(manifest.input)
        declared = self._picture.shape[0] if self._picture.shape else 1
        self._fixed = declared is not None
        self._batch = declared or MAX_BATCH
        self._trusted = self._fixed
        self.see_as(self.pixels)

    @property
    def input_size(self) -> Size:
        """Width and height of the pictures that it wants."""
        return self._size

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes that it knows."""
        return self._labels

    @property
    def layout(self) -> str:
        """How its output is read, a word of `layouts.LAYOUTS`."""
        return self._reading.layout

    @property
    def provider(self) -> str:
        """What runs it, a word of `graph.PROVIDERS`."""
        return self._graph.provider

    def see_as(self, pixels: Pixels) -> None:
        """Give it pictures in another way from now on."""
        self.pixels = pixels
        assert self._picture.dtype is not None
        self._converter = Converter(pixels, self._size, self._picture.dtype, last=self._last)

    def detect_frame(self, picture: Picture) -> Detections:
        """What is in one decoded picture. It is converted once for all who want it alike."""
        wants = self.pixels
        image = picture.image(*self._size, resize=wants.resize, pad=wants.pad, color=wants.color)
        return self.detect([image], [picture.size])[0]

    def detect(self, images: Sequence[Image], shapes: Sequence[Size]) -> list[Detections]:
        """What is in each picture.

        `images` are of the input size, as `pixels` says of colour, place and padding; `shapes` are
        the sizes (width, height) that they had before.
        """
        found: list[Detections] = []
        while len(found) < len(images):
            first = len(found)
            some = images[first : first + self._batch], shapes[first : first + self._batch]
            if len(some[0]) > 1 and not self._trusted:
                found += self._first_batch(*some)
            else:
                found += self._detect(*some)
        return found

    def _first_batch(self, images: Sequence[Image], shapes: Sequence[Size]) -> list[Detections]:
        """The pictures one by one, and together: graphs that say any number may mean one."""
        alone = [
            self._detect([image], [shape])[0] for image, shape in zip(images, shapes, strict=True)
        ]
        self._trusted = True
        try:
            together = self._detect(images, shapes)
            if all(map(_alike, alone, together)):
                return alone
            why = "it gives something else for several pictures at once"
        except Exception as error:  # ONNX Runtime's errors have no common class
            why = first_line(error)
        log.info("model %s takes one picture at a time: %s", self.manifest.name, why)
        self._batch = 1
        return alone

    def _detect(self, images: Sequence[Image], shapes: Sequence[Size]) -> list[Detections]:
        count = self._batch if self._fixed else len(images)
        blob = self._converter.blob(images, count)
        outputs = self._graph.run(self._feeds(blob))
        return [self._detections(outputs, index, shape) for index, shape in enumerate(shapes)]

    def _detections(
        self, outputs: Sequence[npt.NDArray[Any]], index: int, shape: Size
    ) -> Detections:
        raw = suppression.best(
            self._reading.read(outputs, index, self._floor),
            self._floor,
            overlaps=self._reading.overlaps,
        )
        start, reach = extent(self.pixels, self._size, shape)
        boxes = ((raw.boxes - start) / reach).clip(0, 1).astype(np.float32)
        scores = raw.scores.astype(np.float32).clip(0, 1)
        if len(raw.classes) and not 0 <= raw.classes.min() <= raw.classes.max() < len(self.labels):
            wrong = raw.classes[(raw.classes < 0) | (raw.classes >= len(self.labels))][0]
            raise ModelError(
                f"model {self.manifest.name}: it finds class {wrong}, and {len(self.labels)} labels"
                " are known; correct labels (or output.first_class) in its model.toml"
            )
        names = tuple(self.labels[number] for number in raw.classes)
        if NO_LABEL not in names:
            return Detections(boxes, scores, names)
        rows = [row for row, name in enumerate(names) if name != NO_LABEL]
        return Detections(boxes[rows], scores[rows], tuple(names[row] for row in rows))

    # --- the first look ---

    def _first_look(self, known: Sequence[str]) -> tuple[Size, bool, Seen]:
        """Show it a grey picture in the ways that it may want one, until it takes one.

        Returns the size of its input, whether the colours come last, and what it gave.
        """
        told = self.manifest.input
        tried: list[str] = []
        for size, last in _ways(self._picture, told, self._graph.metadata.get("imgsz", "")):
            try:
                seen = self._shown(size, last, known)
            except Exception as error:  # as above
                tried.append(f"{size[0]}x{size[1]}: {first_line(error)}")
                continue
            broken = [g.name for g in seen.outputs if not _finite(g.value)]
            if broken:
                raise ModelError(
                    f"it gives no finite numbers for a grey picture ({', '.join(broken[:3])})"
                )
            return size, last, seen
        raise ModelError(
            f"it fails on a grey picture, {'; '.join(tried[:2])}; say input.width, input.height "
            "or input.axes in its model.toml if it wants another size"
        )

    def _shown(self, size: Size, last: bool, known: Sequence[str]) -> Seen:
        self._size = size
        assert self._picture.dtype is not None
        plain = self._picture.dtype == np.uint8
        grey = Converter(PLAIN if plain else _GREY, size, self._picture.dtype, last=last)
        count = self._picture.shape[0] if self._picture.shape else 1
        blob = grey.blob([np.full((size[1], size[0], 3), 114, np.uint8)] * (count or 1), count or 1)
        outputs = self._graph.run(self._feeds(blob))
        names = [tensor.name for tensor in self._graph.outputs]
        return Seen(
            tuple(Given(at, *pair) for at, pair in enumerate(zip(names, outputs, strict=True))),
            size,
            len(known) or None,
            self.manifest.output,
            sized=bool(self._sizes),
            task=self._graph.metadata.get("task", ""),
            background=_begins_with_background(known),
            bytes=plain,
        )

    def _feeds(self, blob: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        feeds = {self._picture.name: blob[0] if self._alone else blob}
        for tensor, kind in self._sizes:
            if kind == "mask":
                sides = zip(tensor.shape, (len(blob), *self._size[::-1]), strict=True)
                of = [declared or side for declared, side in sides]
                feeds[tensor.name] = np.ones(of, tensor.dtype)
                continue
            width, height = (1, 1) if kind == "scale" else self._size
            pair = (height, width) if kind == "height,width" else (width, height)
            shape = (2,) if len(tensor.shape) == 1 else (len(blob), 2)
            feeds[tensor.name] = np.broadcast_to(np.array(pair, tensor.dtype), shape)
        return feeds


_GREY = Pixels("RGB", scale=1 / 255)

_SIZE_INPUTS = {
    "orig_target_sizes": "width,height",
    "orig_size": "width,height",
    "im_shape": "height,width",
    "image_shape": "height,width",
    "img_shape": "height,width",
    "image_size": "height,width",
    "scale_factor": "scale",
    "pixel_mask": "mask",
}
"""Second inputs by their names. They get the size of the input, so boxes come out in its pixels.

A mask tells which pixels belong to the picture: all.
"""


def _inputs(graph: Graph, wants: Input) -> tuple[Tensor, list[tuple[Tensor, str]]]:
    """Which input is the picture, and which want to know its size. Raises ModelError."""
    names = [tensor.name for tensor in graph.inputs]
    if wants.name and wants.name not in names:
        raise ModelError(f"it has no input {wants.name!r}, only {', '.join(names)}")
    pictures = [
        tensor
        for tensor in graph.inputs
        if (not wants.name or tensor.name == wants.name) and _is_picture(tensor, wants)
    ]
    if not pictures:
        shapes = ", ".join(f"{tensor.name!r} {_shown(tensor)}" for tensor in graph.inputs)
        raise ModelError(
            f"it takes {shapes or 'no input'}, and none is a picture in colour, "
            "[N, 3, height, width] or [N, height, width, 3] of floats or bytes"
        )
    sizes = []
    for tensor in graph.inputs:
        if tensor is pictures[0]:
            continue
        kind = _SIZE_INPUTS.get(tensor.name)
        if kind is None and tensor.shape[-1:] == (2,):
            kind = "width,height"
        if kind in ("width,height", "height,width"):
            kind = wants.sizes or kind
        if kind == "mask" and len(tensor.shape) != 3:
            kind = None
        if kind is None or tensor.dtype is None:
            raise ModelError(f"nothing is known of its input {tensor.name!r} {_shown(tensor)}")
        sizes.append((tensor, kind))
    picture = pictures[0]
    if len(picture.shape) == 3:
        picture = replace(picture, shape=(1, *picture.shape))
    return picture, sizes


def _shown(tensor: Tensor) -> str:
    return f"{['?' if size is None else size for size in tensor.shape]} {tensor.type}".replace(
        "'", ""
    )


def _is_picture(tensor: Tensor, wants: Input) -> bool:
    if tensor.dtype not in (np.float32, np.float16, np.uint8) or len(tensor.shape) not in (0, 3, 4):
        return False
    if len(tensor.shape) == 3:  # without the axis of pictures, as torchvision's
        return tensor.shape[0 if wants.axes != "NHWC" else 2] == 3
    if not tensor.shape or tensor.shape[1] in (3, None):
        return True
    last = tensor.shape[3]  # left open it may be colours, if what would be colours is a height
    return wants.axes != "NCHW" and (last == 3 or (last is None and tensor.shape[1] >= MIN_SIDE))


def _ways(picture: Tensor, told: Input, metadata: str) -> Iterator[tuple[Size, bool]]:
    """Sizes and axes in which to show a picture, the likeliest first. Raises ModelError."""
    shape = picture.shape or (1, None, None, None)
    for last in (False, True):
        if told.axes is not None and last != (told.axes == "NHWC"):
            continue
        colours, height, width = (
            (shape[3], shape[1], shape[2]) if last else (shape[1], shape[2], shape[3])
        )
        if colours not in (3, None) or (colours is None and shape[1 if last else 3] == 3):
            continue
        for what, said, declared in (
            ("width", told.width, width),
            ("height", told.height, height),
        ):
            if said is not None and declared is not None and said != declared:
                raise ModelError(f"its graph wants {what} {declared}, its model.toml says {said}")
        width, height = told.width or width, told.height or height
        for size in _lengths(metadata):
            yield (width or size[0], height or size[1]), last
            if width and height:
                break


def _lengths(metadata: str) -> Iterator[Size]:
    """Sizes for a graph that leaves them open: what its metadata say, as `[640, 640]`, first."""
    value: object = None
    with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
        value = ast.literal_eval(metadata[:100])
    match value:
        case [int(height), int(width)] if 16 <= min(height, width) <= max(height, width) <= 8192:
            yield width, height
    for length in SIZES:
        yield length, length


def _named(reading: Reading, known: tuple[str, ...], seen: Seen) -> tuple[str, ...]:
    """The names of its classes: as told, or COCO's where there are as many. Raises ModelError."""
    if known:
        if reading.first_open and not seen.background:
            raise ModelError(
                f"its outputs {layouts.outputs_of(seen)} are as torchvision's, where the first "
                "label is 1 and 0 is the background; write into model.toml: [output] first_class "
                "= 1, or 0 if its classes count from 0"
            )
        return known
    if reading.names:
        return reading.names
    if reading.unnamed:
        raise ModelError(
            f"its outputs {layouts.outputs_of(seen)} are of the layout {reading.layout}, which "
            "does not tell how many classes it has, and nobody names them; write into model.toml: "
            'labels = [...] (the first is class 0, often "background")'
        )
    if reading.classes in (None, len(COCO_LABELS)):
        return COCO_NUMBERED if reading.numbered else COCO_LABELS
    if reading.classes == len(COCO_NUMBERED):
        return COCO_NUMBERED
    if reading.classes == len(COCO_NUMBERED) + 1:
        return (NO_LABEL, *COCO_NUMBERED)
    several = f"{reading.classes} names" if reading.classes != 1 else "one name"
    raise ModelError(
        f"its outputs {layouts.outputs_of(seen)} are of the layout {reading.layout} with "
        f"{reading.classes} classes, and nobody names them; write into model.toml: labels = [...] "
        f"with {several}"
    )


def _begins_with_background(labels: Sequence[str]) -> bool:
    return bool(labels) and labels[0].lower().strip("_") in BACKGROUND


def _finite(value: npt.NDArray[Any]) -> bool:
    return value.dtype.kind != "f" or bool(np.isfinite(value).all())


def _alike(one: Detections, other: Detections) -> bool:
    """Whether two looks at one picture saw the same."""
    return (
        one.labels == other.labels
        and np.allclose(one.boxes, other.boxes, atol=0.02)
        and np.allclose(one.scores, other.scores, atol=0.05)
    )
