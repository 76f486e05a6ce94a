"""The page on which a task is assigned, edited and removed.

Here: the form, its problems, and that nothing typed is lost. Not here: text and document
(task_text), storing (desk).
"""

from dataclasses import dataclass
from typing import Any, TypeVar

from nicegui import ui

from center import cameras, stations, tasks
from center.console import removal, task_text
from center.console.frame import RefusedError, nothing_yet, page, panel, tried
from center.desk import Desk
from center.resources import NotFoundError
from wire import specs

MODELS = ["forecourt-nano", "yolox-nano", "yolox-tiny", "yolox-s"]
CLASSES = ["person", "car", "truck", "bus", "motorcycle", "bicycle"]
CHANGED = (
    "somebody changed or removed this task since you opened it; copy your text, then reload this "
    "page"
)

FieldT = TypeVar("FieldT", bound=ui.element)


@dataclass(frozen=True, slots=True)
class Stored:
    """A task as it was when the page was opened."""

    document: dict[str, Any]
    """{kind, metadata, spec, status}"""
    revision: int


async def show_new(desk: Desk, station: str | None) -> None:
    """The page of a task that is to be."""
    with page("New task") as banner:
        try:
            names = await tried(lambda: _station_names(desk))
        except RefusedError as error:
            banner.say(f"This page cannot be shown: {error}")
            return
        if not names:
            nothing_yet("No stations yet. Add one on the overview first.")
            ui.link("Overview", "/")
            return
        chosen = station if station in names else names[0] if len(names) == 1 else None
        await _Form(desk, None, names, chosen).fill_cameras()


async def show(desk: Desk, station: str, name: str) -> None:
    """The page of a stored task."""
    with page("Edit task") as banner:
        try:
            stored = await tried(lambda: _stored(desk, station, name))
        except RefusedError as error:
            banner.say(f"This task cannot be shown: {error}")
            ui.link("Overview", "/")
            return
        await _Form(desk, stored, [station], station).fill_cameras()


def _station_names(desk: Desk) -> list[str]:
    with desk.database.reading() as connection:
        views = stations.views(connection, desk.clock.now_ms(), desk.heartbeat_s)
    return [view["metadata"]["name"] for view in views]


def _stored(desk: Desk, station: str, name: str) -> Stored:
    with desk.database.reading() as connection:
        row = tasks.require(connection, station, name)
        view = tasks.view(connection, station, name, desk.clock.now_ms(), desk.heartbeat_s)
    return Stored(view, row.revision)


