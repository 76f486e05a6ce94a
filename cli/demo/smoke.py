"""How long it takes until an event is where people look, measured without people.

Belongs here: what is polled, and the story of a demo that showed nothing. Does not belong here:
starting and ending it (stage, children).
"""

import itertools
import re
import time
from typing import Any

import httpx

from cli.api import Document
from cli.demo import wishes
from cli.demo.children import Children
from cli.demo.stage import Stage
from cli.errors import CommandError

LOOKS_PER_TASK_CHECK = 20
"""About once a second."""


def measure(
    stage: Stage, children: Children, began_s: float, began_ms: int, deadline_s: float
) -> Document:
    """Seconds from the start until the first new event was on the display and on the console.

    `began_s` and `deadline_s` are monotonic, `began_ms` is the wall time of the same start. Raises
    CommandError telling what each part was doing when the deadline passed.
    """
    with httpx.Client(timeout=5.0, trust_env=False, follow_redirects=True) as browser:
        reached: dict[str, float] = {}
        try:
            looks = itertools.count()

            def first_shown() -> Document | None:
                if next(looks) % LOOKS_PER_TASK_CHECK == 0:
                    _require_accepted(stage)
                return _first_shown(browser, stage, began_ms)

            shown = children.wait_for(first_shown, deadline_s, "an event on the display")
            reached["display_s"] = time.monotonic() - began_s
            stored = children.wait_for(
                lambda: _stored(stage, shown, began_ms), deadline_s, "that event at the center"
            )
            reached["center_event_s"] = time.monotonic() - began_s
            _log_in(browser, stage)
            children.wait_for(
                lambda: _on_console(browser, stage, stored), deadline_s, "that event on the console"
            )
            reached["console_s"] = time.monotonic() - began_s
        except CommandError as error:
            raise CommandError(f"{error}\n{_situation(browser, stage)}") from None
        status = _status(browser, stage)
    measured = {**reached, **stage.took_s}
    return {
        **{key: round(value, 2) for key, value in measured.items()},
        "first_look_s": status.get("first_look_s"),
        "event": {key: stored.get(key) for key in ("id", "rule", "phase", "severity", "label")},
    }


def _require_accepted(stage: Stage) -> None:
    """Raises CommandError if the worker has refused the demo's task: no event can come then."""
    for task in stage.api.items("/tasks", {"station": wishes.STATION}):
        if task["status"]["state"] == "Rejected":
            raise CommandError(
                f"task {task['metadata']['name']} is rejected: {task['status']['reason']}"
            )


def _first_shown(browser: httpx.Client, stage: Stage, began_ms: int) -> Document | None:
    """The oldest event on the display that this run has seen; earlier runs' are not counted."""
    try:
        items = browser.get(f"{stage.display_url}/api/events", params={"limit": 50}).json()["items"]
    except (httpx.HTTPError, ValueError, KeyError):
        return None  # it has only just begun to listen
    fresh = [item for item in items if item["t_ms"] >= began_ms]
    return fresh[-1] if fresh else None


def _stored(stage: Stage, shown: Document, began_ms: int) -> Document | None:
    """The same event as the center has it, told by the numbers that identify it."""
    asked: dict[str, str | int] = {"station": wishes.STATION, "since_ms": began_ms, "order": "asc"}
    identity = [shown[key] for key in ("epoch", "lane", "seq")]
    for event in stage.api.events(asked, 100):
        if [event[key] for key in ("epoch", "lane", "seq")] == identity:
            return event
    return None


def _log_in(browser: httpx.Client, stage: Stage) -> None:
    answer = browser.get(f"{stage.center_url}/login", params={"code": stage.api.login_code()})
    if answer.status_code != httpx.codes.OK:
        raise CommandError(f"the console's login answered with status {answer.status_code}")


def _on_console(browser: httpx.Client, stage: Stage, event: Document) -> bool | None:
    """Whether the console's page names the event."""
    try:
        page = browser.get(f"{stage.center_url}/console")
    except httpx.HTTPError:
        return None
    if page.status_code != httpx.codes.OK:
        raise CommandError(f"the console's page answered with status {page.status_code}")
    return True if names(page.text, event) else None


def names(page: str, event: Document) -> bool:
    """Whether a page carries an event for its script to draw: number and time stand together.

    Quotes may be escaped.
    """
    quote = r"(?:\\*[\"']|&quot;|&#34;)"
    carried = (
        rf"{quote}id{quote}:\s*{event['id']},"
        rf"[^{{}}]{{0,300}}{quote}t_ms{quote}:\s*{event['t_ms']}\b"
    )
    return re.search(carried, page) is not None


def _status(browser: httpx.Client, stage: Stage) -> dict[str, Any]:
    try:
        found = browser.get(f"{stage.display_url}/api/status").json()
    except (httpx.HTTPError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _situation(browser: httpx.Client, stage: Stage) -> str:
    """What each part says of itself."""
    lines: list[str] = []
    try:
        tasks = stage.api.items("/tasks", {"station": wishes.STATION})
        lines += (f"task {task['metadata']['name']}: {task['status']}" for task in tasks)
    except CommandError as error:
        lines.append(f"the center does not tell its tasks: {error}")
    status = _status(browser, stage)
    told = {key: status.get(key) for key in ("session", "ready", "pending", "items", "streams")}
    lines.append(f"worker: {told}" if status else "the worker's display does not answer")
    return "\n".join(lines)
