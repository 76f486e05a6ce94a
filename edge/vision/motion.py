"""Has something changed in this picture? It decides when an idle stream wakes.

Here: a scaled-down luma plane against what the scene looked like; its light, its noise and its
habits. Not here: decoding and scaling (edge/video), what a change is (detect.py), which part of the
picture matters to a task (area.py), when to look again.

A picture is compared with the *ground*, what each cell showed while it was still, after the light
has been made the same. A cell has changed if the mean of its neighbourhood differs by more than
the noise there ever does; something has moved if enough changed cells touch. What stands still for
`SETTLE_S` becomes ground; what does not differ enough creeps into it over `GROUND_S`. Changes that
the detector never explains become *habits* (a clock, a flag, leaves), which count only where they
exceed what is usual.

All times are stream time (pts) in seconds: pictures may come at any rate.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from edge.vision.geometry import Point

Luma = npt.NDArray[np.uint8]
Cells = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]

WIDTH = 240
"""Cells across; the height follows the picture's shape."""

LEAST_LEVELS = 4.5
"""A change of the mean of 3 × 3 cells that counts however quiet the camera is, of 255 levels."""
MOST_LEVELS = 18.0
"""A change that counts however noisy it is, outside habits."""
CLIP_LEVELS = 32.0
"""No cell says more than this, so that one alone cannot make its neighbourhood change."""
NOISE_FACTOR = 4.5
"""A change is this many times the usual deviation."""
LEAST_CELLS = 10
"""So many changed cells among 5 × 5 may be an object. A single cell makes 9 change, a person of
12 × 30 of 1280 × 720 pixels about 20."""

GROUND_S = 20.0
"""How fast the ground follows what is too small to count: shadows that wander."""
SETTLE_S = 4.0
"""What has not moved for so long is ground."""
NOISE_S = 20.0
"""How fast the strength of the noise is learned..."""
LEARN_EVERY_S = 1.0
"""... from one picture in so much time."""
HABIT_S = 600.0
"""How slowly habits fade."""
HABIT_AFTER_S = 8.0
"""So long in all must a cell change without explanation to be a habit..."""
HABIT_UNTIL_S = 2.0
"""... which it is until it has faded to this. Beside a habit so much is enough."""
ROUGH_AFTER_S = 15.0
"""So long in all must a part of the picture change without explanation, now here, now there."""
WEATHER_FACTOR = 4.0
"""So much more do changes say that are spread all over the picture."""
ROUGH_S = 120.0
"""How slowly that fades: sooner than habits, since it makes much of the picture less sensitive."""
ROUGH_CELLS = 19
"""So many changed cells among 5 × 5 may be an object there."""
HABIT_FORGOTTEN_S = 0.5
"""How far a cell went is forgotten at this."""
HABIT_MARGIN = 1.25
"""A change counts that exceeds the habit by so much."""
MAX_HABITUAL = 0.25
"""Of the counted cells. If more would be habits, none are: busy is better than blind."""
MAX_OPEN = 8
"""Inference may lag so many looks behind."""
LONGEST_STEP_S = 1.0
"""More time than this between two explanations proves no more."""
MOST_WEIGHT = 0.3
"""However long the pause before it, one picture does not change more than so much of the noise."""

RELIT_LEVELS = 6.0
"""A shift of the mean that is told as `relit`."""
RELIT_SHARE = 0.5
"""If so much differs after the light was made the same, it is another picture: learn it anew."""
BACKWARDS_S = 60.0
"""Pictures up to so much earlier belong to the same stream: a catch-up. They teach nothing."""

_LIGHT_LEVELS = 10.0
"""Differences that the light may make in a part of the picture, after gain and offset."""
_LIGHT_TILES = (5, 4)
_BLACK, _WHITE = 6, 249
_SAME_GAIN = 0.02
_ROUGH_TILES = (6, 4)
_REACH = np.ones((5, 5), np.uint8)
_FIRST_DEVIATION = 2.0
_RELIT_DEVIATION = 2.5


