"""Whether a camera still shows what it should: pictures against what was learned of its view.

Here: the signs of each fault in one picture, and the learned view. Not here: for how long a sign
must last, incidents (ailments.py), streams that give no picture at all (reader.py).

    doctor = Doctor()
    signs = doctor.look(luma, pts_s, is_key=...)      # about once a second; luma: H × W, LUMA_WIDTH
    signs == {"covered": 12.0}                        # what is wrong, and since when it shows

What is judged, on a grey picture of 640 pixels and one of a quarter of that:

| sign | what it is |
|---|---|
| black | even the brightest parts are dark |
| over-exposed | half of the picture is white |
| frozen | the picture repeats itself, key frames included; a sensor's noise never does |
| covered | the edges of the view are gone, nearly everywhere, and what is there has no detail |
| moved | the edges of the view are gone in two looks, others are there; or they are all shifted |
| blurred | the edges are where they were, and far from as sharp as they were |

The view is learned as directions of edges, not as brightness: they stay when day turns to night,
the camera switches to infrared (which may even invert them, so opposite directions are the same) or
the exposure changes. Where it is too dark or too bright to see an edge, nothing is said. Learning
is slow and pauses while there is a sign, so that no fault becomes the view; but a camera that
has looked elsewhere for `ACCEPT_S` is taken to look where it should. What stands before a camera
when it is first seen is its view: that it is covered, turned or blurred cannot be known then.
Directions are doubled angles as complex numbers, as in the structure tensor (Bigun and Granlund,
1987); a shift is found as the peak of their cross-correlation.
"""

from collections.abc import Mapping
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
CLOSE_S = 5.0
LEARN_LOOKS = 15
"""So many good pictures make a view; before them only what needs no view is judged."""
COARSE = 4
GRID = (4, 6)
"""Rows and columns of blocks: what is lost must be lost nearly everywhere."""

WHITE = 240
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
NO_DETAIL = 0.25
"""Of the usual fine detail."""
SOFTLY, MOST_SOFTLY = 0.3, 0.8
"""Out of focus, the softened view agrees with the softened picture so well in so many blocks."""
DULL = 0.13
"""Detail ÷ contrast below this part of the usual: so far out of focus that nothing is sharp."""
FADED = 0.25
"""What hides a view has less than this part of its contrast; a lens out of focus leaves more."""
SHIFT = 0.02
"""Of the picture's width; what shakes in the wind moves less."""
FARTHEST, ALIKE = 0.2, 0.08
"""Of it: a shift is looked for so far, and differs no more from part to part."""
PARTS, MOST_SHIFTED = (2, 3), 0.45
"""A camera that is rolled shifts each part of its view otherwise; so much of it must be."""
LEAST_PIXELS = 50
"""Coarse pixels that must show an edge for its sharpness to be measured."""
LEAST_KEPT = 0.3
"""However much of the view is usually hidden by what passes: less than this is another view."""
ACCEPT_S = 24 * 3600.0
LEAST_KNOWN = 5
HIDDEN_RATE = 1 / 30
"""After so many looks it is learned how much is usually hidden, so fast."""
RATE = 1 / 120
"""How much of the view one picture changes, once it is known."""


Signs = Mapping[str, float]
"""What is wrong in a picture, by `Sign`, each with the stream time since when it shows."""


@dataclass(frozen=True, slots=True)
class Limits:
    """From when on a picture is at fault; all are fractions."""

    dark: float = 0.125
    """Of white: black is what has hardly anything brighter."""
    white: float = 0.5
    """Of the picture: over-exposed is what has more of it white."""
    sharp: float = 0.3
    """Of the usual sharpness: blurred is what has less."""
    lost: float = 0.75
    """Of the picture: covered is what has lost its edges in more of it."""
    kept: float = 0.55
    """Of the edges of the view: moved is what shows less of them. What is usually hidden by passing
    objects lowers it."""


