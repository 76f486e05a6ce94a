"""Resources in YAML and JSON files: reading, and every problem with its file, document and field.

Belongs here: files, folders, standard input, duplicate keys, caps. Does not belong here: what a
resource may say (wire.specs) and what is done with it (apply, delete).
"""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from cli.errors import BAD_INPUT, CommandError
from wire import specs
from wire.specs import Camera, Resource, SpecError, Task

MAX_FILE_BYTES = 1024 * 1024
MAX_FILES = 1000
MAX_NODES = 200_000
"""Values in one file with YAML's aliases written out; without a cap a small file could fill RAM."""

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
        contents = list(_decoded(_text(source), source))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, _BadFileError) as error:
        problems.append(f"{shown}: {_sentence(error)}")
        return []
    for number, content in enumerate(contents, 1):
        if content is None:
            continue  # nothing between two ---
        where = f"{shown}:doc {number}"
        try:
            documents.append(Document(where, specs.parse(content)))
        except SpecError as error:
            problems += (f"{where}{_who(content)}: {problem}" for problem in error.problems)
    return documents


def _text(source: str) -> str:
    if source == "-":
        content = sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
    else:
        with Path(source).open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise _BadFileError(f"it is above the cap of {MAX_FILE_BYTES} bytes")
    return content.decode("utf-8-sig")


def _decoded(text: str, source: str) -> Iterator[object]:
    """The documents of a text. A JSON file holds one resource, or a list of them."""
    if source.endswith(".json"):
        try:
            content = json.loads(text, object_pairs_hook=_unique_pairs)
        except json.JSONDecodeError as error:
            raise _BadFileError(f"line {error.lineno}: {error.msg}") from None
        except RecursionError:
            raise _BadFileError("it is nested too deeply") from None
        yield from content if isinstance(content, list) else [content]
        return
    loader = _Loader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            assert node is not None, "check_node has just said so"
            _require_modest(node)
            yield loader.construct_document(node)
    except RecursionError:
        raise _BadFileError("it is nested too deeply") from None


class _BadFileError(ValueError):
    """A file that is no list of documents; the text says why."""


class _Loader(yaml.SafeLoader):
    """Plain data only, and a key written twice is an error: the first would be lost silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        problem=f"the key {key.value!r} is written twice",
                        problem_mark=key.start_mark,
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _unique_pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    unique = dict(pairs)
    if len(unique) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise _BadFileError(f"the key {twice!r} is written twice")
    return unique


def _require_modest(node: yaml.Node) -> None:
    """Counts the values that the aliases of a document stand for; an alias of itself is endless."""
    sizes: dict[int, int] = {}

    def size(part: yaml.Node) -> int:
        if id(part) not in sizes:
            children: Iterable[yaml.Node] = ()
            if isinstance(part, yaml.MappingNode):
                children = (each for pair in part.value for each in pair)
            elif isinstance(part, yaml.SequenceNode):
                children = part.value
            sizes[id(part)] = 1 + sum(map(size, children))
        return sizes[id(part)]

    if size(node) > MAX_NODES:
        raise _BadFileError(f"its aliases stand for more than {MAX_NODES} values")


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


def _sentence(error: Exception) -> str:
    match error:
        case OSError():
            return f"it cannot be read: {error.strerror}"
        case UnicodeDecodeError():
            return "it is no UTF-8 text"
        case yaml.MarkedYAMLError(problem=str(problem), problem_mark=yaml.Mark() as mark):
            return f"line {mark.line + 1}, column {mark.column + 1}: {problem}"
        case _:
            return str(error).splitlines()[0]
