"""The words that everything an operator writes is made of: names, durations, points.

Here: values with their limits, and the common ground of all models. Not here: what they are used
for (places, rules, tasks).

Coordinates are fractions of the picture, 0..1, x to the right and y down. Durations are seconds;
in YAML and JSON they may be written `10s`, `1.5m`, `2h` or as a number of seconds.
"""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

NAME_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"

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
