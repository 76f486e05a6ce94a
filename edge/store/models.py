"""The center's models on this station's disk: files named by their content, and which are good.

Here: `models/` in the data folder: whole files, one that is being fetched, `good.json` about those
that have proven themselves, room for them. Not here: fetching (fetch), what is wanted and tried
(models), the folders that this worker was given (vision.manifest).

A file gets its name only when it is whole, verified and synced; so whatever has a name can be used
after any crash, and what was fetched of another one is still there.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from wire.models import Published, canonical, parse
from wire.specs import SpecError

log = logging.getLogger("forecourt.models")

FOLDER = "models"
_GOOD = "good.json"
_SUFFIX, _PARTIAL = ".onnx", ".part"
_MAX_GOOD_BYTES = 32 * 1024 * 1024
_COPIED_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Good:
    """A model that was loaded and tried, and the classes that it was found to know."""

    model: Published
    labels: tuple[str, ...]


class ModelFiles:
    """The folder. Methods may take as long as reading a file does: call them on a thread."""

    def __init__(self, data: Path, quota_bytes: int) -> None:
        self._folder = data / FOLDER
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._quota_bytes = quota_bytes
        self._whole: set[str] = set()
        """Verified since this process began."""

    def path(self, model: Published) -> Path:
        """Where the model's file lies, or would."""
        return self._folder / f"{model.sha256}{_SUFFIX}"

    def partial(self, model: Published) -> Path:
        """Where it grows while it is fetched."""
        return self._folder / f"{model.sha256}{_PARTIAL}"

    def has(self, model: Published) -> bool:
        """Whether the whole file is here; it is read once a process, and a rotten one is deleted.

        Raises OSError.
        """
        path = self.path(model)
        if not path.is_file():
            self._whole.discard(model.sha256)
            return False
        if model.sha256 not in self._whole:
            if not is_file(path, model):
                log.error("%s is not what it was when it was fetched: it is fetched again", path)
                path.unlink()
                return False
            self._whole.add(model.sha256)
        return True

    def take(self, model: Published, source: Path) -> bool:
        """Copy the model's file from another place, if it is the one. Raises OSError."""
        if not is_file(source, model):
            return False
        with source.open("rb") as original, self.partial(model).open("wb") as copy:
            shutil.copyfileobj(original, copy, _COPIED_BYTES)
        return self.finish(model)

    def finish(self, model: Published) -> bool:
        """Give what was fetched its name; False: it is another file, and was deleted.

        Raises OSError.
        """
        partial = self.partial(model)
        if not is_file(partial, model):
            partial.unlink(missing_ok=True)
            return False
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(self.path(model))
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        self._whole.add(model.sha256)
        return True

    def make_room(self, model: Published, used: Collection[str]) -> str:
        """Delete files that are not `used` (by SHA-256), oldest first, until the model's fits.

        Empty, or in words why it cannot fit. Raises OSError.
        """
        kept = {model.sha256, *used}
        files = sorted(self._files(), key=lambda path: path.stat().st_mtime_ns)
        held_bytes = {path: path.stat().st_size for path in files if path.stem != model.sha256}
        for path in [path for path in held_bytes if path.stem not in kept]:
            partial_of_another = path.suffix == _PARTIAL
            if (
                partial_of_another
                or sum(held_bytes.values()) + model.size_bytes > self._quota_bytes
            ):
                path.unlink(missing_ok=True)
                self._whole.discard(path.stem)
                del held_bytes[path]
        needed_bytes = sum(held_bytes.values()) + model.size_bytes
        if needed_bytes > self._quota_bytes:
            return (
                f"the models in use and this one take {needed_bytes // 1_000_000} MB, and models_mb"
                f" allows {self._quota_bytes // 1_000_000}; raise it, or use fewer models"
            )
        return ""

    def _files(self) -> Iterator[Path]:
        for path in self._folder.iterdir():
            if path.suffix in (_SUFFIX, _PARTIAL):
                yield path

    # --- what has proven itself ---

    def good(self) -> dict[str, Good]:
        """By name, the models that were at work; those whose entry cannot be read are not."""
        path = self._folder / _GOOD
        try:
            with path.open("rb") as file:
                told = json.loads(file.read(_MAX_GOOD_BYTES))
            entries = dict(told)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError) as error:
            log.error("%s cannot be read, so every model is tried anew: %s", path, error)
            return {}
        found = {}
        for name, entry in entries.items():
            with suppress(SpecError, KeyError, TypeError):
                model = parse(msgspec.json.encode(entry["model"]))
                found[str(name)] = Good(model, tuple(map(str, entry["labels"])))
        return found

    def remember(self, good: Mapping[str, Good]) -> None:
        """Write down, at once and whole, which models are good. Raises OSError."""
        told = {
            name: {"model": json.loads(canonical(one.model)), "labels": list(one.labels)}
            for name, one in sorted(good.items())
        }
        fresh = self._folder / f"{_GOOD}.new"
        with fresh.open("w", encoding="utf-8") as file:
            json.dump(told, file)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._folder / _GOOD)


def rotten(data: Path) -> Iterator[Path]:
    """The whole files in a data folder that are not what their names say. Raises OSError."""
    for path in sorted((data / FOLDER).glob(f"*{_SUFFIX}")):
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != path.stem:
                yield path


def is_file(path: Path, model: Published) -> bool:
    """Whether a file is the model's. Raises OSError."""
    if not path.is_file() or path.stat().st_size != model.size_bytes:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == model.sha256
