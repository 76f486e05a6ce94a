"""What ails a camera, and what of it an operator wants to hear of.

Here: each fault's time and severity, and how it is switched off. Not here: how a fault is seen
(edge/vision/health.py, edge/faults.py).
"""

from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator, Field

from wire.specs.values import Seconds, Severity, Spec


class Watched(Spec):
    """A fault that is watched for."""

    after: Seconds
    severity: Severity = "warning"


def _switched(value: object) -> object:
    """`off`, which YAML reads as false, is no watching; `on` is the default."""
    return None if value in (False, "off") else value


class _Black(Watched):
    after: Seconds = Field(default=2.0, description="how long before it is an incident")


class _Frozen(Watched):
    after: Seconds = Field(default=8.0, description="how long before it is an incident")


class _Lost(Watched):
    after: Annotated[Seconds, Field(ge=1)] = Field(
        default=10.0, description="so long without a picture before it is an incident"
    )


Off = BeforeValidator(_switched)


class Health(Spec):
    """The faults of a camera: `{}` or times for those that are watched for, `off` for the others.

    While a camera is lost, frozen, black or covered, its tasks' rules are suspended.
    """

    lost: _Lost = _Lost()
    frozen: Annotated[_Frozen | None, Off] = _Frozen()
    black: Annotated[_Black | None, Off] = _Black()
    over_exposed: Annotated[_Black | None, Off] = Field(default=_Black(), alias="over-exposed")
    blurred: Annotated[_Black | None, Off] = _Black()
    covered: Annotated[_Black | None, Off] = _Black()
    moved: Annotated[_Black | None, Off] = _Black()

    def watched(self) -> Mapping[str, Watched]:
        """The faults of pictures that are watched for, by name."""
        every = {
            "frozen": self.frozen,
            "black": self.black,
            "over-exposed": self.over_exposed,
            "blurred": self.blurred,
            "covered": self.covered,
            "moved": self.moved,
        }
        return {fault: wanted for fault, wanted in every.items() if wanted is not None}
