"""Whether a camera still shows what it should: pictures against what was learned of its view.

Here: the signs of each fault in one picture, and the learned view. Not here: for how long a sign
must last, incidents (faults.py), streams that give no picture at all (reader.py).

    doctor = Doctor()
    signs = doctor.look(luma, pts_s, is_key=...)      # about once a second; luma: H × W, LUMA_WIDTH

What is judged, on a grey picture of 640 pixels and one of a quarter of that:

| sign | what it is |
|---|---|
| black | even the brightest parts are dark |
| over-exposed | half of the picture is white |
| frozen | the picture repeats itself, key frames included; a sensor's noise never does |
| covered | the edges of the view are gone and what is there has no detail |
| moved | the edges of the view are gone and others are there, or they are all shifted |
| blurred | the edges are where they were, and not as sharp as they were |

The view is learned as directions of edges, not as brightness: they stay when day turns to night,
the camera switches to infrared (which may even invert them, so opposite directions are the same) or
the exposure changes. Where it is too dark or too bright to see an edge, nothing is said. Learning
is slow and pauses while there is a sign, so that no fault becomes the view; but a camera that
has looked elsewhere for `ACCEPT_S` is taken to look where it should.
Directions are doubled angles as complex numbers, as in the structure tensor (Bigun and Granlund,
1987); a shift is found as the peak of their cross-correlation.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Directions = npt.NDArray[np.complex64]
Sign = Literal["frozen", "black", "over-exposed", "blurred", "covered", "moved"]

LUMA_WIDTH = 640
LOOK_EVERY_S = 1.0
LEARN_LOOKS = 5
"""So many good pictures make a view; before them only what needs no view is judged."""
COARSE = 4
GRID = (4, 6)
"""Rows and columns of blocks: what is lost must be lost nearly everywhere."""

DARK, WHITE = 32, 250
MOST_WHITE = 0.5
SAME_MEAN = 0.12
SAME_MOST = 1.5
"""Two pictures are the same if they differ by no more, on average and in any block, of 255."""
NO_KEYS_S = 60.0
"""Without key frames in between, pictures must repeat for so long: nothing may be coded anew."""
UNSEEN_MEAN = (22.0, 245.0)
"""Blocks that are darker or brighter show no edges, whatever is there."""
LEAST_EDGE = 3.0
"""Grey levels a coarse pixel: weaker edges may be noise."""
LOST = 0.3
"""A block has lost its edges if it shows less than this part of what it usually does."""
MOST_LOST = 0.75
NO_DETAIL = 0.4
SHIFT = 0.02
"""Of the picture's width; what shakes in the wind moves less."""
SHIFTED = 0.6
LEAST_PIXELS = 50
"""Coarse pixels that must show an edge for its sharpness to be measured."""
WEAK, MOST_WEAK, WEAK_MEAN, WEAK_LOOKS = 0.5, 0.8, 0.45, 4
"""A view that is turned keeps part of its edges: this much of them is left in so many blocks, and
this much in all, for so many looks in a row."""
ACCEPT_S = 3600.0
SOFT = 0.5
"""Sharpness below this part of the usual one is a blur."""
RATE = 1 / 120
"""How much of the view one picture changes, once it is known."""


@dataclass(frozen=True, slots=True)
class Health:
    """What one picture shows."""

    signs: frozenset[Sign]
    same_since_s: float
    """Since when the picture has been the same."""
    knows: bool
    """Whether a view was learned, so that covered, moved and blurred could be judged."""


@dataclass(slots=True)
class _View:
    """What was learned of a camera."""

    edges: Directions
    looks: int = 0
    agreement: Floats = field(default_factory=lambda: np.zeros(GRID, np.float32))
    """By block, how well pictures usually agree with it."""
    sharpness: float = 0.0
    detail: float = 0.0


@dataclass(frozen=True, slots=True)
class _Picture:
    """What is measured of one picture."""

    edges: Directions
    """H/4 × W/4: direction of the edge at a pixel, doubled, and how clear it is: 0..1."""
    seen: npt.NDArray[np.bool_]
    """By block: whether edges could be seen there."""
    fine: Floats
    """H/4 × W/4: mean absolute Laplacian, without what noise makes of it."""
    strength: Floats
    """H/4 × W/4: gradient of the coarse picture."""
    detail: float
    """Fine detail of the whole picture that is surely no noise."""


