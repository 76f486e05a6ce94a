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

INSTALL = "pip install 'forecourt[edge,plates]'"
MARGIN = 0.3
"""What is read around a plate that was found, in its own size: text at the very edge is missed."""
LEAST_SIDE = 320
"""A smaller picture is enlarged before text is looked for."""
MAX_LINES = 50


class Ocr:
    """The library, loaded and tried. Raises ModelError if it is not there or does not work.

    About 200 MB; one thread. Not for use by two threads at once.
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
        """The lines in a picture, height × width × 3, BGR, from top to bottom.

        With a detector only the surest plate that it finds is read, and its lines also as one.
        """
        if detector is not None:
            plate = _plate(image, detector)
            if plate is None:
                return ()
            image = plate
        result = self._engine(np.ascontiguousarray(image))
        lines = tuple(
            Reading(str(text), float(score))
            for text, score in zip(result.txts or (), result.scores or (), strict=True)
        )[:MAX_LINES]
        if detector is not None and len(lines) > 1:
            whole = "".join(line.text for line in lines)
            return (*lines, Reading(whole, min(line.score for line in lines)))
        return lines


def _only(models: Path, pattern: str) -> Path:
    """The network of a kind that the library brings along."""
    found = sorted(models.glob(pattern))
    if len(found) != 1:
        raise ModelError(
            f"plates: {len(found)} files {pattern} instead of one in {models}; "
            f"install the library again: {INSTALL}"
        )
    return found[0]


def _plate(image: Image, detector: Detector) -> Image | None:
    """The part with the surest plate; None if none is found."""
    detections = detector.detect_frame(still(image))
    if not len(detections):
        return None
    height, width = image.shape[:2]
    x1, y1, x2, y2 = detections.boxes[0] * (width, height, width, height)
    beside, above = (x2 - x1) * MARGIN, (y2 - y1) * MARGIN
    left, top = max(0, round(x1 - beside)), max(0, round(y1 - above))
    right, bottom = round(x2 + beside), round(y2 + above)
    part = image[top:bottom, left:right]
    return part if part.size else None
