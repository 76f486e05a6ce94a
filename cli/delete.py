"""`forecourt delete`: take resources away, those that need others first.

Belongs here: order, what is printed, what a dry run may assume. Does not belong here: reading
files (documents) and HTTP (api).
"""

from collections.abc import Iterable
from typing import Annotated, Any

import typer

from cli import access, documents, terminal
from cli.api import Api, RefusedError, place
from cli.apply import AsJson, DryRun
from cli.documents import label
from cli.errors import BAD_INPUT, FAILED, CommandError
from cli.get import FACTS, noun_of, place_of

_OptionalFiles = Annotated[
    list[str] | None,
    typer.Option("--file", "-f", help="Delete what these files name; repeatable."),
]
Target = tuple[str, str]
"""A label (`task/s0042/bay-2`) and its place below /api/v1."""


def delete(
    kind: Annotated[
        str | None,
        typer.Argument(help="station, worker, camera, task, model", show_default=False),
    ] = None,
    name: Annotated[str | None, typer.Argument(show_default=False)] = None,
    station: Annotated[
        str | None, typer.Option("--station", help="Station of the camera or task.")
    ] = None,
    file: _OptionalFiles = None,
    dry_run: DryRun = False,
    ignore_missing: Annotated[
        bool, typer.Option("--ignore-missing", help="What is already gone is no error.")
    ] = False,
    as_json: AsJson = False,
    url: access.Url = None,
    token_file: access.TokenFile = None,
) -> None:
    """Delete a resource by name, or all that files name.

    The center refuses to delete what is still needed, and says by what.

    \b
    Examples:
      forecourt delete task bay-2 --station s0042
      forecourt delete -f station.yaml -f cameras/ --dry-run
    """
    targets = _targets(kind, name, station, file)
    with Api(access.find(url, token_file)) as api:
        results = []
        for target in targets:
            results.append(_delete_one(api, target, targets, dry_run, ignore_missing))
            _report(target, results[-1], dry_run, as_json)
    if as_json:
        named = [
            {"place": target[0], "result": result}
            for target, result in zip(targets, results, strict=True)
        ]
        terminal.write_json({"dry_run": dry_run, "results": named})
    if any(result not in ("deleted", "already gone") for result in results):
        raise typer.Exit(FAILED)


def _targets(
    kind: str | None, name: str | None, station: str | None, file: list[str] | None
) -> list[Target]:
    if bool(file) == bool(kind):
        raise CommandError("give either a kind and a name, or -f FILE", BAD_INPUT)
    if file:
        found = reversed(documents.read(file))
        return [(label(each.resource), place(each.resource)) for each in found]
    if kind is None or name is None:
        raise CommandError(f"which {kind} is to be deleted? Give its name", BAD_INPUT)
    noun = noun_of(kind)
    if noun in FACTS:
        raise CommandError(f"{noun} are facts: they cannot be deleted", BAD_INPUT)
    path = place_of(noun, name, station)
    within = f"{station}/" if noun in ("cameras", "tasks") else ""
    return [(f"{noun[:-1]}/{within}{name}", path)]


def _delete_one(
    api: Api, target: Target, targets: Iterable[Target], dry_run: bool, ignore_missing: bool
) -> str:
    """`deleted`, `already gone`, or why not."""
    try:
        api.delete(target[1], dry_run=dry_run)
    except RefusedError as refused:
        if refused.status == 404 and ignore_missing:
            return "already gone"
        needed_only_by_others_to_go = (
            dry_run
            and refused.status == 409
            and _dependants(api, target[1]) <= {path for _, path in targets}
        )
        return "deleted" if needed_only_by_others_to_go else str(refused)
    return "deleted"


def _dependants(api: Api, path: str) -> set[str]:
    """The places of what a station or a camera is needed by."""
    _, noun, station, *rest = path.split("/")
    if noun != "stations":
        return set()
    tasks = api.items("/tasks", {"station": station})
    if rest:
        return {_view_place("tasks", task) for task in tasks if task["spec"]["camera"] == rest[1]}
    cameras = api.items("/cameras", {"station": station})
    workers = (w for w in api.items("/workers") if w["metadata"]["station"] == station)
    return {
        *(_view_place("tasks", task) for task in tasks),
        *(_view_place("cameras", camera) for camera in cameras),
        *(_view_place("workers", worker) for worker in workers),
    }


def _view_place(noun: str, view: dict[str, Any]) -> str:
    return place_of(noun, view["metadata"]["name"], view["metadata"]["station"])


def _report(target: Target, result: str, dry_run: bool, as_json: bool) -> None:
    if result not in ("deleted", "already gone"):
        terminal.say(f"{target[0]}: {result}", "red")
        return
    line = f"{target[0]} {result}{' (dry run)' if dry_run else ''}"
    if as_json:
        terminal.say(line)
    else:
        terminal.write(line)