@dataclass(slots=True)
class _View:
    """What was learned of a camera."""

    edges: Directions
    looks: int = 0
    agreement: Floats = field(default_factory=lambda: np.zeros(GRID, np.float32))
    """By block, how well pictures usually agree with it."""
    sharpness: float = 0.0
    detail: float = 0.0
    contrast: float = 0.0
    hidden: float = 0.2
    """How much of the edges is usually missing in two looks, 0..1."""


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

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._view: _View | None = None
        self._before: Image | None = None
        self._same_since_s = 0.0
        self._keys = 0
        self._last_s = -1.0
        self._left: Floats | None = None
        """By block, how much of the view the look before showed."""
        self._moved_since_s: float | None = None

    def due(self, pts_s: float) -> bool:
        """Whether it is time to look again."""
        return pts_s >= self._last_s + LOOK_EVERY_S - 0.05

    def forget(self) -> None:
        """Learn the view anew: the one that is there now is right."""
        self._view = self._left = self._moved_since_s = None

    def look(self, luma: Image, pts_s: float, *, is_key: bool) -> Signs:
        """The signs of a picture. `luma`: H × W, of any size, but always of the same."""
        before_s, self._last_s = self._last_s, pts_s
        frozen = self._repeats(luma, pts_s, is_key)
        found: dict[str, float] = {}
        few = luma[::4, ::4]
        if float(np.percentile(few, 98)) < 255 * self._limits.dark:
            found["black"] = pts_s
        elif float((few >= WHITE).mean()) >= self._limits.white:
            found["over-exposed"] = pts_s
        else:
            sign = self._against_view(luma, frozen)
            if sign == "turned":  # it takes two looks to see, which prove little if far apart
                found["moved"] = before_s if pts_s - before_s <= CLOSE_S else pts_s
            elif sign is not None:
                found[sign] = pts_s
            if frozen:  # where there is no light, or only light, nothing can change
                found["frozen"] = self._same_since_s
            self._accept(found, pts_s)
        return found

    @property
    def knows(self) -> bool:
        """Whether a view was learned, so that covered, moved and blurred can be judged."""
        return self._view is not None and self._view.looks >= LEARN_LOOKS

    def _accept(self, found: Signs, pts_s: float) -> None:
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
            self._view = self._left = None
        if before is None or before.shape != luma.shape or not _same(before, luma):
            self._same_since_s, self._keys = pts_s, 0
            return False
        self._keys += is_key
        self._before = before  # against the first one: what creeps is no still
        return self._keys > 0 or pts_s - self._same_since_s >= NO_KEYS_S

    def _against_view(self, luma: Image, frozen: bool) -> Sign | Literal["turned"] | None:
        picture = _measured(luma)
        if self._view is None:
            self._view = _View(picture.edges)
        view = self._view
        left = _left(view, picture) if view.looks else None
        kept = None
        if left is not None:
            kept = left if self._left is None else np.fmax(left, self._left)
            self._left = left
        if kept is not None and left is not None and self.knows:
            sign = _sign(self._limits, view, picture, left, kept)
            if sign is not None:
                return sign
        if not frozen or not view.looks:
            _learn(view, picture, max(RATE, 1 / (view.looks + 1)))
            if kept is not None and view.looks >= LEAST_KNOWN:
                hidden = max(0.0, 1 - float(np.nanmean(kept)))
                view.hidden += HIDDEN_RATE * (hidden - view.hidden)
        return None


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
    view.contrast += rate * (float(picture.strength.mean()) - view.contrast)
    view.looks += 1


def _left(view: _View, picture: _Picture) -> Floats | None:
    """By block, how much of the view is there, 1: as usual; NaN where none could be seen.

    None: too little can be seen to say anything.
    """
    usual = view.agreement
    judged = picture.seen & (usual > 0.25 * max(float(usual.max()), 1e-6))
    if judged.sum() < 0.3 * usual.size:
        return None
    agreement = _agreement(view.edges, picture.edges)
    left = (agreement / np.maximum(usual, 1e-6)).clip(-0.5, 1.2)
    return _floats(np.where(judged, left, np.nan))


def _sign(
    limits: Limits, view: _View, picture: _Picture, left: Floats, kept: Floats
) -> Sign | Literal["turned"] | None:
    """What is wrong with a picture of which so much is left, and was in one of two looks."""
    there = ~np.isnan(left)
    gone = float((left[there] < LOST).mean()) >= limits.lost
    turned = float(np.nanmean(kept)) < max(
        min(LEAST_KEPT, limits.kept), limits.kept - 0.5 * view.hidden
    )
    if (gone or turned) and picture.detail < NO_DETAIL * view.detail:
        soft = _agreement(_softened(view.edges), _softened(picture.edges))
        faded = float(picture.strength.mean()) < FADED * view.contrast
        same = float((soft[there] > SOFTLY).mean()) >= MOST_SOFTLY
        return "blurred" if same and not faded else "covered"
    if float(np.nanmean(left)) < 0.75 and _is_shifted(view.edges, picture.edges):
        return "moved"
    if turned:
        return "turned"
    dull = picture.detail * view.contrast < DULL * view.detail * float(picture.strength.mean())
    if dull or _sharpness(view, picture) < limits.sharp * view.sharpness:
        return "blurred"
    return None


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
    """Whether most parts of the view are elsewhere, and all about the same way.

    What agrees best with a part is then far from where it was. What passes agrees by chance, here
    with this and there with that.
    """
    height, width = view.shape
    reach = round(FARTHEST * width)
    picture = np.conj(np.fft.fft2(edges))
    rows, columns = PARTS
    moves, energies, full = [], [], 0.0
    for row, column in np.ndindex(rows, columns):
        part = np.zeros_like(view)
        at = np.s_[
            row * height // rows : (row + 1) * height // rows,
            column * width // columns : (column + 1) * width // columns,
        ]
        part[at] = view[at]
        energy = float((np.abs(view[at]) ** 2).sum())
        full += energy
        found = np.fft.fftshift(np.fft.ifft2(np.fft.fft2(part) * picture).real)
        here = float(found[height // 2, width // 2])
        top, left = max(0, height // 2 - reach), max(0, width // 2 - reach)
        found = found[top : height // 2 + reach + 1, left : width // 2 + reach + 1]
        down, across = np.unravel_index(int(np.argmax(found)), found.shape)
        move = np.array([down + top - height // 2, across + left - width // 2])
        best = float(found[down, across])
        if np.abs(move).max() >= SHIFT * width and best > max(1.3 * here, 0.25 * energy):
            moves.append(move)
            energies.append(energy)
    if sum(energies) <= MOST_SHIFTED * full:
        return False
    usual = np.average(moves, axis=0, weights=energies)
    alike = np.abs(np.array(moves) - usual).max(axis=1) <= ALIKE * width
    return float(np.array(energies)[alike].sum()) > MOST_SHIFTED * full


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
