"""Tracks out of detections: which object of this look is which object of the looks before.

Here: association, and what a track remembers. Not here: where objects are expected (kalman.py), who
pairs with whom best (assign.py), what a track means for a rule (rules.py).

As in ByteTrack (Y. Zhang et al., Multi-Object Tracking by Associating Every Detection Box, 2022)
strong detections are matched first, then weak ones to what was seen a look ago, so that an object
that is half hidden keeps its number, and last to what was seen but once. Boxes are enlarged by how
unsure it is where an object is by now: at 5 looks a second a car moves by its own length, at 30 not
by a tenth. Vehicles of different classes match each other: the same lorry is `car` in one look and
`truck` in the next; a track's class is what most of its looks say.

An object that stood still has a home. While it is not seen it is waited for there, much longer than
one that moved: a parked car that a lorry hides, or that the detector loses in the dark, is the same
car afterwards. It is given up when it was seen to leave, when another one stands at its home, or
after `REST_S`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.vision.assign import assign
from edge.vision.detect import Detections
from edge.vision.geometry import Box
from edge.vision.kalman import Motion

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]

LIKE: Mapping[str, str] = {
    **dict.fromkeys(("car", "truck", "bus", "van", "tanker", "pickup"), "vehicle"),
    **dict.fromkeys(("bicycle", "motorcycle"), "cycle"),
}
"""Classes that detectors take for each other. Any other class is only like itself."""

SURE_SCORE = 0.6
"""One look with this score makes a track; otherwise two looks do."""
STRONG_BELOW = 0.1
"""By how much a detection that continues a track may score less than one that makes one."""
SAME_BOX_IOU = 0.65
"""Two detections of like classes that overlap this much are one object with two names."""
PART_OF_SEEN_IOU = 0.3
"""Beside an object that is seen, an unsure box of its kind that overlaps it so and lies within it,
or it within the box, makes no track: it is the same object's."""
VOTE_KEPT = 0.95
"""How much of a track's earlier votes on its class counts at the next look."""

# Least overlap of a track with a strong detection, a weak one, and of what was seen but once.
STRONG_IOU = 0.2
WEAK_IOU = 0.5
ONCE_IOU = 0.3
LEAST_DOUBT = 0.15
MOST_DOUBT = 0.5
"""Boxes are enlarged by no more than this part of their size on each side."""

FAST = frozenset(("vehicle", "cycle"))
"""What goes on when it is not seen, and is soon far from where it was expected."""
SLOWING_FAST, SLOWING = 0.5, 10.0
"""How an unseen object slows down, those that are fast and others (1/s): people stop at things."""

