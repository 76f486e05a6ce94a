"""The page of one station: its workers and cameras, how they fare, adding and removing them.

Not here: the forms (places), tasks (overview, task_page).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from nicegui import background_tasks, ui

from center import cameras, stations, workers
from center.console import places, removal
from center.console.frame import RefusedError, button, nothing_yet, page, panel, tried
from center.console.tables import Row, age, revisions
from center.console.watch import View
from center.desk import Desk

REFRESH_S = 3.0
MAX_URL = 120
_STEPS = {"half": "half of the looks", "quarter": "a quarter of the looks", "key": "key frames"}
"""StreamHealth.step for people."""

_REMOVE = """
    <q-td :props="props" class="nowrap">
      <q-btn flat dense no-caps class="row-button" label="Remove" color="negative"
             @click="$parent.$emit('remove', props.row.name)"
             :aria-label="'Remove ' + props.row.name" />
    </q-td>"""
_WORKER_COLUMNS = [
    {"name": "name", "label": "Worker", "field": "name"},
    {"name": "state", "label": "State", "field": "state"},
    {"name": "heard", "label": "Last heard", "field": "heard", "classes": "nowrap"},
    {"name": "revision", "label": "Revision", "field": "revision"},
    {"name": "pending", "label": "Events waiting", "field": "pending", "align": "right"},
    {"name": "end", "label": "", "field": "name", "align": "right"},
]
_WORKER_CELLS = {
    "state": """
        <q-td :props="props">
          <span class="chip" :class="'is-' + props.row.state">{{ props.row.state }}</span>
          <div class="reason small" v-if="props.row.cause">{{ props.row.cause }}</div>
          <div class="reason small" v-if="props.row.denied">{{ props.row.denied }}</div>
          <div class="reason small is-trouble" role="alert" v-if="props.row.trouble">
            {{ props.row.trouble }}</div>
        </q-td>""",
    "end": _REMOVE,
}
_CAMERA_COLUMNS = [
    {"name": "name", "label": "Camera", "field": "name"},
    {"name": "streams", "label": "Streams", "field": "streams"},
    {"name": "health", "label": "As its worker sees it", "field": "health"},
    {"name": "end", "label": "", "field": "name", "align": "right"},
]
_CAMERA_CELLS = {
    "streams": """
        <q-td :props="props" class="url lines">{{ props.row.streams }}</q-td>""",
    "health": """
        <q-td :props="props" class="lines">{{ props.row.health }}</q-td>""",
    "end": _REMOVE,
}


@dataclass(frozen=True, slots=True)
class _Found:
    """What the database says of a station."""

    title: str
    workers: list[View]
    cameras: list[View]


async def show(desk: Desk, station: str) -> None:
    """Build the page, and keep it up to date while it is open."""
    with page(f"Station {station}") as banner:
        try:
            found = await tried(partial(_read, desk, station))
        except RefusedError as error:
            banner.say(f"This station cannot be shown: {error}")
            ui.link("Overview", "/")
            return
        _heading(desk, station, found.title)
        with panel("Workers") as beside_workers:
            nothing = "No workers yet. Nothing is analysed here until there is one."
            worker_part = _Part(_WORKER_COLUMNS, _WORKER_CELLS, nothing)
        with panel("Cameras") as beside_cameras:
            nothing = "No cameras yet. A task looks through one."
            camera_part = _Part(_CAMERA_COLUMNS, _CAMERA_CELLS, nothing)

    def put(found: _Found) -> None:
        worker_part.put(_worker_rows(found.workers, desk.clock.now_ms()))
        camera_part.put(_camera_rows(found))

    async def refresh() -> None:
        try:
            put(await tried(partial(_read, desk, station)))
        except RefusedError as error:
            banner.say(f"What you see may be old: {error}")
        else:
            banner.say("")

    def changed() -> None:
        background_tasks.create(refresh(), name=f"refresh station {station}")

    with beside_workers:
        button("Add worker", lambda: places.add_worker(desk, station, changed))
    with beside_cameras:
        button("Add camera", lambda: places.add_camera(desk, station, changed))
    worker_part.on_remove(lambda name: _ask_worker(desk, name, changed))
    camera_part.on_remove(lambda name: _ask_camera(desk, station, name, changed))
    put(found)
    ui.timer(REFRESH_S, refresh)


def _read(desk: Desk, station: str) -> _Found:
    """Raises NotFoundError, or one of `db.UNAVAILABLE`."""
    now_ms, heartbeat_s = desk.clock.now_ms(), desk.heartbeat_s
    with desk.database.reading() as connection:
        view = stations.view(connection, station, now_ms, heartbeat_s)
        return _Found(
            title=view["spec"].get("title", ""),
            workers=list(workers.views(connection, now_ms, heartbeat_s, station=station)),
            cameras=list(cameras.views(connection, station)),
        )


class _Part:
    """A table and what is said in its place while it has no rows."""

    def __init__(self, columns: list[Row], cells: Mapping[str, str], nothing: str) -> None:
        self._nothing = nothing_yet(nothing)
        self._table = ui.table(
            columns=columns, rows=[], row_key="name", column_defaults={"align": "left"}
        ).props("flat dense wrap-cells hide-bottom")
        for name, template in cells.items():
            self._table.add_slot(f"body-cell-{name}", template)

    def put(self, rows: list[Row]) -> None:
        if rows != self._table.rows:
            self._table.rows = rows
        self._table.set_visibility(bool(rows))
        self._nothing.set_visibility(not rows)

    def on_remove(self, handler: Callable[[str], None]) -> None:
        self._table.on("remove", lambda said: handler(str(said.args)))


def _worker_rows(views: list[View], now_ms: int) -> list[Row]:
    return [
        {
            "name": view["metadata"]["name"],
            "state": view["status"]["state"],
            "cause": view["status"]["cause"],
            "denied": view["status"]["denied"],
            "trouble": view["status"]["trouble"],
            "heard": age(view["status"]["last_heard_ms"], now_ms),
            "revision": revisions(view["status"]),
            "pending": sum(view["status"]["pending"].values()),
        }
        for view in views
    ]


def _camera_rows(found: _Found) -> list[Row]:
    health: dict[tuple[str, str], str] = {}
    for worker in found.workers:
        for stream in worker["status"]["streams"]:
            health[stream["camera"], stream["stream"]] = _health(stream)
    rows = []
    for view in found.cameras:
        name, streams = view["metadata"]["name"], view["spec"]["streams"]
        rows.append(
            {
                "name": name,
                "streams": "\n".join(_stream(key, stream) for key, stream in streams.items()),
                "health": "\n".join(
                    f"{key}: {health.get((name, key), 'not opened')}" for key in streams
                ),
            }
        )
    return rows


def _stream(name: str, stream: View) -> str:
    url = stream["url"]
    return f"{name}: {url if len(url) <= MAX_URL else url[:MAX_URL] + '…'}"


def _health(stream: View) -> str:
    """`running at FULL, 5.0 of 5.0 looks per second, coverage 100 %`, or what is wrong."""
    if stream.get("error"):
        return f"{stream['state']}: {stream['error']}"
    looks = f"{stream.get('analysed_fps', 0):.1f} of {stream.get('wanted_fps', 0):.1f}"
    told = [f"{stream['state']} at {stream.get('level', 'FULL')}", f"{looks} looks per second"]
    if stream.get("coverage") is not None:
        told.append(f"coverage {math.floor(100 * stream['coverage'])} %")
    if stream.get("step"):
        told.append(f"short of CPU: {_STEPS.get(stream['step'], stream['step'])}")
    return ", ".join(told)


def _heading(desk: Desk, station: str, title: str) -> None:
    with ui.element("div").classes("heading"):
        ui.label(title or station).classes("heading-title").props("role=heading aria-level=1")
        ui.space()
        button("New task", lambda: ui.navigate.to(f"/tasks/new?station={station}"))
        ui.button("Remove station", on_click=lambda: _ask_station(desk, station)).props(
            "flat no-caps dense color=negative"
        )


def _ask_station(desk: Desk, station: str) -> None:
    removal.ask(
        f"station {station}",
        "It must have no tasks, cameras and workers any more. Its events stay.",
        lambda: desk.delete_station(station),
        lambda: ui.navigate.to("/"),
    )


def _ask_worker(desk: Desk, name: str, done: Callable[[], None]) -> None:
    removal.ask(
        f"worker {name}",
        "It is turned away from now on. Its tasks go to the station's other workers; without one "
        "they wait. Its events stay.",
        lambda: desk.delete_worker(name),
        done,
    )


def _ask_camera(desk: Desk, station: str, name: str, done: Callable[[], None]) -> None:
    removal.ask(
        f"camera {name} of station {station}",
        "No task may look through it any more.",
        lambda: desk.delete_camera(station, name),
        done,
    )
