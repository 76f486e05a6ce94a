"""What the demo looks at: its own rendered forecourt, or the visitor's video.

Belongs here: the stream, its zones and lines, and making the clip. Does not belong here: drawing
(models/scenes.py), rules and resources (wishes).
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from rich.progress import BarColumn, Progress, TextColumn

from cli import terminal
from cli.demo.children import Child, Children
from cli.demo.folder import Folder
from cli.errors import BAD_INPUT, CommandError

CHECKOUT = Path(__file__).resolve().parents[2]
SCENES = CHECKOUT / "models" / "scenes.py"
_LAYOUT_WITHIN_S = 60.0
_PROGRESS = re.compile(rb"(\d+)/(\d+) frames")


@dataclass(frozen=True, slots=True)
class Scene:
    """A stream as a camera's spec has it, and where in its picture things happen."""

    stream: Mapping[str, Any] = field(repr=False)  # its URL may hold a password
    recordings: Path
    rendered: bool
    zones: Mapping[str, Any] = field(default_factory=dict)
    lines: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rendering:
    """A clip that is being written by a process."""

    child: Child
    partial: Path
    clip: Path


def find(video: str | None, folder: Folder) -> Scene:
    """The scene, before its clip is rendered. Raises CommandError for a video that is not there."""
    if video is None:
        return _rendered(folder)
    parts = urlsplit(video)
    if parts.scheme in ("rtsp", "rtsps", "http", "https"):
        return Scene({"url": video}, folder.recordings, rendered=False)
    if "://" in video and parts.scheme != "file":
        raise CommandError(
            f"--video: {parts.scheme}:// is not known; give a file, rtsp:// or http(s)://",
            BAD_INPUT,
        )
    path = Path(unquote(parts.path) if parts.scheme == "file" else video).expanduser().resolve()
    if not path.is_file():
        raise CommandError(f"--video: there is no file {path}", BAD_INPUT)
    return Scene(_looped(path), path.parent, rendered=False)


def render(folder: Folder, children: Children) -> Rendering | None:
    """Begin to write the demo's clip; None if it is there and no older than what draws it."""
    clip = _clip(folder)
    if clip.is_file() and clip.stat().st_mtime >= SCENES.stat().st_mtime:
        return None
    partial = clip.with_suffix(".part.mp4")
    arguments = [str(SCENES), "clip", "--scenario", "demo", "--out", str(partial)]
    return Rendering(children.start("render", arguments, service=False), partial, clip)


def finish(rendering: Rendering, children: Children, deadline_s: float) -> None:
    """Wait until the clip is written, showing how far it is. Raises CommandError."""
    columns = (
        TextColumn("rendering the demo's scene"),
        BarColumn(),
        TextColumn("{task.percentage:.0f} %"),
    )
    with Progress(*columns, console=terminal.err(), transient=True) as bar:
        task = bar.add_task("render", total=1.0)
        children.wait_for(
            _written(rendering, lambda share: bar.update(task, completed=share)),
            deadline_s,
            "the demo's clip",
        )
    os.replace(rendering.partial, rendering.clip)


def _written(rendering: Rendering, progress: Callable[[float], None]) -> Callable[[], bool | None]:
    def check() -> bool | None:
        found = _PROGRESS.findall(rendering.child.tail(1).encode())
        if found:
            progress(int(found[-1][0]) / max(1, int(found[-1][1])))
        return True if rendering.child.process.poll() == 0 else None

    return check


def _rendered(folder: Folder) -> Scene:
    if not SCENES.is_file():
        raise CommandError(
            "the demo's own scene is drawn by models/scenes.py of the source checkout, which is "
            "not here; give --video FILE",
            BAD_INPUT,
        )
    layout = _layout()
    return Scene(
        _looped(_clip(folder)), folder.recordings, rendered=True,
        zones=layout["zones"], lines=layout["lines"],
    )  # fmt: skip


def _layout() -> dict[str, Any]:
    try:
        answer = subprocess.run(
            [sys.executable, str(SCENES), "layout", "--scenario", "demo", "--json"],
            capture_output=True, timeout=_LAYOUT_WITHIN_S, check=True,
        )  # fmt: skip
        layout: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip().splitlines()[-5:]
        raise CommandError("\n".join(["models/scenes.py layout failed:", *said])) from None
    except (subprocess.TimeoutExpired, ValueError, IndexError):
        raise CommandError("models/scenes.py layout gave no layout") from None
    return layout


def _clip(folder: Folder) -> Path:
    return folder.recordings / "forecourt.mp4"


def _looped(path: Path) -> dict[str, Any]:
    return {"url": path.as_uri(), "pace": "live", "loop": True}
