"""`forecourt-edge check-model`: what a network is, and whether it sees what is known to be there.

Here: the command and its words. Not here: what a network must see (vision.trial), how it is read
(vision.detect).
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

import cv2

from edge.clock import Clock
from edge.vision import trial
from edge.vision.detect import Detector
from edge.vision.manifest import ModelError, at
from edge.vision.trial import Trial

BAD_INPUT = 2
REFUSED = 1
TIMED_LOOKS = 5


def command(
    file: Path,
    clock: Clock,
    *,
    picture: Path | None = None,
    threads: int = 1,
    inference: Sequence[str] = ("cpu",),
    as_json: bool = False,
    out: TextIO | None = None,
    err: TextIO | None = None,
) -> int:
    """Load a network, try it, and tell. Returns the exit code: 1 if it would be refused."""
    out, err = out or sys.stdout, err or sys.stderr
    cv2.setNumThreads(threads)
    try:
        shown = None if picture is None else trial.read(picture)
        detector = Detector(at(file), threads=threads, inference=inference)
        came = trial.try_out(detector, clock, shown, looks=TIMED_LOOKS)
    except ModelError as error:
        if as_json:
            out.write(json.dumps({"ok": False, "reason": str(error)}) + "\n")
        else:
            err.write(f"{error}\n")
        return BAD_INPUT
    told = _told(detector, came)
    out.write(json.dumps(told) + "\n" if as_json else _as_text(told))
    return 0 if came.ok else REFUSED


def _told(detector: Detector, came: Trial) -> dict[str, Any]:
    width, height = detector.input_size
    return {
        "model": detector.manifest.name,
        "layout": detector.layout,
        "input": {"width": width, "height": height, **asdict(detector.pixels)},
        "labels": list(detector.labels),
        "inference": detector.provider,
        "ok": came.ok,
        "reason": came.reason,
        "found": [asdict(each) for each in came.found],
        "ms": round(came.ms, 2),
    }


def _as_text(told: dict[str, Any]) -> str:
    wants, labels = told["input"], told["labels"]
    some = ", ".join(labels[:6]) + (f" and {len(labels) - 6} more" if len(labels) > 6 else "")
    lines = [
        f"{told['model']}: layout {told['layout']}, run by {told['inference']}",
        f"  input   {wants['width']}x{wants['height']} {wants['color']}, {wants['resize']}, scale "
        f"{wants['scale']:.6g}, mean {_three(wants['mean'])}, std {_three(wants['std'])}",
        f"  labels  {len(labels)}: {some}",
        f"  time    {told['ms']:.1f} ms a picture",
    ]
    for each in told["found"]:
        box = " ".join(f"{side:.3f}" for side in each["box"])
        lines.append(f"  found   {each['label']} {each['score']:.2f} at {box}")
    lines.append(f"{'good' if told['ok'] else 'REFUSED'}: {told['reason']}")
    return "\n".join(lines) + "\n"


def _three(values: Sequence[float]) -> str:
    return "/".join(f"{value:g}" for value in values)