@dataclass(frozen=True, slots=True)
class Change:
    """What is new in a picture."""

    moved: bool
    """Something that may be an object has changed, or there was nothing to compare with."""
    share: float
    """How much of the counted cells changed, 0..1."""
    cells: Cells
    """H × W: which. Do not write into it."""
    relit: bool
    """The light of the whole picture changed: made up for, or learned anew (then also `moved`)."""


class _Scene:
    """What is known of the pictures of one size: planes of H × W."""

    def __init__(self, picture: Floats, pts_s: float, counts: Cells) -> None:
        shape = picture.shape
        self.shape = shape
        self.last_s = self.explained_s = self.learned_s = pts_s
        self.counts = counts
        self.counted = max(1, int(np.count_nonzero(counts)))
        self.ground = picture
        self.candidate = picture
        """What a changed cell has shown for `still_s`."""
        self.still_s = np.zeros(shape, np.float32)
        self.apart = np.zeros(shape, np.float32)
        """The difference from the ground when noise was learned last."""
        self.noise = np.full(shape, _FIRST_DEVIATION**2, np.float32)
        """The usual square of the difference."""
        self.habit_s = np.zeros(shape, np.float32)
        """For how long a cell has changed without explanation; it fades."""
        self.swing = np.zeros(shape, np.float32)
        """How far it went meanwhile."""
        self.habitual = np.zeros(shape, np.bool_)
        self.rough_s = np.zeros(_ROUGH_TILES[::-1], np.float32)
        """The same of parts of the picture, for what never changes the same cell: rain."""
        self.rough = np.zeros(_ROUGH_TILES[::-1], np.float32)
        self.roughly = np.zeros(_ROUGH_TILES[::-1], np.bool_)
        self.limit = np.empty(shape, np.float32)
        """What counts as a change, in levels."""
        self.least: Luma | int = LEAST_CELLS
        """How many such cells together count."""
        self.cells = np.zeros(shape, np.bool_)
        """Which counted at the last look."""
        self.open: deque[tuple[float, Luma]] = deque(maxlen=MAX_OPEN)
        """The last looks that wait for an explanation: when, and by how much cells differed."""


class Motion:
    """What a stream's pictures usually look like. Not for use by two threads at once.

    In `masks` (polygons, 0..1) changes never count; with `areas` they count only in these. A
    picture of another size, or one more than `BACKWARDS_S` earlier than the last, starts anew.
    """

    def __init__(
        self,
        *,
        masks: Sequence[Sequence[Point]] = (),
        areas: Sequence[Sequence[Point]] | None = None,
    ) -> None:
        self._masks = masks
        self._areas = areas
        self._scene: _Scene | None = None

    def forget(self) -> None:
        """Start anew with the next picture; habits are forgotten too."""
        self._scene = None

    @property
    def habitual_share(self) -> float:
        """How much of the counted cells changes habitually, 0..1.

        Above `MAX_HABITUAL` habits are not heeded: the camera looks at something that never rests.
        """
        return 0.0 if self._scene is None else _habitual_share(self._scene)

    def look(self, luma: Luma, pts_s: float) -> Change:
        """What has changed in a picture. `luma`: H × W, scaled down by averaging areas."""
        scene = self._scene
        picture: Floats = luma.astype(np.float32)
        if scene is None or luma.shape != scene.shape or pts_s < scene.last_s - BACKWARDS_S:
            counts = _counts(luma.shape, self._masks, self._areas)
            scene = self._scene = _Scene(picture, pts_s, counts)
            _judge(scene)
            return Change(moved=True, share=0.0, cells=scene.cells, relit=True)
        step_s = max(0.0, pts_s - scene.last_s)
        scene.last_s = max(scene.last_s, pts_s)
        relit = _follow_light(scene, picture)
        apart = _difference(picture, scene.ground)
        size = np.abs(apart)
        changed = size > scene.limit
        counting = changed & scene.counts
        share = int(np.count_nonzero(counting)) / scene.counted
        if share > RELIT_SHARE:
            _learn_anew(scene, picture)
            return Change(moved=True, share=share, cells=counting, relit=True)
        cells = scene.cells = _groups(counting, scene.least)
        share = int(np.count_nonzero(cells)) / scene.counted
        if share:
            scene.open.append((pts_s, np.ceil(size * cells).astype(np.uint8)))
        if step_s:
            _learn(scene, picture, apart, changed, step_s)
        return Change(moved=share > 0, share=share, cells=cells, relit=relit)

    def explained(self, boxes: Floats, pts_s: float) -> None:
        """Where the detector saw anything at all in the picture looked at then: N × 4, 0..1.

        Changed cells that no box explains, again and again, become habits; a box heals them. It
        may come late by `MAX_OPEN` looks that moved; later it is not heeded.
        """
        scene = self._scene
        if scene is None:
            return
        step_s = min(max(0.0, pts_s - scene.explained_s), LONGEST_STEP_S)
        scene.explained_s = max(pts_s, scene.explained_s)
        while scene.open and scene.open[0][0] < pts_s:
            scene.open.popleft()
        covered = _covered(boxes, scene.shape)
        if step_s and scene.open and scene.open[0][0] == pts_s:
            _wonder(scene, scene.open.popleft()[1], ~covered, step_s)
        scene.habit_s[covered] = 0
        if (scene.habitual & covered).any():
            _judge(scene)


