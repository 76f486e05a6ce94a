"""A frame as a JPEG that fits.

Here: size and quality. Not here: which frame (reader), who wants it (calls), what is hidden in it
(edge/vision/blur.py).
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2

from edge.video.decode import Frame, Image

_QUALITIES = (85, 70, 50, 30)
_LEAST_WIDTH = 64
_SMALLER = 0.7


class JpegError(Exception):
    """No JPEG of the picture could be made that fits."""


@dataclass(frozen=True, slots=True)
class Jpeg:
    """An encoded picture and its size in pixels."""

    data: bytes
    width: int
    height: int


def jpeg(frame: Frame, width: int, max_bytes: int, hide: Callable[[Image], Image]) -> Jpeg:
    """A frame in its own shape, at most `width` wide and `max_bytes` long. Raises JpegError.

    What does not fit is compressed more strongly, and after that made smaller. `hide` takes out of
    the picture what nobody may recognise.
    """
    full_width, full_height = frame.size
    width = min(width, full_width)
    while True:
        height = max(1, round(full_height * width / full_width))
        image = hide(frame.image(width, height, resize="stretch"))
        for quality in _QUALITIES:
            made, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
            if not made:
                raise JpegError(f"the picture of {width}×{height} cannot be encoded")
            if data.nbytes <= max_bytes:
                return Jpeg(data.tobytes(), width, height)
        if width <= _LEAST_WIDTH:
            raise JpegError(f"the picture does not fit into {max_bytes} bytes")
        width = max(_LEAST_WIDTH, int(width * _SMALLER))
