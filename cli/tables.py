"""Tables on the operator's terminal: the columns of each noun, and how they get into 80 characters.

Belongs here: heads, cells, widths. Does not belong here: what is asked of the center (get, api).
"""

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from cli import terminal

View = dict[str, Any]
_NO_EDGE = 10_000
_GAP = 2
_LEAST_WRAPPED = 11
"""Characters that a column of sentences needs, for most words to stay whole."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its head, and the text of a cell from a view and the present ms."""

    head: str
    cell: Callable[[View, int], object]
    wide: bool = False
    """Only with -o wide."""
    right: bool = False
    wraps: bool = False
    """Sentences; names and states are broken only where there is no room for them."""
    varied: bool = False
    """Left out where it says the same in all rows, except with -o wide."""


Shown = tuple[Column, list[str]]
"""A column and the text of its cells."""


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


def _why(view: View, _: int) -> object:
    """What is not as it should be, all of it."""
    status = view["status"]
    cause, denied, trouble = (status.get(key, "") for key in ("cause", "denied", "trouble"))
    refused = f"denied: {denied}" if denied else ""
    return _or_dash("; ".join(filter(None, (cause if cause != "denied" else "", refused, trouble))))


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


def _told(note: View, _: int) -> object:
    """Each webhook, and why it has not taken it yet."""
    ways = (
        f"{way['webhook']}: {way['error']} ({way['attempts']}×)"
        if way["error"]
        else f"{way['webhook']}: {way['state']}"
        for way in note["deliveries"]
    )
    return "\n".join(ways)


def _at_workers(model: View, _: int) -> object:
    """`3 Running, 1 Rejected`"""
    return ", ".join(f"{count} {state}" for state, count in sorted(model["workers"].items())) or "-"


def _troubles(model: View, _: int) -> object:
    return "\n".join(f"{one['worker']}: {one['reason']}" for one in model["troubles"]) or "-"


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
        Column("REVISION", _revisions, wraps=True),
        Column("WAITING", _waiting, right=True),
        Column("WHY", _why, wraps=True),
        Column("STREAMS", _stream_health, wide=True),
        Column("SHED", _status("shed"), wide=True, right=True),
        Column("SOFTWARE", _status("software"), wide=True),
        Column("FENCE", _status("fence"), wide=True, right=True),
        Column("BOOT", _status("boot"), wide=True),
    ),
    "cameras": (
        Column("CAMERA", _name),
        Column("STATION", _in_station),
        Column("STREAMS", _streams, wraps=True),
        Column("TITLE", _spec("title"), wraps=True),
        Column("URL", _stream_urls, wide=True),
    ),
    "tasks": (
        Column("TASK", _name),
        Column("STATION", _in_station),
        Column("CAMERA", _spec("camera")),
        Column("STATE", _status("state")),
        Column("REVISION", _revisions, wraps=True),
        Column("REASON", lambda view, _: view["status"].get("reason", ""), wraps=True),
        Column("WORKER", _status("worker"), wide=True),
        Column("MODEL", lambda view, _: view["spec"]["model"]["name"], wide=True),
        Column("FPS", lambda view, _: view["spec"].get("fps", 5.0), wide=True, right=True),
        Column("RULES", lambda view, _: len(view["spec"]["rules"]), wide=True, right=True),
    ),
    "models": (
        Column("MODEL", _field("name")),
        Column("VERSION", lambda model, _: _or_dash(model["version"])),
        Column("SIZE", lambda model, _: f"{model['size_bytes'] / 1e6:.1f} MB", right=True),
        Column("SHA256", lambda model, _: model["sha256"][:12]),
        Column("TASKS", lambda model, _: model["tasks"], right=True),
        Column("AT WORKERS", _at_workers, wraps=True),
        Column("WHY", _troubles, wraps=True),
        Column("LAYOUT", _field("layout"), wide=True),
        Column("LICENCE", _field("license"), wide=True),
        Column("REVISION", lambda model, _: model["revision"], wide=True, right=True),
        Column("USED BY", lambda model, _: ", ".join(model["used_by"]), wide=True),
    ),
    "events": (
        Column("TIME", lambda event, _: terminal.local_time(event["t_ms"], year=False)),
        Column("SEVERITY", _field("severity")),
        Column("STATION", _field("station"), varied=True),
        Column("CAMERA", _field("camera")),
        Column("RULE", lambda event, _: event.get("rule") or event.get("kind", "")),
        Column("PHASE", _field("phase")),
        Column("WHAT", lambda event, _: terminal.what(event), wraps=True),
        Column("ID", _field("id"), wide=True, right=True),
        Column("WORKER", _field("worker"), wide=True),
        Column("TASK", _field("task"), wide=True),
        Column("INCIDENT", _field("incident"), wide=True),
        Column("LATE", lambda event, _: "late" if event.get("backfill") else "", wide=True),
    ),
    "webhooks": (
        Column("WEBHOOK", _field("name")),
        Column("SEVERITY", _field("min_severity")),
        Column("STATION", lambda hook, _: _or_dash(hook["station"])),
        Column("URL", _field("url")),
    ),
    "notifications": (
        Column("TIME", lambda note, _: terminal.local_time(note["at_ms"], year=False)),
        Column("SEVERITY", _field("severity")),
        Column("STATION", _field("station"), varied=True),
        Column("STATE", _field("state")),
        Column("TOLD", _told, wraps=True),
        Column("ID", _field("id"), wide=True, right=True),
        Column("WORKER", _field("worker"), wide=True),
        Column("INCIDENT", _field("incident"), wide=True),
        Column("DELIVERY", _field("delivery"), wide=True),
    ),
}


