"""What is known of a neural network before it runs: `model.toml` beside its ONNX file.

Here: finding, reading and checking a manifest. Not here: running the network (detect.py).

An `.onnx` file without a manifest is taken for today's YOLOX with the names of COCO: BGR 0..255,
letterbox with 114. Detector refuses it if its output does not fit.
"""

import hashlib
import re
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from wire.specs import problems_of

MAX_MANIFEST_BYTES = 256 * 1024
MAX_MODEL_BYTES = 2 * 1024**3
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")

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


class ModelError(Exception):
    """What is wrong with which model, and what to do."""


class _Table(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


Pixels = Annotated[int, Field(ge=16, le=8192)]
PerChannel = tuple[float, float, float]


class Input(_Table):
    """The picture that a network wants. Each value becomes (value * scale - mean) / std."""

    width: Pixels | None = None
    """None: as the graph says."""
    height: Pixels | None = None
    name: str = ""
    """Name of the graph's input; empty: its first."""
    color: Literal["BGR", "RGB"] = "BGR"
    scale: Annotated[float, Field(gt=0)] = 1.0
    mean: PerChannel = (0.0, 0.0, 0.0)
    std: tuple[
        Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]
    ] = (1.0, 1.0, 1.0)
    resize: Literal["letterbox", "stretch"] = "letterbox"
    pad: Annotated[int, Field(ge=0, le=255)] = 114


class Manifest(_Table):
    """A network's name, file, labels and input. `path` is where its file lies."""

    name: Annotated[str, Field(min_length=1, max_length=128)]
    path: Path
    layout: str = "yolox"
    labels: Annotated[tuple[str, ...], Field(min_length=1, max_length=10_000)]
    input: Input = Input()
    version: str = ""
    license: str = ""
    source: str = ""
    sha256: str = ""
    """Empty: not known, so not verified."""
    size_bytes: int | None = None


def find(models_dirs: Iterable[Path], name: str) -> Manifest:
    """The manifest of a model by its name in the folders, first folder first. Raises ModelError.

    `<folder>/<name>/model.toml` or `<folder>/<name>.onnx`; the file may have `_` where the name
    has `-`, since names in tasks cannot have `_`.
    """
    if not _NAME.match(name):
        raise ModelError(f"model {name!r}: a name has letters, digits, '.', '_' and '-' only")
    folders: Sequence[Path] = tuple(models_dirs)
    for folder in folders:
        if (folder / name / "model.toml").is_file():
            return read(folder / name / "model.toml")
        for stem in (name, name.replace("-", "_")):
            if (folder / f"{stem}.onnx").is_file():
                return bare(folder / f"{stem}.onnx")
    looked = ", ".join(map(str, folders)) or "no folder: none is configured"
    raise ModelError(f"model {name!r} is not in {looked}; put its folder there or correct the name")


def at(path: Path) -> Manifest:
    """The manifest of a model by its path: an `.onnx` file, a `model.toml`, or their folder."""
    if path.is_dir():
        path = path / "model.toml"
    if not path.is_file():
        raise ModelError(f"model {path}: there is no such file")
    if path.suffix == ".toml":
        return read(path)
    beside = path.parent / "model.toml"
    if beside.is_file():
        manifest = read(beside)
        if manifest.path == path:
            return manifest
    return bare(path)


def bare(path: Path) -> Manifest:
    """What is assumed of an `.onnx` file without a manifest."""
    return Manifest(name=path.stem, path=path, labels=COCO_LABELS)


def read(toml: Path) -> Manifest:
    """The manifest in a `model.toml`; the file that it names is verified. Raises ModelError."""
    try:
        if toml.stat().st_size > MAX_MANIFEST_BYTES:
            raise ModelError(f"{toml}: larger than {MAX_MANIFEST_BYTES} bytes; this is no manifest")
        table = tomllib.loads(toml.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ModelError(f"{toml}: cannot be read: {error}") from None
    file = table.pop("file", None)
    if not isinstance(file, str) or not _NAME.match(file):
        raise ModelError(f"{toml}: `file` must be the name of the model's file beside it")
    try:
        manifest = Manifest.model_validate({**table, "path": toml.parent / file})
    except ValidationError as error:
        said = "; ".join(map(str, problems_of(error)))
        raise ModelError(f"{toml}: {said}") from None
    _verify(manifest)
    return manifest


def _verify(manifest: Manifest) -> None:
    """Whether the file is the one that the manifest speaks of."""
    path = manifest.path
    again = "fetch the model again"
    if not path.is_file():
        raise ModelError(f"model {manifest.name}: {path} is missing; {again}")
    size_bytes = path.stat().st_size
    if manifest.size_bytes is not None and size_bytes != manifest.size_bytes:
        raise ModelError(
            f"model {manifest.name}: {path} has {size_bytes} bytes instead of "
            f"{manifest.size_bytes}; {again}"
        )
    if manifest.sha256:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != manifest.sha256.lower():
            raise ModelError(
                f"model {manifest.name}: {path} is not the file that its manifest describes "
                f"(sha256 {digest[:12]}... instead of {manifest.sha256[:12]}...); {again}"
            )
