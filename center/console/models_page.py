"""The page of models: what the center has, who uses it, and how it fares at the workers.

Not here: pushing one (the command line does), which tasks name it (task_page).
"""

from functools import partial

from nicegui import background_tasks, ui

from center import models
from center.console import removal
from center.console.frame import RefusedError, nothing_yet, page, panel, tried
from center.console.tables import PagedTable, Row
from center.console.watch import View
from center.desk import Desk

REFRESH_S = 3.0
_NOTHING = (
    "No models yet. Workers use what lies in their own folders. To give one to all who need it, "
    "run: forecourt models push FILE.onnx"
)
_ORDER = ("Rejected", "Degraded", "Pending", "Starting", "Running")
_COLUMNS = [
    {"name": "name", "label": "Model", "field": "name"},
    {"name": "size", "label": "Size", "field": "size", "align": "right", "classes": "nowrap"},
    {"name": "sha256", "label": "SHA-256", "field": "sha256", "classes": "model"},
    {"name": "tasks", "label": "Used by", "field": "tasks"},
    {"name": "workers", "label": "At workers", "field": "troubles", "classes": "state"},
    {"name": "end", "label": "", "field": "name", "align": "right"},
]
_CELLS = {
    "name": """
        <q-td :props="props">
          <span class="name">{{ props.row.name }}</span>
          <div class="quiet small" v-if="props.row.version">version {{ props.row.version }}</div>
          <div class="quiet small" v-if="props.row.license">{{ props.row.license }}</div>
        </q-td>""",
    "tasks": """
        <q-td :props="props">
          <span class="nowrap">{{ props.row.tasks }}</span>
          <div class="quiet small" v-if="props.row.used_by">{{ props.row.used_by }}</div>
        </q-td>""",
    "workers": """
        <q-td :props="props">
          <span v-for="one in props.row.workers" :key="one[0]" class="chip" :class="'is-' + one[0]">
            {{ one[1] }} {{ one[0] }}</span>
          <div class="reason small" v-for="said in props.row.troubles" :key="said">{{ said }}</div>
        </q-td>""",
    "end": """
        <q-td :props="props" class="nowrap">
          <q-btn flat dense no-caps class="row-button" label="Remove" color="negative"
                 @click="$parent.$emit('remove', props.row.name)"
                 :aria-label="'Remove model ' + props.row.name" />
        </q-td>""",
}


async def show(desk: Desk) -> None:
    """Build the page, and keep it up to date while it is open."""
    with page("Models") as banner, panel("Models") as beside:
        empty = nothing_yet(_NOTHING)
        table = PagedTable(_COLUMNS, "name", _CELLS, "Filter by name, version or worker", beside)

    async def refresh() -> None:
        try:
            views = await tried(partial(_read, desk))
        except RefusedError as error:
            banner.say(f"What you see may be old: {error}")
            return
        banner.say("")
        empty.set_visibility(not views)
        table.put(_rows(views))

    def changed() -> None:
        background_tasks.create(refresh(), name="refresh models")

    table.on("remove", lambda name: removal.ask_model(desk, name, changed))
    await refresh()
    ui.timer(REFRESH_S, refresh)


def _read(desk: Desk) -> list[View]:
    """Raises one of `db.UNAVAILABLE`."""
    with desk.database.reading() as connection:
        return list(models.views(connection))


def _rows(views: list[View]) -> list[Row]:
    return [
        {
            "name": view["name"],
            "version": view["version"],
            "license": view["license"],
            "size": f"{view['size_bytes'] / 1e6:.1f} MB",
            "sha256": view["sha256"][:12],
            "tasks": f"{view['tasks']} task{'' if view['tasks'] == 1 else 's'}",
            "used_by": _some(view),
            "workers": sorted(view["workers"].items(), key=lambda one: _ORDER.index(one[0])),
            "troubles": [f"{one['worker']}: {one['reason']}" for one in view["troubles"]],
        }
        for view in views
    ]


def _some(view: View, most: int = 5) -> str:
    named = ", ".join(view["used_by"][:most])
    return f"{named}, …" if view["tasks"] > most else named
