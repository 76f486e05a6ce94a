"""Resources in YAML and JSON files: reading, and every problem with its file, document and field.

Belongs here: files, folders, standard input, JSON. Does not belong here: how YAML is read
(wire.text), what a resource may say (wire.specs) and what is done with it (apply, delete).
"""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from cli.errors import BAD_INPUT, CommandError
from wire import specs, text
from wire.specs import Camera, Resource, SpecError, Task
from wire.text import TextError

MAX_FILES = 1000

ORDER = ("Station", "Worker", "Camera", "Task")
"""What comes first needs nothing of what comes later."""

Files = Annotated[
    list[str],
    typer.Option(
        "--file", "-f", help="YAML or JSON file, folder, or - for standard input; repeatable."
    ),
]


@dataclass(frozen=True, slots=True)
class Document:
    """A resource and where it was written: `bay.yaml:doc 2`."""

    where: str
    resource: Resource

    def __str__(self) -> str:
        return f"{self.where} ({self.resource.kind} {self.resource.metadata.name})"


def label(resource: Resource) -> str:
    """`task/s0042/bay-2`, `station/s0042`, `worker/s0042-1`."""
    kind, name = resource.kind.lower(), resource.metadata.name
    if isinstance(resource, Camera | Task):
        return f"{kind}/{resource.metadata.station}/{name}"
    return f"{kind}/{name}"


def read(sources: Sequence[str]) -> list[Document]:
    """All documents of all sources, in `ORDER`. Raises CommandError with everything wrong."""
    problems: list[str] = []
    documents: list[Document] = []
    for path in _expanded(sources, problems):
        documents += _read_one(path, problems)
    problems += _repeated(documents)
    if not documents and not problems:
        problems.append(f"no documents in {', '.join(sources)}")
    if problems:
        raise CommandError("\n".join(problems), BAD_INPUT)
    return sorted(documents, key=lambda document: ORDER.index(document.resource.kind))


def _expanded(sources: Iterable[str], problems: list[str]) -> Iterator[str]:
    """Each file; of a folder those directly in it that end in .yaml, .yml or .json, by name."""
    for source in sources:
        folder = Path(source)
        if source == "-" or not folder.is_dir():
            yield source
            continue
        found = sorted(p for p in folder.iterdir() if p.suffix in (".yaml", ".yml", ".json"))
        if not found:
            problems.append(f"{source}: no .yaml, .yml or .json file in this folder")
        if len(found) > MAX_FILES:
            problems.append(f"{source}: {len(found)} files are above the cap of {MAX_FILES}")
            continue
        yield from map(str, found)


def _read_one(source: str, problems: list[str]) -> list[Document]:
    shown = "standard input" if source == "-" else source
    documents: list[Document] = []
    try:
        contents = _contents(source)
    except OSError as error:
        problems.append(f"{shown}: it cannot be read: {error.strerror}")
        return []
    except TextError as error:
        problems.append(f"{shown}: {error}")
        return []
    for number, written in enumerate(contents, 1):
        content = _without_status(written)
        where = f"{shown}:doc {number}"
        try:
            documents.append(Document(where, specs.parse(content)))
        except SpecError as error:
            problems += (f"{where}{_who(content)}: {problem}" for problem in error.problems)
    return documents


def _contents(source: str) -> list[object]:
    """The documents of a file; JSON holds one, a list of them, or a list as `items`."""
    if source == "-":
        written = sys.stdin.buffer.read(text.MAX_BYTES + 1)
    else:
        with Path(source).open("rb") as file:
            written = file.read(text.MAX_BYTES + 1)
    if not source.endswith(".json"):
        return [each for document in text.read(written) for each in _items(document.content)]
    try:
        content = json.loads(text.decoded(written), object_pairs_hook=_unique_pairs)
    except json.JSONDecodeError as error:
        raise TextError(error.msg, error.lineno, error.colno) from None
    except RecursionError:
        raise TextError("it is nested too deeply") from None
    return content if isinstance(content, list) else _items(content)


def _items(content: object) -> list[object]:
    """What a list as `get -o json` prints it holds, or the one document itself."""
    if isinstance(content, dict) and content.keys() == {"items"}:
        items = content["items"]
        if isinstance(items, list):
            return items
    return [content]


def _without_status(content: object) -> object:
    """What the center tells of a resource besides is not the operator's to say."""
    if not isinstance(content, dict):
        return content
    return {key: value for key, value in content.items() if key != "status"}


def _unique_pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    unique = dict(pairs)
    if len(unique) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise TextError(f"{twice!r} is written twice")
    return unique


def _who(content: object) -> str:
    """` (Task bay-2)`, as far as a document that is wrong says so."""
    if not isinstance(content, dict):
        return ""
    metadata = content.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    words = [word for word in (content.get("kind"), name) if isinstance(word, str)]
    return f" ({' '.join(words)})" if words else ""


def _repeated(documents: Iterable[Document]) -> Iterator[str]:
    first: dict[str, str] = {}
    for document in documents:
        key = label(document.resource)
        if key in first:
            yield f"{document}: {key} is also written in {first[key]}"
        first.setdefault(key, document.where)
