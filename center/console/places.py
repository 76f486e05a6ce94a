"""Small forms that add a station, a worker or a camera.

Here: three dialogs over one shape: fields, a resource made of them, an edit, and problems beside
the fields. Not here: tasks, which have a page of their own (task_page).
"""

from collections.abc import Callable, Mapping
from typing import Any

from nicegui import ui
from sqlalchemy import Connection

from center import cameras, stations, workers
from center.console.frame import RefusedError, tried
from center.desk import Desk
from center.resources import NotFoundError
from wire import specs

Done = Callable[[], None]
Document = dict[str, Any]
Values = Mapping[str, str]

NAME_HINT = "lower-case letters, digits and '-'"


class _Form:
    """A dialog with text fields; `make` turns them into a document, which is then stored."""

    def __init__(self, title: str, explained: str) -> None:
        self._fields: dict[str, ui.input] = {}
        with ui.dialog().props("persistent") as self._dialog, ui.card().classes("dialog"):
            ui.label(title).classes("dialog-title")
            ui.label(explained).classes("quiet")
            self._body = ui.element("div").classes("dialog-fields")
            self._problems = ui.label().classes("problem").props("role=alert")
            self._end = ui.element("div").classes("dialog-end")
        self._problems.set_visibility(False)
        self._dialog.on("hide", self._dialog.delete)

    def field(self, path: str, label: str, hint: str = "", *, secret: bool = False) -> None:
        """A text field for the value at `path`, such as `metadata.name`."""
        with self._body:
            self._fields[path] = (
                ui.input(label, password=secret, password_toggle_button=secret)
                .props(f'outlined dense autocomplete=off hint="{hint}" :hide-hint="false"')
                .classes("field")
            )

    def ask(
        self, word: str, store: Callable[[Values], None], done: Callable[[Values], None]
    ) -> None:
        """Open it; `store` runs in a thread when the operator says so, then `done`."""

        async def said() -> None:
            values = {path: str(field.value or "").strip() for path, field in self._fields.items()}
            for field in self._fields.values():
                field.props(remove="error error-message")
            self._problems.set_visibility(False)
            try:
                await tried(lambda: store(values))
            except RefusedError as error:
                self._explain(error)
                return
            self._dialog.close()
            done(values)

        with self._end:
            ui.button("Cancel", on_click=self._dialog.close).props("flat no-caps")
            ui.button(word, on_click=said).props("no-caps unelevated text-color=dark")
        self._dialog.open()

    def _explain(self, error: RefusedError) -> None:
        """Each problem beside its field; those of no field below."""
        others = []
        for problem in error.problems:
            field = self._field_of(specs.dotted(problem.path))
            if field is None:
                others.append(str(problem))
            else:
                field.props["error"] = True
                field.props["error-message"] = problem.message
        self._problems.set_text("; ".join(others))
        self._problems.set_visibility(bool(others))

    def _field_of(self, path: str) -> ui.input | None:
        """The field of a path, or the first one within it: a stream's url for a wrong stream."""
        within = (name for name in self._fields if path and f"{name}.".startswith(f"{path}."))
        return next((self._fields[name] for name in within), None)


def add_station(desk: Desk, done: Done) -> None:
    """Ask for a new station."""
    form = _Form("Add a station", "A site with its workers, cameras and tasks.")
    form.field("metadata.name", "Name", f"{NAME_HINT}, for example s0042")
    form.field("spec.title", "Title (optional)", "what people call it")

    def store(values: Values) -> None:
        name = values["metadata.name"]
        document = {
            "kind": "Station",
            "metadata": {"name": name},
            "spec": {"title": values["spec.title"]},
        }
        _store_new(desk, document, lambda reading: stations.require(reading, name))

    def added(values: Values) -> None:
        done()
        ui.navigate.to(f"/stations/{values['metadata.name']}")

    form.ask("Add station", store, added)


def add_worker(desk: Desk, station: str, done: Done) -> None:
    """Ask for a new worker of the station."""
    form = _Form(
        f"Add a worker to {station}",
        "The identity of an edge program. Start that program with the same name: "
        "forecourt-edge run --worker NAME …",
    )
    form.field("metadata.name", "Name", f"{NAME_HINT}; unique among all stations")

    def store(values: Values) -> None:
        name = values["metadata.name"]
        document = {"kind": "Worker", "metadata": {"name": name, "station": station}, "spec": {}}
        _store_new(desk, document, lambda reading: workers.require(reading, name))

    form.ask("Add worker", store, lambda _: done())


def add_camera(desk: Desk, station: str, done: Done) -> None:
    """Ask for a new camera of the station, with one stream."""
    form = _Form(
        f"Add a camera to {station}",
        "User name and password may be part of the URL; they are kept apart from it, and no page "
        "shows the password.",
    )
    form.field("metadata.name", "Name", f"{NAME_HINT}, for example bay-2")
    form.field(
        "spec.streams.main.url",
        "Stream URL",
        "rtsp://user:password@192.0.2.10/stream1, or file:///recordings/bay.mp4",
    )

    def store(values: Values) -> None:
        name = values["metadata.name"]
        document = {
            "kind": "Camera",
            "metadata": {"name": name, "station": station},
            "spec": {"streams": {"main": {"url": values["spec.streams.main.url"]}}},
        }
        _store_new(desk, document, lambda reading: cameras.require(reading, station, name))

    form.ask("Add camera", store, lambda _: done())


def _store_new(desk: Desk, document: Document, find: Callable[[Connection], object]) -> None:
    """Store a resource unless there is one already. Raises what the desk raises."""
    resource = specs.parse(document)
    with desk.database.reading() as connection:
        try:
            find(connection)
        except NotFoundError:
            known = False
        else:
            known = True
    if known:
        sentence = f"there is a {resource.kind.lower()} of this name already"
        raise specs.SpecError([specs.Problem(("metadata", "name"), sentence)])
    desk.put(resource)
