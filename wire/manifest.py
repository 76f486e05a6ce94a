"""What is known of a neural network before it runs: `model.toml` beside its ONNX file. Pure.

Here: what a manifest says, its limits, and what is assumed of an ONNX file without one. Not here:
files (cli/manifest.py, edge/vision/manifest.py), running the network (edge/vision/detect.py).
"""

import re
import tomllib
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from wire.specs import Name, Problem, SpecError, problems_of
from wire.text import TextError, decoded

MANIFEST = "model.toml"
MAX_MANIFEST_BYTES = 256 * 1024
MAX_MODEL_BYTES = 2 * 1024**3

COCO_LABELS: tuple[str, ...] = tuple(
    """person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light,
    fire hydrant, stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant,
    bear, zebra, giraffe, backpack, umbrella, handbag, tie, suitcase, frisbee, skis, snowboard,
    sports ball, kite, baseball bat, baseball glove, skateboard, surfboard, tennis racket, bottle,
    wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot,
    hot dog, pizza, donut, cake, chair, couch, potted plant, bed, dining table, toilet, tv, laptop,
    mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, book, clock,
    vase, scissors, teddy bear, hair drier, toothbrush""".replace("\n    ", " ").split(", ")
)


class _Table(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


Pixels = Annotated[int, Field(ge=16, le=8192)]
PerChannel = tuple[float, float, float]
Spread = Annotated[float, Field(gt=0)]


def _sha256(value: str) -> str:
    if not re.fullmatch(r"([0-9a-fA-F]{64})?", value):
        raise ValueError("write 64 hexadecimal digits, or nothing")
    return value.lower()


def _file_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", value):
        raise ValueError("write a plain file name: the file is beside the manifest")
    return value


class Input(_Table):
    """The picture that a network wants. Each value becomes (value * scale - mean) / std."""

    width: Pixels | None = None
    """None: as the graph says."""
    height: Pixels | None = None
    name: str = ""
    """Name of the graph's input; empty: its first."""
    color: Literal["BGR", "RGB"] = "BGR"
    scale: Spread = 1.0
    mean: PerChannel = (0.0, 0.0, 0.0)
    std: tuple[Spread, Spread, Spread] = (1.0, 1.0, 1.0)
    resize: Literal["letterbox", "stretch"] = "letterbox"
    pad: Annotated[int, Field(ge=0, le=255)] = 114


class Network(_Table):
    """A network's name, labels and input; where its file is, is said beside this."""

    name: Name
    layout: str = "yolox"
    labels: Annotated[
        tuple[Annotated[str, Field(max_length=200)], ...], Field(min_length=1, max_length=10_000)
    ]
    input: Input = Input()
    version: str = ""
    license: str = ""
    source: str = ""
    url: str = ""
    """Where its file can be had; empty: not known."""
    sha256: Annotated[str, AfterValidator(_sha256)] = ""
    """Hexadecimal; empty: not known, so not verified."""
    size_bytes: Annotated[int, Field(strict=True, ge=0, le=MAX_MODEL_BYTES)] = 0
    """0: not known."""


class Manifest(Network):
    """What a `model.toml` says."""

    file: Annotated[str, AfterValidator(_file_name)]
    """Name of the network's file, beside the manifest."""


def parse(content: bytes) -> Manifest:
    """The manifest in a file's content. Raises SpecError with every problem."""
    try:
        return Manifest.model_validate(tomllib.loads(decoded(content, MAX_MANIFEST_BYTES)))
    except ValidationError as error:
        raise SpecError(problems_of(error)) from None
    except TextError as error:
        raise SpecError([Problem((), str(error))]) from None
    except ValueError as error:  # tomllib's, with the place
        raise SpecError([Problem((), f"no valid TOML: {error}")]) from None
    except RecursionError:
        raise SpecError([Problem((), "it is nested too deeply")]) from None


def bare(stem: str) -> Network:
    """What is assumed of `<stem>.onnx` without a manifest: today's YOLOX, with COCO's names.

    BGR 0..255, letterbox with 114. Its name is the stem as tasks can write it: of `YOLOX_nano v2`,
    `yolox-nano-v2`.
    """
    slug = re.sub(r"[^a-z0-9]+", "-", stem.lower())[:60].strip("-")
    return Network(name=slug or "model", labels=COCO_LABELS)
