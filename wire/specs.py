"""What operators write: stations, workers, cameras and tasks with their zones, lines and rules.

Here: the shape of each resource, its limits, and errors that carry the path of the field.
Not here: what becomes of a resource (center), how a rule is judged (edge/vision/rules.py), files.

Coordinates are fractions of the picture, 0..1, x to the right and y down. Durations are seconds;
in YAML and JSON they may be written `10s`, `1.5m`, `2h` or as a number of seconds.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self, TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    SecretStr,
    Tag,
    TypeAdapter,
    ValidationError,
    field_serializer,
    model_validator,
)

NAME_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
MAX_ZONES = 64
MAX_RULES = 64
MAX_POINTS = 64

_DURATION = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?\s*$")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, None: 1.0}


def duration_s(value: object) -> object:
    """Seconds from `10s`, `1.5m`, `2h`, `250ms`, `7d` or a plain number; other values pass on."""
    if not isinstance(value, str):
        return value
    match = _DURATION.match(value)
    if match is None:
        raise ValueError(f"{value!r} is no duration; write for example 3s, 10m or 2h")
    return float(match.group(1)) * _UNIT_S[match.group(2)]


def _listed(value: object) -> object:
    """One word stands for a list of one."""
    return [value] if isinstance(value, str) else value


def _named(value: str) -> str:
    if not re.fullmatch(NAME_PATTERN, value):
        raise ValueError("use 1 to 63 lower-case letters, digits and '-', as in a host name")
    return value


Name = Annotated[
    str,
    AfterValidator(_named),
    Field(max_length=63, json_schema_extra={"pattern": NAME_PATTERN}),
]
Seconds = Annotated[float, BeforeValidator(duration_s), Field(ge=0, le=31 * 86400)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Point = tuple[Fraction, Fraction]
Label = Annotated[str, Field(min_length=1, max_length=63)]
Classes = Annotated[
    tuple[Label, ...], BeforeValidator(_listed), Field(min_length=1, max_length=100)
]
Severity = Literal["info", "warning", "critical"]


class Spec(BaseModel):
    """The common ground: immutable, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


# --- places ------------------------------------------------------------------------------------


class Metadata(Spec):
    """Who a resource is."""

    name: Name
    labels: dict[Label, Annotated[str, Field(max_length=200)]] = Field(
        default_factory=dict, max_length=32
    )


class InStation(Metadata):
    """Who a resource of a station is: its name is unique within that station."""

    station: Name


class StationSpec(Spec):
    """A site."""

    title: Annotated[str, Field(max_length=200)] = ""
    time_zone: Annotated[str, Field(max_length=64)] = "UTC"
    autonomy_duration: Seconds | None = Field(
        default=None,
        description="silence after which the station counts as Lost; none: never (its tasks stay)",
    )


class WorkerSpec(Spec):
    """An edge identity. Its name is its certificate's CN and its MQTT user name."""

    title: Annotated[str, Field(max_length=200)] = ""


class Stream(Spec):
    """One feed of a camera.

    `url` is rtsp://, http:// or file:///absolute/path. A user name and password inside the URL are
    taken out of it and kept apart, so that no log or listing shows them.
    """

    url: Annotated[str, Field(min_length=1, max_length=2000)]
    username: Annotated[str, Field(max_length=200)] | None = None
    password: SecretStr | None = None
    pace: Literal["live", "fast"] = Field(
        default="live", description="files only: as a camera would send it, or as fast as may be"
    )
    loop: bool = Field(default=False, description="files only: start again at the end")

    @model_validator(mode="before")
    @classmethod
    def _credentials_apart(cls, data: Any) -> Any:
        if not isinstance(data, dict) or not isinstance(data.get("url"), str):
            return data
        try:
            parts = urlsplit(data["url"])
        except ValueError:
            raise ValueError("the stream's url cannot be read as a URL") from None
        if "@" not in parts.netloc:
            return data
        userinfo, _, host = parts.netloc.rpartition("@")
        user, _, password = userinfo.partition(":")
        bare = urlunsplit(parts._replace(netloc=host))
        found = {"username": unquote(user), "password": unquote(password)}
        given = {key: value for key, value in data.items() if value is not None}
        return {**found, **given, "url": bare}

    @model_validator(mode="after")
    def _url_is_known(self) -> Self:
        parts = urlsplit(self.url)
        try:
            parts.port  # noqa: B018 - reading it is what checks it
            torn = parts.scheme != "file" and "@" in parts.path + parts.query + parts.fragment
        except ValueError:
            torn = True
        if torn:
            raise ValueError(
                "the stream's url cannot be read; give username and password as fields of their "
                "own, or write the /, ?, # and @ in them as %2F, %3F, %23 and %40"
            )
        known = ("rtsp", "rtsps", "http", "https", "file")
        if parts.scheme not in known:
            schemes = ", ".join(f"{scheme}://" for scheme in known)
            raise ValueError(f"a stream's url begins with one of {schemes}")
        if parts.scheme == "file" and (parts.netloc or not parts.path.startswith("/")):
            raise ValueError("a recording's url is file:///absolute/path")
        if parts.scheme != "file" and not parts.hostname:
            raise ValueError("the stream's url names no host")
        return self

    @field_serializer("password", when_used="json-unless-none")
    def _reveal(self, password: SecretStr) -> str:
        """JSON carries the password: it is what travels to the worker. Listings use `redacted`."""
        return password.get_secret_value()


