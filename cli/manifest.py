"""A model folder: `<dir>/<name>/model.toml` and the network's file beside it.

Belongs here: folders, and the state of the file. Does not belong here: what a manifest says
(wire.manifest), fetching (download), how pictures are fed to the network (edge).
"""

import hashlib
from pathlib import Path
from typing import Literal

from cli.errors import BAD_INPUT, CommandError
from wire import manifest as described
from wire.manifest import MANIFEST, MAX_MANIFEST_BYTES
from wire.specs import SpecError

_CHUNK_BYTES = 1024 * 1024

Check = Literal["ok", "mismatch", "not pulled", "no checksum"]


class Manifest(described.Manifest):
    """What a model.toml says, and the folder that it was read from."""

    folder: Path

    @property
    def path(self) -> Path:
        """Where the network's file lies, or would."""
        return self.folder / self.file

    @property
    def input_size(self) -> str:
        """`416x256`, or empty."""
        width, height = self.input.width, self.input.height
        return f"{width}x{height}" if width and height else ""


def read(folder: Path) -> Manifest:
    """The manifest of a model folder. Raises CommandError naming the key that is wrong."""
    return Manifest(**read_file(folder / MANIFEST).model_dump(), folder=folder)


def read_file(path: Path) -> described.Manifest:
    """What a model.toml says. Raises CommandError naming the key that is wrong."""
    try:
        with path.open("rb") as file:
            return described.parse(file.read(MAX_MANIFEST_BYTES + 1))
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}", BAD_INPUT) from None
    except SpecError as error:
        said = "\n".join(f"{path}: {problem}" for problem in error.problems)
        raise CommandError(said, BAD_INPUT) from None


def folders(directory: Path) -> list[Path]:
    """The model folders below a directory, by name. Raises CommandError where there is none."""
    if not directory.is_dir():
        raise CommandError(
            f"no folder {directory}: give --dir DIR or set FORECOURT_MODELS", BAD_INPUT
        )
    return sorted(path.parent for path in directory.glob(f"*/{MANIFEST}"))


def named(directory: Path, name: str) -> Manifest:
    """One model by name. Raises CommandError listing those that there are."""
    found = {folder.name: folder for folder in folders(directory)}
    if name not in found:
        there = ", ".join(found) or "none"
        raise CommandError(f"no model {name} in {directory}; there are: {there}", BAD_INPUT)
    return read(found[name])


def check(manifest: Manifest) -> Check:
    """Whether the file is there and is the one that the manifest means."""
    if not manifest.path.is_file():
        return "not pulled"
    if not manifest.sha256:
        return "no checksum"
    return "ok" if sha256_of(manifest.path) == manifest.sha256 else "mismatch"


def sha256_of(path: Path) -> str:
    """Of a file's content, hexadecimal; read in pieces."""
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_CHUNK_BYTES):
            hasher.update(piece)
    return hasher.hexdigest()