def _follow_light(scene: _Scene, picture: Floats) -> bool:
    """Give what is known the light of this picture; whether that changed much."""
    gain, offset = _light(picture, scene.ground)
    if gain == 1 and offset == 0:
        return False
    shift = cv2.mean(scene.ground)[0] * (gain - 1) + offset
    scene.ground = scene.ground * gain + offset
    scene.candidate = scene.candidate * gain + offset
    return abs(shift) > RELIT_LEVELS


def _learn_anew(scene: _Scene, picture: Floats) -> None:
    """Another light, or another scene: its ground is this picture."""
    scene.ground = picture
    scene.still_s.fill(0)
    np.maximum(scene.noise, _RELIT_DEVIATION**2, out=scene.noise)
    scene.cells = np.zeros(scene.shape, np.bool_)
    scene.open.clear()
    _judge(scene)


def _wonder(scene: _Scene, size: Luma, uncovered: Cells, step_s: float) -> None:
    """Learn from cells that changed without explanation: they may do so always."""
    strange = (size > 0) & uncovered
    far = size[strange].astype(np.float32)
    scene.habit_s[strange] += step_s
    scene.swing[strange] = np.maximum(scene.swing[strange], far)
    scene.noise[strange] += _weight(step_s, NOISE_S) * (far * far - scene.noise[strange])
    # What is no habit of its cell may be one of its part of the picture.
    largest = _largest(size * (strange & ~scene.habitual))
    scene.rough_s[largest > 0] += step_s
    scene.rough_s[_largest(size * ~uncovered) > 0] -= 2 * step_s
    np.maximum(scene.rough_s, 0, out=scene.rough_s)
    np.maximum(scene.rough, largest, out=scene.rough)


