"""From the desired document to what the shards must do: pure, no I/O, no clock.

`resolve` reads the document's items into streams with their tasks, rejecting what cannot be done;
`plan` compares what is wanted with what runs. Not here: starting anything (shards).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from wire import specs
from wire.messages import Item, ItemObserved, ItemState
from wire.models import KIND as MODEL
from wire.models import Published
from wire.models import parse as parse_model

MAX_REASON = 400
"""Characters; 256 KiB of observed hold several hundred items with such reasons."""


@dataclass(frozen=True, slots=True, order=True)
class StreamKey:
    """Which stream: one feed of a camera. It is opened and decoded once, whoever watches."""

    camera: str
    stream: str


@dataclass(frozen=True, slots=True)
class TaskWork:
    """A task and the revision of it that is wanted."""

    task: specs.Task
    revision: int
    time_zone: str = "UTC"
    """The station's, in which schedules are read."""

    @property
    def name(self) -> str:
        """The task's name."""
        return self.task.metadata.name


@dataclass(frozen=True, slots=True)
class ModelWork:
    """A model of the center that tasks here name, and the revision of it that is wanted."""

    model: Published
    revision: int


@dataclass(frozen=True, slots=True)
class StreamWork:
    """A stream to open, and the tasks that watch it, by name."""

    key: StreamKey
    stream: specs.Stream
    tasks: tuple[TaskWork, ...]
    health: specs.Health = field(default_factory=specs.Health)
    """Which faults of its camera are told."""


@dataclass(frozen=True, slots=True)
class Start:
    """Open this stream and begin its tasks."""

    work: StreamWork
    dark_since_s: float | None = None
    """Since when it was wanted and nobody looked, in monotonic seconds, which all processes of a
    machine share: what was to be seen until its first picture was missed (I10). None: it is new."""


@dataclass(frozen=True, slots=True)
class Update:
    """The stream's address stays; its tasks changed. Unchanged tasks keep their state."""

    work: StreamWork


@dataclass(frozen=True, slots=True)
class Stop:
    """Close this stream; its open incidents end with that reason."""

    key: StreamKey
    reason: Literal["removed", "interrupted"] = "removed"
    """`interrupted`: another process goes on with it."""


Action = Start | Update | Stop


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a document comes to: streams to run, and items that cannot be done with the reason."""

    works: tuple[StreamWork, ...]
    rejected: tuple[ItemObserved, ...]
    accepted: tuple[ItemObserved, ...]
    """Items without a life of their own (cameras, the station): taken note of."""
    models: tuple[ModelWork, ...] = ()


def resolve(
    items: Iterable[Item], stream_problem: Callable[[specs.Stream], str | None]
) -> Resolved:
    """Streams with their tasks. One bad item is rejected with its reason; the others go on.

    `stream_problem` says why this worker may not open a stream, if it may not.
    """
    cameras: dict[str, specs.Camera] = {}
    time_zone = "UTC"
    tasks: list[tuple[Item, specs.Task]] = []
    rejected: list[ItemObserved] = []
    accepted: list[ItemObserved] = []
    models: list[ModelWork] = []
    for item in items:
        try:
            if item.kind == MODEL:
                models.append(_model(item))
                continue
            resource = _parse(item)
        except ValueError as error:
            rejected.append(_rejected(item, str(error)))
            continue
        if isinstance(resource, specs.Camera):
            cameras[item.id] = resource
            accepted.append(_observed(item, "Running"))
        elif isinstance(resource, specs.Task):
            tasks.append((item, resource))
        elif isinstance(resource, specs.Station):
            time_zone = resource.spec.time_zone
            accepted.append(_observed(item, "Running"))
        else:
            rejected.append(_rejected(item, f"a worker has no use for a {item.kind}"))
    wanted: dict[StreamKey, tuple[specs.Stream, list[TaskWork]]] = {}
    for item, task in tasks:
        camera = cameras.get(task.spec.camera)
        if camera is None:
            rejected.append(_rejected(item, f"spec.camera: no camera {task.spec.camera!r}"))
            continue
        stream = camera.spec.streams.get(task.spec.stream)
        if stream is None:
            reason = f"spec.stream: camera {task.spec.camera!r} has no stream {task.spec.stream!r}"
            rejected.append(_rejected(item, reason))
            continue
        problem = stream_problem(stream)
        if problem is not None:
            rejected.append(_rejected(item, problem))
            continue
        key = StreamKey(task.spec.camera, task.spec.stream)
        work = TaskWork(task, item.revision, time_zone)
        wanted.setdefault(key, (stream, []))[1].append(work)
    works = tuple(
        StreamWork(
            key,
            stream,
            tuple(sorted(found, key=lambda work: work.name)),
            cameras[key.camera].spec.health,
        )
        for key, (stream, found) in sorted(wanted.items(), key=lambda pair: pair[0])
    )
    return Resolved(works, tuple(rejected), tuple(accepted), tuple(models))


def named_classes(works: Iterable[StreamWork]) -> dict[str, frozenset[str]]:
    """The classes that tasks name, by the model that they name them of."""
    found: dict[str, set[str]] = {}
    for work in works:
        for each in work.tasks:
            spec = each.task.spec
            names = found.setdefault(spec.model.name, set())
            names |= {*(spec.model.classes or ()), *spec.model.scores}
            if spec.plates is not None:
                names |= {*(spec.plates.classes or ())}
            for rule in spec.rules:
                names |= {name for _, leaf in specs.leaves(rule) for name in leaf.classes}
    return {model: frozenset(names) for model, names in found.items()}


def _model(item: Item) -> ModelWork:
    model = parse_model(bytes(item.body))
    if model.name != item.id:
        raise ValueError(f"it says that it is {model.name!r}")
    return ModelWork(model, item.revision)


def _parse(item: Item) -> specs.Resource:
    try:
        document = msgspec.json.decode(item.body)
    except msgspec.DecodeError as error:
        raise ValueError(f"unreadable: {error}") from None
    resource = specs.parse(document)
    if (resource.kind, resource.metadata.name) != (item.kind, item.id):
        raise ValueError(f"it says that it is {resource.kind} {resource.metadata.name!r}")
    return resource


def _observed(item: Item, state: ItemState, reason: str = "") -> ItemObserved:
    return ItemObserved(
        kind=item.kind, id=item.id, revision=item.revision, state=state, reason=shortened(reason)
    )


def shortened(reason: str) -> str:
    """A reason that leaves room for those of the other items in one message."""
    return reason if len(reason) <= MAX_REASON else f"{reason[: MAX_REASON - 1]}…"


def _rejected(item: Item, reason: str) -> ItemObserved:
    return _observed(item, "Rejected", reason)


def plan(wanted: Iterable[StreamWork], running: Mapping[StreamKey, StreamWork]) -> list[Action]:
    """What to do so that `wanted` runs: stops first, so that their room is free for starts."""
    by_key = {work.key: work for work in wanted}
    actions: list[Action] = []
    starts: list[Action] = []
    for key, work in running.items():
        new = by_key.get(key)
        if new is None or _opened(new) != _opened(work):
            actions.append(Stop(key))
    for key, work in by_key.items():
        old = running.get(key)
        if old is None or _opened(old) != _opened(work):
            starts.append(Start(work))
        elif old.tasks != work.tasks:
            starts.append(Update(work))
    return actions + starts


def _opened(work: StreamWork) -> tuple[specs.Stream, specs.Health]:
    """What cannot change while a stream is open."""
    return work.stream, work.health
