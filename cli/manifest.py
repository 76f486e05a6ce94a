"""A model folder: `<dir>/<name>/model.toml` and the network's file beside it.

Belongs here: what the manifest says, as far as this command needs it, and the state of the file.
Does not belong here: fetching (download), how pictures are fed to the network (edge).
"""

import hashlib
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cli.errors import BAD_INPUT, CommandError
from wire.specs import NAME_PATTERN

MANIFEST = "model.toml"
MAX_MANIFEST_BYTES = 256 * 1024
_CHUNK_BYTES = 1024 * 1024
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_SHA256 = re.compile(r"[0-9a-f]{64}")

Check = Literal["ok", "mismatch", "missing", "no checksum"]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a model.toml says. `sha256` and `url` may be empty, `size_bytes` 0: not known."""

    folder: Path
    name: str
    version: str
    layout: str
    file: str
    sha256: str
    size_bytes: int
    license: str
    source: str
    labels: tuple[str, ...]
    url: str
    input_size: str
    """`416x256`, or empty."""

    @property
    def path(self) -> Path:
        """Where the network's file lies, or would."""
        return self.folder / self.file


def read(folder: Path) -> Manifest:
    """The manifest of a model folder. Raises CommandError naming the key that is wrong."""
    path = folder / MANIFEST
    try:
        with path.open("rb") as file:
            content = file.read(MAX_MANIFEST_BYTES + 1)
        if len(content) > MAX_MANIFEST_BYTES:
            raise CommandError(f"{path} is above {MAX_MANIFEST_BYTES} bytes", BAD_INPUT)
        table = tomllib.loads(content.decode())
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}", BAD_INPUT) from None
    except ValueError as error:
        raise CommandError(f"{path}: {error}", BAD_INPUT) from None
    return _checked(folder, table)


def _checked(folder: Path, table: dict[str, Any]) -> Manifest:
    where = folder / MANIFEST

    def text(key: str, default: str | None = None) -> str:
        value = table.get(key, default)
        if not isinstance(value, str):
            raise CommandError(f"{where}: {key} must be a text", BAD_INPUT)
        return value

    name, file = text("name"), text("file")
    if not re.match(NAME_PATTERN, name):
        raise CommandError(f"{where}: name {name!r} must be like a host name", BAD_INPUT)
    if not _FILE_NAME.fullmatch(file):
        raise CommandError(f"{where}: file {file!r} must be a plain file name", BAD_INPUT)
    sha256 = text("sha256", "").lower()
    if sha256 and not _SHA256.fullmatch(sha256):
        raise CommandError(f"{where}: sha256 must be 64 hexadecimal digits, or empty", BAD_INPUT)
    size_bytes, labels = table.get("size_bytes", 0), table.get("labels", [])
    if type(size_bytes) is not int or size_bytes < 0:
        raise CommandError(f"{where}: size_bytes must be a whole number, 0 if not known", BAD_INPUT)
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise CommandError(f"{where}: labels must be a list of texts", BAD_INPUT)
    given = table.get("input", {})
    known_size = isinstance(given, dict) and "width" in given and "height" in given
    return Manifest(
        folder=folder,
        name=name,
        version=text("version", ""),
        layout=text("layout", ""),
        file=file,
        sha256=sha256,
        size_bytes=size_bytes,
        license=text("license", ""),
        source=text("source", ""),
        labels=tuple(labels),
        url=text("url", ""),
        input_size=f"{given['width']}x{given['height']}" if known_size else "",
    )


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
        return "missing"
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
