"""A real center that dies or dawdles where a test says: `python -m tests.parts.faulty_center`.

    [--die before-commit:3 | after-commit:3 | after-ack:3] [--slow-s 0.05] [--pages] serve ...

Deaths are those of `kill -9`, at the n-th group of batches. Without `--pages` the console is left
out, as loading it takes longer than most tests. Everything after these flags goes to the center.
"""

import argparse
import os
import sys
import threading
import time
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

POINTS = ("before-commit", "after-commit", "after-ack")


def _without_pages() -> None:
    console = types.ModuleType("center.console.app")
    console.mount = lambda *_: None  # type: ignore[attr-defined]
    sys.modules["center.console.app"] = console


class _Failpoint:
    """Ends the process at the n-th passing of its point."""

    def __init__(self, text: str) -> None:
        self.point, _, count = text.partition(":")
        if self.point not in POINTS:
            raise ValueError(f"--die {text}: the points are {', '.join(POINTS)}")
        self._left = int(count or 1)

    def passed(self, point: str) -> None:
        """The point was reached by ingest."""
        if point == self.point:
            self._left -= 1
            if not self._left:
                os._exit(137)


def _inject(failpoint: _Failpoint | None, slow_s: float) -> None:
    from center import ingest
    from center.db import Database

    commit, answer = Database.transaction, vars(ingest)["send"]

    @contextmanager
    def transaction(self: Database, **options: Any) -> Iterator[Any]:
        ours = threading.current_thread().name == "ingest"
        with commit(self, **options) as connection:
            yield connection
            if ours and failpoint is not None:
                failpoint.passed("before-commit")
        if ours and failpoint is not None:
            failpoint.passed("after-commit")
        if ours and slow_s:
            time.sleep(slow_s)

    def send(*arguments: Any, **options: Any) -> bool:
        taken: bool = answer(*arguments, **options)
        if failpoint is not None:
            failpoint.passed("after-ack")
        return taken

    Database.transaction = transaction  # type: ignore[method-assign]
    vars(ingest)["send"] = send


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--die", type=_Failpoint)
    parser.add_argument("--slow-s", type=float, default=0.0)
    parser.add_argument("--pages", action="store_true")
    given, rest = parser.parse_known_args()
    if not given.pages:
        _without_pages()
    _inject(given.die, given.slow_s)
    from center.__main__ import main as center

    sys.argv = ["forecourt-center", *rest]
    center()


if __name__ == "__main__":
    main()
