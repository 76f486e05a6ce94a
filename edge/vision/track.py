"""Tracks out of detections: which object of this look is which object of the looks before.

Here: association and motion. Not here: what a track means for a rule (rules.py).

As in ByteTrack, strong detections are matched first, then weak ones to the tracks that are left, so
that an object that is half hidden keeps its number. Motion is in seconds, because looks are
irregular, and boxes are enlarged before they are compared, because at 5 looks a second a car moves
by its own length. Vehicles of different classes match each other: the same lorry is `car` in one
look and `truck` in the next; a track's class is what most of its looks say.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from edge.vision.detect import Detections
from edge.vision.geometry import Box

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]

LIKE: Mapping[str, str] = {
    **dict.fromkeys(("car", "truck", "bus", "van", "tanker", "pickup"), "vehicle"),
    **dict.fromkeys(("bicycle", "motorcycle"), "cycle"),
}
"""Classes that detectors take for each other. Any other class is only like itself."""

SURE_SCORE = 0.6
"""One look with this score makes a track; otherwise two looks do."""
SAME_BOX_IOU = 0.65
"""Two detections of like classes that overlap this much are one object with two names."""
VOTE_KEPT = 0.95
"""How much of a track's earlier votes on its class counts at the next look."""

# Stages of association: (enlarged by this part of its size on each side, least overlap then).
NEAR = (0.2, 0.30)
WEAK = (0.1, 0.45)
FAR = (0.5, 0.20)

# Motion, in object sizes: how it may accelerate (1/s2), how a new one may move (1/s), and how
# exact a box is.
ACCELERATION = 2.0
FIRST_SPEED = 3.0
BOX_NOISE = 0.05
COAST_S = 1.0
"""After this time unseen an object is expected to stay where it was expected last."""

HELD_S = 1.5
"""What was seen within this time before nothing changed any more is still there."""
MOVES_BY = 0.5
"""An object moves that was elsewhere by this part of its size `MOVES_WITHIN_S` ago."""
MOVES_WITHIN_S = 2.0
SAME_PLACE_IOU = 0.3
"""An object that overlaps another look's box by this much is where it was."""


@dataclass(frozen=True, slots=True)
class Track:
    """An object over time, as of one look."""

    id: int
    label: str
    score: float
    """The best of its looks so far: how sure it is that there is such an object."""
    box: Box
    """Where it is seen, or, if it is not, where it is expected."""
    seen: bool
    first_pts_s: float
    last_pts_s: float
    """When it was seen last."""


@dataclass(slots=True)
class _Life:
    """What a track remembers, apart from its motion."""

    like: str
    label: str
    first_pts_s: float
    last_pts_s: float
    score: float
    box: Box
    votes: dict[str, float]
    looks: int = 1
    id: int = 0
    """0 until it is confirmed."""
    was_s: float = 0.0
    was: Box | None = None
    """Where it was when `MOVES_WITHIN_S` began."""
    moved_s: float = -math.inf
    """When it was last found elsewhere."""


