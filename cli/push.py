"""`forecourt models push`: a neural network into the center, which tells the workers.

Belongs here: which file and manifest are meant, the parts on their way, what is printed. Does not
belong here: HTTP (api), model folders (models), whether the network is any good (edge).
"""

import base64
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

from cli import access, manifest, terminal
from cli.api import Api
from cli.apply import AsJson, DryRun
from cli.errors import BAD_INPUT, CommandError
from cli.get import require_name
from wire import manifest as described
from wire.manifest import MANIFEST, MAX_MODEL_BYTES, NO_PICTURE, PICTURE_INLINE, Network
from wire.models import PART_BYTES, Published, canonical
from wire.specs import SpecError, problems_of

MAX_PICTURE_BYTES = 128 * 1024


def push(
    file: Annotated[Path, typer.Argument(help="The .onnx file.")],
    manifest_file: Annotated[
        Path | None,
        typer.Option(
            "--manifest", help="Its model.toml \\[the one beside it that names the file, if any]."
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="As tasks name it \\[as its manifest or file].")
    ] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    url: access.Url = None,
    token_file: access.TokenFile = None,
) -> None:
    """Put a model into the center; workers whose tasks name it fetch it, try it and use it.

    A worker that finds it no good goes on with the one before, and says why: see
    `forecourt get model NAME`. A push that broke off goes on where it was when it is repeated.

    \b
    Examples:
      forecourt models push models/yolox-nano/yolox_nano.onnx
      forecourt models push yard.onnx --manifest yard.toml --name yard
    """
    model = described_by(file, manifest_file, name)
    with Api(access.find(url, token_file)) as api:
        if not dry_run:
            _send(api, file, model)
        applied, untold = api.put_model(model, dry_run=dry_run)
        while untold:
            terminal.say(f"{untold} stations are to be told yet", "dim")
            _, untold = api.put_model(model, dry_run=dry_run)
        users = 0 if dry_run else int(api.get(f"/models/{model.name}").get("tasks", 0))
    note = " (dry run)" if dry_run else f", revision {applied.revision}; {_used(users)}"
    line = f"model/{model.name} {applied.result}{note}"
    if as_json:
        terminal.say(line)
        terminal.write_json(
            {
                "name": model.name,
                "result": applied.result,
                "dry_run": dry_run,
                "revision": applied.revision,
                "sha256": model.sha256,
                "size_bytes": model.size_bytes,
                "tasks": users,
            }
        )
    else:
        terminal.write(line)


def described_by(file: Path, manifest_file: Path | None, name: str | None) -> Published:
    """What is to be published of a file. Raises CommandError."""
    if not file.is_file():
        raise CommandError(f"{file}: there is no such file", BAD_INPUT)
    if not 0 < file.stat().st_size <= MAX_MODEL_BYTES:
        raise CommandError(f"{file} has no byte, or more than {MAX_MODEL_BYTES}", BAD_INPUT)
    if name is not None:
        require_name(name)
    told, folder = _told(file, manifest_file)
    sha256 = manifest.sha256_of(file)
    if told.sha256 and told.sha256 != sha256:
        raise CommandError(
            f"{file} is not the file that its manifest means: sha256 {sha256} instead of "
            f"{told.sha256}; fetch it again, or correct the manifest",
            BAD_INPUT,
        )
    document = told.model_dump(exclude_defaults=True)
    document |= {
        "name": name or told.name,
        "file": f"{name or told.name}.onnx",
        "sha256": sha256,
        "size_bytes": file.stat().st_size,
    }
    picture = told.check.picture
    if picture not in ("", NO_PICTURE) and not picture.startswith(PICTURE_INLINE):
        document["check"]["picture"] = _inline(folder / picture)
    try:
        model = Published.model_validate(document)
        canonical(model)
    except ValidationError as error:
        raise CommandError("; ".join(map(str, problems_of(error))), BAD_INPUT) from None
    except SpecError as error:
        raise CommandError(str(error), BAD_INPUT) from None
    return model


def _told(file: Path, manifest_file: Path | None) -> tuple[Network, Path]:
    """What is known of the file, and where its known picture would lie."""
    if manifest_file is not None:
        return manifest.read_file(manifest_file), manifest_file.parent
    beside = file.parent / MANIFEST
    if beside.is_file():
        found = manifest.read_file(beside)
        if found.file == file.name:
            return found, beside.parent
    return described.bare(file.stem), file.parent


def _inline(path: Path) -> str:
    """The known picture as the manifest carries it. Raises CommandError."""
    try:
        with path.open("rb") as opened:
            content = opened.read(MAX_PICTURE_BYTES + 1)
    except OSError as error:
        raise CommandError(
            f"the known picture {path} cannot be read: {error.strerror}", BAD_INPUT
        ) from None
    if len(content) > MAX_PICTURE_BYTES or not content.startswith(b"\xff\xd8\xff"):
        raise CommandError(
            f"the known picture {path} travels with the manifest: it must be a JPEG of at most "
            f"{MAX_PICTURE_BYTES // 1024} KiB",
            BAD_INPUT,
        )
    return PICTURE_INLINE + base64.b64encode(content).decode()


def _send(api: Api, file: Path, model: Published) -> None:
    """Send the parts that the center does not have yet."""
    held = api.model_parts(model.sha256)
    if held is None:
        terminal.say("the center has this file already", "dim")
        return
    columns = ("{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with (
        file.open("rb") as opened,
        Progress(*columns, console=terminal.err(), transient=True) as bar,
    ):
        shown = bar.add_task(model.name, total=model.size_bytes)
        for number in range(model.parts):
            content = opened.read(PART_BYTES)
            if number not in held:
                api.put_model_part(model.sha256, number, content)
            bar.advance(shown, len(content))


def _used(tasks: int) -> str:
    return f"{tasks} task{'' if tasks == 1 else 's'} use{'s' if tasks == 1 else ''} it"
