"""When something becomes an event: conditions of objects and scenes, and the rules on them.

Here: their shape, and the parts of a condition. Not here: zones and lines (tasks), the steps of a
procedure (procedures), how a rule is judged (edge/vision/rules.py).
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    Discriminator,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    Tag,
    model_validator,
)

from wire.specs.hours import Schedule
from wire.specs.values import Classes, Name, Seconds, Severity, Spec

MAX_STEPS = 32
MAX_TEXT = 200
"""Characters of an input's text."""


class Presence(Spec):
    """An object of a class is in a zone; each object is followed by itself."""

    classes: Classes = Field(alias="class")
    zone: Name | None = Field(default=None, alias="in")
    while_: "SceneCondition | None" = Field(
        default=None, alias="while", description="only while this condition of the scene holds"
    )


class Crossing(Spec):
    """An object of a class crosses a line. Sides are seen from its first point to its second."""

    classes: Classes = Field(alias="class")
    line: Name = Field(alias="crosses")
    direction: Literal["left-to-right", "right-to-left", "both"] = "both"
    while_: "SceneCondition | None" = Field(
        default=None, alias="while", description="only while this condition of the scene holds"
    )


def _value(value: object) -> object:
    if not isinstance(value, bool | int | float | str) or len(str(value)) > MAX_TEXT:
        raise ValueError(f"write text of at most {MAX_TEXT} characters, a number, true or false")
    return value


Value = Annotated[
    StrictBool | StrictInt | Annotated[StrictFloat, Field(allow_inf_nan=False)] | StrictStr,
    BeforeValidator(_value),
]


class Input(Spec):
    """What the station says from outside its cameras: a nozzle is lifted, a tank is at 87 percent.

    An input that never said anything, or nothing for longer than `max_age`, is *unknown*: neither
    this condition nor its `not` holds then.
    """

    input: Name
    is_: Value | None = Field(
        default=None, alias="is", description="text, a number, or true or false"
    )
    above: float | None = Field(default=None, allow_inf_nan=False)
    below: float | None = Field(default=None, allow_inf_nan=False)
    max_age: Annotated[Seconds, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        bounded = self.above is not None or self.below is not None
        if bounded == (self.is_ is not None):
            raise ValueError("an input needs `is`, or `above`, `below` or both")
        return self


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


_SCENES: dict[type, str] = {Count: "count", All: "all", Any_: "any", Not: "not", Input: "input"}


def _scene_tag(value: Any) -> str | None:
    """Which condition of the scene a mapping is, from the key that tells it."""
    if isinstance(value, BaseModel):
        return _SCENES.get(type(value))
    if isinstance(value, dict):
        return next((key for key in _SCENES.values() if key in value), None)
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
    | Annotated[Not, Tag("not")]
    | Annotated[Input, Tag("input")],
    Discriminator(
        _scene_tag,
        custom_error_type="condition",
        custom_error_message="a condition of the scene has one of: count, all, any, not, input",
    ),
]
Condition = Annotated[
    Annotated[Presence, Tag("presence")]
    | Annotated[Crossing, Tag("crossing")]
    | Annotated[Count, Tag("count")]
    | Annotated[All, Tag("all")]
    | Annotated[Any_, Tag("any")]
    | Annotated[Not, Tag("not")]
    | Annotated[Input, Tag("input")],
    Discriminator(
        _condition_tag,
        custom_error_type="condition",
        custom_error_message=(
            "a condition is {class, in}, {class, crosses, direction}, {count: {class, in}, "
            "at_least, at_most}, {input, is}, or joins counts and inputs with all, any, not"
        ),
    ),
]
for _model in (All, Any_, Not, Presence, Crossing):
    _model.model_rebuild()


class Step(Spec):
    """One step of a procedure. It begins when the one before it is done.

    It is done when `until` comes true, or, without `until`, when it has lasted for `lasts`.
    """

    name: Name
    until: SceneCondition | None = None
    lasts: Seconds | None = Field(
        default=None, description="no sooner than this may it be done; sooner is a violation"
    )
    within: Annotated[Seconds, Field(gt=0)] | None = Field(
        default=None, description="no later than this must it be done; later is a violation"
    )
    while_: SceneCondition | None = Field(
        default=None,
        alias="while",
        description="must hold all the time, absences up to the rule's `grace` forgiven",
    )
    in_order: bool = Field(
        default=True, description="that `until` comes true before its turn is a violation"
    )

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if self.until is None and self.lasts is None:
            raise ValueError("a step needs `until`, `lasts` or both: else it is never done")
        if self.lasts is not None and self.within is not None and self.lasts > self.within:
            raise ValueError("`lasts` is above `within`: no step can satisfy both")
        if self.until is None and self.within is not None:
            raise ValueError("`within` needs `until`: without it the step is done by `lasts`")
        return self


