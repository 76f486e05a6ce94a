"""`forecourt get`: what the center wants and knows, as tables, YAML or JSON.

Belongs here: the nouns that can be asked for and the columns of their tables. Does not belong
here: following events as they come (events) and HTTP (api).
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from cli import access, terminal
from cli.api import Api, RefusedError
from cli.errors import BAD_INPUT, CommandError
from wire import text
from wire.specs import NAME_PATTERN

View = dict[str, Any]
NOUNS = ("stations", "workers", "cameras", "tasks", "events")
MAX_EVENTS = 100_000
_NO_EDGE = 10_000


class Output(StrEnum):
    """How the answer is written."""

    table = "table"
    wide = "wide"
    json = "json"
    yaml = "yaml"


def get(
    kind: Annotated[
        str, typer.Argument(help="stations, workers, cameras, tasks or events (or one: task)")
    ],
    name: Annotated[str | None, typer.Argument(show_default=False)] = None,
    station: Annotated[str | None, typer.Option("--station", help="Of this station only.")] = None,
    output: Annotated[Output, typer.Option("--output", "-o", help="How to write it.")] = (
        Output.table
    ),
    limit: Annotated[
        int, typer.Option("--limit", min=1, max=MAX_EVENTS, help="At most so many rows.")
    ] = 1000,
    url: access.Url = None,
    token_file: access.TokenFile = None,
) -> None:
    """List stations, workers, cameras, tasks or the latest events, or show one by name.

    What -o yaml writes of all but events can be applied again. Passwords are never in it.

    \b
    Examples:
      forecourt get stations
      forecourt get tasks --station s0042
      forecourt get task bay-2 --station s0042 -o yaml
      forecourt get events --limit 20
    """
    noun = noun_of(kind)
    if name is not None and noun == "events":
        raise CommandError("events have no names; give --station, --limit", BAD_INPUT)
    with Api(access.find(url, token_file)) as api:
        found = _found(api, noun, name, station, limit)
    views = found[:limit]
    if output is Output.json:
        terminal.write_json(views[0] if name is not None and len(views) == 1 else {"items": views})
    elif output is Output.yaml:
        terminal.out().print(
            Text("---\n".join(text.write(_applicable(view)) for view in views)),
            soft_wrap=True,
            end="",
        )
    else:
        _print_table(noun, views, wide=output is Output.wide)
    if len(found) > limit:
        terminal.say(f"{len(found) - limit} more; raise --limit to see them", "dim")


def noun_of(kind: str) -> str:
    """The plural of a kind, from `Task`, `task` or `tasks`. Raises CommandError."""
    noun = kind.lower().removesuffix("s") + "s"
    if noun not in NOUNS:
        raise CommandError(f"{kind!r} is none of {', '.join(NOUNS)}", BAD_INPUT)
    return noun


def place_of(noun: str, name: str, station: str | None) -> str:
    """Where something is below /api/v1. Raises CommandError for a bad name or no station."""
    for each in (name, station):
        if each is not None:
            require_name(each)
    if noun in ("stations", "workers"):
        return f"/{noun}/{name}"
    if station is None:
        raise CommandError(f"{name} of which station? Give --station NAME", BAD_INPUT)
    return f"/stations/{station}/{noun}/{name}"


def require_name(name: str) -> None:
    """Raises CommandError for what cannot be a name."""
    if not re.fullmatch(NAME_PATTERN, name):
        raise CommandError(
            f"{name!r} is no name: lower-case letters, digits and '-', at most 63", BAD_INPUT
        )


def _found(api: Api, noun: str, name: str | None, station: str | None, limit: int) -> list[View]:
    if noun == "events":
        asked = {"order": "desc", **({"station": station} if station else {})}
        return list(api.events(asked, limit))
    if name is not None and (station is not None or noun in ("stations", "workers")):
        return [api.get(place_of(noun, name, station))]
    if noun == "stations" and station is not None:
        return [api.get(place_of(noun, station, None))]
    if station is not None:
        require_name(station)
    answer = api.get(f"/{noun}", {"station": station} if station else {})
    _tell_strangers(answer.get("strangers", []))
    views = api.items_of(answer)
    if name is not None:
        views = [view for view in views if view["metadata"]["name"] == name]
        if not views:
            raise RefusedError(404, f"no {noun[:-1]} {name} in any station")
    return views


def _tell_strangers(strangers: Sequence[View]) -> None:
    """Names that nobody registered: a typing error, or a device that is to be added."""
    for each in strangers:
        heard = terminal.ago(each["last_heard_ms"], terminal.now_ms())
        terminal.say(f"worker {each['name']} speaks ({heard}), but is not registered", "yellow")


def _applicable(view: View) -> View:
    """A resource without its status; an event is a fact, and is shown whole."""
    if "metadata" not in view:
        return view
    return {key: view[key] for key in ("kind", "metadata", "spec") if key in view}


# --- tables ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its head, and the text of a cell from a view and the present ms."""

    head: str
    cell: Callable[[View, int], object]
    wide: bool = False
    """Only with -o wide."""
    right: bool = False
    whole: bool = False
    """Never folded."""


def _name(view: View, _: int) -> object:
    return view["metadata"]["name"]