# Standing still: having been within this part of its size for so long; what is fast stands sooner,
# because people in a crowd linger.
STILL_WITHIN = 0.25
STILL_S = 3.0
STILL_FAST_S = 1.0
REST_S = 90.0
"""How long an object that stood still is waited for."""
HOME_IOU = 0.5
"""A detection that overlaps a home by this much is the one who lives there."""
PART_IOU = 0.2
PART_WITHIN = 0.8
"""Or that overlaps it less, but lies within it with this part of itself: it is half hidden."""
LEFT_WITHIN = 0.5
"""An object has left its home when less than this part of it is within."""

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
    resting: bool = False
    """It stood still and is not seen, longer than others are kept: it may be hidden."""


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
    still: Box | None = None
    still_s: float = 0.0
    """Where it has been since when, within `STILL_WITHIN`."""
    home: Box | None = None
    """Where it stood still, if it has not left."""


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
        self._motion = Motion()
        self._given = 0
        self._held_from_s: float | None = None

    def update(self, detections: Detections, pts_s: float) -> list[Track]:
        """The confirmed tracks after a look, seen or expected, oldest first."""
        before_s = pts_s if self._pts_s is None else self._pts_s
        fresh = np.array([life.last_pts_s >= before_s for life in self._lives], bool)
        known = np.array([life.looks > 1 for life in self._lives], bool)
        resting = np.array([life.home is not None for life in self._lives], bool) & ~fresh
        slowing = [
            0.0 if seen else SLOWING_FAST if life.like in FAST else SLOWING
            for life, seen in zip(self._lives, fresh.tolist(), strict=True)
        ]
        self._motion.predict(pts_s - before_s, np.array(slowing, np.float64))
        self._pts_s = pts_s
        self._held_from_s = None
        boxes = detections.boxes.astype(np.float64)
        like = np.array([LIKE.get(label, label) for label in detections.labels], dtype=object)
        rows = _without_doubles(boxes, like, detections)
        least = self._least_scores(detections)
        strong = rows[detections.scores[rows] >= least[rows] - STRONG_BELOW]
        weak = _without(rows, strong.tolist())

        kinds = np.array([life.like for life in self._lives], dtype=object)
        fast = np.array([life.like in FAST for life in self._lives], bool)
        expected = self._motion.boxes
        near = (self._motion.doubt - LEAST_DOUBT).clip(0, MOST_DOUBT)
        far = np.full(len(self._lives), MOST_DOUBT)
        pairs: list[tuple[int, int]] = []
        for lives, candidates, margin, enough in (
            (known & ~resting, strong, near, STRONG_IOU),
            (known & fresh, weak, near, WEAK_IOU),
            (resting, strong, None, HOME_IOU),
            (~known, strong, near, ONCE_IOU),
            (~known & fresh, weak, near, WEAK_IOU),
            (fast & ~resting, strong, far, STRONG_IOU),
        ):
            if not len(candidates) or not lives.any():
                continue
            free = _without(np.flatnonzero(lives), [track for track, _ in pairs])
            left = _without(candidates, [row for _, row in pairs])
            if not len(free) or not len(left):
                continue
            if margin is None:
                gains = self._at_home(free, boxes[left])
            else:
                gains = _overlap(expected[free], boxes[left], margin[free, None, None])
            own = kinds[free]
            gains[own[:, None] != like[left][None, :]] = 0
            pairs += [(int(free[a]), int(left[b])) for a, b in assign(gains, enough)]

        for track, row in pairs:
            self._saw(self._lives[track], detections, row, pts_s)
        self._motion.correct(np.array([t for t, _ in pairs], np.intp), boxes[[r for _, r in pairs]])
        self._forget(pts_s)
        seen = [row for _, row in pairs]
        new = _without(rows[detections.scores[rows] >= least[rows]], seen)
        self._begin(_whole(new, seen, boxes, like, detections), like, detections, pts_s)
        return self._confirmed(pts_s)

    def hold(self, pts_s: float) -> list[Track]:
        """The tracks after a picture in which nothing changed: what was just there still is."""
        if self._held_from_s is None:
            self._held_from_s = self._pts_s if self._pts_s is not None else pts_s
        self._motion.halt()
        for life in self._lives:
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
        same = _overlap(places, detections.boxes.astype(np.float64)) >= SAME_PLACE_IOU
        strong = detections.scores >= self._least_scores(detections)
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

    def _least_scores(self, detections: Detections) -> npt.NDArray[np.float32]:
        """What each detection must score to make a track."""
        wanted = [self._scores.get(label, self._min_score) for label in detections.labels]
        return np.array(wanted, np.float32)

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
        _settle(life, pts_s)

    def _at_home(self, lives: Rows, boxes: Floats) -> Floats:
        """How surely each box is of each who stood still, N × M: at least `HOME_IOU` if it is."""
        homes = np.array([self._lives[row].home for row in lives], np.float64).reshape(-1, 4)
        overlap = _overlap(homes, boxes)
        within = _shared(homes[:, None], boxes[None]) / np.maximum(_areas(boxes), 1e-12)
        part = (overlap >= PART_IOU) & (within >= PART_WITHIN)
        return np.where(part, np.maximum(overlap, HOME_IOU), overlap)

    def _forget(self, pts_s: float) -> None:
        """Drop what was unseen for too long; what was seen only once, after two looks."""
        taken = np.array(
            [life.home for life in self._lives if life.home and life.last_pts_s == pts_s],
            np.float64,
        ).reshape(-1, 4)
        keep = [
            index
            for index, life in enumerate(self._lives)
            if pts_s - life.last_pts_s <= self._patience_of(life) + 1e-6
            and not (self._rests(life, pts_s) and self._is_taken(life, taken))
        ]
        if len(keep) < len(self._lives):
            self._lives = [self._lives[index] for index in keep]
            self._motion.keep(np.array(keep, np.intp))

    def _patience_of(self, life: _Life) -> float:
        """How long a life is kept unseen, in seconds."""
        if life.home is not None:
            return max(REST_S, self._patience_s)
        return self._patience_s if life.id else 2 * self._look_s

    def _rests(self, life: _Life, pts_s: float) -> bool:
        """Whether it is kept only because it stood still."""
        return life.home is not None and pts_s - life.last_pts_s > self._patience_s + 1e-6

    def _is_taken(self, life: _Life, homes: Floats) -> bool:
        """Whether one of these homes of others is where this one stood."""
        here = np.array([life.home], np.float64)
        return bool((_overlap(here, homes) >= HOME_IOU).any())

    def _begin(
        self, rows: Rows, like: npt.NDArray[np.object_], detections: Detections, pts_s: float
    ) -> None:
        room = max(0, self._max_tracks - len(self._lives))
        self.shed += max(0, len(rows) - room)
        for row in rows[:room]:
            label, score = detections.labels[row], float(detections.scores[row])
            self._lives.append(
                _Life(
                    str(like[row]), label, pts_s, pts_s, score, _box(detections.boxes[row]),
                    {label: score},
                )
            )  # fmt: skip
        self._motion.add(detections.boxes[rows[:room]].astype(np.float64))

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
                        life.last_pts_s, self._rests(life, pts_s),
                    )
                )  # fmt: skip
        return tracks


