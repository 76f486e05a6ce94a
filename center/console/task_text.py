"""A task as a form and a text, and back: pure.

Here: which part of a spec is a field and which is YAML, and in which line of the text a problem is.
Not here: the page (task_page), what a spec may say (wire.specs).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from wire import specs
from wire.specs import Problem, SpecError

MAX_TEXT_BYTES = 256 * 1024
FIELDS = ("camera", "stream", "fps", "model")
"""Keys of a spec that are fields of the form; all others are in the text."""
DURATIONS = ("for", "clear", "cooldown", "grace")
MAX_LINE = 88

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
    for key in ("zones", "lines"):
        if key in rest:
            rest[key] = {name: _Line(points) for name, points in rest[key].items()}
    rest["rules"] = [_rule(rule) for rule in spec.get("rules", ())]
    return yaml.dump(rest, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=MAX_LINE)


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
        parts["class"] = classes[0] if len(classes) == 1 else _Line(classes)
    return _Mapping(parts) if len(str(parts)) < MAX_LINE * 3 // 4 else parts


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
    if len(text.encode()) > MAX_TEXT_BYTES:
        raise SpecError([Problem((), f"the text is longer than {MAX_TEXT_BYTES // 1024} KiB")])
    try:
        rest = yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader that forbids more
    except yaml.MarkedYAMLError as error:
        raise SpecError([Problem(_mark(error), error.problem or "this is no YAML")]) from None
    except yaml.YAMLError as error:
        raise SpecError([Problem((), f"this is no YAML: {error}")]) from None
    except (RecursionError, ValueError) as error:
        raise SpecError([Problem((), f"this YAML cannot be read: {error}")]) from None
    if rest is None:
        rest = {}
    if not isinstance(rest, dict):
        raise SpecError([Problem((), "write zones:, lines: and rules:, as in the example")])
    misplaced = [key for key in rest if key in FIELDS]
    if misplaced:
        sentence = "this is a field of the form; take it out of the text"
        raise SpecError([Problem(("spec", key), sentence) for key in misplaced])
    return {"kind": "Task", "metadata": dict(metadata), "spec": {**fields, **rest}}


def findings(problems: Sequence[Problem], text: str) -> list[Finding]:
    """Problems with the lines of the text that they are about; what a deeper one explains is left.

    A list of rules that are all wrong, for example, is not called too short besides.
    """
    paths = [problem.path for problem in problems]
    return [
        _finding(problem, text)
        for problem in problems
        if not any(_within(problem.path, other) for other in paths)
    ]


def _within(outer: tuple[str | int, ...], inner: tuple[str | int, ...]) -> bool:
    return 0 < len(outer) < len(inner) and inner[: len(outer)] == outer


def _finding(problem: Problem, text: str) -> Finding:
    if problem.path[:1] == ("line",):
        return Finding("", problem.message, int(problem.path[1]))
    in_text = problem.path[:1] == ("spec",) and problem.path[1:2] not in {(f,) for f in FIELDS}
    line = _line_of(text, problem.path[1:]) if in_text else None
    return Finding(specs.dotted(problem.path), problem.message, line)


def _line_of(text: str, path: Sequence[str | int]) -> int | None:
    """The line of the deepest part of the path that the text has; None where it has none."""
    try:
        node = yaml.compose(text, _Loader)
    except yaml.YAMLError:
        return None
    line = None
    for part in path:
        found = _child(node, part)
        if found is None:
            break
        at, node = found
        line = at.start_mark.line + 1
    return line


def _child(node: yaml.Node | None, part: str | int) -> tuple[yaml.Node, yaml.Node] | None:
    """Where the part begins, and its value."""
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part]
    if isinstance(node, yaml.MappingNode):
        return next(((key, value) for key, value in node.value if key.value == part), None)
    return None


def _mark(error: yaml.MarkedYAMLError) -> tuple[str | int, ...]:
    mark = error.problem_mark
    return () if mark is None else ("line", mark.line + 1)


class _Loader(yaml.SafeLoader):
    """Plain data only: no aliases, which could make a small text large, and no key twice."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            sentence = "write this out, without *alias"
            raise yaml.composer.ComposerError(None, None, sentence, self.get_mark())
        node: yaml.Node | None = super().compose_node(parent, index)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    sentence = f"{key.value!r} is written twice"
                    raise yaml.constructor.ConstructorError(None, None, sentence, key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


class _Line(list[Any]):
    """A list that is written on one line."""


class _Mapping(dict[str, Any]):
    """A mapping that is written on one line."""


class _Dumper(yaml.SafeDumper):
    """Block style, apart from what is marked to be on one line."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.add_representer(
    _Line,
    lambda dumper, points: dumper.represent_sequence("tag:yaml.org,2002:seq", points, True),
)
_Dumper.add_representer(
    _Mapping,
    lambda dumper, parts: dumper.represent_mapping("tag:yaml.org,2002:map", parts, True),
)
_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, None if text.isprintable() else '"'
    ),
)
