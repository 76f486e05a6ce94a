"""What the reading of number plates costs, and what it reads on the photographs of the assets.

Two photographs of one plate each prove little: no night, no rain, no other country's plates. Each
is made smaller as if the camera were farther away, and read with and without a detector that
finds the plate first. CPU seconds, one thread; the first reading of each is not counted.

    python -m benchmarks.plates --json
"""

import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks import stage
from edge.ocr import Ocr
from edge.plates import LOWER, MOST_SIDE
from edge.vision.detect import Detector
from edge.vision.manifest import find
from edge.vision.plates import plates_of

ASSETS = Path(os.environ.get("FORECOURT_ASSETS", "../shared/assets"))
PHOTOGRAPHS = {
    "2.jpg": ((0.0, 0.0, 1.0, 1.0), 380, "藏DT5022"),
    "test_img.jpg": ((0.31, 0.31, 0.99, 0.91), 110, "苏ED51712"),
}
"""By file: where the vehicle is, how many pixels its plate is wide, and what is written on it."""
SCALES = (1.0, 0.75, 0.5, 0.35, 0.25)
MIN_SCORE = 0.6
REPEATS = 3
_MANIFEST = """\
name = "plate"
file = "plate.onnx"
layout = "yolov5-face"
labels = ["single", "double"]
[check]
picture = "none"
"""


def main() -> int:
    """0 when measured."""
    given = stage.parser(__doc__).parse_args()
    before_mb = _held_mb()
    ocr = Ocr()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for way, detector in (("text", None), ("detector", _detector(Path(folder)))):
            for name, (box, plate_px, plate) in PHOTOGRAPHS.items():
                for scale in SCALES:
                    image = _vehicle(name, box, scale, whole=detector is not None)
                    row = _read(ocr, detector, image, plate)
                    rows.append(
                        {"way": way, "photograph": name, "plate_px": round(plate_px * scale), **row}
                    )
                    stage.say(str(rows[-1]))
    result: dict[str, Any] = {"benchmark": "plates", "memory_mb": _held_mb() - before_mb}
    for way in ("text", "detector"):
        mine = [row for row in rows if row["way"] == way]
        result[f"{way}_cpu_ms"] = round(float(np.median([row["cpu_ms"] for row in mine])))
        result[f"{way}_cpu_ms_most"] = max(row["cpu_ms"] for row in mine)
        result[f"{way}_whole"] = sum(row["said"] == row["plate"] for row in mine)
        result[f"{way}_but_province"] = sum(row["said"][1:] == row["plate"][1:] for row in mine)
        result[f"{way}_wrong"] = sum(
            bool(row["said"]) and row["said"][1:] != row["plate"][1:] for row in mine
        )
        result[f"{way}_readings"] = len(mine)
    stage.finish({**result, "rows": rows}, given)
    return 0


def _detector(folder: Path) -> Detector:
    """The plate detector of the assets."""
    (folder / "plate").mkdir()
    (folder / "plate" / "plate.onnx").symlink_to(
        (ASSETS / "models/hyperlpr_plate_320.onnx").resolve()
    )
    (folder / "plate" / "model.toml").write_text(_MANIFEST)
    return Detector(find([folder], "plate"))


def _vehicle(
    name: str, box: tuple[float, float, float, float], scale: float, *, whole: bool
) -> "np.typing.NDArray[np.uint8]":
    """The part of a photograph that would be read, as from farther away."""
    image = cv2.imread(str(ASSETS / "eval/plates_hyperlpr" / name))
    assert image is not None, f"no {name} in {ASSETS}: set FORECOURT_ASSETS"
    height, width = image.shape[:2]
    x1, y1, x2, y2 = box
    y1 += 0 if whole else (y2 - y1) * LOWER
    part = image[int(y1 * height) : int(y2 * height), int(x1 * width) : int(x2 * width)]
    scale = min(scale, MOST_SIDE / max(part.shape[:2]))
    return np.asarray(
        cv2.resize(part, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8
    )


def _read(
    ocr: Ocr, detector: Detector | None, image: "np.typing.NDArray[np.uint8]", plate: str
) -> dict[str, Any]:
    lines = ocr.read(image, detector)
    began_s = time.process_time()
    for _ in range(REPEATS):
        ocr.read(image, detector)
    cpu_ms = round((time.process_time() - began_s) / REPEATS * 1000)
    found = plates_of(lines, "cn", MIN_SCORE)
    said, score = (found[0].text, round(found[0].score, 2)) if found else ("", 0.0)
    return {"plate": plate, "said": said, "score": score, "cpu_ms": cpu_ms}


def _held_mb() -> int:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    raise SystemExit(main())
