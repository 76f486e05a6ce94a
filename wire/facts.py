"""Facts from outside the cameras: a nozzle was lifted, a sale was paid, a probe says 87 percent.

Here: one frozen Struct and its limits. Not here: how a fact comes in (edge/display), what a rule
makes of it (edge/vision/rules.py).

A fact is the value that an *input* of the station has had since a moment. It holds until the next
one of the same input.
"""

from typing import Annotated

import msgspec

from wire.specs import NAME_PATTERN
from wire.specs.rules import MAX_TEXT

MAX_FACT_BYTES = 4096
MAX_INPUTS = 1000
"""Inputs of one worker; a fact of another one is refused."""

InputName = Annotated[
    # For Python `$` also matches before a line's end.
    str, msgspec.Meta(pattern=NAME_PATTERN.removesuffix("$") + r"\Z", max_length=63)
]
Value = bool | float | Annotated[str, msgspec.Meta(max_length=MAX_TEXT)]


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """What an input says since `t_ms`."""

    input: InputName
    value: Value
    t_ms: Annotated[int, msgspec.Meta(ge=0)]
    """When it became true: wall time of the station, UTC milliseconds."""
