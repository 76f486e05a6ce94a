"""What may be wrong with a camera, and what of it an operator wants to hear of.

Here: for each fault from when on it is one, how grave it is, and how it is switched off. Not here:
how a fault is seen (edge/vision/health.py), what is told of it (edge/ailments.py, edge/faults.py).
"""

from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator, Field

from wire.specs.values import Fraction, Seconds, Severity, Spec


class Watched(Spec):
    """A fault that is watched for."""

    after: Seconds = Field(default=2.0, description="how long it must show to be an incident")
    severity: Severity = "warning"


class _Lost(Watched):
    after: Annotated[Seconds, Field(ge=1)] = Field(
        default=10.0, description="how long no picture must come to be an incident"
    )


class _Frozen(Watched):
    after: Annotated[Seconds, Field(ge=2)] = Field(
        default=8.0, description="how long the picture must repeat itself to be an incident"
    )


class _Black(Watched):
    darker_than: Fraction = Field(
        default=0.125, description="brightness, 0..1, that hardly anything in the picture exceeds"
    )


class _OverExposed(Watched):
    share: Fraction = Field(default=0.5, description="how much of the picture is white")


class _Blurred(Watched):
    sharpness: Fraction = Field(default=0.3, description="less than this part of what is usual")


class _Covered(Watched):
    share: Fraction = Field(
        default=0.75, description="how much of the picture shows nothing of the view any more"
    )


class _Moved(Watched):
    left: Fraction = Field(
        default=0.55, description="less than this part of the view is where it was"
    )


def _switched(value: object) -> object:
    """`off`, which YAML may read as false: not watched for."""
    if value is True or value == "on":
        return {}
    return None if value is False or value == "off" else value


def _always(value: object) -> object:
    if value is None or _switched(value) is None:
        raise ValueError("a lost camera is always told; give a longer `after` or `severity: info`")
    return _switched(value)


_Off = BeforeValidator(_switched)


class Health(Spec):
    """The faults of a camera: what differs from the defaults, or `off`.

    While a camera is lost, frozen, black or covered, no rule is applied to its pictures.
    """

    lost: Annotated[_Lost, BeforeValidator(_always)] = _Lost()
    frozen: Annotated[_Frozen | None, _Off] = _Frozen()
    black: Annotated[_Black | None, _Off] = _Black()
    over_exposed: Annotated[_OverExposed | None, _Off] = Field(
        default=_OverExposed(), alias="over-exposed"
    )
    blurred: Annotated[_Blurred | None, _Off] = _Blurred()
    covered: Annotated[_Covered | None, _Off] = _Covered()
    moved: Annotated[_Moved | None, _Off] = _Moved()

    def watched(self) -> Mapping[str, Watched]:
        """The faults of pictures that are watched for, by name."""
        every: dict[str, Watched | None] = {
            "frozen": self.frozen,
            "black": self.black,
            "over-exposed": self.over_exposed,
            "blurred": self.blurred,
            "covered": self.covered,
            "moved": self.moved,
        }
        return {fault: wanted for fault, wanted in every.items() if wanted is not None}


UNWATCHED = Health.model_validate(dict.fromkeys(Health().watched(), "off"))
"""Nothing is said of pictures, whatever they show."""
