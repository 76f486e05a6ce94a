"""What is wrong with what was written, and where, in an operator's words.

Here: problems with the path of their field, and pydantic's findings told as such. Not here: what is
right (places, rules, tasks).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError


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
_JOINS = frozenset({"count", "all", "any", "not", "input"})
_CONDITIONS = frozenset({"when", "while", "until", "begins", "ends", "not"})


def _written_path(loc: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """The path as the operator wrote it, without the tags of unions."""
    path: list[str | int] = []
    for index, part in enumerate(loc):
        previous = loc[index - 1] if index else None
        tag_of_union = previous in _CONDITIONS or isinstance(previous, int)
        if part in _TAGS and (tag_of_union or index == 0):
            continue
        if part in _JOINS and tag_of_union:
            continue
        if part == "[key]":  # pydantic's word for: it is the name itself that is wrong
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
