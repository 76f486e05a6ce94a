"""`forecourt events`: what happened, and what happens while one looks.

Belongs here: filters, following with resumption (the one place of the command that tries again).
Does not belong here: reading the stream's bytes (api) and the look of a line (terminal).
"""

import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from enum import StrEnum
from typing import Annotated, Any

import typer

from cli import access, terminal
from cli.api import Api, UnreachableError
from cli.errors import BAD_INPUT, CommandError
from cli.get import MAX_EVENTS
from wire.specs import duration_s

FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 15.0


class Output(StrEnum):
    """How events are written."""

    table = "table"
    json = "json"


class Severity(StrEnum):
    """How serious an event is."""

    info = "info"
    warning = "warning"
    critical = "critical"


def events(
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")
    ] = False,
    station: Annotated[str | None, typer.Option("--station", help="Of this station only.")] = None,
    severity: Annotated[Severity | None, typer.Option("--severity", help="Only these.")] = None,
    since: Annotated[
        str | None, typer.Option("--since", help="Begin so long ago: 15m, 2h, 7d.")
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", min=1, max=MAX_EVENTS, help="At most so many of the past.")
    ] = 100,
    output: Annotated[
        Output, typer.Option("--output", "-o", help="table, or json: one object a line.")
    ] = Output.table,
    url: access.Url = None,
    token_file: access.TokenFile = None,
) -> None:
    """Show the latest events, oldest first, and with --follow each new one as it comes.

    A broken connection is resumed where it broke, so nothing is lost.

    \b
    Examples:
      forecourt events --since 2h --severity critical
      forecourt events --follow --station s0042
      forecourt events --follow -o json | jq .rule
    """
    asked: dict[str, str | int] = {"station": station} if station else {}
    wanted = {"severity": str(severity)} if severity else {}
    with Api(access.find(url, token_file)) as api:
        newest = newest_id(api) if follow else None
        if since is not None or not follow:
            past = _past(api, {**asked, **wanted, **_began(since)}, limit)
            for event in past:
                _show(event, output)
            newest = max([newest or 0, *(event["id"] for event in past)])
            if not past and not follow:
                terminal.say("no events", "dim")
        if follow:
            with suppress(KeyboardInterrupt):  # the way in which one stops to look
                for event in following(api, newest, asked):
                    if severity is None or event.get("severity") == severity:
                        _show(event, output)


def following(
    api: Api,
    after: int | None,
    asked: Mapping[str, str | int],
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[dict[str, Any]]:
    """Every event stored after one id, for ever; says on standard error when it must resume.

    Raises RefusedError: a center that says no is not asked again.
    """
    wait_s, lost = FIRST_WAIT_S, False
    while True:
        try:
            for event in api.stream(after, asked):
                if lost:
                    terminal.say("connected again", "dim")
                wait_s, lost = FIRST_WAIT_S, False
                after = event["id"]
                yield event
            reason = "the center closed the stream"
        except UnreachableError as error:
            reason = str(error)
        lost = True
        pause_s = wait_s * random.uniform(0.5, 1.0)
        terminal.say(f"{reason}; resuming in {pause_s:.1f} s", "dim")
        sleep(pause_s)
        wait_s = min(LONGEST_WAIT_S, wait_s * 2)


def newest_id(api: Api) -> int:
    """The id to follow from. Without one, what is stored while a connection is broken is lost."""
    newest = next(api.events({"order": "desc"}, 1), None)
    return int(newest["id"]) if newest else 0


def _past(api: Api, asked: Mapping[str, str | int], limit: int) -> list[dict[str, Any]]:
    """The latest `limit` events that fit, oldest first."""
    found = list(api.events({**asked, "order": "desc"}, limit))
    if len(found) == limit:
        terminal.say(f"the latest {limit}; raise --limit for older ones", "dim")
    return found[::-1]


def _began(since: str | None) -> dict[str, int]:
    if since is None:
        return {}
    try:
        age_s = duration_s(since)
    except ValueError as error:
        raise CommandError(f"--since: {error}", BAD_INPUT) from None
    if not isinstance(age_s, float):
        raise CommandError(f"--since: {since!r} is no duration", BAD_INPUT)
    return {"since_ms": terminal.now_ms() - round(age_s * 1000)}


def _show(event: dict[str, Any], output: Output) -> None:
    if output is Output.json:
        terminal.write_json(event)
    else:
        terminal.out().print(terminal.event_line(event), soft_wrap=True)