class CameraSpec(Spec):
    """A device with one or more streams, by name (`main`, `sub`)."""

    streams: dict[Name, Stream] = Field(min_length=1, max_length=8)
    title: Annotated[str, Field(max_length=200)] = ""


# --- rules -------------------------------------------------------------------------------------


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
    absence that `for` survives. All are measured in the stream's own time.
    """

    name: Name
    when: Condition
    for_: Seconds = Field(default=0.0, alias="for")
    clear: Seconds | None = Field(default=None, description="default: as grace")
    cooldown: Seconds = 0.0
    grace: Seconds | None = Field(default=None, description="default: 1 s, or two looks if longer")
    severity: Severity = "warning"

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


class Model(Spec):
    """Which detector looks at the pictures, and what it may report."""

    name: Name
    min_score: Annotated[float, Field(gt=0, lt=1)] = 0.35
    classes: Classes | None = Field(default=None, description="default: all of the model's")


class TaskSpec(Spec):
    """An operator's wish: a camera, a model and rules."""

    camera: Name
    stream: Name = "main"
    fps: Annotated[float, Field(gt=0, le=60)] = 5.0
    model: Model
    zones: dict[Name, Annotated[tuple[Point, ...], Field(min_length=3, max_length=MAX_POINTS)]] = (
        Field(default_factory=dict, max_length=MAX_ZONES)
    )
    lines: dict[Name, tuple[Point, Point]] = Field(default_factory=dict, max_length=MAX_ZONES)
    rules: tuple[Rule, ...] = Field(min_length=1, max_length=MAX_RULES)


# --- resources ---------------------------------------------------------------------------------


class Station(Spec):
    """A site, with its cameras, workers and tasks."""

    kind: Literal["Station"] = "Station"
    metadata: Metadata
    spec: StationSpec = StationSpec()


class Worker(Spec):
    """An edge identity of a station. Its name is unique everywhere."""

    kind: Literal["Worker"] = "Worker"
    metadata: InStation
    spec: WorkerSpec = WorkerSpec()


class Camera(Spec):
    """A camera of a station."""

    kind: Literal["Camera"] = "Camera"
    metadata: InStation
    spec: CameraSpec


class Task(Spec):
    """A task of a station."""

    kind: Literal["Task"] = "Task"
    metadata: InStation
    spec: TaskSpec


Resource = Station | Worker | Camera | Task
AnyResource = Annotated[Resource, Field(discriminator="kind")]
KINDS: dict[str, type[Station] | type[Worker] | type[Camera] | type[Task]] = {
    "Station": Station,
    "Worker": Worker,
    "Camera": Camera,
    "Task": Task,
}
_RESOURCE: TypeAdapter[Resource] = TypeAdapter(AnyResource)


# --- problems ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, and the path of the field that it is wrong with."""

    path: tuple[str | int, ...]
    message: str

    def __str__(self) -> str:
        return f"{dotted(self.path)}: {self.message}" if self.path else self.message


class SpecError(ValueError):
    """A resource that cannot be accepted, with every problem that was found."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(map(str, self.problems)))


def dotted(path: Iterable[str | int]) -> str:
    """`spec.rules[0].when.in` from ("spec", "rules", 0, "when", "in")."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


# Tags of the unions above appear in pydantic's paths, but in no file that an operator wrote.
_TAGS = frozenset({"Station", "Worker", "Camera", "Task", "presence", "crossing"})
_JOINS = frozenset({"count", "all", "any", "not"})


