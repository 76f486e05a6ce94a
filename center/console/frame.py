"""What every page of the console has: the bar, the banner for problems, the look.

Here: also how an edit's failure is said. Not here: what a page is about.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from nicegui import ui

from center import db
from center.resources import ConflictError, NotFoundError
from wire import specs

_HERE = Path(__file__).parent
_CSS = (_HERE / "console.css").read_text(encoding="utf-8")
_SESSION_JS = (_HERE / "session.js").read_text(encoding="utf-8")

T = TypeVar("T")


class Banner:
    """A line across the page that says what is wrong; without a problem it is not there."""

    def __init__(self) -> None:
        self._text = ui.label().classes("banner").props("role=alert")
        self.say("")

    def say(self, problem: str) -> None:
        """Show the sentence, or nothing."""
        if self._text.text != problem or not problem:
            self._text.set_text(problem)
            self._text.set_visibility(bool(problem))


@contextmanager
def page(title: str) -> Iterator[Banner]:
    """The page around the elements of the block."""
    ui.add_css(_CSS)
    ui.add_body_html(f"<script>{_SESSION_JS}</script>")
    ui.colors(primary="#6db3f2", dark_page="#0f1419", dark="#182029", negative="#ff7a73")
    with ui.element("header").classes("bar"):
        ui.link("Forecourt", "/").classes("brand")
        ui.label(title).classes("bar-title")
        ui.space()
        with ui.element("nav").classes("bar-nav"):
            ui.link("Overview", "/")
            ui.link("Models", "/models")
            ui.html('<a href="/logout">Log out</a>')  # outside the mount, where ui.link cannot go
    banner = Banner()
    with ui.element("main").classes("page"):
        yield banner


@contextmanager
def panel(title: str, classes: str = "") -> Iterator[ui.element]:
    """A framed part of a page; what the block adds to the given element stands beside its title."""
    with ui.element("section").classes(f"panel {classes}"):
        with ui.element("div").classes("panel-head"):
            ui.label(title).classes("panel-title").props("role=heading aria-level=2")
            beside = ui.element("div").classes("panel-beside")
        yield beside


def button(text: str, act: Callable[[], Any]) -> ui.button:
    """A small button for what one does most here."""
    made = ui.button(text, on_click=act).props("no-caps dense unelevated text-color=dark")
    return made.classes("small-button")


def nothing_yet(text: str) -> ui.label:
    """What is said where there is nothing to show, and what to do next."""
    return ui.label(text).classes("empty")


class RefusedError(Exception):
    """An edit that was not done, and why, in words for an operator."""

    def __init__(self, *problems: specs.Problem) -> None:
        self.problems = problems
        super().__init__("; ".join(map(str, problems)))


async def tried(act: Callable[[], T]) -> T:
    """What an edit gives, done in a thread. Raises RefusedError with nothing changed."""
    try:
        return await asyncio.to_thread(act)
    except specs.SpecError as error:
        raise RefusedError(*error.problems) from None
    except (ConflictError, NotFoundError) as error:
        raise RefusedError(specs.Problem((), str(error))) from None
    except db.UNAVAILABLE:
        sentence = "the database cannot do it now; nothing was changed, try again in a moment"
        raise RefusedError(specs.Problem((), sentence)) from None
