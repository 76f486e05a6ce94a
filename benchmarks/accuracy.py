"""How right what is seen is: detectors, tracks and rules against what is known to be true.

    python -m benchmarks.accuracy --json
    python -m benchmarks.accuracy --part scenes

Parts: `pictures` (labelled pictures), `palace` (a crowd that ByteTrack followed), `scenes` (50
rendered ones beside a plain SORT), `rules` (incidents of rendered scenes). Those that need the
assets are left out without them. Ends with 1 if a bar is missed; `missed_bars` names it.
"""

import argparse
import importlib
import time
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks import recordings, stage, tracks

Figures = Mapping[str, Any]

PARTS = ("pictures", "palace", "scenes", "rules")
LEAST = {
    "palace_idf1": 0.90,
    "least_lead": -0.01,
    "perfect_precision": 0.98,
    "perfect_recall": 0.98,
}
MOST = {"map_diff_max": 0.005}


def main() -> int:
    """0 where every bar of the parts that ran is reached."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__)
    parser.add_argument("--part", action="append", choices=PARTS, help="only this; repeatable")
    parser.add_argument("--tune", action="store_true", help="find SORT's best settings instead")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    given = parser.parse_args()
    began_s = time.monotonic()
    if given.tune:
        stage.finish({"benchmark": "accuracy", "sort": tracks.tuned()}, given)
        return 0
    figures: dict[str, Any] = {"benchmark": "accuracy"}
    for part in given.part or PARTS:
        measured = _part(part)
        if measured is None:
            stage.say(f"{part}: left out, the assets are not here")
            continue
        stage.say(f"{part}: measuring")
        figures[part] = measured()
        stage.say(f"{part}: {figures[part]}")
    figures["missed_bars"] = sorted(_missed(figures))
    figures["wall_s"] = round(time.monotonic() - began_s, 1)
    stage.finish(figures, given)
    return 1 if figures["missed_bars"] else 0


def _part(name: str) -> Callable[[], Figures] | None:
    """What measures a part; nothing if it lacks the assets."""
    assets = recordings.assets()
    match name:
        case "scenes":
            return tracks.scenes_measured
        case "rules":
            measured: Callable[[], Figures] = importlib.import_module("benchmarks.rules").measured
            return measured
        case "palace" if assets:
            return lambda: tracks.palace_measured(assets)
        case "pictures" if assets:
            pictures = importlib.import_module("benchmarks.pictures")
            return lambda: pictures.measured(assets)
    return None


def _missed(figures: Figures) -> set[str]:
    """The bars that a figure of this name, wherever it stands, does not reach."""
    missed: set[str] = set()
    for name, value in figures.items():
        if isinstance(value, Mapping):
            missed |= _missed(value)
        elif (name in LEAST and value < LEAST[name]) or (name in MOST and value > MOST[name]):
            missed.add(name)
    return missed


if __name__ == "__main__":
    raise SystemExit(main())
