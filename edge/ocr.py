"""Lines of text in a picture, read by a library that a worker may lack.

Here: loading it with the networks that it brings along, and where in a picture it looks. Not here:
what a line means (vision/plates.py), when there is something to read (plates.py).

The library fetches networks that it does not find. It is given the paths of those that were
installed with it, and never asks the network.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.video.decode import still
from edge.vision.detect import Detector
from edge.vision.manifest import ModelError
from edge.vision.plates import Reading

Image = npt.NDArray[np.uint8]
Box = tuple[float, float, float, float]
"""x1, y1, x2, y2 in pixels."""

INSTALL = "pip install 'forecourt[edge,plates]'"
MARGIN = 0.3
"""What is read around a plate that was found, in its own size: text at the very edge is missed."""
MOST_TEXTS = 2
"""Lines that may be the plate, and are looked at from close by."""
LEAST_SIDE = 320
"""A smaller picture is enlarged before text is looked for."""
MAX_LINES = 50


class Ocr:
    """The library, loaded and tried. Raises ModelError if it is not there or does not work.

    Some 350 MB while it reads; one thread. Not for use by two threads at once.
    """

    def __init__(self) -> None:
        found = find_spec("rapidocr")
        if found is None or found.origin is None:
            raise ModelError(
                "plates: this worker has no library that reads them (rapidocr); "
                f"install it: {INSTALL}, or take `plates` out of the task"
            )
        models = Path(found.origin).parent / "models"
        try:
            # Half a second and 30 MB that most workers never need.
            from rapidocr import RapidOCR

            self._engine: Any = RapidOCR(
                params={
                    "Global.log_level": "critical",  # it would write lines of its own
                    "Global.use_cls": False,  # a plate is not upside down
                    "Det.model_path": str(_only(models, "*_det_*.onnx")),
                    "Det.limit_type": "min",
                    "Det.limit_side_len": LEAST_SIDE,
                    "Rec.model_path": str(_only(models, "*_rec_*.onnx")),
                    "EngineConfig.onnxruntime.intra_op_num_threads": 1,
                    "EngineConfig.onnxruntime.inter_op_num_threads": 1,
                }
            )
            self._engine.text_score = 0.0  # the task says what is too uncertain
            self._engine(np.full((LEAST_SIDE, LEAST_SIDE, 3), 114, np.uint8))
        except ModelError:
            raise
        except Exception as error:  # whatever it is, the worker goes on without
            said = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            raise ModelError(
                f"plates: loading the library that reads them (rapidocr): {said}; "
                f"install it again: {INSTALL}"
            ) from error

    def read(self, image: Image, detector: Detector | None = None) -> tuple[Reading, ...]:
        """The lines in the picture of a vehicle, height × width × 3, BGR, that may be its plate.

        Where they are is said by a detector of plates, or by the library itself. There it looks
        again, from close by: of small text it drops letters. Several lines also count as one.
        """
        found: list[Reading] = []
        for box in self._texts(image) if detector is None else _plates(image, detector):
            part = _around(image, box)
            if part.size:
                lines = [Reading(text, score) for text, score, _ in self._lines(part)]
                found += lines
                if len(lines) > 1:
                    whole = "".join(line.text for line in lines)
                    found.append(Reading(whole, min(line.score for line in lines)))
        return tuple(found)

    def _texts(self, image: Image) -> list[Box]:
        """Where the surest lines with a digit are."""
        lines = [line for line in self._lines(image) if any(map(str.isdigit, line[0]))]
        lines.sort(key=lambda line: -line[1])
        return [box for _, _, box in lines[:MOST_TEXTS]]

    def _lines(self, image: Image) -> list[tuple[str, float, Box]]:
        """Text, certainty and place of each line, from top to bottom."""
        result = self._engine(np.ascontiguousarray(image))
        if not result.txts:
            return []
        boxes = ((*corners.min(axis=0), *corners.max(axis=0)) for corners in result.boxes)
        found = zip(result.txts, map(float, result.scores), boxes, strict=True)
        return list(found)[:MAX_LINES]


def _only(models: Path, pattern: str) -> Path:
    """The network of a kind that the library brings along."""
    found = sorted(models.glob(pattern))
    if len(found) != 1:
        raise ModelError(
            f"plates: {len(found)} files {pattern} instead of one in {models}; "
            f"install the library again: {INSTALL}"
        )
    return found[0]


def _plates(image: Image, detector: Detector) -> list[Box]:
    """Where the surest plate is, if there is one."""
    height, width = image.shape[:2]
    boxes = detector.detect_frame(still(image)).boxes[:1] * (width, height, width, height)
    return [(x1, y1, x2, y2) for x1, y1, x2, y2 in boxes.tolist()]


def _around(image: Image, box: Box) -> Image:
    """What is in a box, and around it."""
    x1, y1, x2, y2 = box
    beside, above = (x2 - x1) * MARGIN, (y2 - y1) * MARGIN
    left, top = max(0, round(x1 - beside)), max(0, round(y1 - above))
    return image[top : round(y2 + above), left : round(x2 + beside)]
