"""The figures of tracks: as TrackEval has them, and as one counts them by hand."""

import numpy as np
import pytest

from benchmarks.mot import Shown, score, together

ONE, OTHER = (0.1, 0.1, 0.2, 0.3), (0.6, 0.1, 0.7, 0.3)


def shown(**objects: tuple[float, ...]) -> Shown:
    return Shown([int(name[1:]) for name in objects], np.array(list(objects.values())))


def wild(seed: int) -> tuple[list[Shown], list[Shown]]:
    """Six objects, and tracks with misses, false ones, swaps and new numbers."""
    rng = np.random.default_rng(seed)
    place, step = rng.uniform(0.1, 0.8, (6, 2)), rng.normal(0, 0.01, (6, 2))
    size = rng.uniform(0.08, 0.2, (6, 2))
    names, following = list(range(6)), 6
    truth, tracks = [], []
    for _ in range(60):
        place = place + step
        visible = rng.random(6) < 0.95
        boxes = np.concatenate((place, place + size), 1)
        truth.append(Shown([int(i) for i in np.flatnonzero(visible)], boxes[visible]))
        if rng.random() < 0.1:
            i, j = rng.choice(6, 2, replace=False)
            names[i], names[j] = names[j], names[i]
        if rng.random() < 0.1:
            names[int(rng.integers(6))] = following
            following += 1
        seen = rng.random(6) < 0.85
        found = boxes[seen] + rng.normal(0, 0.015, (seen.sum(), 4))
        ids = [names[i] for i in np.flatnonzero(seen)]
        if rng.random() < 0.3:
            corner = rng.uniform(0.1, 0.8, 2)
            found = np.vstack((found, [*corner, *(corner + 0.1)]))
            ids.append(following)
            following += 1
        tracks.append(Shown(ids, found))
    return truth, tracks


@pytest.mark.parametrize(
    ("seed", "mota", "idf1", "hota", "switches"),
    [
        (0, 0.707602, 0.498498, 0.391216, 14),
        (1, 0.679300, 0.575712, 0.397329, 13),
        (2, 0.699422, 0.632684, 0.446570, 9),
        (3, 0.623145, 0.391566, 0.304885, 17),
        (11, 0.623529, 0.434783, 0.323109, 25),
        (19, 0.694767, 0.654709, 0.436989, 8),
    ],
)
def test_figures_are_those_of_trackeval(
    seed: int, mota: float, idf1: float, hota: float, switches: int
) -> None:
    """TrackEval 1.3.0 gave these for the same sequences (CLEAR, Identity, HOTA)."""
    made = score(*wild(seed))
    figures = made.mota, made.idf1, made.hota
    assert figures == pytest.approx((mota, idf1, hota), abs=1e-6)
    assert made.switches == switches


def test_perfect_tracks_score_one() -> None:
    """What is as it should be is 1, whatever the numbers are called."""
    truth = [shown(n1=ONE, n2=OTHER)] * 5
    made = score(truth, [shown(n7=ONE, n9=OTHER)] * 5)
    assert made.figures() == {"mota": 1.0, "idf1": 1.0, "hota": 1.0, "switches": 0}


def test_a_swap_half_way_costs_as_counted_by_hand() -> None:
    """Two objects for four looks whose tracks change places after two: 2 switches of 8."""
    truth = [shown(n1=ONE, n2=OTHER)] * 4
    tracks = [shown(n1=ONE, n2=OTHER)] * 2 + [shown(n2=ONE, n1=OTHER)] * 2
    made = score(truth, tracks)
    assert (made.switches, made.mota, made.idf1) == (2, 0.75, 0.5)
    # Each hit agrees in 2 of the 6 looks that its object or its track has.
    assert made.hota == pytest.approx((2 / 6) ** 0.5)


def test_misses_and_false_ones_cost_as_counted_by_hand() -> None:
    """One of two objects is never seen, and something is seen where nothing is."""
    truth = [shown(n1=ONE, n2=OTHER)] * 4
    made = score(truth, [shown(n1=ONE, n5=(0.3, 0.6, 0.4, 0.8))] * 4)
    assert (made.mota, made.idf1, made.switches) == (0.0, 0.5, 0)
    assert made.hota == pytest.approx((1 / 3) ** 0.5)
    both = together([made, score(truth, truth)])
    assert (both.mota, both.idf1) == (0.5, 0.75)


def test_nothing_at_all_is_no_error() -> None:
    """Looks at nothing count nothing."""
    nothing = [Shown([], np.empty((0, 4)))] * 3
    assert score(nothing, nothing).figures()["switches"] == 0
