"""The metric that models are scored with, on boxes small enough to count by hand."""

import numpy as np
import pytest

from models import evaluate
from models.evaluate import Found, Real
from tests.parts import clips

SQUARE = [0.0, 0.0, 10.0, 10.0]
FAR = [50.0, 50.0, 60.0, 60.0]
HALF = [0.0, 0.0, 10.0, 5.0]  # IoU 0.5 with the square
PERSON, CAR = 0, 2


def found(*rows: tuple[list[float], float, int]) -> Found:
    return Found(
        np.array([box for box, _, _ in rows]).reshape(-1, 4),
        np.array([score for _, score, _ in rows]),
        np.array([label for _, _, label in rows], dtype=np.int64),
    )


def real(*rows: tuple[list[float], int], crowd: bool = False) -> Real:
    return Real(
        np.array([box for box, _ in rows]).reshape(-1, 4),
        np.array([label for _, label in rows], dtype=np.int64),
        np.full(len(rows), crowd),
    )


def test_a_second_box_on_one_object_is_a_false_find() -> None:
    """One true box is found once, by the better of two boxes."""
    twice = found((SQUARE, 0.6, PERSON), (SQUARE, 0.9, PERSON))
    scores, hits, ignored, total = evaluate.match(twice, real((SQUARE, PERSON)), PERSON)
    assert scores.tolist() == [0.9, 0.6]
    assert hits[0].tolist() == [1.0, 0.0]
    assert not ignored.any()
    assert total == 1


def test_an_overlap_of_half_counts_at_half_only() -> None:
    """A box with IoU 0.5 is a hit at 0.5 and at no higher step."""
    _, hits, _, _ = evaluate.match(found((HALF, 0.9, PERSON)), real((SQUARE, PERSON)), PERSON)
    assert hits[:, 0].tolist() == [1.0] + [0.0] * 9


def test_another_class_does_not_match() -> None:
    """A car on the very place of a person is a false find and leaves the person missed."""
    pairs = [(found((SQUARE, 0.9, CAR)), real((SQUARE, PERSON)))]
    at = evaluate.working_point(pairs, 0.5)
    assert at["person"]["recall"] == 0.0
    assert at["car"]["recall"] is None
    assert at["car"]["precision"] == 0.0


def test_a_crowd_is_neither_found_nor_missed() -> None:
    """Boxes inside a crowd are left out, however many, and the crowd is not in the total."""
    inside = found((HALF, 0.9, PERSON), ([0.0, 5.0, 10.0, 10.0], 0.8, PERSON))
    _, hits, ignored, total = evaluate.match(inside, real((SQUARE, PERSON), crowd=True), PERSON)
    assert total == 0
    assert not hits.any()
    assert ignored[0].all()


def test_average_precision_of_one_false_find_before_the_true_one() -> None:
    """Precision 1/2 at every recall, and the mean is over the classes that occur."""
    pairs = [(found((FAR, 0.9, PERSON), (SQUARE, 0.8, PERSON)), real((SQUARE, PERSON)))]
    scored = evaluate.average_precision(pairs)
    assert scored["ap50"] == pytest.approx(0.5)
    assert list(scored["classes"]) == ["person"]


def test_the_metric_is_that_of_pycocotools() -> None:
    """On the reference boxes our AP is the published one."""
    clips.asset("eval/coco_metrics_reference/cocoapi_results.json")
    folder = evaluate.assets_folder()
    assert folder is not None
    assert evaluate.self_check(folder) == pytest.approx(evaluate.REFERENCE_AP, abs=5e-6)
