"""Points, polygons and lines, with pictures in words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.vision.geometry import crosses, foot_point, inside, side

SQUARE = ((0.2, 0.2), (0.8, 0.2), (0.8, 0.8), (0.2, 0.8))
# An L: the upper right quarter of the square is missing.
CORNER = ((0.2, 0.2), (0.5, 0.2), (0.5, 0.5), (0.8, 0.5), (0.8, 0.8), (0.2, 0.8))

fractions = st.floats(0, 1, allow_nan=False).map(lambda value: round(value, 3))
points = st.tuples(fractions, fractions)


def test_an_object_stands_on_the_middle_of_its_lower_edge() -> None:
    """The lower edge has the larger y, because y runs down."""
    assert foot_point((0.2, 0.1, 0.4, 0.9)) == pytest.approx((0.3, 0.9))


@pytest.mark.parametrize("point", [(0.5, 0.5), (0.2, 0.5), (0.5, 0.2), (0.2, 0.2), (0.8, 0.8)])
def test_a_zone_holds_its_inside_its_edges_and_its_corners(point: tuple[float, float]) -> None:
    """What stands on the edge of a zone is in it."""
    assert inside(point, SQUARE)


@pytest.mark.parametrize("point", [(0.1, 0.5), (0.9, 0.5), (0.5, 0.1), (0.5, 0.9)])
def test_a_zone_does_not_hold_what_is_beside_it(point: tuple[float, float]) -> None:
    """Left, right, above and below are outside."""
    assert not inside(point, SQUARE)


def test_a_zone_may_have_a_dent() -> None:
    """The missing quarter of an L is outside, the others are inside."""
    assert not inside((0.7, 0.3), CORNER)
    assert inside((0.3, 0.3), CORNER)
    assert inside((0.3, 0.7), CORNER)
    assert inside((0.7, 0.7), CORNER)


@given(points)
def test_a_zone_agrees_with_its_definition(point: tuple[float, float]) -> None:
    """For a rectangle, inside means between its edges; direction of drawing does not matter."""
    expected = 0.2 <= point[0] <= 0.8 and 0.2 <= point[1] <= 0.8
    assert inside(point, SQUARE) == expected
    assert inside(point, SQUARE[::-1]) == expected


@pytest.mark.parametrize(
    ("line", "left"),
    [
        # Looking to the right of the picture, the upper part is to the left.
        (((0.1, 0.9), (0.9, 0.9)), (0.5, 0.5)),
        # Looking to the left, the lower part is.
        (((0.9, 0.1), (0.1, 0.1)), (0.5, 0.5)),
        # Looking down the picture, its right part is.
        (((0.1, 0.1), (0.1, 0.9)), (0.5, 0.5)),
        # Looking up, its left part is.
        (((0.9, 0.9), (0.9, 0.1)), (0.5, 0.5)),
    ],
    ids=["to the right", "to the left", "down", "up"],
)
def test_left_is_left_of_someone_who_looks_along_the_line(
    line: tuple[tuple[float, float], tuple[float, float]], left: tuple[float, float]
) -> None:
    """Sides are seen from the first point to the second, as the operator sees the picture."""
    assert side(left, line) == pytest.approx(0.4)
    assert side(left, (line[1], line[0])) == pytest.approx(-0.4)


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        ((0.5, 0.2), (0.5, 0.8), True),
        ((0.5, 0.8), (0.5, 0.2), True),
        ((0.5, 0.2), (0.5, 0.5), True),
        ((0.2, 0.2), (0.2, 0.8), True),
        ((0.1, 0.2), (0.1, 0.8), False),
        ((0.5, 0.2), (0.5, 0.4), False),
        ((0.3, 0.4), (0.7, 0.4), False),
    ],
    ids=["down", "up", "onto", "over its end", "past its end", "before it", "beside it"],
)
def test_a_way_crosses_a_line_between_its_points(
    start: tuple[float, float], end: tuple[float, float], expected: bool
) -> None:
    """A line ends at its points; a way past them crosses nothing."""
    assert crosses(start, end, ((0.2, 0.5), (0.8, 0.5))) is expected


@given(points, points, points, points)
def test_crossing_has_no_direction(
    a: tuple[float, float], b: tuple[float, float], c: tuple[float, float], d: tuple[float, float]
) -> None:
    """Back is as forth, and the way crosses the line when the line crosses the way."""
    assert crosses(a, b, (c, d)) == crosses(b, a, (d, c)) == crosses(c, d, (a, b))
