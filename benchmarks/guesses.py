"""What a detector makes of a crowd: its answers look by look, without any picture.

Here: which objects are found, how surely, where and by what name, and what is no object. Not here:
who is there (crowds.py), trackers (tracks.py).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.crowds import FPS, HEIGHT, VEHICLES, WIDTH, Look

Floats = npt.NDArray[np.float64]
Rng = np.random.Generator


@dataclass(frozen=True, slots=True)
class Guess:
    """What a detector makes of a look: M rows of it, with scores from 0.1 on."""

    labels: tuple[str, ...]
    scores: Floats
    boxes: Floats


def guesses(seed: int, truth: list[Look]) -> Iterator[Guess]:
    """A detector's answers, look by look: the same for everybody.

    Small and half hidden objects score less, and below 0.1 are not found; how well an object is
    seen changes slowly, so that misses come in a row. Some standing cars are lost for seconds.
    Boxes tremble, vehicles change names, and a few things are taken for what they are not.
    """
    rng = np.random.default_rng([7, seed])
    moods: dict[int, float] = {}
    lost_s = _lost(rng, truth)
    ghosts = [_anywhere(rng) for _ in range(int(rng.integers(1, 3)))]
    keeps = math.exp(-1 / (0.4 * FPS))
    for number, look in enumerate(truth):
        rows: list[tuple[str, float, Floats]] = []
        for id_, label, box, share in zip(
            look.ids, look.labels, look.boxes, look.shares, strict=True
        ):
            known = moods.get(id_, float(rng.normal(0.0, 1.0)))
            moods[id_] = keeps * known + math.sqrt(1 - keeps**2) * float(rng.normal(0.0, 1.0))
            side_px = math.sqrt(np.prod((box[2:] - box[:2]) * (WIDTH, HEIGHT)))
            size = min(0.0, 1.5 * math.log(side_px / 28.0))
            surely = 1.6 + size - 4.5 * (1 - share) + 0.9 * moods[id_] + rng.normal(0.0, 0.35)
            first_s, last_s = lost_s.get(id_, (math.inf, 0.0))
            if first_s <= number / FPS <= last_s:
                surely -= 6.0
            rows.append((_name(rng, label), _score(surely), _trembling(rng, box, share)))
        for n, (label, box) in enumerate(ghosts):
            known = moods.get(-n - 1, 0.0)
            moods[-n - 1] = keeps * known + math.sqrt(1 - keeps**2) * float(rng.normal(0.0, 1.0))
            surely = 1.2 * moods[-n - 1] - 2.0 + rng.normal(0.0, 0.4)
            rows.append((label, _score(surely), _trembling(rng, box, 1.0)))
        for _ in range(int(rng.poisson(0.15))):
            label, box = _anywhere(rng)
            rows.append((label, float(0.1 + 0.5 * rng.beta(1, 3)), box))
        found = sorted((row for row in rows if row[1] >= 0.1), key=lambda row: -row[1])
        yield Guess(
            tuple(label for label, _, _ in found),
            np.array([score for _, score, _ in found]),
            np.array([box for _, _, box in found]).reshape(-1, 4),
        )


def _lost(rng: Rng, truth: list[Look]) -> dict[int, tuple[float, float]]:
    """When some of the vehicles are not found at all: from, until."""
    vehicles = {
        id_
        for look in truth
        for id_, label in zip(look.ids, look.labels, strict=True)
        if label in VEHICLES
    }
    lost = {}
    for id_ in sorted(vehicles):
        first_s = rng.uniform(4.0, 12.0)
        if rng.random() < 0.2:
            lost[id_] = first_s, first_s + rng.uniform(1.0, 6.0)
    return lost


def _score(surely: float) -> float:
    return 0.95 / (1.0 + math.exp(-surely))


def _trembling(rng: Rng, box: Floats, share: float) -> Floats:
    sides = np.tile(box[2:] - box[:2], 2)
    made: Floats = box + rng.normal(0.0, 0.025 + 0.03 * (1 - share), 4) * sides
    return made.clip(0, 1)


def _name(rng: Rng, label: str) -> str:
    if label in VEHICLES and rng.random() < 0.08:
        return str(rng.choice(VEHICLES))
    return label


def _anywhere(rng: Rng) -> tuple[str, Floats]:
    """A thing that is taken for something else."""
    height = rng.uniform(0.05, 0.25)
    width = height * rng.uniform(0.2, 0.9)
    x, y = rng.uniform(0.0, 1.0 - width), rng.uniform(0.2, 1.0 - height)
    label = str(rng.choice(["person", "person", "car", "truck"]))
    return label, np.array([x, y, x + width, y + height])
