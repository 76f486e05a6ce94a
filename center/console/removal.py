"""Removing a resource: a question that names it, then the edit.

Not here: what may be removed (the nouns say, and the dialog repeats it).
"""

from collections.abc import Callable

from nicegui import ui

from center.console.frame import RefusedError, tried
from center.desk import Desk


def ask(what: str, consequence: str, remove: Callable[[], None], done: Callable[[], None]) -> None:
    """Ask whether to remove, for example, `task bay-2 of station s0042`; `done` is called after."""
    with ui.dialog() as dialog, ui.card().classes("dialog"):
        ui.label(f"Remove {what}?").classes("dialog-title")
        ui.label(consequence).classes("quiet")
        problem = ui.label().classes("problem").props("role=alert")
        problem.set_visibility(False)

        async def confirmed() -> None:
            try:
                await tried(remove)
            except RefusedError as error:
                problem.set_text(f"Not removed: {error}")
                problem.set_visibility(True)
                return
            dialog.close()
            ui.notify(f"Removed {what}.")
            done()

        with ui.element("div").classes("dialog-end"):
            ui.button("Keep it", on_click=dialog.close).props("flat no-caps")
            ui.button(f"Remove {what}", on_click=confirmed).props(
                "no-caps unelevated color=negative text-color=dark"
            )
    dialog.on("hide", dialog.delete)
    dialog.open()


def ask_task(desk: Desk, station: str, name: str, done: Callable[[], None]) -> None:
    """Ask whether to remove a task."""
    ask(
        f"task {name} of station {station}",
        "Its camera is no longer analysed for it, and its open incidents end. "
        "Events that it made stay.",
        lambda: desk.delete_task(station, name),
        done,
    )


def ask_model(desk: Desk, name: str, done: Callable[[], None]) -> None:
    """Ask whether to remove a model."""
    ask(
        f"model {name}",
        "The center forgets it and its file. A task that names it keeps it from being removed.",
        lambda: desk.delete_model(name),
        done,
    )
