"""What two teachers must have in common before a network is taught it."""

import numpy as np

from models import evaluate, samples, teach
from models.evaluate import Found

HERE = [100.0, 100.0, 140.0, 200.0]
NEAR = [102.0, 100.0, 142.0, 200.0]
PERSON, CAR = 0, 2


def found(*rows: tuple[list[float], float, int]) -> Found:
    return Found(
        np.array([box for box, _, _ in rows]).reshape(-1, 4),
        np.array([score for _, score, _ in rows]),
        np.array([label for _, _, label in rows], dtype=np.int64),
    )


def test_what_both_see_is_taught_once_between_their_boxes() -> None:
    """Two boxes of one object become one row, the surer teacher's weighing more."""
    rows = teach.agree(found((HERE, 0.9, PERSON)), found((NEAR, 0.3, PERSON)))
    assert rows[:, 4].tolist() == [PERSON]
    np.testing.assert_allclose(rows[0, :4], [100.5, 100.0, 140.5, 200.0])


def test_what_one_sees_or_both_doubt_is_left_open() -> None:
    """A lone box, two names for one object, and two low scores are marked as unsure."""
    lone = teach.agree(found((HERE, 0.9, PERSON)), found())
    names = teach.agree(found((HERE, 0.9, PERSON)), found((NEAR, 0.9, CAR)))
    doubts = teach.agree(found((HERE, 0.4, PERSON)), found((NEAR, 0.4, PERSON)))
    for rows, count in ((lone, 1), (names, 2), (doubts, 2)):
        assert rows[:, 4].tolist() == [samples.UNSURE] * count


def test_nothing_is_taught_where_nobody_sees_anything() -> None:
    """A frame without any box is a frame without rows."""
    assert teach.agree(found(), found()).shape == (0, 5)


def test_no_recording_is_both_taught_and_held_out() -> None:
    """The recordings that agreement is measured on are not among those taught."""
    assert not set(teach.RECORDINGS) & set(evaluate.HELD_OUT)
    assert set(evaluate.HELD_OUT) <= set(evaluate.RECORDINGS)
