"""How good tracks are against the truth: MOTA, IDF1, HOTA and identity switches.

Here: the figures, as TrackEval counts them (a test compares with its own). Not here: tracks, truth.

- CLEAR: K. Bernardin, R. Stiefelhagen, Evaluating Multiple Object Tracking Performance, 2008
- identity: E. Ristani et al., Performance Measures and a Data Set for Multi-Target Tracking, 2016
- HOTA: J. Luiten et al., A Higher Order Metric for Evaluating Multi-Object Tracking, 2021
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from edge.vision.assign import assign

Floats = npt.NDArray[np.float64]

SAME_IOU = 0.5
"""A track is where an object is, for CLEAR and identity."""
ALPHAS = np.arange(0.05, 0.99, 0.05)
"""The overlaps over which HOTA is a mean."""


@dataclass(frozen=True, slots=True)
class Shown:
    """The objects of one look: N numbers, N × 4 boxes x1, y1, x2, y2."""

    ids: Sequence[int]
    boxes: Floats


@dataclass(slots=True)
class Score:
    """Counts of one or several sequences, and what follows of them."""

    truths: int = 0
    tracked: int = 0
    hits: int = 0
    switches: int = 0
    identity_hits: int = 0
    alpha_hits: Floats = field(default_factory=lambda: np.zeros(len(ALPHAS)))
    association: Floats = field(default_factory=lambda: np.zeros(len(ALPHAS)))
    """By alpha: the sum over hits of how well its two identities agree."""

    @property
    def mota(self) -> float:
        wrong = (self.truths - self.hits) + (self.tracked - self.hits) + self.switches
        return 1 - wrong / max(1, self.truths)

    @property
    def idf1(self) -> float:
        return 2 * self.identity_hits / max(1, self.truths + self.tracked)

    @property
    def hota(self) -> float:
        either = self.truths + self.tracked - self.alpha_hits
        detected = self.alpha_hits / np.maximum(1, either)
        associated = self.association / np.maximum(1, self.alpha_hits)
        return float(np.sqrt(detected * associated).mean())

    def figures(self) -> dict[str, float]:
        """What is reported."""
        return {
            "mota": round(self.mota, 4),
            "idf1": round(self.idf1, 4),
            "hota": round(self.hota, 4),
            "switches": self.switches,
        }


def together(scores: Iterable[Score]) -> Score:
    """Several sequences as one: what is counted is added up."""
    total = Score()
    for each in scores:
        total.truths += each.truths
        total.tracked += each.tracked
        total.hits += each.hits
        total.switches += each.switches
        total.identity_hits += each.identity_hits
        total.alpha_hits = total.alpha_hits + each.alpha_hits
        total.association = total.association + each.association
    return total


def score(truth: Sequence[Shown], tracks: Sequence[Shown]) -> Score:
    """One sequence: as many looks of tracks as of truth."""
    looks = [
        _Look([own[i] for i in real.ids], [other[i] for i in made.ids], iou(real.boxes, made.boxes))
        for own, other in [(_numbers(truth), _numbers(tracks))]
        for real, made in zip(truth, tracks, strict=True)
    ]
    shape = _count(look.truths for look in looks), _count(look.tracks for look in looks)
    made = Score(sum(len(look.truths) for look in looks), sum(len(look.tracks) for look in looks))
    _clear(made, looks)
    _identity(made, looks, shape)
    _hota(made, looks, shape)
    return made


def iou(first: Floats, second: Floats) -> Floats:
    """Intersection over union of each with each, N × M."""
    a, b = first.reshape(-1, 1, 4), second.reshape(1, -1, 4)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    shared: Floats = sides.clip(0).prod(axis=-1)
    areas = [(box[..., 2:] - box[..., :2]).prod(axis=-1) for box in (a, b)]
    overlap: Floats = shared / np.maximum(areas[0] + areas[1] - shared, 1e-12)
    return overlap


@dataclass(frozen=True, slots=True)
class _Look:
    """Numbers from 0 on, without holes, and how much each truth overlaps each track."""

    truths: list[int]
    tracks: list[int]
    overlap: Floats


def _numbers(shown: Sequence[Shown]) -> Mapping[int, int]:
    return {name: n for n, name in enumerate(sorted({i for look in shown for i in look.ids}))}


def _count(numbers: Iterable[list[int]]) -> int:
    return 1 + max((number for each in numbers for number in each), default=-1)


def _clear(made: Score, looks: Sequence[_Look]) -> None:
    """Hits and switches. Who was paired in the look before stays so where that is possible."""
    last: dict[int, int] = {}
    before: dict[int, int] = {}
    for look in looks:
        kept = np.array([[before.get(t) == k for k in look.tracks] for t in look.truths])
        gain = np.where(look.overlap >= SAME_IOU, look.overlap, 0.0)
        if gain.size:
            gain = gain + 1000.0 * (kept & (gain > 0))
        pairs = [(look.truths[a], look.tracks[b]) for a, b in assign(gain, 1e-9)]
        made.hits += len(pairs)
        made.switches += sum(last.get(truth, track) != track for truth, track in pairs)
        before = dict(pairs)
        last.update(before)


def _identity(made: Score, looks: Sequence[_Look], shape: tuple[int, int]) -> None:
    """The most hits with one track for each object, for all looks together."""
    same = np.zeros(shape)
    for look in looks:
        for a, b in np.argwhere(look.overlap >= SAME_IOU).tolist():
            same[look.truths[a], look.tracks[b]] += 1
    made.identity_hits = round(sum(same[pair] for pair in assign(same, 1.0)))


def _hota(made: Score, looks: Sequence[_Look], shape: tuple[int, int]) -> None:
    """Hits by alpha, and for each how well its object and its track agree over all looks."""
    shared, truth_looks, track_looks = np.zeros(shape), np.zeros(shape[0]), np.zeros(shape[1])
    for look in looks:
        truth_looks[look.truths] += 1
        track_looks[look.tracks] += 1
        if look.overlap.size:
            union = look.overlap.sum(0)[None, :] + look.overlap.sum(1)[:, None] - look.overlap
            part = np.where(union > 1e-9, look.overlap / np.maximum(union, 1e-9), 0.0)
            shared[np.ix_(look.truths, look.tracks)] += part
    looks_of_either = truth_looks[:, None] + track_looks[None, :]
    alike = shared / np.maximum(looks_of_either - shared, 1e-9)
    hits = np.zeros((len(ALPHAS), *shape))
    for look in looks:
        gain = alike[np.ix_(look.truths, look.tracks)] * look.overlap
        for a, b in assign(gain, 1e-12):
            enough = look.overlap[a, b] >= ALPHAS - 1e-9
            hits[:, look.truths[a], look.tracks[b]] += enough
    made.alpha_hits = hits.sum(axis=(1, 2))
    agree = hits / np.maximum(1, looks_of_either[None] - hits)
    made.association = (hits * agree).sum(axis=(1, 2))
