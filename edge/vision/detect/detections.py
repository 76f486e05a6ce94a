"""What detectors give, and what they are given. Not here: how one comes from the other."""

from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

SCORE_FLOOR = 0.1
"""Weaker detections are dropped. The tracker makes use of those between here and `min_score`."""

Image = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Whole = npt.NDArray[np.int32]
Size = tuple[int, int]
"""Width, height."""


@dataclass(frozen=True, slots=True)
class Detections:
    """What a network sees in one picture, best first. One row for each object."""

    boxes: Floats
    """N × 4: x1, y1, x2, y2 as fractions of the picture, within 0..1."""
    scores: Floats
    """N: 0..1."""
    labels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)


class Raw(NamedTuple):
    """Candidates of one picture, in pixels of the network's input."""

    boxes: Floats
    """N × 4: x1, y1, x2, y2."""
    scores: Floats
    classes: Whole


class Picture(Protocol):
    """What `Detector.detect_frame` needs of a frame: see edge.video.decode.Frame."""

    @property
    def size(self) -> Size: ...

    def image(
        self,
        width: int,
        height: int,
        *,
        resize: Literal["letterbox", "letterbox-centred", "stretch"],
        pad: int,
        color: Literal["BGR", "RGB"],
    ) -> Image: ...
