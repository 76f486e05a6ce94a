"""Assignment: no other pairs sum up to more."""

from itertools import permutations

import numpy as np
import pytest

from edge.vision.assign import Gains, assign


def most(gains: Gains, least: float) -> float:
    """What the best pairs sum up to above `least`, by trying all."""
    rows, columns = gains.shape
    wide = np.zeros((rows, columns + rows))
    wide[:, :columns] = np.where(gains >= least, gains - least, 0.0)
    ways = permutations(range(columns + rows), rows)
    return max(float(sum(wide[pair] for pair in enumerate(way))) for way in ways)


@pytest.mark.parametrize("seed", range(40))
def test_pairs_are_the_best_of_all(seed: int) -> None:
    """Small problems, with and without ties, are solved as trying everything solves them."""
    rng = np.random.default_rng(seed)
    rows, columns = rng.integers(1, 4, 2)
    gains = rng.random((rows, columns))
    if seed % 2:
        gains = np.round(gains, 1)
    least = (0.0, 0.3, 0.6)[seed % 3]
    pairs = assign(gains, least)
    assert len({row for row, _ in pairs}) == len({column for _, column in pairs}) == len(pairs)
    assert all(gains[pair] >= least for pair in pairs)
    assert sum(gains[pair] - least for pair in pairs) == pytest.approx(most(gains, least))


def test_greed_is_not_enough() -> None:
    """The two best pairs are not those that begin with the best of all."""
    gains = np.array([[0.9, 0.8], [0.85, 0.1]])
    assert assign(gains, 0.05) == [(0, 1), (1, 0)]


def test_a_large_problem_of_one_piece_is_solved() -> None:
    """Sixty by sixty, everything next to everything: as good as the diagonal hidden in it."""
    rng = np.random.default_rng(1)
    gains = rng.random((60, 60)) * 0.5
    hidden = rng.permutation(60)
    gains[np.arange(60), hidden] += 0.5
    total = sum(gains[pair] for pair in assign(gains, 0.0))
    assert total >= gains[np.arange(60), hidden].sum() - 1e-9


def test_nothing_is_paired_with_nothing() -> None:
    """Empty sides and gains below the least give no pairs."""
    assert assign(np.empty((0, 3)), 0.1) == []
    assert assign(np.empty((3, 0)), 0.1) == []
    assert assign(np.full((2, 2), 0.05), 0.1) == []
