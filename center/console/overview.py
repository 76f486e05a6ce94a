"""The first page: stations, tasks and live events at a glance.

Here: the page's parts and how news reach them. Not here: reading (watch), rows (tables).
"""

from functools import partial

from nicegui import ui

from center.console import places, removal
from center.console.feed import Feed
from center.console.frame import button, nothing_yet, page, panel
from center.console.tables import (
    STATION_CELLS,
    STATION_COLUMNS,
    TASK_CELLS,
    TASK_COLUMNS,
    PagedTable,
    station_rows,
    task_rows,
)
from center.console.watch import News, View, Watch
from center.desk import Desk


async def show(desk: Desk, watch: Watch) -> None:
    """Build the page from what is known now, and keep it up to date while it is open."""
    news = await watch.first()
    client = ui.context.client
    with page("Overview") as banner, ui.element("div").classes("grid"):
        with ui.element("div").classes("grid-main"):
            stations = _Stations(desk, watch)
            tasks = _Tasks(desk, watch)
        with ui.element("div").classes("grid-side"):
            events = _Events(news)

    def tell(news: News) -> None:
        with client:
            banner.say(news.problem)
            stations.put(news)
            tasks.put(news)
            events.put(news)

    tell(news)
    client.on_connect(lambda: watch.join(tell))
    client.on_delete(lambda: watch.leave(tell))


class _Stations:
    """How each station fares, and how many are in which state."""

    def __init__(self, desk: Desk, watch: Watch) -> None:
        with panel("Stations") as beside:
            self._counts = ui.element("div").classes("counts")
            self._empty = nothing_yet(
                "No stations yet. Add one here, or run: forecourt apply -f station.yaml"
            )
            self._table = PagedTable(
                STATION_COLUMNS, "name", STATION_CELLS, "Filter by name, title or state", beside
            )
        with beside:
            button("Add station", partial(places.add_station, desk, watch.look_again))
        self._counted: dict[str, int] = {}

    def put(self, news: News) -> None:
        self._empty.set_visibility(not news.stations and not news.problem)
        self._table.put(station_rows(news.stations, news.read_ms))
        counted = _counted(news.stations)
        if counted == self._counted:
            return
        self._counted = counted
        self._counts.clear()
        with self._counts:
            for state, count in counted.items():
                ui.label(f"{count} {state}").classes(f"chip is-{state.replace(' ', '-')}")


class _Tasks:
    """What is wished for and what became of it."""

    def __init__(self, desk: Desk, watch: Watch) -> None:
        self._desk, self._watch = desk, watch
        with panel("Tasks") as beside:
            self._empty = nothing_yet("")
            self._table = PagedTable(
                TASK_COLUMNS, "key", TASK_CELLS, "Filter by station, name, camera or state", beside
            )
        with beside:
            self._new = button("New task", lambda: ui.navigate.to("/tasks/new"))
        self._table.on("remove", self._remove)

    def put(self, news: News) -> None:
        self._empty.set_visibility(not news.tasks and not news.problem)
        self._empty.set_text(_first_step(news.stations))
        self._new.set_visibility(any(view["status"]["cameras"] for view in news.stations))
        self._table.put(task_rows(news.tasks))

    def _remove(self, key: str) -> None:
        station, _, name = key.partition("/")
        removal.ask_task(self._desk, station, name, self._watch.look_again)


class _Events:
    """What happens, as it comes."""

    def __init__(self, news: News) -> None:
        with panel("Live events", "panel-feed") as beside:
            self._empty = nothing_yet("No events yet. They appear here as stations send them.")
            self._feed = Feed(news.events)
        with beside:
            ui.label("newest 100").classes("quiet small")

    def put(self, news: News) -> None:
        self._empty.set_visibility(not news.events and not news.problem)
        self._feed.set_visibility(bool(news.events))
        self._feed.tell(news.events)


def _counted(stations: tuple[View, ...]) -> dict[str, int]:
    """How many stations are in which state, and how many alarms are open; nothing that is 0."""
    states = [view["status"]["state"] for view in stations]
    counted = {state: states.count(state) for state in ("Online", "Autonomous", "Lost", "Unknown")}
    counted["open alarms"] = sum(view["status"]["open_alarms"] for view in stations)
    return {word: count for word, count in counted.items() if count}


def _first_step(stations: tuple[View, ...]) -> str:
    """What a new user is to do before there can be a task."""
    if not stations:
        return "No tasks yet. They begin with a station."
    if not any(view["status"]["cameras"] for view in stations):
        return "No tasks yet. Open a station above and add its worker and its cameras first."
    return "No tasks yet. Make one here, or run: forecourt apply -f task.yaml"