def print_table(noun: str, views: Sequence[View], *, wide: bool) -> None:
    """Write the views on standard output, as wide as the terminal is; with `wide` on one line each.

    What leaves no room is broken: sentences first, then the longest names, at their hyphens.
    """
    if not views:
        terminal.say(f"no {noun}", "dim")
        return
    at_ms = terminal.now_ms()
    console = terminal.out()
    if wide and not console.is_terminal:
        console.width = _NO_EDGE  # a pipe has none to fold at
    shown: list[Shown] = []
    for column in (each for each in TABLES[noun] if wide or not each.wide):
        cells = [terminal.plain(column.cell(view, at_ms)) for view in views]
        if wide or not column.varied or len(set(cells)) > 1:
            shown.append((column, cells))
    if not wide:
        shown = _narrowed(shown, console.width)
    roomy = _least_width(shown) <= console.width
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0))
    for column, _ in shown:
        table.add_column(
            column.head,
            justify="right" if column.right else "left",
            overflow="fold",
            no_wrap=wide or (roomy and not column.wraps),
        )
    for row in zip(*(cells for _, cells in shown), strict=True):
        table.add_row(*map(_styled, row))
    console.print(table)


def _narrowed(shown: list[Shown], width: int) -> list[Shown]:
    """The columns with their longest names broken at hyphens, as far as the width asks for it."""
    shown = list(shown)
    by_width = sorted(range(len(shown)), key=lambda i: _cells_width(*shown[i]), reverse=True)
    for index in by_width:
        excess = _least_width(shown) - width
        column, cells = shown[index]
        if excess > 0 and not column.wraps:
            room = max(_LEAST_WRAPPED, _cells_width(column, cells) - excess)
            shown[index] = (column, ["\n".join(textwrap.wrap(cell, room)) for cell in cells])
    return shown


def _least_width(shown: Sequence[Shown]) -> int:
    """Characters that a table needs for its names to stay as they are."""
    widths = (
        min(_LEAST_WRAPPED, _cells_width(column, cells))
        if column.wraps
        else _cells_width(column, cells)
        for column, cells in shown
    )
    return sum(widths) + _GAP * (len(shown) - 1)


def _cells_width(column: Column, cells: Sequence[str]) -> int:
    lines = (line for cell in cells for line in cell.splitlines())
    return max(map(cell_len, [column.head, *lines]))


def _styled(text: str) -> Text:
    return Text(text, style={**terminal.STATE_STYLE, **terminal.SEVERITY_STYLE}.get(text, ""))
