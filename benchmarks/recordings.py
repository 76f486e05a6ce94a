"""The real recordings of the assets, and the task that watches each.

Here: which files, their subjects, two kinds of tasks. Not here: their encodings (encodings.py).
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import stage
from wire import specs

SEEN_BY = "present"
"""The rule that sees each object wherever it is."""
PEOPLE, VEHICLES = ["person"], ["car", "truck", "bus", "motorcycle", "bicycle"]

_SUBJECTS = {
    "one-by-one-person-detection": PEOPLE,
    "worker-zone-detection": PEOPLE,
    "Retail02_short": PEOPLE,
    "walking": PEOPLE,
    "test2-cam-person1": PEOPLE,
    "issue53_brightness_change": PEOPLE,
    "foreman-hevc-384": PEOPLE,
    "car-detection": VEHICLES,
    "traffic_camera": VEHICLES,
    "traffic_camera_vfr": VEHICLES,
    "Traffic": VEHICLES,
    "Traffic2": VEHICLES,
    "video02": VEHICLES,
    "cars_768x768": VEHICLES,
}
"""The others are watched for both."""


def assets() -> Path | None:
    """The folder of the real material, where there is one."""
    folder = Path(os.environ.get("FORECOURT_ASSETS", stage.ROOT.parent / "shared" / "assets"))
    return folder if (folder / "videos").is_dir() else None


def recordings(folder: Path) -> Iterator[Path]:
    """Every recording; the awkward ones last."""
    videos = folder / "videos"
    for where in (videos, videos / "awkward"):
        yield from sorted(each for each in where.iterdir() if each.is_file())


def task(recording: str) -> specs.Task:
    """Its task: presence anywhere and in the middle, a line across, a crowd.

    `recording` is the file's name without suffix. No rule needs to see what is shorter than 2 s.
    """
    classes = _SUBJECTS.get(recording, PEOPLE + VEHICLES)
    least: dict[str, Any] = {"min_visit": "2s"}
    rules = [
        {"name": SEEN_BY, "when": {"class": classes}, **least},
        {"name": "in-the-middle", "when": {"class": classes, "in": "middle"}, "for": "2s"},
        {"name": "across", "when": {"class": classes, "crosses": "half"}, **least},
        {
            "name": "crowd",
            "when": {"count": {"class": classes, "in": "middle"}, "at_least": 3},
            "for": "2s",
        },
    ]
    made = specs.parse(
        {
            "kind": "Task",
            "metadata": {"name": "watch", "station": "benchmark"},
            "spec": {
                "camera": "recorded",
                "fps": 5,
                "model": {"name": "yolox-nano"},
                "zones": {"middle": [[0.25, 0.2], [0.75, 0.2], [0.75, 1.0], [0.25, 1.0]]},
                "lines": {"half": [[0.5, 1.0], [0.5, 0.0]]},
                "rules": rules,
            },
        }
    )
    assert isinstance(made, specs.Task)
    return made