def _learn(scene: _Scene, picture: Floats, apart: Floats, changed: Cells, step_s: float) -> None:
    """What is still becomes ground, and what is usual becomes noise; habits fade."""
    ground = scene.ground
    # A cell that is white now would show something else again in less light.
    follows = ~changed & (picture < _WHITE)
    cv2.accumulateWeighted(picture, ground, _weight(step_s, GROUND_S), mask=follows.view(np.uint8))
    if changed.any():
        smooth = cv2.blur(picture, (3, 3))
        still = (cv2.absdiff(smooth, scene.candidate) < scene.limit) & changed
        scene.candidate = np.where(still, scene.candidate, smooth)
        scene.still_s = (scene.still_s + np.float32(step_s)) * still
        np.copyto(ground, picture, where=scene.still_s >= SETTLE_S)
    since_s = scene.last_s - scene.learned_s
    if since_s < LEARN_EVERY_S:
        return
    scene.learned_s = scene.last_s
    # From one time to the next: what creeps is no noise.
    size = np.minimum(np.abs(apart - scene.apart), 2 * scene.limit)
    scene.apart = apart
    near = cv2.dilate(scene.cells.view(np.uint8), _REACH)
    size[near > 0] = 0
    usual = cv2.blur(size * size, (5, 5)) / 2
    weight = min(_weight(since_s, NOISE_S), MOST_WEIGHT)
    cv2.accumulateWeighted(usual, scene.noise, weight, mask=1 - near)
    scene.habit_s *= math.exp(-since_s / HABIT_S)
    scene.rough_s *= math.exp(-since_s / ROUGH_S)
    _judge(scene)


