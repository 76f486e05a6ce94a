"""Tables that stay usable with thousands of rows: the browser holds one page of them.

Here: filtering, paging, and what a row of a station and of a task shows. Not here: reading them.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from nicegui import ui
from nicegui.events import GenericEventArguments, ValueChangeEventArguments

from center.console.watch import View

Row = dict[str, Any]

PAGE_ROWS = 8

# What needs an operator comes first.
_STATION_ORDER = ("Lost", "Autonomous", "Unknown", "Online")
_TASK_ORDER = ("Rejected", "Degraded", "Pending", "Starting", "Running")


class PagedTable:
    """A table whose rows are filtered and paged here; `row_key` is a field that is unique."""

    def __init__(
        self,
        columns: list[Row],
        row_key: str,
        cells: Mapping[str, str],
        filter_label: str,
        beside: ui.element,
    ) -> None:
        self._rows: list[Row] = []
        self._page = 1
        with beside:
            self._filter = (
                ui.input(placeholder=filter_label, on_change=self._filtered)
                .props(f'dense outlined clearable debounce=200 aria-label="{filter_label}"')
                .classes("filter")
            )
        self._table = ui.table(
            columns=columns,
            rows=[],
            row_key=row_key,
            column_defaults={"align": "left"},
            pagination={"page": 1, "rowsPerPage": PAGE_ROWS, "rowsNumber": 0},
        ).props(f'flat dense wrap-cells hide-no-data :rows-per-page-options="[{PAGE_ROWS}]"')
        for name, template in cells.items():
            self._table.add_slot(f"body-cell-{name}", template)
        self._table.on("request", self._turned)
        self._nothing = ui.label("Nothing matches the filter.").classes("quiet nothing")

    def on(self, event: str, handler: Callable[[str], object]) -> None:
        """Call the handler with the row's key when a cell's template emits the event."""
        self._table.on(event, lambda said: handler(str(said.args)))

    def put(self, rows: Iterable[Row]) -> None:
        """These are all the rows now; only a page that differs is sent."""
        self._rows = list(rows)
        self._show()

    def _filtered(self, _: ValueChangeEventArguments[str | None]) -> None:
        self._page = 1
        self._show()

    def _turned(self, said: GenericEventArguments) -> None:
        self._page = int(said.args["pagination"]["page"])
        self._show()

    def _show(self) -> None:
        words = (self._filter.value or "").lower().split()
        found = [row for row in self._rows if _has(row, words)]
        pages = max(1, -(-len(found) // PAGE_ROWS))
        self._page = min(max(1, self._page), pages)
        shown = found[(self._page - 1) * PAGE_ROWS : self._page * PAGE_ROWS]
        if shown != self._table.rows:
            self._table.rows = shown
        pagination = {"page": self._page, "rowsPerPage": PAGE_ROWS, "rowsNumber": len(found)}
        if pagination != self._table.pagination:
            self._table.pagination = pagination
        if self._table.props.get("hide-bottom") != (pages == 1):
            self._table.props["hide-bottom"] = pages == 1
        self._nothing.set_visibility(not found and bool(self._rows))
        self._table.set_visibility(bool(found))
        self._filter.set_visibility(len(self._rows) > 1)


def _has(row: Row, words: list[str]) -> bool:
    text = " ".join(str(value) for value in row.values()).lower() if words else ""
    return all(word in text for word in words)


# --- stations ----------------------------------------------------------------------------------

STATION_COLUMNS = [
    {"name": "name", "label": "Station", "field": "name"},
    {"name": "state", "label": "State", "field": "state"},
    {"name": "heard", "label": "Last heard", "field": "heard", "classes": "nowrap"},
    {"name": "workers", "label": "Workers", "field": "workers", "align": "right"},
    {"name": "alarms", "label": "Open alarms", "field": "alarms", "align": "right"},
]
STATION_CELLS = {
    "name": """
        <q-td :props="props">
          <a :href="'/console/stations/' + props.row.name" class="name">{{ props.row.name }}</a>
          <div class="quiet small title" v-if="props.row.title">{{ props.row.title }}</div>
        </q-td>""",
    "state": """
        <q-td :props="props">
          <span class="chip" :class="'is-' + props.row.state">{{ props.row.state }}</span>
        </q-td>""",
    "alarms": """
        <q-td :props="props">
          <span v-if="props.row.alarms" class="count is-critical">{{ props.row.alarms }}</span>
          <span v-else class="quiet">0</span>
        </q-td>""",
}


def station_rows(views: Iterable[View], now_ms: int) -> list[Row]:
    """Rows of stations: those with alarms first, then the silent ones, then by name."""
    rows = [
        {
            "name": view["metadata"]["name"],
            "title": view["spec"].get("title", ""),
            "state": view["status"]["state"],
            "heard": age(view["status"]["last_heard_ms"], now_ms),
            "workers": view["status"]["workers"],
            "alarms": view["status"]["open_alarms"],
        }
        for view in views
    ]
    return sorted(
        rows,
        key=lambda row: (not row["alarms"], _STATION_ORDER.index(row["state"]), row["name"]),
    )


def age(then_ms: int | None, now_ms: int) -> str:
    """How long ago, in the largest unit that fits; seconds in steps of five."""
    if then_ms is None:
        return "never"
    passed_s = max(0, now_ms - then_ms) // 1000
    if passed_s < 5:
        return "now"
    for unit, size_s, step in (("d", 86400, 1), ("h", 3600, 1), ("min", 60, 1), ("s", 1, 5)):
        if passed_s >= size_s:
            return f"{passed_s // size_s // step * step} {unit} ago"
    raise AssertionError("five seconds are at least one second")


# --- tasks -------------------------------------------------------------------------------------

TASK_COLUMNS = [
    {"name": "name", "label": "Task", "field": "name"},
    {"name": "camera", "label": "Camera", "field": "camera"},
    {"name": "model", "label": "Model", "field": "model", "classes": "model"},
    {"name": "revision", "label": "Revision", "field": "revision"},
    {"name": "state", "label": "State", "field": "state", "classes": "state"},
    {"name": "edit", "label": "", "field": "key", "align": "right"},
]
TASK_CELLS = {
    "name": """
        <q-td :props="props">
          <a :href="'/console/tasks/' + props.row.key" class="name">{{ props.row.name }}</a>
          <div class="quiet small">{{ props.row.station }}</div>
        </q-td>""",
    "revision": """
        <q-td :props="props">
          <span class="nowrap">{{ props.row.revision }}</span>
          <div class="behind small" v-if="props.row.behind">behind</div>
        </q-td>""",
    "state": """
        <q-td :props="props">
          <span class="chip" :class="'is-' + props.row.state">{{ props.row.state }}</span>
          <div class="reason small" v-if="props.row.reason">{{ props.row.reason }}</div>
        </q-td>""",
    "edit": """
        <q-td :props="props" class="nowrap">
          <q-btn flat dense no-caps class="row-button" label="Edit"
                 :href="'/console/tasks/' + props.row.key"
                 :aria-label="'Edit task ' + props.row.key" />
          <q-btn flat dense no-caps class="row-button" label="Remove" color="negative"
                 @click="$parent.$emit('remove', props.row.key)"
                 :aria-label="'Remove task ' + props.row.key" />
        </q-td>""",
}


def task_rows(views: Iterable[View]) -> list[Row]:
    """Rows of tasks: those that do not run first, then by station and name."""
    rows = [
        {
            "key": f"{view['metadata']['station']}/{view['metadata']['name']}",
            "station": view["metadata"]["station"],
            "name": view["metadata"]["name"],
            "camera": view["spec"]["camera"],
            "model": view["spec"]["model"]["name"],
            "revision": revisions(view["status"]),
            "behind": view["status"]["desired_revision"] != view["status"]["observed_revision"],
            "state": view["status"]["state"],
            "reason": view["status"]["reason"],
        }
        for view in views
    ]
    return sorted(
        rows, key=lambda row: (_TASK_ORDER.index(row["state"]), row["station"], row["name"])
    )


def revisions(status: View) -> str:
    """`12 / 11`: what is desired, and what the worker has."""
    desired, observed = status["desired_revision"], status["observed_revision"]
    return f"{'–' if desired is None else desired} / {'–' if observed is None else observed}"
