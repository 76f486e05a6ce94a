"""`forecourt-edge explain`: what a file's tasks need to see, and why, rule by rule.

Here: reading the tasks, and telling their demand and how little decoding meets it. Not here: the
demand itself (edge/video/demand.py), judging recordings (replay.py).
"""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from edge.video.demand import Demand, Idle, Traits, idle, joined, of_task, shown_s
from wire import specs, text

BAD_INPUT = 2
USUAL: tuple[Traits, ...] = (
    *(Traits(gop_s=gop_s, keys_alone=True) for gop_s in (1.0, 2.0, 4.0, 10.0)),
    Traits(keys_alone=False),
)
"""What cameras are like, for whoever does not know theirs; the last is one with intra refresh."""


class ExplainError(Exception):
    """Why nothing can be explained, one line for each problem."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A stream, the tasks that watch it, and what they demand together."""

    station: str
    camera: str
    stream: str
    tasks: tuple[specs.Task, ...]
    demand: Demand


def command(
    *,
    task_file: Path,
    gop: str | None = None,
    as_json: bool = False,
    out: TextIO | None = None,
    err: TextIO | None = None,
) -> int:
    """Explain the tasks of a file on `out`. Returns the exit code.

    `gop` is the time between the camera's key frames, as `2s`; without it the usual ones are told.
    """
    out, err = out or sys.stdout, err or sys.stderr
    try:
        traits = USUAL if gop is None else (_traits(gop),)
        tasks = read_tasks(task_file)
    except ExplainError as error:
        err.write(f"{error}\n")
        return BAD_INPUT
    streams = watched(tasks)
    if as_json:
        out.write(json.dumps(_plain(tasks, streams, traits)) + "\n")
    else:
        out.write("\n\n".join(_paragraphs(tasks, streams, traits)) + "\n")
    return 0


def read_tasks(path: Path) -> list[specs.Task]:
    """The tasks of a YAML file; resources of other kinds are passed over. Raises ExplainError."""
    try:
        with path.open("rb") as file:
            documents = text.read(file.read(text.MAX_BYTES + 1))
    except OSError as error:
        raise ExplainError(f"{path}: cannot be read: {error.strerror}") from None
    except text.TextError as error:
        raise ExplainError(f"{path}: no valid YAML: {error}") from None
    tasks: list[specs.Task] = []
    problems: list[str] = []
    for number, document in enumerate(documents, start=1):
        where = f"{path}: " if len(documents) == 1 else f"{path}: document {number}: "
        try:
            resource = specs.parse(document.content)
        except specs.SpecError as error:
            problems += [f"{where}{problem}" for problem in error.problems]
            continue
        if isinstance(resource, specs.Task):
            tasks.append(resource)
    if problems:
        raise ExplainError("\n".join(problems))
    if not tasks:
        raise ExplainError(f"{path}: holds no Task; there is nothing to explain")
    return tasks


def watched(tasks: Sequence[specs.Task]) -> list[Watched]:
    """The streams that tasks watch, in the order in which they are first named."""
    together: dict[tuple[str, str, str], list[specs.Task]] = {}
    for task in tasks:
        key = (task.metadata.station, task.spec.camera, task.spec.stream)
        together.setdefault(key, []).append(task)
    return [
        Watched(*key, tuple(theirs), joined(map(of_task, theirs)))
        for key, theirs in together.items()
    ]


def _traits(gop: str) -> Traits:
    try:
        gop_s = specs.duration_s(gop)
    except ValueError as error:
        raise ExplainError(f"--gop: {error}") from None
    if not isinstance(gop_s, float) or gop_s <= 0:
        raise ExplainError(f"--gop {gop}: key frames are some time apart; write for example 2s")
    return Traits(gop_s=gop_s, keys_alone=True)


# --- for people --------------------------------------------------------------------------------


def _paragraphs(
    tasks: Sequence[specs.Task], streams: Sequence[Watched], traits: Sequence[Traits]
) -> Iterator[str]:
    for task in tasks:
        spec, demand = task.spec, of_task(task)
        rows = [(need.rule, shown_s(need.min_visit_s), need.why) for need in demand.needs]
        yield "\n".join(
            [
                f"task {task.metadata.name} on {spec.camera}/{spec.stream}:"
                f" {demand.fps:g} looks a second while something happens,"
                f" priority {demand.priority}, decode {spec.decode}",
                *_columns([("rule", "must see", "why"), *rows], "<><"),
                *_asides(spec),
            ]
        )
    for each in streams:
        # A task that wants every frame leaves nothing to tell apart.
        plans = dict.fromkeys(_plan(idle(each.demand, trait)) for trait in traits)
        yield "\n".join([_headline(each), *_columns([("decoded", "why"), *plans], "<<")])


def _asides(spec: specs.TaskSpec) -> Iterator[str]:
    """When the task is at work, and which inputs of the station it waits for."""
    if spec.schedule is not None:
        yield f"  at work: {_hours(spec.schedule)}, in the station's time zone"
    for rule in spec.rules:
        if rule.schedule is not None:
            yield f"  {rule.name}: only {_hours(rule.schedule)}"
    if names := _inputs(spec):
        yield f"  inputs that it asks: {', '.join(names)}"


def _hours(schedule: specs.Schedule) -> str:
    days = "" if schedule.days == specs.DAYS else f" on {', '.join(schedule.days)}"
    return f"{', '.join(schedule.active)}{days}"


def _inputs(spec: specs.TaskSpec) -> list[str]:
    return sorted({part.input for rule in spec.rules for _, part in specs.inputs(rule)})


def _headline(each: Watched) -> str:
    """Which stream, and which rule makes its decoding as dear as it is."""
    strictest, task = min(
        ((need, task) for task in each.tasks for need in of_task(task).needs),
        key=lambda found: found[0].min_visit_s,
    )
    whose = f"{strictest.rule} of {task.metadata.name}" if len(each.tasks) > 1 else strictest.rule
    return (
        f"stream {each.camera}/{each.stream} while nothing changes"
        f" (strictest: {whose}, {shown_s(strictest.min_visit_s)}):"
    )


def _plan(plan: Idle) -> tuple[str, str]:
    then = f" + {shown_s(plan.then_s)}" if plan.then_s else ""
    return f"{plan.level}{then}", plan.why


def _columns(rows: Sequence[tuple[str, ...]], sides: str) -> list[str]:
    """Rows with their columns below each other, indented; each on its side, `<` or `>`."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  "
        + "  ".join(
            f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths, strict=True)
        ).rstrip()
        for row in rows
    ]


# --- for programs ------------------------------------------------------------------------------


def _plain(
    tasks: Sequence[specs.Task], streams: Sequence[Watched], traits: Sequence[Traits]
) -> dict[str, Any]:
    return {
        "tasks": [
            {
                "task": task.metadata.name,
                "station": task.metadata.station,
                "camera": task.spec.camera,
                "stream": task.spec.stream,
                "inputs": _inputs(task.spec),
                **asdict(of_task(task)),
            }
            for task in tasks
        ],
        "streams": [
            {
                "station": each.station,
                "camera": each.camera,
                "stream": each.stream,
                "tasks": [task.metadata.name for task in each.tasks],
                "fps": each.demand.fps,
                "min_visit_s": each.demand.min_visit_s,
                "full": each.demand.full,
                "priority": each.demand.priority,
                "idle": [asdict(trait) | asdict(idle(each.demand, trait)) for trait in traits],
            }
            for each in streams
        ],
    }
