"""What a worker can be asked for: the arguments of each method. Pure.

Here: what center, command and worker all check, so that the same mistake is told by whoever sees it
first. Not here: the messages that carry it (messages), and what is done about a call.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator

from wire.messages import Method
from wire.specs import Name, Problem, Spec, SpecError, problems_of

MAX_TIMEOUT_S = 60.0
MAX_PICTURE_BYTES = 120 * 1024
"""Of a JPEG: as base64 it takes 160 KiB of a message's 256."""
MAX_LINES = 1000


class ProbeArgs(Spec):
    """A camera of the worker's document, or an address without credentials."""

    camera: Name | None = None
    stream: Name = "main"
    url: Annotated[str, Field(min_length=1, max_length=2000)] | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.camera is None) == (self.url is None):
            raise ValueError("give either camera or url")
        return self


class PictureArgs(Spec):
    """A stream that runs, and the width in pixels; a picture is never made larger."""

    camera: Name
    stream: Name = "main"
    width: Annotated[int, Field(ge=64, le=1920)] = 960


class LogArgs(Spec):
    """How many of the latest lines."""

    lines: Annotated[int, Field(ge=1, le=MAX_LINES)] = 200


class ConfigArgs(Spec):
    """Nothing is asked besides."""


Args = ProbeArgs | PictureArgs | LogArgs | ConfigArgs
METHODS: Mapping[Method, type[Args]] = {
    "probe": ProbeArgs,
    "picture": PictureArgs,
    "log": LogArgs,
    "config": ConfigArgs,
}


def parse(method: str, args: Mapping[str, Any]) -> Args:
    """The arguments of a call. Raises SpecError with paths below `method` and `args`."""
    for known, shape in METHODS.items():
        if method == known:
            try:
                return shape.model_validate(args)
            except ValidationError as error:
                found = problems_of(error)
            raise SpecError(Problem(("args", *each.path), each.message) for each in found)
    names = ", ".join(METHODS)
    raise SpecError([Problem(("method",), f"there is no such method; there are {names}")])


def written(args: Args) -> dict[str, Any]:
    """The arguments as they travel: only what was given."""
    return args.model_dump(mode="json", exclude_unset=True)
