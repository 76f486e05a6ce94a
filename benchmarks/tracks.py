"""Tracks against the truth, beside a plain SORT; and against those that ByteTrack makes.

Here: which detections each tracker gets, and what comes of it. Not here: scenes (crowds.py), their
detections (guesses.py), SORT (sort.py), figures (mot.py).
"""

import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from benchmarks import crowds, guesses, mot
from benchmarks.guesses import Guess
from benchmarks.sort import Setting, Sort
from edge.vision.detect import Detections
from edge.vision.track import LIKE, Tracker

Floats = npt.NDArray[np.float64]
T = TypeVar("T")

FOLDER = Path(".bench/crowds")
SCENES = range(50)
OTHER_SCENES = range(100, 104)
"""SORT's settings are chosen on these."""
RATES = {"full": 1, "one_in_five": 5}
MIN_SCORE = 0.35
PATIENCE_S = 2.0
"""What a task has that says nothing else."""

# The best of `SETTINGS` by the sum of MOTA, IDF1 and HOTA on `OTHER_SCENES` (`--tune`).
SORT = {
    "full": Setting(max_age=50, min_hits=0, least_iou=0.3, least_score=0.35),
    "one_in_five": Setting(max_age=25, min_hits=0, least_iou=0.1, least_score=0.35),
}
SETTINGS = [Setting(*each) for each in product((5, 25, 50), (0, 1), (0.1, 0.3), (0.35, 0.45))]

PALACE = Path("eval/bytetrack_cpp_palace")
PALACE_SIZE = np.array([1920.0, 1080.0, 1920.0, 1080.0])
PALACE_FPS = 30
BYTETRACK_BEGINS = 0.6
"""The score with which its tracks begin, as its authors' settings are."""


def scenes_measured() -> dict[str, Any]:
    """Ours beside SORT on all scenes, and by how much ours is lower or higher."""
    return _compared(_each(_tracked, SCENES))


def _compared(scores: Sequence[dict[str, mot.Score]]) -> dict[str, Any]:
    made: dict[str, Any] = {"scenes": len(scores)}
    leads: list[float] = []
    higher = 0
    for rate in RATES:
        ours, sort = (mot.together(each[f"{who}_{rate}"] for each in scores).figures()
                      for who in ("ours", "sort"))  # fmt: skip
        made[rate] = {"ours": ours, "sort": sort, "sort_setting": str(SORT[rate])}
        leads += [ours[name] - sort[name] for name in ("mota", "idf1", "hota")]
        higher += ours["switches"] < sort["switches"]
    made["least_lead"] = round(min(leads), 4)
    higher += sum(each > 0 for each in leads)
    made["higher"] = f"{higher} of {len(leads) + len(RATES)}"
    return made


def _tracked(seed: int) -> dict[str, mot.Score]:
    """Both trackers at both rates over one scene, with the same detections."""
    truth = crowds.looks(seed, FOLDER)
    found = list(guesses.guesses(seed, truth))
    scores = {}
    for rate, every in RATES.items():
        real = [mot.Shown(look.ids, look.boxes) for look in truth[::every]]
        scores[f"ours_{rate}"] = mot.score(real, ours(found[::every], crowds.FPS / every))
        scores[f"sort_{rate}"] = mot.score(real, sort(found[::every], SORT[rate]))
    return scores


def ours(found: Sequence[Guess], fps: float) -> list[mot.Shown]:
    """What our tracker sees, as a task has it that says nothing else."""
    made = Tracker(min_score=MIN_SCORE, fps=fps, patience_s=PATIENCE_S)
    return [_seen(made, detections(each), n / fps) for n, each in enumerate(found)]


def sort(found: Sequence[Guess], setting: Setting) -> list[mot.Shown]:
    """What SORT shows."""
    made = Sort(setting)
    return [
        made.update([LIKE.get(label, label) for label in each.labels], each.scores, each.boxes)
        for each in found
    ]


def detections(guess: Guess) -> Detections:
    """As from a detector."""
    boxes, scores = guess.boxes.astype(np.float32), guess.scores.astype(np.float32)
    return Detections(boxes, scores, guess.labels)