class Doctor:
    """Looks at one camera's pictures, in the order of their time."""

    def __init__(self) -> None:
        self._view: _View | None = None
        self._before: Image | None = None
        self._same_since_s = 0.0
        self._keys = 0
        self._last_s = -1.0
        self._weak = 0
        self._moved_since_s: float | None = None

    def due(self, pts_s: float) -> bool:
        """Whether it is time to look again."""
        return pts_s >= self._last_s + LOOK_EVERY_S - 0.05

    def forget(self) -> None:
        """Learn the view anew: the one that is there now is right."""
        self._view = self._moved_since_s = None
        self._weak = 0

    def look(self, luma: Image, pts_s: float, *, is_key: bool) -> Health:
        """The signs of a picture. `luma`: H × W, of any size, but always of the same."""
        self._last_s = pts_s
        frozen = self._repeats(luma, pts_s, is_key)
        found: set[Sign] = set()
        if frozen:
            found.add("frozen")
        few = luma[::4, ::4]
        bright = float(np.percentile(few, 98))
        if bright < DARK:
            found.add("black")
        elif float((few >= WHITE).mean()) >= MOST_WHITE:
            found.add("over-exposed")
        else:
            found |= self._against_view(luma, frozen)
            self._accept(found, pts_s)
        knows = self._view is not None and self._view.looks >= LEARN_LOOKS
        return Health(frozenset(found), self._same_since_s, knows)

    def _accept(self, found: set[Sign], pts_s: float) -> None:
        """Nobody has turned the camera back for long: it is meant to look there."""
        if "moved" not in found:
            self._moved_since_s = None
        elif self._moved_since_s is None:
            self._moved_since_s = pts_s
        elif pts_s - self._moved_since_s > ACCEPT_S:
            self.forget()

    def _repeats(self, luma: Image, pts_s: float, is_key: bool) -> bool:
        """Whether the picture is the one before it, and would not be if the camera saw anything."""
        before, self._before = self._before, luma
        if before is None or before.shape != luma.shape:
            self._view = None
        if before is None or not _same(before, luma):
            self._same_since_s, self._keys = pts_s, 0
            return False
        self._keys += is_key
        self._before = before  # against the first one: what creeps is no still
        return self._keys > 0 or pts_s - self._same_since_s >= NO_KEYS_S

    def _against_view(self, luma: Image, frozen: bool) -> set[Sign]:
        picture = _measured(luma)
        if self._view is None:
            self._view = _View(picture.edges)
        view = self._view
        if view.looks < LEARN_LOOKS:
            if not frozen or view.looks == 0:
                _learn(view, picture, 1 / (view.looks + 1))
            return set()
        sign, weak = _compared(view, picture)
        self._weak = self._weak + 1 if weak else 0
        if self._weak >= WEAK_LOOKS:
            sign = sign or "moved"
        if sign is None and not weak and not frozen:
            _learn(view, picture, max(RATE, 1 / (view.looks + 1)))
        return set() if sign is None else {sign}


def _same(before: Image, now: Image) -> bool:
    off = cv2.absdiff(before, now)
    if float(off.mean()) > SAME_MEAN:
        return False
    blocks = cv2.resize(off.astype(np.float32), (32, 18), interpolation=cv2.INTER_AREA)
    return float(blocks.max()) <= SAME_MOST


