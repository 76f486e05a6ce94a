"""Points, polygons and lines in the picture, pure.

Here: what a zone or a line says of a box. Not here: what follows from it (rules.py).
Coordinates are fractions of the picture, 0..1, x to the right and **y down**.
"""

from collections.abc import Sequence
from math import hypot

Point = tuple[float, float]
Line = tuple[Point, Point]
Box = tuple[float, float, float, float]

_ON_EDGE = 1e-9


def foot_point(box: Box) -> Point:
    """Where the object of a box stands: the middle of its lower edge."""
    x1, _, x2, y2 = box
    return (x1 + x2) / 2, y2


def inside(point: Point, polygon: Sequence[Point]) -> bool:
    """Whether a polygon holds a point. Its edges belong to it; it may cross itself (even-odd)."""
    x, y = point
    odd = False
    x1, y1 = polygon[-1]
    for x2, y2 in polygon:
        if _on_segment(point, (x1, y1), (x2, y2)):
            return True
        if (y1 > y) != (y2 > y) and x < x1 + (y - y1) * (x2 - x1) / (y2 - y1):
            odd = not odd
        x1, y1 = x2, y2
    return odd


def distance(point: Point, polygon: Sequence[Point]) -> float:
    """How far a point is from a polygon's nearest edge, in fractions of the picture."""
    following = (*polygon[1:], polygon[0])
    return min(_from_segment(point, a, b) for a, b in zip(polygon, following, strict=True))


def side(point: Point, line: Line) -> float:
    """How far to the left of a line a point lies; negative: to its right.

    Left and right are those of someone who stands on the first point and looks to the second. The
    line is taken as endless; the distance is in fractions of the picture.
    """
    (ax, ay), (bx, by) = line
    dx, dy = bx - ax, by - ay
    # y runs down, so the sign is the opposite of the one in textbooks.
    return float(dy * (point[0] - ax) - dx * (point[1] - ay)) / float((dx * dx + dy * dy) ** 0.5)


def crosses(start: Point, end: Point, line: Line) -> bool:
    """Whether the straight way from `start` to `end` meets the line between its two points."""
    first, second = line
    a, b = _turn(first, second, start), _turn(first, second, end)
    c, d = _turn(start, end, first), _turn(start, end, second)
    if a * b < 0 and c * d < 0:
        return True
    return (
        _on_segment(start, first, second)
        or _on_segment(end, first, second)
        or _on_segment(first, start, end)
        or _on_segment(second, start, end)
    )


def _from_segment(point: Point, a: Point, b: Point) -> float:
    dx, dy = b[0] - a[0], b[1] - a[1]
    length = dx * dx + dy * dy
    along = ((point[0] - a[0]) * dx + (point[1] - a[1]) * dy) / length if length else 0.0
    along = min(max(along, 0.0), 1.0)
    return hypot(point[0] - a[0] - along * dx, point[1] - a[1] - along * dy)


def _turn(a: Point, b: Point, c: Point) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _on_segment(point: Point, a: Point, b: Point) -> bool:
    within = (
        min(a[0], b[0]) - _ON_EDGE <= point[0] <= max(a[0], b[0]) + _ON_EDGE
        and min(a[1], b[1]) - _ON_EDGE <= point[1] <= max(a[1], b[1]) + _ON_EDGE
    )
    return within and abs(_turn(a, b, point)) <= _ON_EDGE
