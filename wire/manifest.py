"""What is known of a neural network before it runs: `model.toml` beside its ONNX file. Pure.

Here: what a manifest says, its limits, and what is assumed of an ONNX file without one. Not here:
files (cli/manifest.py, edge/vision/manifest.py), running the network (edge/vision/detect).
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
NO_PICTURE = "none"
PICTURE_INLINE = "data:image/jpeg;base64,"

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

_UNUSED = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
COCO_NUMBERED: tuple[str, ...] = tuple(
    "-" if number in _UNUSED else COCO_LABELS[number - 1 - sum(u < number for u in _UNUSED)]
    for number in range(1, 91)
)
"""COCO's names by the numbers 1 to 90 that its files give them; `-` where there is none."""


class _Table(BaseModel):
    # JSON, in which a manifest travels, has neither infinity nor NaN.
    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


Pixels = Annotated[int, Field(ge=16, le=8192)]
Share = Annotated[float, Field(ge=0, le=1)]
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


def _picture(value: str) -> str:
    if value in ("", NO_PICTURE) or value.startswith(PICTURE_INLINE):
        return value
    return _file_name(value)


class Input(_Table):
    """The picture that a network wants. Each value becomes (value * scale - mean) / std.

    None: as the graph says, or as networks of its layout usually want it.
    """

    width: Pixels | None = None
    height: Pixels | None = None
    name: str = ""
    """Name of the graph's input; empty: its first that can be a picture."""
    axes: Literal["NCHW", "NHWC"] | None = None
    """Whether the colours come before the rows or after the columns."""
    color: Literal["BGR", "RGB"] | None = None
    scale: Spread | None = None
    mean: PerChannel | None = None
    std: tuple[Spread, Spread, Spread] | None = None
    resize: Literal["letterbox", "letterbox-centred", "stretch"] | None = None
    """`letterbox` keeps the shape, at the top left, and fills the rest with `pad`."""
    pad: Annotated[int, Field(ge=0, le=255)] | None = None
    sizes: Literal["width,height", "height,width"] | None = None
    """Order in a second input that wants to know how large the picture is."""


Column = Literal["x1", "y1", "x2", "y2", "score", "class", "batch", "-"]


class Output(_Table):
    """How a network's answer is read, where it cannot be told from the graph. None: as it looks."""

    scores: Literal["plain", "sigmoid", "softmax"] | None = None
    """What makes probabilities of the scores; `plain`: they are."""
    background: Literal["first", "last", "none"] | None = None
    """Where among the scores is the one of no object."""
    boxes: Literal["xyxy", "yxyx", "cxcywh"] | None = None
    unit: Literal["pixels", "fractions"] | None = None
    """Of the boxes: of the network's input, or 0..1."""
    columns: Annotated[tuple[Column, ...], Field(min_length=6, max_length=64)] | None = None
    """What stands in each row of found objects; `-` is not read."""
    first_class: Annotated[int, Field(ge=0, le=1)] | None = None
    """The number of the first label."""


class Sought(_Table):
    """An object that is in the known picture."""

    label: Annotated[str, Field(min_length=1, max_length=200)]
    box: tuple[Share, Share, Share, Share] | None = None
    """Where: x1, y1, x2, y2 as fractions of the picture; None: anywhere."""


class Check(_Table):
    """A known picture that a network is tried on before it is put to work."""

    picture: Annotated[str, AfterValidator(_picture)] = ""
    """A JPEG or PNG beside the manifest, `data:image/jpeg;base64,...`, or `none`: it is not tried.

    Empty: Forecourt's own, which shows people, cars and trucks.
    """
    find: Annotated[tuple[Sought, ...], Field(max_length=100)] = ()


class Network(_Table):
    """A network's name, labels, input and output; where its file is, is said beside this."""

    name: Name
    layout: str = "auto"
    """How its output is read: `auto`, or one of edge.vision.detect.LAYOUTS."""
    labels: Annotated[
        tuple[Annotated[str, Field(max_length=200)], ...], Field(max_length=10_000)
    ] = ()
    """Empty: as the graph says, or COCO's."""
    input: Input = Input()
    output: Output = Output()
    check: Check = Check()
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
    """What is assumed of `<stem>.onnx` without a manifest: what its graph says, or looks like.

    Its name is the stem as tasks can write it: of `YOLOX_nano v2`, `yolox-nano-v2`.
    """
    slug = re.sub(r"[^a-z0-9]+", "-", stem.lower())[:60].strip("-")
    return Network(name=slug or "model")
