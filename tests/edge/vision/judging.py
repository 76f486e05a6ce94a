"""A task's rules and made-up looks: what both tests of rules stand on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from edge.vision.geometry import Box
from edge.vision.program import compile_task
from edge.vision.rules import START, State, close, step
from wire import specs
from wire.events import Event
from wire.facts import Fact

T0_MS = 1_000_000


@dataclass(frozen=True, slots=True)
class Thing:
    """A track as rules see it."""

    id: int
    box: Box
    label: str = "person"
    score: float = 0.8
    seen: bool = True
    last_pts_s: float = 0.0


def standing(x: float, y: float, height: float = 0.2) -> Box:
    """A box whose foot is at x, y."""
    return (x - 0.05, y - height, x + 0.05, y)


INSIDE, OUTSIDE = standing(0.5, 0.7), standing(0.9, 0.2)


def task(*rules: dict[str, Any], fps: float = 1, **spec: Any) -> specs.Task:
    """A task with a zone `pump` that holds INSIDE, and a line `exit` across the picture."""
    made = specs.parse(
        {
            "kind": "Task",
            "metadata": {"name": "bay", "station": "s1"},
            "spec": {
                "camera": "cam",
                "fps": fps,
                "model": {"name": "m"},
                "zones": {"pump": [[0.4, 0.4], [0.6, 0.4], [0.6, 0.8], [0.4, 0.8]]},
                "lines": {"exit": [[0.1, 0.5], [0.9, 0.5]]},
                "rules": list(rules),
                **spec,
            },
        }
    )
    assert isinstance(made, specs.Task)
    return made


@dataclass(frozen=True)
class Moment:
    """What is known at a moment of the stream: objects, and what inputs say from then on."""

    pts_s: float
    things: Sequence[Thing] = ()
    says: dict[str, bool | float | str] | None = None


def judged(rules: specs.Task, moments: Sequence[Moment], end: str = "") -> list[Event]:
    """The events of moments, and of the end if there is a reason for one."""
    program = compile_task(rules, 3, "scope")
    state: State = START
    events: list[Event] = []
    inputs: dict[str, Fact] = {}
    for moment in moments:
        t_ms = T0_MS + round(moment.pts_s * 1000)
        for name, value in (moment.says or {}).items():
            inputs[name] = Fact(input=name, value=value, t_ms=t_ms)
        seen = [replace(each, last_pts_s=moment.pts_s) for each in moment.things]
        state, found = step(program, state, seen, moment.pts_s, t_ms, inputs)
        events += found
    return events + (close(program, state, end) if end else [])


def seconds(t_ms: int | None) -> float | None:
    """A wall time as seconds of the stream."""
    return None if t_ms is None else (t_ms - T0_MS) / 1000
