"""Which number plates a task wants read, and what is kept of them.

Here: an operator's wish. Not here: when a plate is read and what a reading says
(edge/vision/plates.py), who reads it (edge/ocr.py).
"""

from typing import Annotated, Literal

from pydantic import Field

from wire.specs.values import Classes, Name, Spec

Pattern = Literal["any", "cn", "eu"]
Keep = Literal["hash", "text"]


class Plates(Spec):
    """Read the plates of vehicles that stand still. A plate is personal data: see the guide."""

    classes: Classes | None = Field(
        default=None, description="of the model's classes; default: all of its vehicles"
    )
    zone: Name | None = Field(
        default=None, alias="in", description="where a vehicle stands; default: anywhere"
    )
    detector: Name | None = Field(
        default=None,
        description="a model that finds plates, by its name; default: text is looked for in the "
        "lower part of the vehicle",
    )
    min_score: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.6, description="less certain readings count for nothing"
    )
    pattern: Pattern = Field(
        default="any",
        description="what counts as a plate: cn (China), eu (5 to 8 letters and digits), or any "
        "mixture of 4 to 10 letters and digits",
    )
    keep: Keep = Field(
        default="hash",
        description="hash: a pseudonym, by which this worker alone knows a vehicle again; text: "
        "the plate itself leaves the station",
    )