def _seen(tracker: Tracker, found: Detections, pts_s: float) -> mot.Shown:
    tracks = [track for track in tracker.update(found, pts_s) if track.seen]
    boxes = np.array([track.box for track in tracks], np.float64).reshape(-1, 4)
    return mot.Shown([track.id for track in tracks], boxes)


# --- SORT's best setting -----------------------------------------------------------------------


def tuned() -> dict[str, Any]:
    """The best of `SETTINGS` for SORT at each rate, on scenes that are not measured."""
    tried = _each(_tried, OTHER_SCENES)
    best: dict[str, Any] = {}
    for rate in RATES:
        totals = {
            setting: mot.together(each[rate, setting] for each in tried) for setting in SETTINGS
        }
        setting = max(totals, key=lambda s: totals[s].mota + totals[s].idf1 + totals[s].hota)
        best[rate] = {"setting": str(setting), **totals[setting].figures()}
    return best


def _tried(seed: int) -> dict[tuple[str, Setting], mot.Score]:
    truth = crowds.looks(seed, FOLDER)
    found = list(guesses.guesses(seed, truth))
    made = {}
    for rate, every in RATES.items():
        real = [mot.Shown(look.ids, look.boxes) for look in truth[::every]]
        for setting in SETTINGS:
            made[rate, setting] = mot.score(real, sort(found[::every], setting))
    return made


# --- ByteTrack ---------------------------------------------------------------------------------


def palace_measured(assets: Path, thinned: Sequence[int] = (1, 2, 6)) -> dict[str, Any]:
    """How far our tracks are ByteTrack's own, of its authors' detections of a crowd.

    `assets` is the assets' folder. At 30 looks a second as they took them, and thinned: their
    tracks, made of all looks, are then what is compared with.
    """
    folder = assets / PALACE
    found = _by_look(json.loads((folder / "detection_results.json").read_text()))
    theirs = _by_look(json.loads((folder / "tracking_results.json").read_text()))
    made: dict[str, Any] = {}
    for every in thinned:
        score = palace_score(found, theirs, every)
        made[f"every_{every}"] = score.figures()
        if every == 1:
            made["palace_idf1"] = round(score.idf1, 4)
    return made


@dataclass(frozen=True, slots=True)
class Row:
    """One box of the files: its score or its track's number."""

    score: float
    track: int
    box: Floats


def palace_score(
    found: dict[int, list[Row]], theirs: dict[int, list[Row]], every: int
) -> mot.Score:
    """Ours of every so many looks, scored against theirs."""
    fps = PALACE_FPS / every
    made = Tracker(min_score=BYTETRACK_BEGINS, fps=fps, patience_s=1.0)
    tracks, truth = [], []
    for look in range(0, max(found) + 1, every):
        rows = found.get(look, [])
        scores = np.array([row.score for row in rows], np.float32)
        boxes = _boxes(rows).astype(np.float32)
        seen = Detections(boxes, scores, ("person",) * len(rows))
        tracks.append(_seen(made, seen, look / PALACE_FPS))
        real = theirs.get(look, [])
        truth.append(mot.Shown([row.track for row in real], _boxes(real)))
    return mot.score(truth, tracks)


def _by_look(results: dict[str, list[dict[str, str]]]) -> dict[int, list[Row]]:
    looks: dict[int, list[Row]] = {}
    for each in results["results"]:
        x, y, width, height = (float(each[key]) for key in ("x", "y", "width", "height"))
        box = np.array([x, y, x + width, y + height]) / PALACE_SIZE
        row = Row(float(each.get("prob", 1.0)), int(each.get("track_id", 0)), box)
        looks.setdefault(int(each["frame_id"]), []).append(row)
    return looks


def _boxes(rows: Sequence[Row]) -> Floats:
    return np.array([row.box for row in rows], np.float64).reshape(-1, 4)


def _each(work: Callable[[int], T], seeds: Sequence[int]) -> list[T]:
    """One after the other on each core."""
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        return list(pool.map(work, seeds))