def _largest(size: Luma) -> Floats:
    """The largest value in each part of the picture."""
    width, height = _ROUGH_TILES
    rows = np.maximum.reduceat(size, np.arange(height) * size.shape[0] // height, axis=0)
    both = np.maximum.reduceat(rows, np.arange(width) * size.shape[1] // width, axis=1)
    return both.astype(np.float32)


def _spread(parts: Floats, shape: tuple[int, ...]) -> Floats:
    """The value of its part of the picture for each cell."""
    extent = (shape[1], shape[0])
    return cv2.resize(parts, extent, interpolation=cv2.INTER_NEAREST).astype(np.float32, copy=False)


def _judge(scene: _Scene) -> None:
    """Which cells' changes are habits, and what counts as a change now."""
    # Beside a habit less proof is needed: other digits of a clock.
    beside = cv2.dilate(scene.habitual.view(np.uint8), _REACH) > 0
    habitual = scene.habit_s > np.where(beside, HABIT_UNTIL_S, HABIT_AFTER_S)
    scene.habitual = habitual
    scene.swing[scene.habit_s < HABIT_FORGOTTEN_S] = 0
    limit = np.sqrt(scene.noise)
    limit *= NOISE_FACTOR
    # What happens everywhere is the weather.
    rough_s = scene.rough_s + WEATHER_FACTOR * scene.rough_s.mean()
    rough = rough_s > np.where(scene.roughly, HABIT_UNTIL_S, ROUGH_AFTER_S)
    scene.roughly = rough
    scene.rough[scene.rough_s < HABIT_FORGOTTEN_S] = 0
    scene.least = LEAST_CELLS
    if rough.any():
        parts = _spread(scene.rough * rough, scene.shape)
        np.maximum(limit, parts * HABIT_MARGIN, out=limit)
        scene.least = np.where(parts > 0, np.uint8(ROUGH_CELLS), np.uint8(LEAST_CELLS))
    np.clip(limit, LEAST_LEVELS, MOST_LEVELS, out=limit)
    if 0 < _habitual_share(scene) <= MAX_HABITUAL:
        # A flag waves a little further at times: a habit reaches over its edge.
        usual = cv2.dilate(scene.swing * habitual, _REACH)
        np.maximum(limit, usual * HABIT_MARGIN, out=limit)
    scene.limit = limit


def _habitual_share(scene: _Scene) -> float:
    return int(np.count_nonzero(scene.habitual & scene.counts)) / scene.counted


def _weight(step_s: float, time_s: float) -> float:
    """How much of a running mean with that time constant a step replaces."""
    return 1 - math.exp(-step_s / time_s)


def _light(picture: Floats, ground: Floats) -> tuple[float, float]:
    """Gain and offset that turn the ground's light into the picture's, most cells agreeing.

    Least squares over a sample, again and again without what fits worst: objects, clocks. Cells
    that are black or white do not follow the light and are left out.
    """
    x, y = picture[2::8, 2::6].ravel(), ground[2::8, 2::6].ravel()
    lit = (x > _BLACK) & (x < _WHITE)
    if np.count_nonzero(lit) < max(16, len(x) // 10):
        return 1.0, 0.0
    x, y = x[lit], y[lit]
    apart = x - y
    apart -= _median(apart)
    gain, offset = 1.0, 0.0
    for tries in range(3):
        apart = np.abs(apart)
        near = apart <= max(2.0, 2.0 * _median(apart))
        xs, ys = x[near], y[near]
        mean_x, mean_y = float(xs.sum()) / len(xs), float(ys.sum()) / len(ys)
        xs -= mean_x
        ys -= mean_y
        ridge = 9.0 * len(xs)  # a picture of one shade tells no gain
        gain = (float(xs @ ys) + ridge) / (float(ys @ ys) + ridge)
        gain = min(max(gain, 0.4), 2.5)
        offset = mean_x - gain * mean_y
        if abs(gain - 1) < _SAME_GAIN and tries:
            break
        apart = x - (gain * y + offset)
    return gain, offset


def _median(values: Floats) -> float:
    middle = len(values) // 2
    return float(np.partition(values, middle)[middle])


def _difference(picture: Floats, ground: Floats) -> Floats:
    """The mean difference of each cell's neighbourhood, without what the light does locally."""
    apart = np.asarray(picture - _within(ground, 0.0, 255.0), np.float32)
    height, width = apart.shape
    sample = _within(apart[::3, ::3], -_LIGHT_LEVELS, _LIGHT_LEVELS)
    tiles = cv2.resize(sample, _LIGHT_TILES, interpolation=cv2.INTER_AREA)
    apart -= cv2.resize(tiles, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.blur(_within(apart, -CLIP_LEVELS, CLIP_LEVELS), (3, 3)), np.float32)


def _within(values: Floats, low: float, high: float) -> Floats:
    """As np.clip, at half its cost."""
    return np.asarray(cv2.min(cv2.max(values, low), high), np.float32)  # type: ignore[call-overload]


def _groups(changed: Cells, least: Luma | int) -> Cells:
    """The changed cells near a place where enough are: `least` of 5 × 5."""
    if np.count_nonzero(changed) < LEAST_CELLS:
        return np.zeros_like(changed)
    crowd = cv2.boxFilter(changed.view(np.uint8), -1, (5, 5), normalize=False)
    crowded = (crowd >= least) & changed
    if not crowded.any():
        return crowded
    return cv2.dilate(crowded.view(np.uint8), _REACH).view(np.bool_) & changed


def _counts(
    shape: tuple[int, ...],
    masks: Sequence[Sequence[Point]],
    areas: Sequence[Sequence[Point]] | None,
) -> Cells:
    """Which cells count. Cells that an edge cuts belong to the polygon."""
    counts = np.full(shape, areas is None, np.uint8)
    for polygons, value in ((areas or (), 1), (masks, 0)):
        for polygon in polygons:
            extent = np.array((shape[1], shape[0]))
            corners = np.clip(np.array(polygon) * extent, 0, extent - 1)
            cv2.fillPoly(counts, [np.round(corners).astype(np.int32)], value)
    return counts.astype(np.bool_)


def _covered(boxes: Floats, shape: tuple[int, ...]) -> Cells:
    """The cells that boxes explain: with a margin, for shadows and for where they were before."""
    covered = np.zeros(shape, np.bool_)
    height, width = shape
    for x1, y1, x2, y2 in boxes:
        across, down = (x2 - x1) / 4 + 2 / width, (y2 - y1) / 4 + 2 / height
        left, right = max(0.0, x1 - across) * width, (x2 + across) * width
        top, bottom = max(0.0, y1 - down) * height, (y2 + down) * height
        covered[int(top) : math.ceil(bottom), int(left) : math.ceil(right)] = True
    return covered
