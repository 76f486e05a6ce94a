"""What a start of the demo may put at the center, and what of the operator's it leaves alone.

Belongs here: the memory of the last start, and the choice among the wishes. Does not belong here:
what the demo wishes (wishes) and sending it (stage).
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence

from cli import terminal
from cli.api import Api
from cli.apply import stored
from cli.demo.folder import Folder
from cli.demo.network import Network
from cli.demo.scene import Scene
from cli.documents import Document
from wire import specs

Memory = Mapping[str, str]
"""Digests of what a start was given, since a URL may hold a password."""


def due(
    api: Api, wanted: Sequence[Document], before: Memory, now: Memory, *, reset: bool
) -> list[Document]:
    """The documents to put: what is missing, what the visitor asks for anew, or with reset all.

    What the operator changed besides is kept, and said to be. Raises CommandError.
    """
    anew: set[str] = set()
    if before:
        if before.get("asked") != now["asked"]:
            anew = {"Camera", "Task"}
        elif before.get("stream") != now["stream"]:  # the same clip lies elsewhere now
            anew = {"Camera"}
    put: list[Document] = []
    for document in wanted:
        there = stored(api, document.resource)
        kind = document.resource.kind
        if reset or there is None or kind in anew:
            put.append(document)
        elif kind in ("Camera", "Task") and there != specs.redacted(document.resource):
            terminal.say(f"your {kind.lower()} is kept; --reset restores the demo's", "dim")
    return put


def memory(watched: Scene, net: Network) -> Memory:
    """What to compare at the next start: the visitor's choice, and where the stream is."""
    url = str(watched.stream["url"])
    chosen = "its own scene" if watched.rendered else url
    return {"asked": _digest(chosen, net.name), "stream": _digest(url)}


def recall(folder: Folder) -> Memory:
    """The memory of the last start; empty if there was none, or if it cannot be read."""
    try:
        found = json.loads(folder.given.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def remember(folder: Folder, now: Memory) -> None:
    """Write the memory, whole, for this user's eyes."""
    fresh = folder.given.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        json.dump(now, file)
    fresh.replace(folder.given)


def _digest(*words: str) -> str:
    return hashlib.sha256("\0".join(words).encode()).hexdigest()
