"""`forecourt apply`: make the center want what the files say.

Belongs here: order, what is printed, the diff of a dry run. Does not belong here: reading files
(documents), HTTP (api), and what a change causes (center).
"""

import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from cli import access, documents, terminal
from cli.api import Api, Applied, RefusedError, UnreachableError, place
from cli.documents import Document, label
from cli.errors import BAD_INPUT, FAILED
from wire import specs, text
from wire.specs import Camera, Resource, Station, Task

DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would change; change nothing.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on the last line.")]


_STATION = ("metadata", "station")
_ABOUT_OTHERS = frozenset({_STATION, ("spec", "camera"), ("spec", "stream")})
"""Fields that are wrong only because of another resource."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one document: applied, or refused with the center's words."""

    document: Document
    applied: Applied | None = None
    refused: RefusedError | None = None

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it was refused: each problem with its field, or the center's sentence."""
        if self.refused is None:
            return ()
        return tuple(map(str, self.refused.problems)) or (str(self.refused),)


def apply(
    file: documents.Files,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    url: access.Url = None,
    token_file: access.TokenFile = None,
) -> None:
    """Create or change stations, workers, cameras and tasks from YAML or JSON files.

    All files are checked first: if one is wrong, nothing is sent (exit 2).
    What the center refuses is exit 1 if something else was changed, else 2.
    Applying the same files again changes nothing.

    \b
    Examples:
      forecourt apply -f station.yaml -f cameras/
      forecourt apply -f bay-2.yaml --dry-run
      kustomize build site | forecourt apply -f -
    """
    wanted = documents.read(file)
    with Api(access.find(url, token_file)) as api:
        outcomes = []
        for outcome in applied(api, wanted, dry_run=dry_run):
            outcomes.append(outcome)
            _report(outcome, dry_run, as_json)
    if as_json:
        terminal.write_json({"dry_run": dry_run, "results": [*map(_as_json, outcomes)]})
    if any(outcome.refused for outcome in outcomes):
        raise typer.Exit(_exit_code(outcomes, dry_run))


def _exit_code(outcomes: Sequence[Outcome], dry_run: bool) -> int:
    """Of refusals: bad input if only the documents are to blame and the center is as before."""
    changed = not dry_run and any(
        each.applied and each.applied.result != "unchanged" for each in outcomes
    )
    blames = {each.refused.status for each in outcomes if each.refused}
    return BAD_INPUT if blames == {422} and not changed else FAILED


def applied(api: Api, wanted: Sequence[Document], *, dry_run: bool) -> Iterator[Outcome]:
    """Put each document, in order; one that is refused does not stop the others.

    Raises UnreachableError, saying how far it came.
    """
    for done, document in enumerate(wanted):
        try:
            yield Outcome(document, api.put(document.resource, dry_run=dry_run))
        except RefusedError as refused:
            promised = _promised(api, document.resource, wanted, refused) if dry_run else None
            yield Outcome(document, promised, None if promised else refused)
        except UnreachableError as error:
            raise UnreachableError(
                f"{error}\n{done} of {len(wanted)} documents were done before"
            ) from None


def _promised(
    api: Api, resource: Resource, wanted: Iterable[Document], refused: RefusedError
) -> Applied | None:
    """What a dry run would have said, had the documents before this one really been applied.

    None if the refusal has another reason than what this very run is going to create.
    """
    if refused.status != 422 or isinstance(resource, Station):
        return None
    blamed = {problem.path for problem in refused.problems}
    if not blamed <= _ABOUT_OTHERS:
        return None
    station = resource.metadata.station
    named = {label(document.resource): document.resource for document in wanted}
    if _STATION in blamed and f"station/{station}" not in named:
        return None
    if isinstance(resource, Task):
        camera = named.get(f"camera/{station}/{resource.spec.camera}")
        if not isinstance(camera, Camera) or resource.spec.stream not in camera.spec.streams:
            return None
    before = stored(api, resource)
    after = specs.redacted(resource)
    if before is None:
        return Applied("created", None, None, after)
    return Applied("unchanged" if before == after else "updated", None, before, after)


def stored(api: Api, resource: Resource) -> dict[str, Any] | None:
    """What the center has of a resource, as a document without passwords; None if nothing."""
    try:
        view = api.get(place(resource))
    except RefusedError as refused:
        if refused.status == 404:
            return None
        raise
    return {key: view[key] for key in ("kind", "metadata", "spec") if key in view}


def _report(outcome: Outcome, dry_run: bool, as_json: bool) -> None:
    name = label(outcome.document.resource)
    if outcome.applied is None:
        for reason in outcome.reasons:
            terminal.say(f"{outcome.document}: {reason}", "red")
        return
    suffix = " (dry run)" if dry_run else ""
    line = f"{name} {outcome.applied.result}{suffix}"
    if as_json:
        terminal.say(line)
        return
    terminal.write(line)
    if dry_run:
        _show_diff(name, outcome.applied)


def _show_diff(name: str, change: Applied) -> None:
    styles = {"+": "green", "-": "red", "@": "cyan"}
    shown = False
    for line in diff(name, change.before, change.after):
        terminal.write(line, styles.get(line[:1], ""))
        shown = True
    if change.result == "updated" and not shown:
        terminal.write("  (only a password changes; it is not shown)", "dim")


def diff(name: str, before: dict[str, Any] | None, after: dict[str, Any] | None) -> Iterator[str]:
    """The unified diff of two documents as YAML, line by line."""
    return difflib.unified_diff(
        _yaml_lines(before), _yaml_lines(after), f"{name} now", f"{name} then", lineterm=""
    )


def _yaml_lines(document: dict[str, Any] | None) -> list[str]:
    return text.write(document).splitlines() if document else []


def _as_json(outcome: Outcome) -> dict[str, Any]:
    resource, change = outcome.document.resource, outcome.applied
    return {
        "place": label(resource),
        "kind": resource.kind,
        "result": change.result if change else "refused",
        "revision": change.revision if change else None,
        "refused": list(outcome.reasons),
    }