class _Form:
    """The fields of a task on the left, its zones, lines and rules as text on the right."""

    def __init__(
        self, desk: Desk, stored: Stored | None, names: list[str], station: str | None
    ) -> None:
        self._desk, self._stored = desk, stored
        self._streams: dict[str, list[str]] = {}
        spec = stored.document["spec"] if stored else {}
        with ui.element("div").classes("task-grid"):
            with ui.element("div"):
                with panel("Task"):
                    self._make_places(names, station, spec)
                with panel("Detection"):
                    self._make_detection(spec)
            with panel("Zones, lines and rules") as beside:
                self._make_text(task_text.text_of(spec) if stored else task_text.EXAMPLE)
                self._make_buttons()
        with beside:
            ui.label("YAML; comments are not kept").classes("quiet small")
        if stored:
            self._station.disable()
            self._name.disable()

    def _make_places(self, names: list[str], station: str | None, spec: dict[str, Any]) -> None:
        new, camera, stream = self._stored is None, spec.get("camera"), spec.get("stream", "main")
        name = self._stored.document["metadata"]["name"] if self._stored else ""
        self._station = _field(
            ui.select(
                names,
                label="Station",
                value=station,
                with_input=new,
                on_change=self.fill_cameras,
            )
        )
        self._name = _field(ui.input("Name", value=name))
        self._camera = _field(
            ui.select(
                _with_value([], camera),
                label="Camera",
                value=camera,
                on_change=self._fill_streams,
            )
        )
        self._stream = _field(ui.select([stream], label="Stream", value=stream))

    def _make_detection(self, spec: dict[str, Any]) -> None:
        model = spec.get("model", {})
        classes = list(model.get("classes", []))
        self._model = _field(
            ui.input("Model", value=model.get("name", MODELS[0]), autocomplete=MODELS)
        ).props(f'hint="such as {", ".join(MODELS)}"')
        with ui.element("div").classes("pair"):
            self._fps = _field(ui.number("Looks per second", value=spec.get("fps", 5.0), step=1))
            self._min_score = _field(
                ui.number("Least score", value=model.get("min_score", 0.35), step=0.05)
            )
        self._classes = _field(
            ui.select(
                list(dict.fromkeys([*CLASSES, *classes])),
                label="Classes (none: all of the model's)",
                value=classes,
                multiple=True,
                with_input=True,
                new_value_mode="add-unique",
            )
        ).props("use-chips")

    def _make_text(self, text: str) -> None:
        self._text = ui.codemirror(text, language="YAML", theme="githubDark", indent="  ").classes(
            "editor"
        )
        self._findings = ui.element("ul").classes("findings").props("role=alert")

    def _make_buttons(self) -> None:
        with ui.element("div").classes("dialog-end"):
            if self._stored:
                ui.button("Remove task", on_click=self._remove).props("flat no-caps color=negative")
                ui.space()
            ui.button("Cancel", on_click=lambda: ui.navigate.to("/")).props("flat no-caps")
            word = "Save changes" if self._stored else "Assign task"
            ui.button(word, on_click=self._save).props("no-caps unelevated text-color=dark")

    async def fill_cameras(self) -> None:
        """Offer the cameras of the chosen station."""
        station = self._station.value
        self._streams = {}
        if station:
            try:
                self._streams = await tried(lambda: self._read_streams(str(station)))
            except RefusedError as error:
                self._explain(error)
                return
        names = list(self._streams)
        known = self._camera.value if self._camera.value in names or self._stored else None
        self._camera.set_options(
            _with_value(names, known), value=known or (names[0] if names else None)
        )
        hint = None if names or not station else "This station has no camera yet. Add one first."
        self._camera.props.set_optional("hint", hint)
        self._fill_streams()

    def _read_streams(self, station: str) -> dict[str, list[str]]:
        with self._desk.database.reading() as connection:
            views = cameras.views(connection, station)
        return {view["metadata"]["name"]: list(view["spec"]["streams"]) for view in views}

    def _fill_streams(self) -> None:
        streams = self._streams.get(str(self._camera.value), [])
        chosen = self._stream.value
        if streams and chosen not in streams and self._stored is None:
            chosen = streams[0]
        self._stream.set_options(_with_value(streams, chosen), value=chosen)

    async def _save(self) -> None:
        self._findings.clear()
        metadata, fields, text = self._metadata(), self._values(), self._text.value or ""
        try:
            await tried(lambda: self._store(task_text.document_of(metadata, fields, text)))
        except RefusedError as error:
            self._explain(error)
            return
        ui.navigate.to("/")

    def _store(self, document: dict[str, Any]) -> None:
        """Compare with what was opened, then put. Raises as the desk does."""
        task = specs.parse(document)
        assert isinstance(task, specs.Task)
        station, name = task.metadata.station, task.metadata.name
        found = self._revision(station, name)
        if self._stored is None and found is not None:
            sentence = f"station {station} has a task {name} already; choose another name"
            raise specs.SpecError([specs.Problem(("metadata", "name"), sentence)])
        if self._stored is not None and found != self._stored.revision:
            raise specs.SpecError([specs.Problem((), CHANGED)])
        self._desk.put(task)

    def _metadata(self) -> dict[str, Any]:
        kept = self._stored.document["metadata"] if self._stored else {}
        name = str(self._name.value or "").strip()
        return {**kept, "station": self._station.value or "", "name": name}

    def _values(self) -> dict[str, Any]:
        """The fields of the spec that are not text."""
        model: dict[str, Any] = {
            "name": str(self._model.value or "").strip(),
            "min_score": self._min_score.value,
        }
        if self._classes.value:
            model["classes"] = list(self._classes.value)
        return {
            "camera": self._camera.value or "",
            "stream": self._stream.value or "",
            "fps": self._fps.value,
            "model": model,
        }

    def _revision(self, station: str, name: str) -> int | None:
        with self._desk.database.reading() as connection:
            try:
                return int(tasks.require(connection, station, name).revision)
            except NotFoundError:
                return None

    def _explain(self, error: RefusedError) -> None:
        """Each problem with its path, and its line in the text."""
        self._findings.clear()
        found = task_text.findings(error.problems, self._text.value or "")
        with self._findings:
            for finding in found:
                with ui.element("li"):
                    if finding.line is not None:
                        ui.button(
                            f"line {finding.line}",
                            on_click=lambda line=finding.line: self._text.reveal_line(line),
                        ).props("flat dense no-caps")
                    if finding.path:
                        ui.label(finding.path).classes("path")
                    ui.label(finding.message)
        first = next((finding.line for finding in found if finding.line is not None), None)
        if first is not None:
            self._text.reveal_line(first)

    def _remove(self) -> None:
        assert self._stored is not None
        metadata = self._stored.document["metadata"]
        station, name = metadata["station"], metadata["name"]
        removal.ask_task(self._desk, station, name, lambda: ui.navigate.to("/"))


def _field(element: FieldT) -> FieldT:
    return element.props("outlined dense hide-bottom-space").classes("field")


def _with_value(options: list[str], value: str | None) -> list[str]:
    """The options, and the value that is chosen, should it be none of them."""
    return options if value is None or value in options else [*options, value]
