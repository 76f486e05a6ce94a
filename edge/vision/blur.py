"""Areas of a picture that nobody may recognise, made so.

Here: which areas, and how they are hidden in a picture that is stored or shown. Not here: which
motion counts (motion.py), making a JPEG (edge/video/jpeg.py).

Masks are filled; blurred areas become the means of coarse cells, smoothed. Neither can be undone:
what differs within a cell is gone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from edge.vision.geometry import Box, Point
from wire import specs

Image = npt.NDArray[np.uint8]

CELLS = 40
"""Cells along the longer side of the whole picture: a plate or a face has one or two of them."""
FILL = 114
WHOLE: Box = (0.0, 0.0, 1.0, 1.0)
_SHIFT = 4
"""Corners are exact to 1/16 of a pixel."""


@dataclass(frozen=True, slots=True)
class Hidden:
    """What is hidden in the pictures of a stream, whoever asks for them: polygons, 0..1."""

    masks: tuple[tuple[Point, ...], ...] = ()
    blurs: tuple[tuple[Point, ...], ...] = ()


def hidden_by(tasks: Iterable[specs.Task]) -> Hidden:
    """What any of a stream's tasks hides."""
    watching = list(tasks)
    masks = (polygon for task in watching for polygon in task.spec.masks.values())
    blurs = (polygon for task in watching for polygon in task.spec.blur.values())
    return Hidden(tuple(dict.fromkeys(masks)), tuple(dict.fromkeys(blurs)))


def hide(image: Image, hidden: Hidden, window: Box = WHOLE) -> Image:
    """A picture, height × width × 3, without what is hidden; itself where that is nothing.

    `window` is the part of the stream's picture that it shows.
    """
    blurred = _covered(image, hidden.blurs, window)
    if blurred is not None:
        image = np.where(blurred[:, :, None], _coarse(image, window), image)
    masked = _covered(image, hidden.masks, window)
    if masked is not None:
        image = np.where(masked[:, :, None], np.uint8(FILL), image)
    return image


def _covered(
    image: Image, polygons: Sequence[Sequence[Point]], window: Box
) -> npt.NDArray[np.bool_] | None:
    """The pixels in any of the polygons or on their edges; None if there is none."""
    height, width = image.shape[:2]
    covered = np.zeros((height, width), np.uint8)
    origin, extent = np.array(window[:2]), np.array((window[2] - window[0], window[3] - window[1]))
    for polygon in polygons:
        at = (np.array(polygon) - origin) / extent * (width, height)
        # Far corners are cut off below what OpenCV's fixed point holds.
        fixed = np.round((at - 0.5) * 2**_SHIFT).clip(-(2**24), 2**24).astype(np.int32)
        cv2.fillPoly(covered, [fixed], (1,), shift=_SHIFT)
        cv2.polylines(covered, [fixed], True, (1,), thickness=2, shift=_SHIFT)
    return covered.astype(bool) if covered.any() else None


def _coarse(image: Image, window: Box) -> Image:
    """The picture as the means of its cells, smoothed."""
    height, width = image.shape[:2]
    whole = max(width / (window[2] - window[0]), height / (window[3] - window[1]))
    cell = max(1.0, whole / CELLS)
    size = max(1, round(width / cell)), max(1, round(height / cell))
    means = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(means, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
