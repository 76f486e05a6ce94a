"""Who belongs to whom: the pairs of rows and columns whose gains sum up to the most.

Here: the assignment problem, solved exactly. Not here: what a gain is (track.py).
"""

import numpy as np
import numpy.typing as npt

Gains = npt.NDArray[np.float64]
Pair = tuple[int, int]


def assign(gains: Gains, least: float) -> list[Pair]:
    """Pairs (row, column) in the order of rows: each row and column once or never.

    `gains` is N × M. A pair counts for what its gain is above `least`; one with less is never made.
    Where several ways sum up to the same, the same one is taken each time.
    """
    above = np.where(gains >= least, gains - least + 1e-9, 0.0)
    if not above.any():
        return []
    # As good as always every row's best column is another one's: nothing can be better.
    best = above.argmax(axis=1)
    rows = np.flatnonzero(above[np.arange(len(best)), best] > 0)
    columns = best[rows].tolist()
    if len(set(columns)) == len(columns):
        return list(zip(rows.tolist(), columns, strict=True))
    pairs: list[Pair] = []
    for some_rows, some_columns in _groups(above):
        if len(some_rows) == len(some_columns) == 1:
            pairs.append((some_rows[0], some_columns[0]))
            continue
        part = above[np.ix_(some_rows, some_columns)]
        pairs += [(some_rows[row], some_columns[column]) for row, column in _best(part)]
    return sorted(pairs)


def _groups(above: Gains) -> list[tuple[list[int], list[int]]]:
    """The rows and columns that have to do with each other, smallest row first."""
    columns_of: dict[int, list[int]] = {}
    rows_of: dict[int, list[int]] = {}
    found_rows, found_columns = np.nonzero(above)
    for row, column in zip(found_rows.tolist(), found_columns.tolist(), strict=True):
        columns_of.setdefault(row, []).append(column)
        rows_of.setdefault(column, []).append(row)
    groups = []
    seen: set[int] = set()
    for first in columns_of:
        if first in seen:
            continue
        rows, columns, waiting = {first}, set[int](), [first]
        while waiting:
            for column in columns_of[waiting.pop()]:
                if column not in columns:
                    columns.add(column)
                    fresh = [row for row in rows_of[column] if row not in rows]
                    rows.update(fresh)
                    waiting += fresh
        seen |= rows
        groups.append((sorted(rows), sorted(columns)))
    return groups


def _best(above: Gains) -> list[Pair]:
    """The Hungarian method: shortest augmenting paths over reduced costs, O(rows² × columns).

    H. W. Kuhn, The Hungarian method for the assignment problem, 1955. Each row has a column of its
    own besides, of gain 0, in which it stays alone.
    """
    rows, real = above.shape
    high = float(above.max())
    costs = np.full((rows, real + rows), high * (rows + 1) + 1.0)
    costs[:, :real] = high - above
    costs[np.arange(rows), real + np.arange(rows)] = high
    columns = real + rows
    table = costs.tolist()
    of_row, of_column = [0.0] * rows, [0.0] * columns
    owner = [-1] * columns
    for start in range(rows):
        slack, came_from = [float("inf")] * columns, [-1] * columns
        done = [False] * columns
        row, at = start, -1
        while True:
            smallest, next_column = float("inf"), -1
            costs_here, own = table[row], of_row[row]
            for column in range(columns):
                if done[column]:
                    continue
                reduced = costs_here[column] - own - of_column[column]
                if reduced < slack[column]:
                    slack[column], came_from[column] = reduced, at
                if slack[column] < smallest:
                    smallest, next_column = slack[column], column
            of_row[start] += smallest
            for column in range(columns):
                if done[column]:
                    of_row[owner[column]] += smallest
                    of_column[column] -= smallest
                else:
                    slack[column] -= smallest
            at = next_column
            done[at] = True
            if owner[at] < 0:
                break
            row = owner[at]
        while at >= 0:
            before = came_from[at]
            owner[at] = owner[before] if before >= 0 else start
            at = before
    return [
        (owner[column], column)
        for column in range(real)
        if owner[column] >= 0 and above[owner[column], column] > 0
    ]
