"""When something becomes an event: conditions of objects and scenes, and the rules on them.

Here: their shape, and the parts of a condition. Not here: zones and lines (tasks), how a rule is
judged (edge/vision/rules.py).
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Discriminator, Field, Tag, model_validator

from wire.specs.values import Classes, Name, Seconds, Severity, Spec


class Presence(Spec):
    """An object of a class is in a zone; each object is followed by itself."""

    classes: Classes = Field(alias="class")
    zone: Name | None = Field(default=None, alias="in")


class Crossing(Spec):
    """An object of a class crosses a line. Sides are seen from its first point to its second."""

    classes: Classes = Field(alias="class")
    line: Name = Field(alias="crosses")
    direction: Literal["left-to-right", "right-to-left", "both"] = "both"


class Counted(Spec):
    """What a count counts."""

    classes: Classes = Field(alias="class")
    zone: Name | None = Field(default=None, alias="in")


class Count(Spec):
    """How many objects of a class a zone holds: a condition of the scene."""

    count: Counted
    at_least: Annotated[int, Field(ge=1, le=10_000)] | None = None
    at_most: Annotated[int, Field(ge=0, le=10_000)] | None = None

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.at_least is None and self.at_most is None:
            raise ValueError("a count needs at_least, at_most or both")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError("at_least is above at_most: no count can satisfy both")
        return self


class All(Spec):
    """Every one of these conditions of the scene holds."""

    all: tuple["SceneCondition", ...] = Field(min_length=1, max_length=16)


class Any_(Spec):  # noqa: N801 - the word is `any`, which Python and typing have taken
    """At least one of these conditions of the scene holds."""

    any: tuple["SceneCondition", ...] = Field(min_length=1, max_length=16)


class Not(Spec):
    """This condition of the scene does not hold."""

    not_: "SceneCondition" = Field(alias="not")


def _scene_tag(value: Any) -> str | None:
    """Which condition of the scene a mapping is, from the key that tells it."""
    if isinstance(value, BaseModel):
        return {Count: "count", All: "all", Any_: "any", Not: "not"}.get(type(value))
    if isinstance(value, dict):
        return next((key for key in ("count", "all", "any", "not") if key in value), None)
    return None


def _condition_tag(value: Any) -> str | None:
    """Which condition a mapping is, from the key that tells it."""
    if isinstance(value, BaseModel):
        return {Presence: "presence", Crossing: "crossing"}.get(type(value)) or _scene_tag(value)
    if isinstance(value, dict):
        scene = _scene_tag(value)
        if scene is not None:
            return scene
        if "crosses" in value or "line" in value:
            return "crossing"
        if "class" in value or "classes" in value:
            return "presence"
    return None


SceneCondition = Annotated[
    Annotated[Count, Tag("count")]
    | Annotated[All, Tag("all")]
    | Annotated[Any_, Tag("any")]
    | Annotated[Not, Tag("not")],
    Discriminator(
        _scene_tag,
        custom_error_type="condition",
        custom_error_message="a condition of the scene has one of: count, all, any, not",
    ),
]
Condition = Annotated[
    Annotated[Presence, Tag("presence")]
    | Annotated[Crossing, Tag("crossing")]
    | Annotated[Count, Tag("count")]
    | Annotated[All, Tag("all")]
    | Annotated[Any_, Tag("any")]
    | Annotated[Not, Tag("not")],
    Discriminator(
        _condition_tag,
        custom_error_type="condition",
        custom_error_message=(
            "a condition is {class, in}, {class, crosses, direction}, {count: {class, in}, "
            "at_least, at_most}, or joins counts with all, any, not"
        ),
    ),
]
All.model_rebuild()
Any_.model_rebuild()
Not.model_rebuild()


class Rule(Spec):
    """When a condition becomes an event.

    `for` is how long it must hold, `clear` how long it must have ceased before the incident ends,
    `cooldown` how long after that the same object or scene opens no new one, `grace` the longest
    absence that `for` survives. All are measured in the stream's own time. `min_visit` is what
    the decoding of the stream may count on (edge/video/demand.py).
    """

    name: Name
    when: Condition
    for_: Seconds = Field(default=0.0, alias="for")
    clear: Seconds | None = Field(default=None, description="default: as grace")
    cooldown: Seconds = 0.0
    grace: Seconds | None = Field(default=None, description="default: 1 s, or two looks if longer")
    severity: Severity = "warning"
    min_visit: Annotated[Seconds, Field(gt=0)] | None = Field(
        default=None,
        description="shortest visit that the rule must see; default: its `for`, or 1 s for a "
        "crossing and for a rule without `for`; with at_most or not, at most 1 s: a visit "
        "interrupts what the rule waits for",
    )

    @model_validator(mode="after")
    def _a_crossing_is_a_moment(self) -> Self:
        if isinstance(self.when, Crossing) and (self.for_ or self.clear or self.grace):
            raise ValueError("a crossing is a moment: it has no for, clear or grace")
        return self

    @property
    def kind(self) -> Literal["presence", "crossing", "count"]:
        """The event kind that this rule makes; joined conditions count."""
        if isinstance(self.when, Presence):
            return "presence"
        return "crossing" if isinstance(self.when, Crossing) else "count"


def leaves(
    condition: Condition | Counted, at: tuple[str | int, ...] = ()
) -> Iterator[tuple[tuple[str | int, ...], Presence | Crossing | Counted]]:
    """Each part of a condition that names classes, with its path."""
    match condition:
        case Presence() | Crossing() | Counted():
            yield at, condition
        case Count():
            yield (*at, "count"), condition.count
        case All():
            for index, part in enumerate(condition.all):
                yield from leaves(part, (*at, "all", index))
        case Any_():
            for index, part in enumerate(condition.any):
                yield from leaves(part, (*at, "any", index))
        case Not():
            yield from leaves(condition.not_, (*at, "not"))
