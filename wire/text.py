"""YAML as operators write it, to plain data and back: pure.

Here: the cap, what is refused (a key written twice, aliases, tags), the place of a problem in the
text, and how a document is laid out. Not here: files, and what a resource may say (specs).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

MAX_BYTES = 1024 * 1024
WIDTH = 88


class TextError(ValueError):
    """A text that cannot be read: why, and where, counted from 1; `str()` says both."""

    def __init__(self, problem: str, line: int | None = None, column: int | None = None) -> None:
        super().__init__(problem if line is None else f"line {line}, column {column}: {problem}")
        self.problem = problem
        self.line = line


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a text: its content as plain data, and where each part of it is written."""

    content: object
    _node: yaml.Node

    def line_of(self, path: Sequence[str | int]) -> int | None:
        """The line, from 1, of the deepest part of the path that is written; None: none is."""
        line, node = None, self._node
        for part in path:
            found = _child(node, part)
            if found is None:
                break
            at, node = found
            line = at.start_mark.line + 1
        return line


def decoded(content: bytes, max_bytes: int = MAX_BYTES) -> str:
    """The text of a file. Raises TextError for one above the cap, or that is no UTF-8."""
    if len(content) > max_bytes:
        raise TextError(f"it is above the cap of {max_bytes} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise TextError("it is no UTF-8 text") from None


def read(content: bytes, max_bytes: int = MAX_BYTES) -> list[Document]:
    """The documents of a text, without empty ones. Raises TextError."""
    try:
        return list(_documents(_Loader(decoded(content, max_bytes))))
    except yaml.MarkedYAMLError as error:
        problem, mark = error.problem or "this is no YAML", error.problem_mark
        if mark is None:
            raise TextError(problem) from None
        raise TextError(problem, mark.line + 1, mark.column + 1) from None
    except yaml.YAMLError as error:
        raise TextError(str(error).partition("\n")[0]) from None
    except RecursionError:
        raise TextError("it is nested too deeply") from None


def write(document: Mapping[str, Any]) -> str:
    """YAML in blocks; lists without mappings, such as points, on one line, and `OneLine` too."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=WIDTH)


class OneLine(dict[str, Any]):
    """A mapping that is written on one line."""


def _documents(loader: "_Loader") -> Iterator[Document]:
    while loader.check_node():
        node = loader.get_node()
        assert node is not None, "check_node has just said so"
        content = loader.construct_document(node)
        if content is not None:  # nothing between two ---
            yield Document(content, node)


def _child(node: yaml.Node, part: str | int) -> tuple[yaml.Node, yaml.Node] | None:
    """Where the part begins, and its value."""
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part]
    if isinstance(node, yaml.MappingNode):
        return next(((key, value) for key, value in node.value if key.value == part), None)
    return None


class _Loader(yaml.SafeLoader):
    """Plain data only: no aliases, which could make a small text large; no key twice, as the first
    would be lost silently; no tags.
    """

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]  # the stubs leave it out
        if isinstance(event, yaml.AliasEvent):
            raise _refused("write this out, without *alias", event)
        if event.tag is not None:
            raise _refused("write this without its !tag", event)
        node: yaml.Node | None = super().compose_node(parent, index)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except ValueError as error:  # 2001-02-31, a number of ten thousand digits
            raise _refused(f"this cannot be read: {error}", node) from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise _refused(f"{key.value!r} is written twice", key)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _refused(problem: str, at: yaml.Node | yaml.Event) -> yaml.MarkedYAMLError:
    mark: Any = at.start_mark  # the stubs know marks of two parsers, and errors of one
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


class _Dumper(yaml.SafeDumper):
    """The layout of `write`; nothing is written as an alias."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _is_flat(values: list[Any]) -> bool:
    return not any(
        isinstance(value, dict) or (isinstance(value, list) and not _is_flat(value))
        for value in values
    )


_Dumper.add_representer(
    list,
    lambda dumper, values: dumper.represent_sequence(
        "tag:yaml.org,2002:seq", values, _is_flat(values)
    ),
)
_Dumper.add_representer(
    OneLine,
    lambda dumper, parts: dumper.represent_mapping("tag:yaml.org,2002:map", parts, True),
)
_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, None if text.isprintable() else '"'
    ),
)
