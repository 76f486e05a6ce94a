"""Pictures as a network wants them: what families of networks usually want, and the conversion.

Here: colours, scale, axes, bytes or floats, where in the input a picture lies; stills. Not here:
the frames of a stream and their resizing (edge/video/decode.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from edge.vision.detect.detections import Floats, Image, Size
from wire.manifest import Input

Channels = tuple[float, float, float]
Resize = Literal["letterbox", "letterbox-centred", "stretch"]

_IMAGENET_MEAN: Channels = (0.485, 0.456, 0.406)
_IMAGENET_STD: Channels = (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True)
class Pixels:
    """What becomes of a picture: (value * scale - mean) / std, in this order of colours."""

    color: Literal["BGR", "RGB"]
    scale: float = 1.0
    mean: Channels = (0.0, 0.0, 0.0)
    std: Channels = (1.0, 1.0, 1.0)
    resize: Resize = "letterbox"
    pad: int = 114

    def told(self, wants: Input) -> "Pixels":
        """These, but for what a manifest says; whoever says one of the numbers says all three."""
        said = wants.model_dump(
            include={"color", "scale", "mean", "std", "resize", "pad"}, exclude_none=True
        )
        if said.keys() & {"scale", "mean", "std"}:
            said = {"scale": 1.0, "mean": (0.0,) * 3, "std": (1.0,) * 3} | said
        return replace(self, **said)


YOLOX = Pixels("BGR")
"""Today's YOLOX: plain bytes. The first release wanted `IMAGENET`'s numbers."""
UNIT = Pixels("RGB", scale=1 / 255, resize="letterbox-centred")
"""Ultralytics and most of what descends from Darknet."""
UNIT_STRETCHED = Pixels("RGB", scale=1 / 255, resize="stretch")
"""RT-DETR, D-FINE, DEIM."""
IMAGENET = Pixels("RGB", 1 / 255, _IMAGENET_MEAN, _IMAGENET_STD, "stretch")
"""DETR, PicoDet, and what begins with a classifier of torchvision or PaddlePaddle."""
CAFFE = Pixels("BGR", 1.0, (103.53, 116.28, 123.675), (57.375, 57.12, 58.395), "stretch")
"""NanoDet and MMDetection: ImageNet's numbers for bytes."""
SCRFD = Pixels("RGB", 1.0, (127.5,) * 3, (128.0,) * 3, "letterbox", 0)
"""InsightFace's detectors."""
CENTRED = Pixels("RGB", 1.0, (127.0,) * 3, (128.0,) * 3, "stretch")
"""Small SSDs, faces among them: about -1..1."""
PLAIN = Pixels("RGB", resize="stretch")
"""Graphs that hold the conversion themselves, as TensorFlow's do."""

KNOWN: tuple[Pixels, ...] = (
    YOLOX,
    UNIT,
    IMAGENET,
    CAFFE,
    CENTRED,
    PLAIN,
    replace(UNIT, color="BGR"),
)
"""What networks were trained with, the most usual first."""


class Converter:
    """Fills the input tensor of a network, again and again the same one. For one thread.

    `dtype` is the tensor's; bytes are given as they are, without scale or mean.
    """

    def __init__(self, pixels: Pixels, size: Size, dtype: npt.DTypeLike, *, last: bool) -> None:
        """`last`: the colours come after the columns (NHWC)."""
        self._dtype = np.dtype(dtype)
        self._last = last
        self._size = size
        std = np.asarray(pixels.std, np.float64)
        self._factor = (pixels.scale / std).astype(np.float32).reshape(3, 1, 1)
        self._offset = (np.asarray(pixels.mean) / std).astype(np.float32).reshape(3, 1, 1)
        self._scaled, self._moved = bool((self._factor != 1).any()), bool(self._offset.any())
        self._planes = np.empty((3, size[1], size[0]), np.uint8)
        self._floats = np.empty(self._planes.shape, np.float32)
        self._blob = np.empty((0,), self._dtype)

    def blob(self, images: Sequence[Image], count: int) -> npt.NDArray[Any]:
        """The images as a tensor of `count` pictures; those that lack are left as they were."""
        width, height = self._size
        shape = (count, height, width, 3) if self._last else (count, 3, height, width)
        if self._blob.shape != shape:
            self._blob = np.zeros(shape, self._dtype)
        for place, image in zip(self._blob, images, strict=False):
            planes = place.transpose(2, 0, 1) if self._last else place
            cv2.split(image, list(self._planes))
            if self._dtype == np.uint8 or not (self._scaled or self._moved):
                planes[:] = self._planes
            elif self._dtype == np.float32 and not self._last:
                self._convert(planes)
            else:
                self._convert(self._floats)
                planes[:] = self._floats
        return self._blob

    def _convert(self, into: Floats) -> None:
        np.multiply(self._planes, self._factor, out=into)
        if self._moved:
            np.subtract(into, self._offset, out=into)


def fitted(picture: Image, pixels: Pixels, size: Size) -> Image:
    """A still picture (BGR) as a network's input: resized, placed, in its colours."""
    height, width = picture.shape[:2]
    used = size
    if pixels.resize != "stretch":
        ratio = min(size[0] / width, size[1] / height)
        used = max(1, round(width * ratio)), max(1, round(height * ratio))
    if pixels.color == "RGB":
        picture = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)
    smaller = used[0] < width
    how = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    scaled = cv2.resize(picture, used, interpolation=how).astype(np.uint8, copy=False)
    if used == size:
        return scaled
    image = np.full((size[1], size[0], 3), pixels.pad, np.uint8)
    centred = pixels.resize == "letterbox-centred"
    left, top = ((size[0] - used[0]) // 2, (size[1] - used[1]) // 2) if centred else (0, 0)
    image[top : top + used[1], left : left + used[0]] = scaled
    return image


def extent(pixels: Pixels, size: Size, shape: Size) -> tuple[Floats, Floats]:
    """Where a picture of a shape lies in the input: its left top and its width and height.

    Both as x, y, x, y in pixels of the input.
    """
    width, height = size
    if pixels.resize == "stretch":
        return np.zeros(4, np.float32), np.array((width, height) * 2, np.float32)
    ratio = min(width / shape[0], height / shape[1])
    used = (shape[0] * ratio, shape[1] * ratio)
    left, top = 0, 0
    if pixels.resize == "letterbox-centred":
        whole = (max(1, round(used[0])), max(1, round(used[1])))
        left, top = (width - whole[0]) // 2, (height - whole[1]) // 2
    return np.array((left, top) * 2, np.float32), np.array(used * 2, np.float32)
