"""`forecourt models list | verify | pull | push`: the neural networks in a folder, and from there.

Belongs here: the first three commands. Does not belong here: pushing (push), what a manifest says
(manifest), how bytes are fetched (download), and what a network computes (edge).
"""

import hashlib
import os
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn
from rich.table import Table
from rich.text import Text

from cli import download, manifest, terminal
from cli.apply import AsJson
from cli.download import Incoming
from cli.errors import FAILED, CommandError
from cli.manifest import Manifest
from cli.push import push
from wire.manifest import MANIFEST, MAX_MODEL_BYTES

app = typer.Typer(
    no_args_is_help=True, help="Neural networks: of a folder here, and into the center."
)
app.command()(push)

Directory = Annotated[
    Path, typer.Option("--dir", envvar="FORECOURT_MODELS", help="Folder of model folders.")
]
_STYLES = {"ok": "green", "mismatch": "bold red", "not pulled": "yellow", "no checksum": "yellow"}


@app.command("list")
def list_models(directory: Directory = Path("models"), as_json: AsJson = False) -> None:
    """List the models of a folder and whether their files are there.

    \b
    Example:
      forecourt models list --dir /var/lib/forecourt/models
    """
    found = [manifest.read(folder) for folder in manifest.folders(directory)]
    if as_json:
        terminal.write_json({"models": [_as_json(each) for each in found]})
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for head in ("MODEL", "VERSION", "SIZE", "LICENCE", "INPUT", "LABELS", "FILE"):
        table.add_column(head, justify="right" if head in ("SIZE", "LABELS") else "left")
    for each in found:
        state = manifest.check(each)
        size = _size(each)
        table.add_row(
            each.name,
            each.version,
            f"{size / 1e6:.1f} MB" if size else "-",
            each.license,
            each.input_size or "-",
            str(len(each.labels)),
            Text(state, style=_STYLES[state]),
        )
    terminal.out().print(table)


@app.command()
def verify(
    name: Annotated[str | None, typer.Argument(help="Default: all.", show_default=False)] = None,
    directory: Directory = Path("models"),
    as_json: AsJson = False,
) -> None:
    """Compare each file with its checksum; exit 1 if one differs.

    \b
    Example:
      forecourt models verify
    """
    if name is not None:
        found = [manifest.named(directory, name)]
    else:
        found = [manifest.read(folder) for folder in manifest.folders(directory)]
    states = {each.name: manifest.check(each) for each in found}
    if as_json:
        terminal.write_json({"models": [{"name": n, "check": s} for n, s in states.items()]})
    else:
        for each in found:
            state = states[each.name]
            terminal.write(f"{each.name}: {each.path} {state}", _STYLES[state])
    asked_and_not_pulled = name is not None and "not pulled" in states.values()
    if "mismatch" in states.values() or asked_and_not_pulled:
        raise typer.Exit(FAILED)


@app.command()
def pull(
    name: str,
    directory: Directory = Path("models"),
    source: Annotated[
        Path | None, typer.Option("--from", help="Take this file instead of the network's.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fetch a model's file from where its manifest says, and check it.

    What does not match the manifest's checksum is thrown away.

    \b
    Examples:
      forecourt models pull yolox-nano
      forecourt models pull yolox-nano --from /media/usb/yolox_nano.onnx
    """
    wanted = manifest.named(directory, name)
    if manifest.check(wanted) == "ok":
        terminal.say(f"{wanted.path} is already there and matches its checksum")
    else:
        sha256 = _fetch(wanted, _opened(wanted, source))
        terminal.say(f"{wanted.path} is in place ({wanted.path.stat().st_size} bytes)", "green")
        if not wanted.sha256:
            terminal.say(
                f"NO CHECKSUM IS KNOWN for {name}: nothing proves that this is the right file. "
                f"Its sha256 is {sha256}; compare it with the publisher's and write it to "
                f"{wanted.folder / MANIFEST}",
                "bold yellow",
            )
    if as_json:
        terminal.write_json(_as_json(wanted))


def _opened(wanted: Manifest, source: Path | None) -> AbstractContextManager[Incoming]:
    if source is not None:
        return download.from_file(source)
    if not wanted.url:
        raise CommandError(
            f"the manifest of {wanted.name} has no url (its source: {wanted.source or 'unknown'}); "
            "get the file yourself and give it with --from FILE"
        )
    return download.from_url(wanted.url)


def _fetch(wanted: Manifest, opened: AbstractContextManager[Incoming]) -> str:
    """Put the pieces beside their place, check them, move them in; gives their sha256."""
    cap_bytes = wanted.size_bytes or MAX_MODEL_BYTES
    handle, partial = tempfile.mkstemp(dir=wanted.folder, prefix=".", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            sha256 = _copy(opened, file.write, cap_bytes, wanted.name)
            file.flush()
            os.fsync(file.fileno())
        if wanted.sha256 and sha256 != wanted.sha256:
            raise CommandError(
                f"the file for {wanted.name} is another one than its manifest means: sha256 "
                f"{sha256} instead of {wanted.sha256}; it was thrown away"
            )
        os.chmod(partial, 0o644)  # mkstemp's 0600 would hide it from the worker
        os.replace(partial, wanted.path)
    finally:
        Path(partial).unlink(missing_ok=True)
    return sha256


def _copy(opened: AbstractContextManager[Incoming], write: Any, cap_bytes: int, name: str) -> str:
    hasher, size_bytes = hashlib.sha256(), 0
    columns = ("{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with opened as incoming, Progress(*columns, console=terminal.err(), transient=True) as bar:
        task = bar.add_task(name, total=incoming.size_bytes)
        for piece in incoming.pieces:
            size_bytes += len(piece)
            if size_bytes > cap_bytes:
                raise CommandError(f"the file for {name} is above {cap_bytes} bytes; thrown away")
            hasher.update(piece)
            write(piece)
            bar.advance(task, len(piece))
    return hasher.hexdigest()


def _size(each: Manifest) -> int:
    return each.path.stat().st_size if each.path.is_file() else each.size_bytes


def _as_json(each: Manifest) -> dict[str, Any]:
    return {
        "name": each.name,
        "version": each.version,
        "layout": each.layout,
        "path": str(each.path),
        "size_bytes": _size(each),
        "license": each.license,
        "source": each.source,
        "input": each.input_size,
        "labels": list(each.labels),
        "check": manifest.check(each),
    }
