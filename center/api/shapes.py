"""The shapes of answers, for OpenAPI and for the reader.

Here: what the nouns' views look like in JSON. Not here: the resources themselves (wire.specs).
"""

from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec
from fastapi import Path
from pydantic import BaseModel, Field

from center.presence import State
from center.resources import Change
from wire import specs
from wire.events import Event

Document = dict[str, Any]
PlaceName = Annotated[str, Path(pattern=specs.NAME_PATTERN, max_length=63)]
ItemT = TypeVar("ItemT")
KindT = TypeVar("KindT")
StatusT = TypeVar("StatusT")


class Listing(BaseModel, Generic[ItemT]):
    """A list."""

    items: list[ItemT]


class PutAnswer(BaseModel):
    """What a put came to."""

    result: Literal["created", "updated", "unchanged"]
    dry_run: bool
    revision: int | None = Field(description="of the resource; null in a dry run that changes it")
    before: Document | None = Field(description="without passwords")
    after: Document | None = Field(description="without passwords")

    @classmethod
    def of(cls, change: Change, dry_run: bool) -> "PutAnswer":
        """A change as an answer; a revision that was not kept is not told."""
        kept = not dry_run or change.result == "unchanged"
        return cls(
            result=change.result,
            dry_run=dry_run,
            revision=change.revision if kept else None,
            before=change.before,
            after=change.after,
        )


class DeleteAnswer(BaseModel):
    """What a delete came to."""

    result: Literal["deleted"] = "deleted"
    dry_run: bool


class Problem(BaseModel):
    """One field that is wrong."""

    loc: list[str | int]
    msg: str
    type: str


class Problems(BaseModel):
    """Every field that is wrong."""

    detail: list[Problem]


class Sentence(BaseModel):
    """Why something could not be done."""

    detail: str


class StationStatus(BaseModel):
    """How a station fares; its state is that of its liveliest worker."""

    state: State
    last_heard_ms: int | None
    workers: int
    cameras: int
    tasks: int
    open_alarms: int


class Pending(BaseModel):
    """Events that wait at the worker, by lane."""

    alarm: int
    bulk: int


class WorkerStatus(BaseModel):
    """How a worker fares."""

    state: State
    cause: str = Field(
        description="why it is not as it should be, as far as facts tell: stopped, link down, "
        "silent, cameras down, denied, never heard; empty: it is"
    )
    trouble: str = Field(description="what an operator must look at; empty: nothing")
    last_heard_ms: int | None
    software: str
    boot: str
    fence: int
    desired_revision: int | None
    observed_revision: int | None
    pending: Pending
    shed: int
    denied: str = Field(description="why its last hello was refused; empty: it was not")
    replace: bool = Field(description="the next one that would be denied is let in, once")
    streams: list[Document] = Field(description="StreamHealth of the protocol")


class CameraStatus(BaseModel):
    """Nothing yet: streams report at their worker."""


class TaskStatus(BaseModel):
    """What became of a task."""

    worker: str | None
    desired_revision: int | None
    observed_revision: int | None
    state: Literal["Pending", "Starting", "Running", "Degraded", "Rejected"]
    reason: str


class _View(BaseModel, Generic[KindT, StatusT]):
    kind: KindT
    metadata: Document
    spec: Document = Field(description="without passwords")
    status: StatusT


class StationView(_View[Literal["Station"], StationStatus]):
    """A station and its status."""


class WorkerView(_View[Literal["Worker"], WorkerStatus]):
    """A worker and its status."""


class Stranger(BaseModel):
    """A worker that speaks without being registered."""

    name: str
    last_heard_ms: int


class Workers(Listing[WorkerView]):
    """Workers, and the strangers among those who speak, of whatever station."""

    strangers: list[Stranger]


class CameraView(_View[Literal["Camera"], CameraStatus]):
    """A camera and its status."""


class TaskView(_View[Literal["Task"], TaskStatus]):
    """A task and its status."""


class LoginCode(BaseModel):
    """A code with which a browser logs in once."""

    code: str
    expires_in_s: int


class WorkerToken(BaseModel):
    """What a worker fetches files with; shown this one time."""

    worker: str
    token: str


class ModelTrouble(BaseModel):
    """A worker at which a model is not as it should be, and why."""

    worker: str
    state: Literal["Pending", "Starting", "Running", "Degraded", "Rejected"]
    reason: str


class ModelView(BaseModel):
    """A model, who uses it, and how it fares there."""

    name: str
    version: str
    license: str
    layout: str
    sha256: str = Field(description="of its file")
    size_bytes: int
    revision: int
    created_ms: int
    updated_ms: int
    tasks: int = Field(description="how many name it")
    used_by: list[str] = Field(description="the first of them, as STATION/TASK")
    workers: dict[str, int] = Field(description="how many are in which state")
    troubles: list[ModelTrouble] = Field(description="the first of those that say something")


class ModelDetail(ModelView):
    """A model with its manifest."""

    manifest: Document = Field(description="without the content of its known picture")


class ModelPut(PutAnswer):
    """What the put of a model came to."""

    untold: int = Field(description="stations whose workers are to be told yet: put it again")


class Parts(BaseModel):
    """What is here of a file."""

    whole: bool = Field(description="a model names it: nothing needs to be sent")
    numbers: list[int] = Field(description="of the parts, from 0; each of 1 MiB but the last")


class PartStored(BaseModel):
    """What became of a part of a file."""

    result: Literal["stored", "unchanged"] = Field(description="unchanged: the file is whole")


def event_schema() -> dict[str, Any]:
    """JSON Schema of a stored event: the fields of the wire's Event and those of its storing."""
    (schema,), components = msgspec.json.schema_components(
        [Event], ref_template="#/components/schemas/{name}"
    )
    event: dict[str, Any] = components.get("Event", schema)
    number = {"type": "integer"}
    stored = {
        "id": {**number, "description": "the order of storing"},
        "worker": {"type": "string"},
        "station": {"type": "string"},
        "epoch": number,
        "lane": {"enum": ["alarm", "bulk"]},
        "seq": number,
        "at_ms": {**number, "description": "t_ms, corrected where the station's clock was off"},
        "clock": {
            "enum": ["", "corrected", "uncertain"],
            "description": "empty: t_ms is sound; uncertain: nothing is known of its clock",
        },
        "received_ms": number,
        "backfill": {"type": "boolean"},
    }
    return {
        **event,
        "title": "StoredEvent",
        "properties": {**event["properties"], **stored},
        "required": [*event["required"], *stored],
    }


REFUSALS: dict[int | str, dict[str, Any]] = {
    401: {"model": Sentence, "description": "no token, or none that is known"},
    404: {"model": Sentence, "description": "there is no such thing"},
    409: {"model": Sentence, "description": "something else stands in the way"},
    413: {"model": Sentence, "description": "the body is larger than 1 MiB"},
    422: {"model": Problems, "description": "a field is wrong"},
    503: {"model": Sentence, "description": "the database cannot do it now"},
}
