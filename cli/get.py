"""`forecourt get`: what the center wants and knows, as tables, YAML or JSON.

Belongs here: the nouns that can be asked for, and how they are found. Does not belong here: the
columns of tables (tables), following events as they come (events) and HTTP (api).
"""

import re
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

import typer
from rich.text import Text

from cli import access, tables, terminal
from cli.api import Api, RefusedError
from cli.errors import BAD_INPUT, CommandError
from cli.tables import View
from wire import text
from wire.specs import NAME_PATTERN

NOUNS = (
    "stations", "workers", "cameras", "tasks", "models", "events", "webhooks", "notifications",
)  # fmt: skip
ANYWHERE = ("stations", "workers", "models", "webhooks")
"""They belong to no station; their names are unique."""
FACTS = ("events", "notifications")
"""They have no names, and cannot be changed."""
MAX_EVENTS = 100_000


class Output(StrEnum):
    """How the answer is written."""

    table = "table"
    wide = "wide"
    json = "json"
    yaml = "yaml"


def get(
    kind: Annotated[
        str,
        typer.Argument(
            help="stations, workers, cameras, tasks, models, events, webhooks, notifications "
            "(or one: task)"
        ),
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
    """List stations, workers, cameras, tasks, models, webhooks, the latest events or notifications.

    Or show one by name. What -o yaml writes of the first four can be applied again. Passwords and
    secrets are never in it.

    \b
    Examples:
      forecourt get stations
      forecourt get tasks --station s0042
      forecourt get task bay-2 --station s0042 -o yaml
      forecourt get events --limit 20
      forecourt get notifications --station s0042
    """
    noun = noun_of(kind)
    if name is not None and noun in FACTS:
        raise CommandError(f"{noun} have no names; give --station, --limit", BAD_INPUT)
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
        tables.print_table(noun, views, wide=output is Output.wide)
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
    if noun in ANYWHERE:
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
    if noun in FACTS:
        asked = {"station": station} if station else {}
        if noun == "events":
            facts = list(api.events({"order": "desc", **asked}, limit))
        else:
            facts = list(api.notifications(asked, limit))
        _require_station(api, station, facts)
        return facts
    if name is not None and (station is not None or noun in ANYWHERE):
        return [api.get(place_of(noun, name, station))]
    if noun == "stations" and station is not None:
        return [api.get(place_of(noun, station, None))]
    if station is not None:
        require_name(station)
    answer = api.get(f"/{noun}", {"station": station} if station else {})
    _tell_strangers(answer.get("strangers", []))
    views = api.items_of(answer)
    _require_station(api, station, views)
    if name is not None:
        views = [view for view in views if view["metadata"]["name"] == name]
        if not views:
            raise RefusedError(404, f"no {noun[:-1]} {name} in any station")
    return views


def _require_station(api: Api, station: str | None, views: Sequence[View]) -> None:
    """Raises RefusedError if nothing was found because there is no such station."""
    if station is not None and not views:
        api.get(place_of("stations", station, None))


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
