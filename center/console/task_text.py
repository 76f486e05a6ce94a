"""A task as a form and a text, and back: pure.

Here: which part of a spec is a field and which is YAML, and in which line of the text a problem is.
Not here: the page (task_page), what a spec may say (wire.specs).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wire import specs
from wire import text as yaml_text
from wire.specs import Problem, SpecError
from wire.text import WIDTH, Document, OneLine, TextError

MAX_TEXT_BYTES = 256 * 1024
FIELDS = ("camera", "stream", "fps", "model")
"""Keys of a spec that are fields of the form; all others are in the text."""
DURATIONS = ("for", "clear", "cooldown", "grace")

EXAMPLE = """\
# Points are fractions of the picture: x to the right, y down, 0 to 1.
zones:
  bay: [[0.05, 0.30], [0.95, 0.30], [0.95, 0.98], [0.05, 0.98]]

# A line's left and right are seen from its first point to its second.
lines:
  exit: [[0.10, 0.90], [0.90, 0.90]]

rules:
# Somebody stays in the zone for 3 s: one incident for each person.
- name: person-in-bay
  when: {class: person, in: bay}
  for: 3s
  severity: critical

# Five cars or more at once for 30 s: one incident for the scene.
- name: queue
  when: {count: {class: car, in: bay}, at_least: 5}
  for: 30s
  clear: 10s
  severity: warning

# A car crosses the line: an event without an end.
# - name: drive-out
#   when: {class: car, crosses: exit, direction: left-to-right}
#   severity: info
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem as it is shown: its path, its line in the text (from 1) if it is there."""

    path: str
    message: str
    line: int | None


def text_of(spec: Mapping[str, Any]) -> str:
    """The YAML text of what is no field: zones, lines and rules of a stored spec."""
    rest = {key: value for key, value in spec.items() if key not in FIELDS}
    rest["rules"] = [_rule(rule) for rule in spec.get("rules", ())]
    return yaml_text.write(rest)


def _rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    """A rule as people write it: short conditions on one line, durations with their unit."""
    written = {key: _duration(rule[key]) if key in DURATIONS else rule[key] for key in rule}
    return {**written, "when": _condition(rule["when"])}


def _condition(condition: Any) -> Any:
    if isinstance(condition, list):
        return [_condition(part) for part in condition]
    if not isinstance(condition, dict):
        return condition
    parts = {key: _condition(value) for key, value in condition.items()}
    classes = parts.get("class")
    if isinstance(classes, list):
        parts["class"] = classes[0] if len(classes) == 1 else classes
    return OneLine(parts) if len(str(parts)) < WIDTH * 3 // 4 else parts


def _duration(seconds: float) -> str | float:
    """`10m`, `90s`; a number where no unit says exactly the same."""
    for unit, size_s in (("h", 3600), ("m", 60), ("s", 1)):
        written = f"{seconds / size_s:g}{unit}"
        if seconds >= size_s and "." not in written and _says(written, seconds):
            return written
    written = f"{seconds:g}s"
    return written if _says(written, seconds) else seconds


def _says(written: str, seconds: float) -> bool:
    return "e" not in written and specs.duration_s(written) == seconds


def document_of(
    metadata: Mapping[str, Any], fields: Mapping[str, Any], text: str
) -> dict[str, Any]:
    """The document of a task from the form's parts. Raises SpecError for a text that is no YAML."""
    try:
        written = _document(text)
    except TextError as error:
        path = () if error.line is None else ("line", error.line)
        raise SpecError([Problem(path, error.problem)]) from None
    rest = {} if written is None else written.content
    if not isinstance(rest, dict):
        raise SpecError([Problem((), "write zones:, lines: and rules:, as in the example")])
    misplaced = [key for key in rest if key in FIELDS]
    if misplaced:
        sentence = "this is a field of the form; take it out of the text"
        raise SpecError([Problem(("spec", key), sentence) for key in misplaced])
    return {"kind": "Task", "metadata": dict(metadata), "spec": {**fields, **rest}}


def _document(text: str) -> Document | None:
    """What the text holds; None: nothing. Raises TextError."""
    # A lone surrogate is no text: what cannot be encoded is refused when it is decoded.
    found = yaml_text.read(text.encode(errors="surrogatepass"), MAX_TEXT_BYTES)
    if len(found) > 1:
        raise TextError("write one document, without --- between its parts")
    return found[0] if found else None


def findings(problems: Sequence[Problem], text: str) -> list[Finding]:
    """Problems with the lines of the text that they are about; what a deeper one explains is left.

    A list of rules that are all wrong, for example, is not called too short besides.
    """
    paths = [problem.path for problem in problems]
    try:
        written = _document(text)
    except TextError:
        written = None
    return [
        _finding(problem, written)
        for problem in problems
        if not any(_within(problem.path, other) for other in paths)
    ]


def _within(outer: tuple[str | int, ...], inner: tuple[str | int, ...]) -> bool:
    return 0 < len(outer) < len(inner) and inner[: len(outer)] == outer


def _finding(problem: Problem, written: Document | None) -> Finding:
    if problem.path[:1] == ("line",):
        return Finding("", problem.message, int(problem.path[1]))
    in_text = problem.path[:1] == ("spec",) and problem.path[1:2] not in {(f,) for f in FIELDS}
    line = written.line_of(problem.path[1:]) if in_text and written else None
    return Finding(specs.dotted(problem.path), problem.message, line)