def _measured(luma: Image) -> _Picture:
    height, width = luma.shape
    size = (max(GRID[1], width // COARSE), max(GRID[0], height // COARSE))
    coarse = cv2.resize(luma, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    dx = cv2.Scharr(coarse, cv2.CV_32F, 1, 0) / 32
    dy = cv2.Scharr(coarse, cv2.CV_32F, 0, 1) / 32
    strength = cv2.magnitude(dx, dy)
    clear = strength / (
        strength + max(LEAST_EDGE, 0.5 * float(np.percentile(strength[::2, ::2], 90)))
    )
    doubled = (dx + 1j * dy) ** 2
    edges = (doubled / np.maximum(np.abs(doubled), 1e-6) * clear).astype(np.complex64)
    lap = cv2.convertScaleAbs(cv2.Laplacian(luma, cv2.CV_16S, ksize=1))
    fine = cv2.resize(lap, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    noise = float(np.median(fine[strength <= np.median(strength)]))
    mean = cv2.resize(coarse, GRID[::-1], interpolation=cv2.INTER_AREA)
    seen = (mean > UNSEEN_MEAN[0]) & (mean < UNSEEN_MEAN[1])
    sure = np.maximum(fine - 1.5 * noise, 0)
    fine = np.maximum(fine - noise, 0)
    return _Picture(edges, seen, _floats(fine), _floats(strength), float(sure.mean()))


def _learn(view: _View, picture: _Picture, rate: float) -> None:
    """Take a picture into the view, where edges could be seen."""
    part = rate * _blocks_of(picture.seen.astype(np.float32), picture.edges.shape)
    view.edges = (view.edges + part * (picture.edges - view.edges)).astype(np.complex64)
    agreement = _agreement(view.edges, picture.edges)
    view.agreement += np.where(picture.seen, rate, 0) * (agreement - view.agreement)
    view.sharpness += rate * (_sharpness(view, picture) - view.sharpness)
    view.detail += rate * (picture.detail - view.detail)
    view.looks += 1


def _compared(view: _View, picture: _Picture) -> tuple[Sign | None, bool]:
    """The sign of a picture, if it is not as the view was learned; and whether it may be turned."""
    usual = view.agreement
    judged = picture.seen & (usual > 0.25 * max(float(usual.max()), 1e-6))
    if judged.sum() < 0.3 * usual.size:
        return None, False  # too little can be seen to say anything
    agreement = _agreement(view.edges, picture.edges)
    left = (agreement[judged] / usual[judged]).clip(-0.5, 1.2)
    if (left < LOST).mean() >= MOST_LOST:
        if picture.detail >= NO_DETAIL * view.detail:
            return "moved", True
        soft = _agreement(_softened(view.edges), _softened(picture.edges))
        return ("blurred" if float(soft[judged].mean()) > 0.5 else "covered"), False
    if float(left.mean()) < 0.75 and _is_shifted(view.edges, picture.edges):
        return "moved", True
    if _sharpness(view, picture) < SOFT * view.sharpness:
        return "blurred", False
    return None, bool((left < WEAK).mean() >= MOST_WEAK and left.mean() < WEAK_MEAN)


def _agreement(view: Directions, edges: Directions) -> Floats:
    """By block: how much of the view's edges is there, in the same direction; -1..1."""
    same = (view.real * edges.real + view.imag * edges.imag).astype(np.float32)
    weight = np.abs(view).astype(np.float32)
    size = GRID[::-1]
    there = cv2.resize(same, size, interpolation=cv2.INTER_AREA)
    wanted = cv2.resize(weight * weight, size, interpolation=cv2.INTER_AREA)
    return (there / np.maximum(wanted, 1e-4)).astype(np.float32)


def _softened(edges: Directions) -> Directions:
    real, imag = edges.real.astype(np.float32), edges.imag.astype(np.float32)
    return (cv2.GaussianBlur(real, (0, 0), 3) + 1j * cv2.GaussianBlur(imag, (0, 0), 3)).astype(
        np.complex64
    )


def _is_shifted(view: Directions, edges: Directions) -> bool:
    """Whether the whole view is elsewhere: what agrees best is far from where it was."""
    spectrum = np.fft.fft2(view) * np.conj(np.fft.fft2(edges))
    found = np.fft.ifft2(spectrum).real
    row, column = np.unravel_index(int(np.argmax(found)), found.shape)
    height, width = found.shape
    down = min(int(row), height - int(row))
    across = min(int(column), width - int(column))
    if max(down, across) < SHIFT * width:
        return False
    best, here = float(found[row, column]), float(found[0, 0])
    full = float((np.abs(view) ** 2).sum())
    return best > max(1.3 * here, 0.25 * full)


def _sharpness(view: _View, picture: _Picture) -> float:
    """Fine detail ÷ coarse edges, where the view has clear edges and nothing hides them."""
    weight = np.abs(view.edges)
    clear = weight >= np.percentile(weight[::2, ::2], 80)
    same = view.edges.real * picture.edges.real + view.edges.imag * picture.edges.imag
    clear &= (picture.strength > LEAST_EDGE) & (same > 0.3 * weight * weight)
    if clear.sum() < LEAST_PIXELS:
        return view.sharpness
    return float(picture.fine[clear].sum() / max(float(picture.strength[clear].sum()), 1e-6))


def _floats(values: npt.NDArray[Any]) -> Floats:
    return np.asarray(values, np.float32)


def _blocks_of(values: Floats, shape: tuple[int, ...]) -> Floats:
    """Values of blocks at every pixel."""
    return np.asarray(
        cv2.resize(values, (shape[1], shape[0]), interpolation=cv2.INTER_NEAREST), np.float32
    )
