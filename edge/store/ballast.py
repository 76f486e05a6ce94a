"""Room that is kept for the moment when the disk is full, so that it can still be told and mended.

SQLite needs room even to delete: a write-ahead log grows before the file shrinks. Not here: what is
given up then (transaction), and when (writer).
"""

import logging
import os
from pathlib import Path

log = logging.getLogger("forecourt.outbox")


class Ballast:
    """A file of really allocated bytes that is removed when nothing else can be written."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self._path = path
        self._size_bytes = size_bytes
        self.present = False

    def load(self) -> bool:
        """Make it where there is room three times over. True if it is there now.

        One of no bytes is there as soon as there is any room.
        """
        if self.present:
            return True
        try:
            if not self._size_bytes:
                return self._affordable()
            self.present = self._allocated() or (self._affordable() and self._allocate())
        except OSError as error:
            self.release()
            log.warning("no room is kept for a full disk (%s): %s", self._path.name, error)
        return self.present

    def release(self) -> bool:
        """Free its room. True if there was any."""
        self.present = False
        try:
            there = self._path.exists()
            self._path.unlink(missing_ok=True)
        except OSError as error:
            log.error("the room kept for a full disk cannot be freed: %s", error)
            return False
        return there

    def _affordable(self) -> bool:
        room = os.statvfs(self._path.parent)
        return room.f_bavail * room.f_frsize > 3 * self._size_bytes

    def _allocated(self) -> bool:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return False
        return found.st_size == self._size_bytes and found.st_blocks * 512 >= self._size_bytes

    def _allocate(self) -> bool:
        self._path.unlink(missing_ok=True)
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, self._size_bytes)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return True