class Tracker:
    """The objects of one task on one stream. Bounded: `shed` counts what did not fit."""

    def __init__(
        self,
        *,
        min_score: float,
        fps: float,
        patience_s: float,
        max_tracks: int = 500,
        scores: Mapping[str, float] | None = None,
    ) -> None:
        """`patience_s` is how long an unseen track is kept.

        A detection of `min_score` makes a track, or of what `scores` says of its class.
        """
        self.shed = 0
        self._min_score = min_score
        self._scores = dict(scores or {})
        self._look_s = 1 / fps
        self._patience_s = patience_s
        self._max_tracks = max_tracks
        self._pts_s: float | None = None
        self._lives: list[_Life] = []
        self._motion = _Motion()
        self._given = 0
        self._held_from_s: float | None = None

    def update(self, detections: Detections, pts_s: float) -> list[Track]:
        """The confirmed tracks after a look, seen or expected, oldest first."""
        self._motion.predict(0.0 if self._pts_s is None else pts_s - self._pts_s)
        self._pts_s = pts_s
        self._held_from_s = None
        boxes = detections.boxes.astype(np.float64)
        like = np.array([LIKE.get(label, label) for label in detections.labels], dtype=object)
        rows = _without_doubles(boxes, like, detections)
        is_strong = self._is_strong(detections)
        strong, weak = rows[is_strong[rows]], rows[~is_strong[rows]]

        free, left = np.arange(len(self._lives)), strong
        pairs: list[tuple[int, int]] = []
        for (margin, least), candidates in ((NEAR, strong), (WEAK, weak), (FAR, strong)):
            free = _without(free, [track for track, _ in pairs])
            left = _without(candidates, [row for _, row in pairs])
            if not len(free) or not len(left):
                continue
            overlap = _overlap(self._motion.boxes[free], boxes[left], margin)
            own = np.array([self._lives[track].like for track in free], dtype=object)
            overlap[own[:, None] != like[left][None, :]] = 0
            pairs += [(int(free[a]), int(left[b])) for a, b in _greedy(overlap, least)]

        for track, row in pairs:
            self._saw(self._lives[track], detections, row, pts_s)
        self._motion.correct(np.array([t for t, _ in pairs], np.intp), boxes[[r for _, r in pairs]])
        self._forget(pts_s)
        self._begin(_without(strong, [row for _, row in pairs]), like, detections, pts_s)
        return self._confirmed(pts_s)

    def hold(self, pts_s: float) -> list[Track]:
        """The tracks after a picture in which nothing changed: what was just there still is."""
        if self._held_from_s is None:
            self._held_from_s = self._pts_s if self._pts_s is not None else pts_s
        for index, life in enumerate(self._lives):
            self._motion.halt(index)
            if life.id and life.last_pts_s >= self._held_from_s - HELD_S:
                life.last_pts_s = pts_s
        self._pts_s = pts_s
        self._forget(pts_s)
        return self._confirmed(pts_s)

    def differs(self, detections: Detections, matters: Callable[[Box], bool]) -> bool:
        """Whether these are other objects than those that `hold` holds, among those that matter.

        An object is missed only if not even a weak detection is where it was.
        """
        since_s = self._held_from_s if self._held_from_s is not None else self._pts_s
        held = [
            life for life in self._lives
            if life.id and since_s is not None and life.last_pts_s >= since_s - HELD_S
        ]  # fmt: skip
        places = np.array([life.box for life in held], np.float64).reshape(-1, 4)
        same = _overlap(places, detections.boxes.astype(np.float64), 0.0) >= SAME_PLACE_IOU
        strong = self._is_strong(detections)
        gone = (held[row].box for row in np.flatnonzero(~same.any(axis=1)))
        new = (_box(box) for box in detections.boxes[strong & ~same.any(axis=0)])
        return any(map(matters, gone)) or any(map(matters, new))

    def moving(self) -> list[Box]:
        """Where objects are that were just seen and move."""
        now_s = self._pts_s
        return [
            life.box
            for life in self._lives
            if life.id
            and now_s is not None
            and life.last_pts_s == now_s
            and now_s - life.moved_s <= MOVES_WITHIN_S
        ]

    def _is_strong(self, detections: Detections) -> npt.NDArray[np.bool_]:
        """Which detections are sure enough to make tracks."""
        if self._scores:
            wanted = [self._scores.get(label, self._min_score) for label in detections.labels]
            return detections.scores >= np.array(wanted, np.float32)
        return detections.scores >= self._min_score

    def _saw(self, life: _Life, detections: Detections, row: int, pts_s: float) -> None:
        label, score = detections.labels[row], float(detections.scores[row])
        for voted in life.votes:
            life.votes[voted] *= VOTE_KEPT
        life.votes[label] = life.votes.get(label, 0.0) + score
        if life.votes[label] > life.votes[life.label]:
            life.label = label
        life.looks += 1
        life.score = max(life.score, score)
        life.box = _box(detections.boxes[row])
        life.last_pts_s = pts_s
        if life.was is None or pts_s - life.was_s >= MOVES_WITHIN_S:
            if life.was is not None and _apart(life.was, life.box) >= MOVES_BY:
                life.moved_s = pts_s
            life.was, life.was_s = life.box, pts_s

    def _forget(self, pts_s: float) -> None:
        """Drop what was unseen for too long; what was seen only once, after two looks."""
        keep = []
        for index, life in enumerate(self._lives):
            patience_s = self._patience_s if life.id else 2 * self._look_s
            unseen_s = pts_s - life.last_pts_s
            if unseen_s > COAST_S:
                self._motion.halt(index)
            if unseen_s <= patience_s + 1e-6:
                keep.append(index)
        self._lives = [self._lives[index] for index in keep]
        self._motion.keep(np.array(keep, np.intp))

    def _begin(
        self, rows: Rows, like: npt.NDArray[np.object_], detections: Detections, pts_s: float
    ) -> None:
        room = max(0, self._max_tracks - len(self._lives))
        self.shed += max(0, len(rows) - room)
        best_first = rows[np.argsort(-detections.scores[rows], kind="stable")]
        for row in best_first[:room]:
            label, score = detections.labels[row], float(detections.scores[row])
            self._lives.append(
                _Life(
                    str(like[row]), label, pts_s, pts_s, score, _box(detections.boxes[row]),
                    {label: score},
                )
            )  # fmt: skip
        self._motion.add(detections.boxes[best_first[:room]].astype(np.float64))

    def _confirmed(self, pts_s: float) -> list[Track]:
        tracks = []
        for life, expected in zip(self._lives, self._motion.boxes, strict=True):
            if not life.id and (life.looks > 1 or life.score >= SURE_SCORE):
                self._given += 1
                life.id = self._given
            if life.id:
                seen = life.last_pts_s == pts_s
                box = life.box if seen else _box(expected.clip(0, 1))
                tracks.append(
                    Track(
                        life.id, life.label, life.score, box, seen, life.first_pts_s,
                        life.last_pts_s,
                    )
                )  # fmt: skip
        return tracks


