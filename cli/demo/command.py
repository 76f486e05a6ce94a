"""`forecourt demo`: a station, its center and what they see, in one command.

Belongs here: options, what the visitor is shown, and a clean end. Does not belong here: start
order (stage), processes (children), measuring (smoke).
"""

import os
import shutil
import signal
import sys
import time
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from cli import terminal
from cli.api import PAGE, Api, UnreachableError
from cli.apply import AsJson
from cli.demo import folder, network, scene, smoke, wishes
from cli.demo.children import Children
from cli.demo.folder import Folder
from cli.demo.stage import Ports, Stage, build
from cli.errors import CommandError

START_WITHIN_S = 600.0
"""Rendering on a slow machine is most of it."""
TASKS_EVERY_S = 5.0
EVENTS_EVERY_S = 0.3

Port = Annotated[int | None, typer.Option(min=0, max=65535, show_default="a nice one if free")]


def demo(
    video: Annotated[
        str | None,
        typer.Option(
            "--video",
            envvar="FORECOURT_DEMO_VIDEO",
            help="Your own file, rtsp:// or http(s):// URL.",
            metavar="VIDEO",
        ),
    ] = None,
    model: Annotated[
        Path | None, typer.Option("--model", help="Your own network, an .onnx file.")
    ] = None,
    data: Annotated[Path, typer.Option("--data", help="Folder for all that it keeps.")] = (
        Path(".demo")
    ),
    reset: Annotated[
        bool,
        typer.Option(
            "--reset", help="Put back the demo's own camera and task if you changed them."
        ),
    ] = False,
    smoke_test: Annotated[
        bool,
        typer.Option("--smoke", help="Measure until an event is on both pages, then end."),
    ] = False,
    timeout: Annotated[
        float, typer.Option("--timeout", min=1, help="Seconds that --smoke may take.")
    ] = 120.0,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Open no browser.")] = False,
    console_port: Port = None,
    display_port: Port = None,
    broker_port: Port = None,
    as_json: AsJson = False,
) -> None:
    """Run a whole station and its center on this machine, and show what happens.

    Without --video it draws its own forecourt. Ctrl-C ends everything.
    A URL with a password belongs in FORECOURT_DEMO_VIDEO: command lines are seen by others.
    Started again in the same folder, it goes on where it was, with what you changed; another
    --video or --model, and --reset, put the demo's own camera and task there.

    \b
    Examples:
      forecourt demo
      forecourt demo --video yard.mp4 --model yolox_nano.onnx
      forecourt demo --smoke --json
    """
    ports = Ports(console_port, display_port, broker_port)
    if smoke_test:
        ports = Ports(*(port or 0 for port in (console_port, display_port, broker_port)))
    with _signals_interrupt(), folder.held(data) as held:
        began_s, began_ms = time.monotonic(), terminal.now_ms()
        deadline_s = began_s + (timeout if smoke_test else START_WITHIN_S)
        watched, net = scene.find(video, held), network.find(model, held)
        try:
            with Children(held.logs, held.lock) as children:
                stage = build(held, children, ports, watched, net, deadline_s, reset=reset)
                with stage.api:
                    if smoke_test:
                        measured = smoke.measure(stage, children, began_s, began_ms, deadline_s)
                        terminal.write_json(measured)
                        return
                    _welcome(stage, held, as_json=as_json)
                    if not no_browser:
                        _open_display(stage)
                    _watch(stage, children)
        except KeyboardInterrupt:
            terminal.say("the demo has ended; start it again to go on", "dim")
            if smoke_test:
                raise CommandError("the smoke test was interrupted") from None


@contextmanager
def _signals_interrupt() -> Iterator[None]:
    """SIGTERM and a closed terminal end the demo as Ctrl-C does, also in the background."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _welcome(stage: Stage, held: Folder, *, as_json: bool) -> None:
    login_url = f"{stage.center_url}/login?code={stage.api.login_code()}"
    if as_json:
        addresses = {"display": stage.display_url, "console": stage.center_url, "login": login_url}
        terminal.write_json({**addresses, "data": str(held.root), **_rounded(stage.took_s)})
    text = Text()
    elsewhere = [
        ("set", f"export FORECOURT_URL={stage.center_url}", "for the commands below"),
        ("", f"export FORECOURT_TOKEN_FILE={_near(held.token)}", ""),
    ]
    command = started_as(sys.argv[0], Path.cwd())
    rows = [
        ("display", f"{stage.display_url}/", "at the station"),
        ("console", f"{stage.center_url}/", f"the token is in {_near(held.token)}"),
        ("logs", _near(held.logs), ""),
        *([] if held.root == Path(".demo").resolve() else elsewhere),
        ("try", f"{command} get tasks", "in another terminal"),
        ("", f"{command} events --follow", ""),
    ]
    for head, value, remark in rows:
        text.append(f"{head:<9}", style="dim").append(value, style="bold")
        text.append(f"  {remark}\n" if remark else "\n", style="dim")
    text.append("log in at the console, once, in the next 5 min:\n", style="dim")
    text.append(f"{login_url}\n", style="bold")  # alone, so that it can be taken up as a line
    text.append("Ctrl-C ends it.", style="dim")
    console = terminal.err() if as_json else terminal.out()
    console.rule("Forecourt", style="cyan")  # without sides: an address must not be broken
    console.print(text, soft_wrap=True)
    console.rule(style="cyan")


def _watch(stage: Stage, children: Children) -> None:
    """Show events as they come and tasks that fare badly, until a process dies or Ctrl-C."""
    last_id, next_look_s = stage.newest_id, time.monotonic()
    told: dict[str, str] = {}
    while True:
        children.require_alive()
        children.trim_logs()
        try:
            for event in stage.api.events({"after": last_id, "order": "asc"}, PAGE):
                terminal.err().print(terminal.event_line(event), soft_wrap=True)
                last_id = event["id"]
            if time.monotonic() >= next_look_s:
                next_look_s = time.monotonic() + TASKS_EVERY_S
                _tell_trouble(stage.api, told)
        except UnreachableError as error:
            children.require_alive()  # which has more to say
            terminal.say(str(error), "dim")
        time.sleep(EVENTS_EVERY_S)


def _tell_trouble(api: Api, told: dict[str, str]) -> None:
    """Say once of each task that it is rejected or degraded, and why."""
    for task in api.items("/tasks", {"station": wishes.STATION}):
        name, status = task["metadata"]["name"], task["status"]
        now = f"task {name} is {status.get('state')}: {status.get('reason') or 'no reason given'}"
        if status.get("state") in ("Rejected", "Degraded") and told.get(name) != now:
            terminal.say(now, "yellow")
        told[name] = now


def _open_display(stage: Stage) -> None:
    """The display only: the console's one-time code must not be on a browser's command line."""
    graphical = sys.platform == "darwin" or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    if graphical and sys.stdout.isatty():
        webbrowser.open(f"{stage.display_url}/")


def started_as(program: str, here: Path) -> str:
    """How to start this command again: its name if the shell finds it, else the shorter path."""
    name = Path(program).name
    if name == "__main__.py":
        return f"{Path(sys.executable).name} -m cli"
    on_path = shutil.which(name)
    if on_path is not None and Path(on_path).absolute() == (here / program):
        return name
    near = os.path.relpath(here / program, here)
    return min(program, near, key=len)


def _near(path: Path) -> str:
    """A path as seen from here, if it is below."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _rounded(took_s: dict[str, float]) -> dict[str, Any]:
    return {key: round(value, 2) for key, value in took_s.items()}
