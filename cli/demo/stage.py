"""The demo's processes and what they were told: from an empty folder to a worker at work.

Belongs here: start order, ports, addresses. Does not belong here: how a process is started and
ended (children), what is shown (command), what is measured (smoke).
"""

import json
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cli import access, apply, events, terminal
from cli.api import Api, UnreachableError
from cli.demo import keep, network, scene, wishes
from cli.demo.children import Children
from cli.demo.folder import Folder
from cli.documents import Document
from cli.errors import CommandError

HOST = "127.0.0.1"
NICE_PORTS = {"console": 8080, "display": 8090, "broker": 1883}


@dataclass(frozen=True, slots=True)
class Ports:
    """Ports that the visitor fixed; None: a nice one if it is free, else any. 0: any."""

    console: int | None = None
    display: int | None = None
    broker: int | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """A demo that runs: where to look, and how many seconds each step took since the start."""

    api: Api
    center_url: str
    display_url: str
    newest_id: int
    """Of the events that were stored before this start."""
    took_s: dict[str, float]


def build(
    folder: Folder,
    children: Children,
    ports: Ports,
    watched: scene.Scene,
    net: network.Network,
    deadline_s: float,
    *,
    reset: bool = False,
) -> Stage:
    """Render, start the center, say what is wanted, start the worker. Raises CommandError.

    Rendering and the center's start go side by side. `deadline_s` is monotonic time. `reset` puts
    the demo's own resources where the operator changed them.
    """
    began_s = time.monotonic()
    took_s: dict[str, float] = {}
    rendering = scene.render(folder, children) if watched.rendered else None
    center_url, broker_url = _start_center(folder, children, ports, deadline_s)
    took_s["center_s"] = time.monotonic() - began_s
    if rendering is not None:
        scene.finish(rendering, children, deadline_s)
        took_s["render_s"] = time.monotonic() - began_s
    api = Api(access.Access(center_url, access.read_token(folder.token)))
    _await_api(api, children, deadline_s)
    now = keep.memory(watched, net)
    wanted = wishes.documents(watched, net)
    _apply(api, keep.due(api, wanted, keep.recall(folder), now, reset=reset))
    keep.remember(folder, now)
    newest_id = events.newest_id(api)
    display_url = _start_worker(folder, children, ports, broker_url, watched, net, deadline_s)
    took_s["worker_s"] = time.monotonic() - began_s
    folder.announce(center_url)
    return Stage(api, center_url, display_url, newest_id, took_s)


def _start_center(
    folder: Folder, children: Children, ports: Ports, deadline_s: float
) -> tuple[str, str]:
    """The center's URL and its broker's."""
    if not folder.center.exists():
        folder.token.unlink(missing_ok=True)  # of a center whose data were deleted
    written = folder.center / "center.json"
    written.unlink(missing_ok=True)  # a killed demo's
    children.start(
        "center",
        [
            *("-m", "center", "serve", "--data", str(folder.center)),
            *("--listen", f"{HOST}:{port_for('console', ports.console)}"),
            *("--embedded-broker", f"{HOST}:{port_for('broker', ports.broker)}"),
            *("--admin-token-file", str(folder.token)),
        ],
    )

    def answered() -> tuple[str, str] | None:
        if not written.is_file():
            return None
        try:
            content = json.loads(written.read_bytes())
            return str(content["url"]).rstrip("/"), str(content["broker_url"])
        except (ValueError, KeyError, TypeError):
            raise CommandError(f"{written} is not what a center writes") from None

    return children.wait_for(answered, deadline_s, "the center to answer")


def _await_api(api: Api, children: Children, deadline_s: float) -> None:
    def reachable() -> bool | None:
        try:
            api.get("/stations")
        except UnreachableError:
            return None
        return True

    children.wait_for(reachable, deadline_s, "the center's API")


def _apply(api: Api, documents: list[Document]) -> None:
    for outcome in apply.applied(api, documents, dry_run=False):
        if outcome.refused:
            raise CommandError(f"{outcome.document}: {'; '.join(outcome.reasons)}")


def _start_worker(
    folder: Folder,
    children: Children,
    ports: Ports,
    broker_url: str,
    watched: scene.Scene,
    net: network.Network,
    deadline_s: float,
) -> str:
    """The display's URL, without a trailing slash."""
    written = folder.edge / "display.url"
    written.unlink(missing_ok=True)
    models = [word for each in net.folders for word in ("--models", str(each))]
    children.start(
        "worker",
        [
            *("-m", "edge", "run", "--worker", wishes.WORKER, "--data", str(folder.edge)),
            *("--broker", broker_url, *models, "--recordings", str(watched.recordings)),
            *("--display", f"{HOST}:{port_for('display', ports.display)}"),
        ],
    )
    return children.wait_for(_text_of(written), deadline_s, "the worker's display")


def _text_of(path: Path) -> Callable[[], str | None]:
    return lambda: (path.read_text().strip().rstrip("/") or None) if path.is_file() else None


def port_for(name: str, fixed: int | None) -> int:
    """The port to ask for. Raises CommandError if a fixed one is taken."""
    if fixed is not None:
        if fixed and not _is_free(fixed):
            raise CommandError(f"port {fixed} for the {name} is in use: give another --{name}-port")
        return fixed
    nice = NICE_PORTS[name]
    if _is_free(nice):
        return nice
    terminal.say(f"port {nice} for the {name} is in use: it gets another one", "dim")
    return 0


def _is_free(port: int) -> bool:
    with socket.socket() as attempt:
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind((HOST, port))
        except OSError:
            return False
        return True
