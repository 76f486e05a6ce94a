"""The console mounted on the center's web application.

Here: the doors, NiceGUI's start, and which page answers where. Not here: what is on a page.

NiceGUI keeps its pages and its web application in globals: one process has one console.
"""

import logging
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse
from nicegui import app as nicegui_app
from nicegui import ui
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from center.console import login, models_page, overview, station_page, task_page
from center.console.guard import Guard
from center.console.watch import Watch
from center.desk import Desk

HOME = "/console"
_FAVICON = Path(__file__).parent / "favicon.svg"


def mount(app: FastAPI, desk: Desk) -> None:
    """Put the console, its login and the way to it on the center's application. Once a process."""
    watch = Watch(desk)
    app.include_router(login.router)
    app.add_api_route("/", lambda: RedirectResponse(HOME), include_in_schema=False)
    app.router.routes.append(Route(HOME, _Home()))
    _pages(desk, watch)
    ui.run_with(
        app,
        mount_path=HOME,
        title="Forecourt console",
        favicon=_FAVICON,
        dark=True,
        language="en-GB",
        tailwind=False,
        show_welcome_message=False,
        reconnect_timeout=5.0,
    )
    logging.getLogger("uvicorn.error").addFilter(_without_headers)
    # The last one added is the first one asked: nothing of NiceGUI answers before the guard.
    nicegui_app.add_middleware(Guard, desk=desk)


def _without_headers(record: logging.LogRecord) -> bool:
    """At debug, uvicorn writes the headers of each WebSocket's request, cookies included."""
    return record.levelno > logging.DEBUG


class _Home:
    """`/console` answers as `/console/` does, without a redirect; a mount knows only the latter."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = HOME + "/"
        inner = {**scope, "path": path, "raw_path": path.encode(), "root_path": HOME}
        await nicegui_app(inner, receive, send)


def _pages(desk: Desk, watch: Watch) -> None:
    @ui.page("/")
    async def home() -> None:
        await overview.show(desk, watch)

    @ui.page("/stations/{station}", title="Station · Forecourt")
    async def one_station(station: str) -> None:
        await station_page.show(desk, station)

    @ui.page("/models", title="Models · Forecourt")
    async def all_models() -> None:
        await models_page.show(desk)

    @ui.page("/tasks/new", title="New task · Forecourt")
    async def new_task(request: Request) -> None:
        await task_page.show_new(desk, request.query_params.get("station"))

    @ui.page("/tasks/{station}/{name}", title="Task · Forecourt")
    async def edit_task(station: str, name: str) -> None:
        await task_page.show(desk, station, name)
