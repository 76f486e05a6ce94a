"""The demo's data folder: what lies where, and that only one demo uses it at a time.

Belongs here: paths and the lock. Does not belong here: what the processes write into their own
folders (center, edge).
"""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cli.errors import CommandError

ORPHANS_END_WITHIN_S = 15.0


@dataclass(frozen=True, slots=True)
class Folder:
    """Paths below the data folder. `lock` is an open file descriptor that holds it."""

    root: Path
    lock: int

    @property
    def center(self) -> Path:
        """The center's own folder."""
        return self.root / "center"

    @property
    def edge(self) -> Path:
        """The worker's own folder."""
        return self.root / "edge"

    @property
    def recordings(self) -> Path:
        """Clips that the demo made."""
        return self.root / "recordings"

    @property
    def models(self) -> Path:
        """The visitor's own networks."""
        return self.root / "models"

    @property
    def logs(self) -> Path:
        """One log per process."""
        return self.root / "logs"

    @property
    def token(self) -> Path:
        """The admin token, written by the center."""
        return self.root / "admin.token"

    @property
    def address(self) -> Path:
        """Where the center of the running demo is; the other commands read it."""
        return self.root / "center.json"

    @property
    def given(self) -> Path:
        """Digests of what the last start was given."""
        return self.root / "given.json"

    def announce(self, center_url: str) -> None:
        """Let `forecourt` commands that are run beside this folder find the center."""
        fresh = self.address.with_suffix(".new")
        fresh.write_text(json.dumps({"url": center_url, "pid": os.getpid()}))
        fresh.replace(self.address)


@contextmanager
def held(root: Path) -> Iterator[Folder]:
    """The folder, made if need be, for this demo alone. Raises CommandError if it is taken.

    The processes of the demo inherit the lock. So after a demo was killed its folder is free as
    soon as they have ended too, which is waited for.
    """
    root = root.resolve()
    try:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(root / "demo.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise CommandError(f"the data folder {root} cannot be used: {error.strerror}") from None
    try:
        _acquire(lock, root)
        os.truncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        folder = Folder(root, lock)
        for each in (folder.recordings, folder.models, folder.logs):
            each.mkdir(exist_ok=True)
        try:
            yield folder
        finally:
            folder.address.unlink(missing_ok=True)
    finally:
        os.close(lock)


def _acquire(lock: int, root: Path) -> None:
    deadline = time.monotonic() + ORPHANS_END_WITHIN_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(lock)
            if holder is not None:
                raise CommandError(
                    f"another demo (process {holder}) runs in {root}: end it with Ctrl-C there, "
                    "or give another folder with --data"
                ) from None
            if time.monotonic() > deadline:
                raise CommandError(
                    f"processes of a demo that was killed still use {root}: end them, or give "
                    "another folder with --data"
                ) from None
            time.sleep(0.1)
        else:
            return


def _holder(lock: int) -> int | None:
    """The demo that took the lock, if that process still lives."""
    written = os.pread(lock, 20, 0)
    if not written.isdigit():
        return None
    try:
        os.kill(int(written), 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        return int(written)
    return int(written)
