"""The area of a task: where changes can matter to its rules."""

from typing import Any

import pytest

from edge.vision.area import ABOVE, BELOW, BESIDE, Area, area_of, joined
from wire import specs

ZONES = {
    "pump": [[0.3, 0.4], [0.5, 0.4], [0.5, 0.6], [0.3, 0.6]],
    "shop": [[0.8, 0.1], [1.0, 0.1], [0.9, 0.95]],
}


def area(*conditions: dict[str, Any]) -> Area | None:
    """The area of a task with a rule for each condition."""
    rules = [{"name": f"r{number}", "when": when} for number, when in enumerate(conditions)]
    document = {
        "kind": "Task",
        "metadata": {"name": "t", "station": "s"},
        "spec": {
            "camera": "c",
            "model": {"name": "m"},
            "zones": ZONES,
            "lines": {"exit": [[0, 0.5], [1, 0.5]]},
            "rules": rules,
        },
    }
    return area_of(specs.Task.model_validate(document))


def test_a_zone_counts_with_a_margin_most_of_it_above() -> None:
    """An object with its foot in the zone is mostly above it."""
    found = area({"class": "person", "in": "pump"})
    assert found is not None
    [(first, _, third, _)] = found
    assert first == pytest.approx((0.3 - BESIDE, 0.4 - ABOVE))
    assert third == pytest.approx((0.5 + BESIDE, 0.6 + BELOW))


def test_the_margin_ends_with_the_picture() -> None:
    """Coordinates stay within 0..1."""
    found = area({"class": "person", "in": "shop"})
    assert found is not None
    assert all(0 <= value <= 1 for point in found[0] for value in point)


def test_each_zone_counts_once() -> None:
    """Rules on the same zone, within joined conditions too, share its area."""
    count = {"count": {"class": "car", "in": "pump"}, "at_least": 1}
    absent = {"count": {"class": "person", "in": "shop"}, "at_most": 0}
    found = area({"class": "car", "in": "pump"}, {"all": [count, {"not": absent}]})
    assert found is not None
    assert len(found) == 2


@pytest.mark.parametrize(
    "condition",
    [
        {"class": "person"},
        {"class": "car", "crosses": "exit"},
        {"any": [{"count": {"class": "car"}, "at_least": 3}]},
    ],
)
def test_all_of_the_picture_matters_to_some_rules(condition: dict[str, Any]) -> None:
    """A rule without a zone, and a crossing, make changes matter everywhere."""
    assert area({"class": "car", "in": "pump"}, condition) is None


def test_several_tasks_join_their_areas() -> None:
    """A task to which everything matters decides for its stream."""
    pump, shop = area({"class": "car", "in": "pump"}), area({"class": "car", "in": "shop"})
    assert pump is not None
    assert shop is not None
    assert joined([pump, shop]) == pump + shop
    assert joined([pump, None]) is None
