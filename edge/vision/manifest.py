"""The neural networks in a worker's folders: found by name or path, and verified.

Here: files. Not here: what a manifest says (wire.manifest), running the network (detect).

An `.onnx` file without a manifest is recognised by its graph: see detect.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

from wire import manifest as described
from wire.manifest import MANIFEST, MAX_MANIFEST_BYTES, Network
from wire.specs import SpecError

MAX_LISTED = 100

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class ModelError(Exception):
    """What is wrong with which model, and what to do."""


class MissingModelError(ModelError):
    """The model, or its file, is in none of the folders."""


class Manifest(Network):
    """A network and where its file lies."""

    path: Path


def find(models_dirs: Iterable[Path], name: str) -> Manifest:
    """The manifest of a model by its name in the folders, first folder first. Raises ModelError.

    `<folder>/<name>/model.toml` or `<folder>/<name>.onnx`; the file may have `_` where the name
    has `-`, since names in tasks cannot have `_`.
    """
    if not _NAME.fullmatch(name):
        raise ModelError(f"model {name!r}: a name has letters, digits, '.', '_' and '-' only")
    folders: Sequence[Path] = tuple(models_dirs)
    for folder in folders:
        if (folder / name / MANIFEST).is_file():
            return read(folder / name / MANIFEST)
        for stem in (name, name.replace("-", "_")):
            if (folder / f"{stem}.onnx").is_file():
                return bare(folder / f"{stem}.onnx")
    looked = ", ".join(map(str, folders)) or "no folder: none is configured"
    raise MissingModelError(
        f"model {name!r} is not in {looked}; put its folder there or correct the name"
    )


def listed(models_dirs: Iterable[Path]) -> Iterator[Network]:
    """What the folders' manifests say, the first `MAX_LISTED`; no network's file is read."""
    tomls = (toml for folder in models_dirs for toml in sorted(folder.glob(f"*/{MANIFEST}")))
    for toml in islice(tomls, MAX_LISTED):
        with suppress(OSError, SpecError), toml.open("rb") as file:  # a task that wants it tells
            yield described.parse(file.read(MAX_MANIFEST_BYTES + 1))


def at(path: Path) -> Manifest:
    """The manifest of a model by its path: an `.onnx` file, a `model.toml`, or their folder."""
    if path.is_dir():
        path = path / MANIFEST
    if not path.is_file():
        raise ModelError(f"model {path}: there is no such file")
    if path.suffix == ".toml":
        return read(path)
    beside = path.parent / MANIFEST
    if beside.is_file():
        manifest = read(beside)
        if manifest.path == path:
            return manifest
    return bare(path)


def bare(path: Path) -> Manifest:
    """What is assumed of an `.onnx` file without a manifest."""
    return Manifest(**described.bare(path.stem).model_dump(), path=path)


def read(toml: Path) -> Manifest:
    """The manifest in a `model.toml`; the file that it names is verified. Raises ModelError."""
    try:
        with toml.open("rb") as file:
            parsed = described.parse(file.read(MAX_MANIFEST_BYTES + 1))
    except OSError as error:
        raise ModelError(f"{toml}: cannot be read: {error.strerror}") from None
    except SpecError as error:
        raise ModelError(f"{toml}: {error}") from None
    manifest = Manifest(**parsed.model_dump(), path=toml.parent / parsed.file)
    _verify(manifest)
    return manifest


def _verify(manifest: Manifest) -> None:
    """Whether the file is the one that the manifest speaks of."""
    path = manifest.path
    again = "fetch the model again"
    if not path.is_file():
        raise MissingModelError(f"model {manifest.name}: {path} is missing; {again}")
    size_bytes = path.stat().st_size
    if manifest.size_bytes and size_bytes != manifest.size_bytes:
        raise ModelError(
            f"model {manifest.name}: {path} has {size_bytes} bytes instead of "
            f"{manifest.size_bytes}; {again}"
        )
    if manifest.sha256:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != manifest.sha256:
            raise ModelError(
                f"model {manifest.name}: {path} is not the file that its manifest describes "
                f"(sha256 {digest[:12]}... instead of {manifest.sha256[:12]}...); {again}"
            )