def _without(rows: Rows, taken: list[int]) -> Rows:
    """Those that are not taken; for few, much faster than NumPy's sets."""
    gone = set(taken)
    return np.array([row for row in rows.tolist() if row not in gone], np.intp)


def _overlap(first: Floats, second: Floats, margin: Floats | None = None) -> Floats:
    """Intersection over union of each with each, N × M; both enlarged by `margin` (N × 1 × 1)."""
    a, b = first[:, None, :], second[None, :, :]
    if margin is not None and margin.any():
        a, b = _enlarged(a, margin), _enlarged(b, margin)
    shared = _shared(a, b)
    overlap: Floats = shared / np.maximum(_areas(a) + _areas(b) - shared, 1e-12)
    return overlap


def _whole(
    new: Rows,
    seen: list[int],
    boxes: Floats,
    like: npt.NDArray[np.object_],
    detections: Detections,
) -> Rows:
    """Those of the `new` rows, best first, that are not a second box of what is seen or sure."""
    whole: list[int] = []
    for row in new[np.argsort(-detections.scores[new], kind="stable")].tolist():
        others = [each for each in (*seen, *whole) if like[each] == like[row]]
        sure = detections.scores[row] >= SURE_SCORE
        if sure or not _is_part(boxes[[row]], boxes[others]).any():
            whole.append(row)
    return np.array(whole, np.intp)


def _is_part(box: Floats, others: Floats) -> npt.NDArray[np.bool_]:
    """1 × M: whether one of both boxes lies within the other and is not much smaller."""
    least = np.minimum(_areas(box)[:, None], _areas(others)[None])
    inside = _shared(box[:, None], others[None]) / np.maximum(least, 1e-12) >= PART_WITHIN
    return inside & (_overlap(box, others) >= PART_OF_SEEN_IOU)


def _enlarged(boxes: Floats, by: Floats) -> Floats:
    more = (boxes[..., 2:] - boxes[..., :2]) * by
    return np.concatenate((boxes[..., :2] - more, boxes[..., 2:] + more), axis=-1)


def _areas(boxes: Floats) -> Floats:
    areas: Floats = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    return areas


def _shared(a: Floats, b: Floats) -> Floats:
    """The area that boxes have in common."""
    sides = (np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])).clip(0)
    shared: Floats = sides[..., 0] * sides[..., 1]
    return shared


def _without_doubles(boxes: Floats, like: npt.NDArray[np.object_], detections: Detections) -> Rows:
    """The rows of `detections` but those that are a like object's second name."""
    if len(set(detections.labels)) == len({LIKE.get(name, name) for name in detections.labels}):
        return np.arange(len(detections))
    order = np.argsort(-detections.scores, kind="stable")
    label = np.array(detections.labels, dtype=object)
    same = (
        (_overlap(boxes, boxes) > SAME_BOX_IOU)
        & (like[:, None] == like)
        & (label[:, None] != label)
    )
    keep: list[int] = []
    for row in order.tolist():
        if not same[row, keep].any():
            keep.append(row)
    return np.array(sorted(keep), np.intp)


def _settle(life: _Life, pts_s: float) -> None:
    """Note whether an object stands still where it is now seen, and where it is at home."""
    if life.still is None or _apart(life.still, life.box) >= STILL_WITHIN:
        life.still, life.still_s = life.box, pts_s
    if life.home is not None and _within(life.box, life.home) < LEFT_WITHIN:
        life.home = None
    still_s = STILL_FAST_S if life.like in FAST else STILL_S
    if life.home is None and pts_s - life.still_s >= still_s:
        life.home = life.still


def _within(box: Box, home: Box) -> float:
    """Which part of a box lies within a home."""
    width = min(box[2], home[2]) - max(box[0], home[0])
    height = min(box[3], home[3]) - max(box[1], home[1])
    area = (box[2] - box[0]) * (box[3] - box[1])
    return max(0.0, width) * max(0.0, height) / max(area, 1e-12)


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
