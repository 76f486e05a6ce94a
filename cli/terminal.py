"""How things look on the operator's terminal: times, ages, severities, safe text, JSON lines.

Belongs here: words and colours that several commands share. Does not belong here: tables (get) and
what is asked of the center (api).
"""

import json
import sys
import time
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.text import Text

SEVERITY_STYLE = {"critical": "bold red", "warning": "yellow", "info": "cyan"}
STATE_STYLE = {
    "Online": "green",
    "Running": "green",
    "Autonomous": "yellow",
    "Starting": "yellow",
    "Degraded": "yellow",
    "Lost": "red",
    "Rejected": "red",
}

_AGES = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def out() -> Console:
    """Standard output: what was asked for."""
    return Console(highlight=False, markup=False)


def err() -> Console:
    """Standard error: everything that is said besides."""
    return Console(stderr=True, highlight=False, markup=False)


def say(sentence: str, style: str = "") -> None:
    """One line on standard error, never wrapped and never read as markup."""
    err().print(Text(plain(sentence), style=style), soft_wrap=True)


def write(line: str, style: str = "") -> None:
    """One line on standard output, as it is."""
    out().print(Text(plain(line), style=style), soft_wrap=True)


def write_json(value: object) -> None:
    """One JSON value on one line of standard output."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def now_ms() -> int:
    """Wall time, UTC milliseconds."""
    return time.time_ns() // 1_000_000


def plain(text: object) -> str:
    """Text from elsewhere without control characters: it must not steer the terminal."""
    return "".join(
        c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in str(text)
    )


def ago(t_ms: int | None, at_ms: int) -> str:
    """`12 s ago`, `3 min ago`, `never`; a time to come is `just now`: clocks differ a little."""
    if t_ms is None:
        return "never"
    seconds = max(0, at_ms - t_ms) // 1000
    for length_s, unit in _AGES:
        if seconds >= length_s:
            return f"{seconds // length_s} {unit} ago"
    return "just now"


def local_time(t_ms: int, *, year: bool = True) -> str:
    """`2026-05-14 13:02:11` in the operator's own time zone, or without the year."""
    moment = datetime.fromtimestamp(t_ms / 1000, tz=UTC).astimezone()
    return moment.strftime("%Y-%m-%d %H:%M:%S" if year else "%m-%d %H:%M:%S")


def what(event: dict[str, Any]) -> str:
    """What an event says, in a few words: `car crosses exit left-to-right`, `5 × car in queue`."""
    if event.get("message"):
        return plain(event["message"])
    label, count = event.get("label"), event.get("count")
    if count is not None:
        parts = [f"{count} × {label}" if label else f"{count} counted"]
    else:
        parts = [label or event.get("kind", "")]
    if event.get("plate"):
        parts.append(event["plate"])
    if event.get("line"):
        parts.append(f"crosses {event['line']}")
    if event.get("zone"):
        parts.append(f"in {event['zone']}")
    if event.get("direction"):
        parts.append(str(event["direction"]))
    words = " ".join(map(str, parts))
    return plain(f"{words}, {event['reason']}" if event.get("reason") else words)


def event_line(event: dict[str, Any]) -> Text:
    """Time, severity, station, camera, rule, phase and what: one coloured line."""
    severity = str(event.get("severity", ""))
    line = Text(f"{local_time(event['t_ms'])}  ")
    line.append(f"{plain(severity):<8}", style=SEVERITY_STYLE.get(severity, ""))
    station, camera = event.get("station", ""), event.get("camera", "")
    rule, phase = event.get("rule") or event.get("kind", ""), event.get("phase") or "moment"
    line.append(plain(f"  {station}/{camera}  {rule}  {phase}  "))
    line.append(what(event), style="dim" if phase == "end" else "bold")
    return line