@dataclass(slots=True)
class _Motion:
    """A Kalman filter of constant velocity for centre and size of every track at once."""

    place: Floats = field(default_factory=lambda: np.empty((0, 4)))
    """N × 4: centre x, centre y, width, height."""
    speed: Floats = field(default_factory=lambda: np.empty((0, 4)))
    place_var: Floats = field(default_factory=lambda: np.empty((0, 4)))
    cross_var: Floats = field(default_factory=lambda: np.empty((0, 4)))
    speed_var: Floats = field(default_factory=lambda: np.empty((0, 4)))

    @property
    def boxes(self) -> Floats:
        """N × 4: x1, y1, x2, y2 as expected now."""
        half = self.place[:, 2:] / 2
        return np.concatenate((self.place[:, :2] - half, self.place[:, :2] + half), axis=1)

    def predict(self, dt_s: float) -> None:
        """Move everything on by `dt_s` seconds."""
        push = (ACCELERATION * self._scale()) ** 2
        self.place = self.place + self.speed * dt_s
        self.place[:, 2:] = self.place[:, 2:].clip(1e-3, 1)
        self.place_var = (
            self.place_var
            + 2 * dt_s * self.cross_var
            + dt_s**2 * self.speed_var
            + push * dt_s**4 / 4
        )
        self.cross_var = self.cross_var + dt_s * self.speed_var + push * dt_s**3 / 2
        self.speed_var = self.speed_var + push * dt_s**2

    def correct(self, tracks: Rows, boxes: Floats) -> None:
        """Take in where these tracks were seen."""
        if not len(tracks):
            return
        noise = (BOX_NOISE * self._scale()[tracks]) ** 2
        total = self.place_var[tracks] + noise
        gain, speed_gain = self.place_var[tracks] / total, self.cross_var[tracks] / total
        off = _places(boxes) - self.place[tracks]
        self.place[tracks] += gain * off
        self.speed[tracks] += speed_gain * off
        self.speed_var[tracks] -= speed_gain * self.cross_var[tracks]
        self.cross_var[tracks] *= 1 - gain
        self.place_var[tracks] *= 1 - gain

    def halt(self, track: int) -> None:
        """Expect a track to stay where it is."""
        self.speed[track] = 0

    def keep(self, tracks: Rows) -> None:
        """Forget all others."""
        self.place, self.speed = self.place[tracks], self.speed[tracks]
        self.place_var, self.cross_var = self.place_var[tracks], self.cross_var[tracks]
        self.speed_var = self.speed_var[tracks]

    def add(self, boxes: Floats) -> None:
        """New tracks at these boxes; how they move is not known yet."""
        places = _places(boxes)
        scale = places[:, 2:].mean(axis=1, keepdims=True)
        ones = np.ones((len(boxes), 4))
        self.place = np.concatenate((self.place, places))
        self.speed = np.concatenate((self.speed, 0 * ones))
        self.place_var = np.concatenate((self.place_var, (BOX_NOISE * scale) ** 2 * ones))
        self.cross_var = np.concatenate((self.cross_var, 0 * ones))
        self.speed_var = np.concatenate((self.speed_var, (FIRST_SPEED * scale) ** 2 * ones))

    def _scale(self) -> Floats:
        """N × 1: how large each object is."""
        scale: Floats = self.place[:, 2:].mean(axis=1, keepdims=True)
        return scale


