"""Which part of the picture matters to a task's rules. Pure.

Here: where changes can matter, with a generous margin. Not here: what changes (motion.py), which
zone an object is in (geometry.py).
"""

from collections.abc import Iterable

from edge.vision.geometry import Box, Point
from wire import specs

Area = tuple[tuple[Point, ...], ...]

BESIDE = 0.1
BELOW = 0.1
"""How far around a zone changes matter: an object should be followed before it is inside."""
ABOVE = 0.25
"""An object stands with its foot in a zone, and what one sees best of it may be its head."""


def area_of(task: specs.Task) -> Area | None:
    """Polygons outside of which nothing matters to a task; None if all of the picture does.

    That is so for a rule (or plates) without a zone, and for a crossing: there it matters where an
    object came from, so it must be followed from where it appears.
    """
    zones: list[str] = []
    for rule in task.spec.rules:
        for _, leaf in specs.leaves(rule):
            if isinstance(leaf, specs.Crossing) or leaf.zone is None:
                return None
            zones.append(leaf.zone)
    if task.spec.plates is not None:
        if task.spec.plates.zone is None:
            return None
        zones.append(task.spec.plates.zone)
    return tuple(_around(task.spec.zones[name]) for name in dict.fromkeys(zones))


def joined(areas: Iterable[Area | None]) -> Area | None:
    """Where changes matter to any of several tasks on one stream."""
    polygons: list[tuple[Point, ...]] = []
    for area in areas:
        if area is None:
            return None
        polygons += area
    return tuple(polygons)


def touches(box: Box, polygon: Iterable[Point]) -> bool:
    """Whether a box (x1, y1, x2, y2) overlaps the upright rectangle around a polygon."""
    points = list(polygon)
    xs, ys = [x for x, _ in points], [y for _, y in points]
    return box[0] <= max(xs) and box[2] >= min(xs) and box[1] <= max(ys) and box[3] >= min(ys)


def _around(zone: Iterable[Point]) -> tuple[Point, ...]:
    """The upright rectangle that holds a zone and its margin."""
    xs, ys = zip(*zone, strict=True)
    left, right = max(0.0, min(xs) - BESIDE), min(1.0, max(xs) + BESIDE)
    top, bottom = max(0.0, min(ys) - ABOVE), min(1.0, max(ys) + BELOW)
    return (left, top), (right, top), (right, bottom), (left, bottom)
