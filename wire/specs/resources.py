"""Resources: what the center keeps, by kind and name, and how each is read and written.

Here: the four kinds, parsing, checking, canonical bytes, listings without secrets, JSON Schema.
Not here: what each kind says (places, tasks), how mistakes are told (problems).
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from wire.specs.places import CameraSpec, StationSpec, Stream, WorkerSpec, shown_url
from wire.specs.problems import Problem, SpecError, problems_of
from wire.specs.tasks import TaskSpec, task_problems
from wire.specs.values import Label, Name, Spec


class Metadata(Spec):
    """Who a resource is."""

    name: Name
    labels: dict[Label, Annotated[str, Field(max_length=200)]] = Field(
        default_factory=dict, max_length=32
    )


class InStation(Metadata):
    """Who a resource of a station is: its name is unique within that station."""

    station: Name


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
        problems = tuple(task_problems(resource.spec))
        if problems:
            raise SpecError(problems)


def document(resource: Resource) -> dict[str, Any]:
    """The resource as plain data with the operator's own words, defaults left out, secrets in."""
    plain: dict[str, Any] = resource.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return {"kind": resource.kind, **{k: v for k, v in plain.items() if k != "kind"}}


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