def _written_path(loc: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """The path as the operator wrote it, without the tags of unions."""
    path: list[str | int] = []
    for index, part in enumerate(loc):
        previous = loc[index - 1] if index else None
        tag_of_union = previous == "when" or previous == "not" or isinstance(previous, int)
        if part in _TAGS and (tag_of_union or index == 0):
            continue
        if part in _JOINS and tag_of_union:
            continue
        path.append(part)
    return tuple(path)


def problems_of(error: ValidationError) -> tuple[Problem, ...]:
    """Pydantic's findings as problems; offending values are not repeated: they may be secret."""
    found = error.errors(include_url=False, include_input=False)
    places = [_written_path(each["loc"]) for each in found]
    return tuple(
        Problem(path, _plain(each))
        for path, each in zip(places, found, strict=True)
        # A list counts as short when its items are wrong; then only the items are worth telling.
        if each["type"] != "too_short" or not any(_below(other, path) for other in places)
    )


def _plain(found: Any) -> str:
    """What is wrong in an operator's words; pydantic speaks of tuples and inputs."""
    wanted = found.get("ctx", {})
    match found["type"]:
        case "extra_forbidden":
            return "unknown key"
        case "missing":
            return "is missing"
        case "too_short":
            return f"needs at least {wanted['min_length']}, not {wanted['actual_length']}"
        case "too_long":
            return f"holds at most {wanted['max_length']}"
    return str(found["msg"]).removeprefix("Value error, ")


def _below(path: tuple[str | int, ...], above: tuple[str | int, ...]) -> bool:
    return len(path) > len(above) and path[: len(above)] == above


def parse(document: object) -> Resource:
    """A resource from a decoded YAML or JSON document. Raises SpecError."""
    if not isinstance(document, Mapping):
        raise SpecError([Problem((), "a resource is a mapping with kind, metadata and spec")])
    kind = document.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise SpecError([Problem(("kind",), f"{str(kind)[:60]!r} is none of {', '.join(KINDS)}")])
    try:
        resource = _RESOURCE.validate_python(dict(document))
    except ValidationError as error:
        raise SpecError(problems_of(error)) from None
    check(resource)
    return resource


def check(resource: Resource) -> None:
    """What one field says of another within a resource. Raises SpecError."""
    if isinstance(resource, Task):
        problems = tuple(_task_problems(resource.spec))
        if problems:
            raise SpecError(problems)


def _task_problems(spec: TaskSpec) -> Iterator[Problem]:
    seen: set[str] = set()
    for zone, points in spec.zones.items():
        if not _has_area(points):
            yield Problem(("spec", "zones", zone), "the polygon encloses no area")
    for line, (first, second) in spec.lines.items():
        if first == second:
            yield Problem(("spec", "lines", line), "the line's two points are the same")
    for index, rule in enumerate(spec.rules):
        at: tuple[str | int, ...] = ("spec", "rules", index)
        if rule.name in seen:
            yield Problem((*at, "name"), f"two rules are named {rule.name!r}")
        seen.add(rule.name)
        for path, leaf in leaves(rule.when):
            yield from _leaf_problems((*at, "when", *path), leaf, spec)


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


def _has_area(points: tuple[Point, ...]) -> bool:
    """Shoelace formula: a polygon whose points lie on one line can hold nothing."""
    following = (*points[1:], points[0])
    twice = sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(points, following, strict=True))
    return abs(twice) > 1e-9


# --- writing -----------------------------------------------------------------------------------


def document(resource: Resource) -> dict[str, Any]:
    """The resource as plain data with the operator's own words, defaults left out, secrets in."""
    plain: dict[str, Any] = resource.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return {"kind": resource.kind, **{k: v for k, v in plain.items() if k != "kind"}}


def shown_url(url: str) -> str:
    """A stream's URL for people: no user, no query, and no part of the path that sets a value.

    Some cameras want `/user=admin&password=...` as their path, others `?password=...`.
    """
    parts = urlsplit(url)
    if parts.scheme == "file":
        return url
    before, *secret = re.split(r"/[^/]*(?:=|%3d)", parts.path, maxsplit=1, flags=re.IGNORECASE)
    path = f"{before}/..." if secret else parts.path
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, path, "..." if parts.query else "", ""))


def redacted(resource: Resource) -> dict[str, Any]:
    """`document` without passwords: what listings, diffs and logs may show."""
    plain = document(resource)
    if isinstance(resource, Camera):
        for stream in plain["spec"]["streams"].values():
            stream.pop("password", None)
            stream["url"] = shown_url(stream["url"])
    return plain


def canonical(resource: Resource) -> bytes:
    """The bytes that a revision and a digest stand for: sorted keys, no spaces, UTF-8."""
    text = json.dumps(document(resource), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


ResourceT = TypeVar("ResourceT", Station, Worker, Camera, Task)


def with_kept_passwords(camera: Camera, stored: Camera | None) -> Camera:
    """Fill in what a listing had left out, so that what was read can be applied again.

    A password is kept only while user name and address are unchanged; otherwise a new URL could
    carry it to another host.
    """
    if stored is None:
        return camera
    streams = {}
    for name, stream in camera.spec.streams.items():
        old = stored.spec.streams.get(name)
        if old is not None and _same_as_listed(stream, old):
            stream = stream.model_copy(update={"url": old.url, "password": old.password})
        streams[name] = stream
    return camera.model_copy(update={"spec": camera.spec.model_copy(update={"streams": streams})})


def _same_as_listed(stream: Stream, old: Stream) -> bool:
    listed = (shown_url(old.url), old.username)
    unchanged = (stream.url, stream.username) in (listed, (old.url, old.username))
    return unchanged and stream.password is None


def schema() -> dict[str, Any]:
    """JSON Schema of every resource, for editors."""
    return _RESOURCE.json_schema(by_alias=True)