class Procedure(Spec):
    """Ordered steps that must be done from when `begins` comes true until `ends` does."""

    begins: SceneCondition
    steps: tuple[Step, ...] = Field(min_length=1, max_length=MAX_STEPS)
    ends: SceneCondition | None = Field(
        default=None, description="default: when `begins` no longer holds"
    )

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [step.name for step in self.steps]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"two steps are named {twice!r}")
        return self


class Rule(Spec):
    """When a condition becomes an event, or how a procedure must go.

    `for` is how long it must hold, `clear` how long it must have ceased before the incident ends,
    `cooldown` how long after that the same object or scene opens no new one, `grace` the longest
    absence that `for` survives. All are measured in the stream's own time. `min_visit` is what
    the decoding of the stream may count on (edge/video/demand.py).
    """

    name: Name
    when: Condition | None = None
    procedure: Procedure | None = None
    for_: Seconds = Field(default=0.0, alias="for")
    clear: Seconds | None = Field(
        default=None, description="default: as grace; of a procedure: 30 s, or grace if longer"
    )
    cooldown: Seconds = 0.0
    grace: Seconds | None = Field(default=None, description="default: 1 s, or two looks if longer")
    severity: Severity = "warning"
    update_every: Seconds = Field(
        default=10.0, description="an open incident tells no more often that it has grown"
    )
    schedule: Schedule | None = Field(
        default=None, description="when the rule is judged; default: whenever its task is"
    )
    min_visit: Annotated[Seconds, Field(gt=0)] | None = Field(
        default=None,
        description="shortest visit that the rule must see; default: its `for`, or 1 s for a "
        "crossing and for a rule without `for`; with at_most or not, at most 1 s: a visit "
        "interrupts what the rule waits for",
    )

    @model_validator(mode="after")
    def _is_one_of_them(self) -> Self:
        if (self.when is None) == (self.procedure is None):
            raise ValueError("a rule has either `when` or `procedure`")
        return self

    @model_validator(mode="after")
    def _a_crossing_is_a_moment(self) -> Self:
        if isinstance(self.when, Crossing) and (self.for_ or self.clear or self.grace):
            raise ValueError("a crossing is a moment: it has no for, clear or grace")
        return self

    @property
    def kind(self) -> Literal["presence", "crossing", "count", "procedure"]:
        """The event kind that this rule makes; joined conditions count."""
        match self.when:
            case None:
                return "procedure"
            case Presence():
                return "presence"
            case Crossing():
                return "crossing"
        return "count"

    @property
    def conditions(self) -> Iterator[tuple[tuple[str | int, ...], Condition]]:
        """All of the rule's conditions, each with its path within the rule."""
        if self.when is not None:
            yield ("when",), self.when
        if self.procedure is not None:
            yield ("procedure", "begins"), self.procedure.begins
            for index, step in enumerate(self.procedure.steps):
                at = ("procedure", "steps", index)
                if step.until is not None:
                    yield (*at, "until"), step.until
                if step.while_ is not None:
                    yield (*at, "while"), step.while_
            if self.procedure.ends is not None:
                yield ("procedure", "ends"), self.procedure.ends


Leaf = Presence | Crossing | Counted | Input
Path = tuple[str | int, ...]


def parts(rule: Rule) -> Iterator[tuple[Path, Leaf]]:
    """What a rule's conditions come down to, each with its path within the rule."""
    for at, condition in rule.conditions:
        yield from _parts(condition, at)


def leaves(rule: Rule) -> Iterator[tuple[Path, Presence | Crossing | Counted]]:
    """Each part of a rule that names classes, with its path within the rule."""
    for at, part in parts(rule):
        if not isinstance(part, Input):
            yield at, part


def inputs(rule: Rule) -> Iterator[tuple[Path, Input]]:
    """Each part of a rule that names an input, with its path within the rule."""
    for at, part in parts(rule):
        if isinstance(part, Input):
            yield at, part


def _parts(condition: Condition, at: Path) -> Iterator[tuple[Path, Leaf]]:
    match condition:
        case Presence() | Crossing():
            yield at, condition
            if condition.while_ is not None:
                yield from _parts(condition.while_, (*at, "while"))
        case Input():
            yield at, condition
        case Count():
            yield (*at, "count"), condition.count
        case All():
            for index, part in enumerate(condition.all):
                yield from _parts(part, (*at, "all", index))
        case Any_():
            for index, part in enumerate(condition.any):
                yield from _parts(part, (*at, "any", index))
        case Not():
            yield from _parts(condition.not_, (*at, "not"))
