"""A plain SORT to compare with: what a tracker is without anything of ours.

A. Bewley et al., Simple Online and Realtime Tracking, 2016, from the paper: a Kalman filter of
constant velocity per frame over centre, area and aspect, boxes assigned by their overlap, tracks
shown after `min_hits` looks in a row and given up after `max_age` looks unseen. Here one for each
kind of object, and detections below `least_score` are left out, as its users do.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.mot import Shown, iou
from edge.vision.assign import assign

Floats = npt.NDArray[np.float64]

SCALE = np.array([1280.0, 720.0, 1280.0, 720.0])
"""The filter's noise is in pixels; this is the picture's size."""

_MOVE = np.eye(7)
_MOVE[:3, 4:] = np.eye(3)
_SEEN = np.eye(4, 7)
_SEEN_NOISE = np.diag([1.0, 1.0, 10.0, 10.0])
_MOVE_NOISE = np.diag([1.0, 1.0, 1.0, 1.0, 0.01, 0.01, 0.0001])
_FIRST = np.diag([10.0, 10.0, 10.0, 10.0, 10000.0, 10000.0, 10000.0])


@dataclass(frozen=True, slots=True)
class Setting:
    """What a user of SORT chooses."""

    max_age: int = 1
    min_hits: int = 3
    least_iou: float = 0.3
    least_score: float = 0.35


@dataclass(slots=True)
class _Object:
    number: int
    kind: str
    state: Floats
    spread: Floats
    unseen: int = 0
    streak: int = 0

    @property
    def box(self) -> Floats:
        x, y, area, aspect = self.state[:4]
        width = float(np.sqrt(max(area * aspect, 1e-9)))
        height = area / max(width, 1e-9)
        return np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2])


class Sort:
    """The tracker over one sequence of looks."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._objects: list[_Object] = []
        self._looks = 0
        self._given = 0

    def update(self, kinds: Sequence[str], scores: Floats, boxes: Floats) -> Shown:
        """What is shown after a look; boxes are N × 4 in parts of the picture."""
        self._looks += 1
        for each in self._objects:
            if each.state[2] + each.state[6] <= 0:
                each.state[6] = 0.0
            each.state = _MOVE @ each.state
            each.spread = _MOVE @ each.spread @ _MOVE.T + _MOVE_NOISE
            each.streak = each.streak if each.unseen == 0 else 0
            each.unseen += 1
        wanted = np.flatnonzero(scores >= self._setting.least_score)
        seen = boxes[wanted] * SCALE
        own = [kinds[row] for row in wanted.tolist()]
        overlap = iou(np.array([each.box for each in self._objects]).reshape(-1, 4), seen)
        like = [[each.kind == kind for kind in own] for each in self._objects]
        overlap = np.where(np.array(like, bool).reshape(overlap.shape), overlap, 0.0)
        pairs = assign(overlap, 0.0)
        pairs = [pair for pair in pairs if overlap[pair] >= self._setting.least_iou]
        for at, row in pairs:
            _correct(self._objects[at], seen[row])
        taken = {row for _, row in pairs}
        for row in range(len(wanted)):
            if row not in taken:
                self._given += 1
                state = np.concatenate((_measured(seen[row]), np.zeros(3)))
                self._objects.append(_Object(self._given, own[row], state, _FIRST.copy()))
        self._objects = [e for e in self._objects if e.unseen <= self._setting.max_age]
        early = self._looks <= self._setting.min_hits
        shown = [
            each for each in self._objects
            if each.unseen == 0 and (each.streak >= self._setting.min_hits or early)
        ]  # fmt: skip
        where = np.array([each.box for each in shown]).reshape(-1, 4) / SCALE
        return Shown([each.number for each in shown], where)


def _measured(box: Floats) -> Floats:
    width, height = box[2:] - box[:2]
    centre = (box[:2] + box[2:]) / 2
    return np.array([*centre, width * height, width / max(height, 1e-9)])


def _correct(each: _Object, box: Floats) -> None:
    off = _measured(box) - _SEEN @ each.state
    total = _SEEN @ each.spread @ _SEEN.T + _SEEN_NOISE
    gain = each.spread @ _SEEN.T @ np.linalg.inv(total)
    each.state = each.state + gain @ off
    each.spread = (np.eye(7) - gain @ _SEEN) @ each.spread
    each.unseen = 0
    each.streak += 1
