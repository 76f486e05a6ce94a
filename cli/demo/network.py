"""Which neural network the demo uses: the one that comes with it, or the visitor's own file.

Belongs here: name, labels, and the folders in which a worker finds it. Does not belong here: how
it is run (edge).
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from cli import manifest
from cli.demo.folder import Folder
from cli.demo.scene import CHECKOUT
from cli.errors import BAD_INPUT, CommandError
from wire.manifest import COCO_LABELS, MANIFEST, bare

OWN = "forecourt-nano"


@dataclass(frozen=True, slots=True)
class Network:
    """The name for a task's spec, the labels it reports, and folders to look in, best first."""

    name: str
    labels: tuple[str, ...]
    folders: tuple[Path, ...]


def find(file: Path | None, folder: Folder) -> Network:
    """The network to use. A visitor's file is made available below the demo's data folder."""
    shipped = Path(os.environ.get("FORECOURT_MODELS") or CHECKOUT / "models").resolve()
    if file is None:
        own = manifest.read(shipped / OWN) if (shipped / OWN).is_dir() else None
        if own is None or not own.path.is_file():
            raise CommandError(
                f"the demo's own network is not in {shipped / OWN}: run it from a source checkout, "
                "set FORECOURT_MODELS, or give --model FILE.onnx",
                BAD_INPUT,
            )
        return Network(OWN, own.labels, (shipped, folder.models))
    if file.suffix != ".onnx" or not file.is_file():
        raise CommandError(f"--model: {file} is no .onnx file", BAD_INPUT)
    beside = file.parent / MANIFEST
    described = manifest.read(file.parent) if beside.is_file() else None
    folders = (folder.models, shipped) if shipped.is_dir() else (folder.models,)
    if described is not None and described.file == file.name:
        home = folder.models / described.name
        home.mkdir(exist_ok=True)
        _place(beside, home / MANIFEST)
        _place(file, home / file.name)
        return Network(described.name, described.labels or COCO_LABELS, folders)
    assumed = bare(file.stem)
    shutil.rmtree(folder.models / assumed.name, ignore_errors=True)  # it would win over the file
    _place(file, folder.models / f"{assumed.name}.onnx")
    return Network(assumed.name, COCO_LABELS, folders)


def _place(source: Path, target: Path) -> None:
    """A copy that appears whole; a link would change with the original, or point nowhere."""
    partial = target.with_name(f".{target.name}.part")
    shutil.copyfile(source, partial)
    partial.replace(target)
