"""Who a data folder is: its identity on disk, held by one live process at a time.

Not here: what else lies in the folder (outbox, desired).
"""

import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class InstanceLockedError(RuntimeError):
    """Another live process has this data folder."""


@contextmanager
def locked(data: Path) -> Iterator[str]:
    """The folder's instance id, while this process holds its lock.

    The lock ends with the process, however it ends. Raises InstanceLockedError, OSError.
    """
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(data / "instance", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InstanceLockedError(
                f"another worker process is using {data}; stop it, or name another --data folder"
            ) from None
        name = os.read(descriptor, 64).decode("ascii", "replace").strip()
        if len(name) != 32:
            name = uuid.uuid4().hex
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{name}\n".encode(), 0)
            os.fsync(descriptor)
        yield name
    finally:
        os.close(descriptor)
