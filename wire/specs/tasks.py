"""An operator's wish: which camera, which model, which zones, lines and rules.

Here: a task's shape, how much of its stream it wants to be seen, and what one of its fields says of
another. Not here: conditions and rules (rules), what a model knows (edge/vision/manifest.py).
"""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from wire.specs.hours import Schedule
from wire.specs.plates import Plates
from wire.specs.problems import Problem
from wire.specs.rules import Counted, Crossing, Presence, Rule, leaves
from wire.specs.values import Classes, Label, Name, Point, Spec

MAX_ZONES = 64
MAX_RULES = 64
MAX_POINTS = 64

Polygon = Annotated[tuple[Point, ...], Field(min_length=3, max_length=MAX_POINTS)]
Priority = Literal["low", "normal", "high"]


Score = Annotated[float, Field(gt=0, lt=1)]


class Model(Spec):
    """Which detector looks at the pictures, and what it may report."""

    name: Name
    min_score: Score = 0.35
    scores: dict[Label, Score] = Field(
        default_factory=dict,
        max_length=100,
        description="by class, where another score than min_score is to count",
    )
    classes: Classes | None = Field(default=None, description="default: all of the model's")


class TaskSpec(Spec):
    """An operator's wish: a camera, a model and rules."""

    camera: Name
    stream: Name = "main"
    fps: Annotated[float, Field(gt=0, le=60)] = Field(
        default=5.0, description="pictures analysed per second while something happens"
    )
    priority: Priority = Field(
        default="normal",
        description="when decoding costs more than the worker has, `low` is degraded first and "
        "`high` last",
    )
    decode: Literal["adaptive", "full"] = Field(
        default="adaptive",
        description="adaptive: no more than the rules need while nothing changes; full: every "
        "frame is decoded and every due one inferred, whatever happens",
    )
    model: Model
    zones: dict[Name, Polygon] = Field(default_factory=dict, max_length=MAX_ZONES)
    masks: dict[Name, Polygon] = Field(
        default_factory=dict,
        max_length=MAX_ZONES,
        description="areas whose motion wakes nothing: a burned-in clock, a flag, a tree; objects "
        "in them are still detected once the stream is awake. They are filled in every picture of "
        "the stream that is stored or shown",
    )
    blur: dict[Name, Polygon] = Field(
        default_factory=dict,
        max_length=MAX_ZONES,
        description="areas that nobody may recognise: a neighbour's door, a keypad; coarse and "
        "blurred in every picture of the stream that is stored or shown, whichever task asks",
    )
    lines: dict[Name, tuple[Point, Point]] = Field(default_factory=dict, max_length=MAX_ZONES)
    rules: tuple[Rule, ...] = Field(min_length=1, max_length=MAX_RULES)
    plates: Plates | None = Field(
        default=None, description="number plates of vehicles that stand; default: none is read"
    )
    schedule: Schedule | None = Field(
        default=None,
        description="when the task is at work, in the station's time zone; default: always",
    )


def task_problems(spec: TaskSpec) -> Iterator[Problem]:
    """Names that lead nowhere or twice, and shapes that hold nothing."""
    seen: set[str] = set()
    for field, areas in (("zones", spec.zones), ("masks", spec.masks), ("blur", spec.blur)):
        for name, points in areas.items():
            if not _has_area(points):
                yield Problem(("spec", field, name), "the polygon encloses no area")
    for line, (first, second) in spec.lines.items():
        if first == second:
            yield Problem(("spec", "lines", line), "the line's two points are the same")
    for name in spec.model.scores:
        if spec.model.classes is not None and name not in spec.model.classes:
            yield Problem(
                ("spec", "model", "scores", name), f"class {name!r} is not in spec.model.classes"
            )
    if spec.plates is not None:
        yield from _plates_problems(spec.plates, spec)
    for index, rule in enumerate(spec.rules):
        at: tuple[str | int, ...] = ("spec", "rules", index)
        if rule.name in seen:
            yield Problem((*at, "name"), f"two rules are named {rule.name!r}")
        seen.add(rule.name)
        for path, leaf in leaves(rule):
            yield from _leaf_problems((*at, *path), leaf, spec)


def _leaf_problems(
    at: tuple[str | int, ...], leaf: Presence | Crossing | Counted, spec: TaskSpec
) -> Iterator[Problem]:
    if isinstance(leaf, Crossing):
        if leaf.line not in spec.lines:
            yield Problem((*at, "crosses"), f"no line {leaf.line!r} in spec.lines")
    elif leaf.zone is not None and leaf.zone not in spec.zones:
        yield Problem((*at, "in"), f"no zone {leaf.zone!r} in spec.zones")
    if spec.model.classes is not None:
        for name in leaf.classes:
            if name not in spec.model.classes:
                yield Problem((*at, "class"), f"class {name!r} is not in spec.model.classes")


def _plates_problems(plates: Plates, spec: TaskSpec) -> Iterator[Problem]:
    if plates.zone is not None and plates.zone not in spec.zones:
        yield Problem(("spec", "plates", "in"), f"no zone {plates.zone!r} in spec.zones")
    for name in plates.classes or ():
        if spec.model.classes is not None and name not in spec.model.classes:
            yield Problem(
                ("spec", "plates", "classes"), f"class {name!r} is not in spec.model.classes"
            )


def _has_area(points: tuple[Point, ...]) -> bool:
    """Whether not all points lie on one line; a polygon may cross itself, as a bow tie does."""
    x0, y0 = points[0]
    away = [(x - x0, y - y0) for x, y in points[1:]]
    return any(abs(ax * by - bx * ay) > 1e-9 for ax, ay in away for bx, by in away)