def _places(boxes: Floats) -> Floats:
    return np.concatenate(((boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]), axis=1)


def _without(rows: Rows, taken: list[int]) -> Rows:
    """Those that are not taken; for few, much faster than NumPy's sets."""
    gone = set(taken)
    return np.array([row for row in rows.tolist() if row not in gone], np.intp)


def _overlap(first: Floats, second: Floats, margin: float) -> Floats:
    """Intersection over union of each with each, N × M, after enlarging all by `margin`."""
    a, b = _enlarged(first, margin)[:, None, :], _enlarged(second, margin)[None, :, :]
    shared = (np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])).clip(0)
    area = shared[..., 0] * shared[..., 1]
    areas = [(box[..., 2] - box[..., 0]) * (box[..., 3] - box[..., 1]) for box in (a, b)]
    overlap: Floats = area / np.maximum(areas[0] + areas[1] - area, 1e-12)
    return overlap


def _enlarged(boxes: Floats, margin: float) -> Floats:
    by = (boxes[:, 2:] - boxes[:, :2]) * margin
    return np.concatenate((boxes[:, :2] - by, boxes[:, 2:] + by), axis=1)


def _greedy(overlap: Floats, least: float) -> Iterable[tuple[int, int]]:
    """Pairs (row, column), most overlap first, each row and column once."""
    rows, columns = np.nonzero(overlap >= least)
    order = np.argsort(-overlap[rows, columns], kind="stable")
    used_rows: set[int] = set()
    used_columns: set[int] = set()
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if row not in used_rows and column not in used_columns:
            used_rows.add(row)
            used_columns.add(column)
            yield row, column


def _without_doubles(boxes: Floats, like: npt.NDArray[np.object_], detections: Detections) -> Rows:
    """The rows of `detections` but those that are a like object's second name."""
    order = np.argsort(-detections.scores, kind="stable")
    same = (_overlap(boxes, boxes, 0.0) > SAME_BOX_IOU) & (like[:, None] == like[None, :])
    keep: list[int] = []
    for row in order.tolist():
        if not same[row, keep].any():
            keep.append(row)
    return np.array(sorted(keep), np.intp)


def _apart(first: Box, second: Box) -> float:
    """How far apart two places of an object are, in parts of its size."""
    away = max(
        abs((first[0] + first[2]) - (second[0] + second[2])),
        abs((first[1] + first[3]) - (second[1] + second[3])),
    )
    size = second[2] - second[0] + second[3] - second[1]
    return away / max(size, 1e-6)


def _box(values: npt.NDArray[np.floating]) -> Box:
    x1, y1, x2, y2 = values.tolist()
    return x1, y1, x2, y2