def _in_station(view: View, _: int) -> object:
    return view["metadata"]["station"]


def _spec(key: str) -> Callable[[View, int], object]:
    return lambda view, _: view["spec"].get(key, "")


def _status(key: str) -> Callable[[View, int], object]:
    return lambda view, _: _or_dash(view["status"].get(key))


def _field(key: str) -> Callable[[View, int], object]:
    return lambda event, _: event.get(key) or ""


def _or_dash(value: object) -> object:
    return "-" if value is None or value == "" else value


def _heard(view: View, at_ms: int) -> object:
    return terminal.ago(view["status"].get("last_heard_ms"), at_ms)


def _revisions(view: View, _: int) -> object:
    """`12`, or `12 (has 11)` while the worker has not followed."""
    desired = view["status"].get("desired_revision")
    observed = view["status"].get("observed_revision")
    if desired is None:
        return "-"
    return desired if desired == observed else f"{desired} (has {_or_dash(observed)})"


def _waiting(view: View, _: int) -> object:
    pending = view["status"].get("pending") or {}
    return sum(pending.values())


def _streams(view: View, _: int) -> object:
    return ", ".join(view["spec"]["streams"])


def _stream_urls(view: View, _: int) -> object:
    return "\n".join(stream["url"] for stream in view["spec"]["streams"].values())


def _stream_health(view: View, _: int) -> object:
    streams = view["status"].get("streams") or []
    running = sum(stream.get("state") == "running" for stream in streams)
    return f"{running} of {len(streams)}"


TABLES: dict[str, tuple[Column, ...]] = {
    "stations": (
        Column("STATION", _name),
        Column("TITLE", _spec("title"), wide=True),
        Column("STATE", _status("state")),
        Column("HEARD", _heard),
        Column("ALARMS", _status("open_alarms"), right=True),
        Column("WORKERS", _status("workers"), right=True),
        Column("CAMERAS", _status("cameras"), right=True),
        Column("TASKS", _status("tasks"), right=True),
        Column("TIME ZONE", lambda view, _: view["spec"].get("time_zone", "UTC"), wide=True),
    ),
    "workers": (
        Column("WORKER", _name),
        Column("STATION", _in_station),
        Column("STATE", _status("state")),
        Column("HEARD", _heard),
        Column("REVISION", _revisions),
        Column("WAITING", _waiting, right=True),
        Column("DENIED", _status("denied")),
        Column("STREAMS", _stream_health, wide=True),
        Column("SHED", _status("shed"), wide=True, right=True),
        Column("SOFTWARE", _status("software"), wide=True),
        Column("FENCE", _status("fence"), wide=True, right=True),
        Column("BOOT", _status("boot"), wide=True),
    ),
    "cameras": (
        Column("CAMERA", _name),
        Column("STATION", _in_station),
        Column("STREAMS", _streams),
        Column("TITLE", _spec("title")),
        Column("URL", _stream_urls, wide=True),
    ),
    "tasks": (
        Column("TASK", _name),
        Column("STATION", _in_station),
        Column("CAMERA", _spec("camera")),
        Column("STATE", _status("state")),
        Column("REVISION", _revisions),
        Column("REASON", lambda view, _: view["status"].get("reason", "")),
        Column("WORKER", _status("worker"), wide=True),
        Column("MODEL", lambda view, _: view["spec"]["model"]["name"], wide=True),
        Column("FPS", lambda view, _: view["spec"].get("fps", 5.0), wide=True, right=True),
        Column("RULES", lambda view, _: len(view["spec"]["rules"]), wide=True, right=True),
    ),
    "events": (
        Column("TIME", lambda event, _: terminal.local_time(event["t_ms"], year=False), whole=True),
        Column("SEVERITY", _field("severity"), whole=True),
        Column("STATION", _field("station")),
        Column("CAMERA", _field("camera")),
        Column("RULE", lambda event, _: event.get("rule") or event.get("kind", "")),
        Column("PHASE", _field("phase"), whole=True),
        Column("WHAT", lambda event, _: terminal.what(event)),
        Column("ID", _field("id"), wide=True, right=True),
        Column("WORKER", _field("worker"), wide=True),
        Column("TASK", _field("task"), wide=True),
        Column("INCIDENT", _field("incident"), wide=True),
        Column("LATE", lambda event, _: "late" if event.get("backfill") else "", wide=True),
    ),
}


def _print_table(noun: str, views: Sequence[View], *, wide: bool) -> None:
    if not views:
        terminal.say(f"no {noun}", "dim")
        return
    columns = [column for column in TABLES[noun] if wide or not column.wide]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(
            column.head,
            justify="right" if column.right else "left",
            overflow="fold",
            no_wrap=wide or column.whole,
        )
    at_ms = terminal.now_ms()
    for view in views:
        table.add_row(*(_styled(terminal.plain(column.cell(view, at_ms))) for column in columns))
    console = terminal.out()
    if wide and not console.is_terminal:
        console.width = _NO_EDGE  # a pipe has none to fold at
    console.print(table)


def _styled(text: str) -> Text:
    return Text(text, style={**terminal.STATE_STYLE, **terminal.SEVERITY_STYLE}.get(text, ""))
