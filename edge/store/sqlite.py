"""How this worker opens its SQLite files; no table of anybody's.

Each file has one writing connection, which also does the checkpoints; all others only read.
(SQLite before 3.51.3 can corrupt a WAL that two connections checkpoint at once.)
"""

import errno
import os
import sqlite3
from pathlib import Path

PAGE_BYTES = 4096


class CorruptError(RuntimeError):
    """A file that is no sound database."""


def open_writer(
    path: Path, schema: str, *, wal_bytes: int = 16 * 1024 * 1024
) -> sqlite3.Connection:
    """The one writing connection: WAL, every commit synced. The WAL stays near `wal_bytes`.

    Raises CorruptError for a file that is no sound database, and only then; a full disk, a lock or
    an I/O error is a sqlite3.OperationalError or OSError, and says nothing against the file.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        for pragma in (
            f"page_size = {PAGE_BYTES}",
            "journal_mode = WAL",
            "synchronous = FULL",
            "busy_timeout = 5000",
            f"journal_size_limit = {wal_bytes}",
            f"wal_autocheckpoint = {min(1000, wal_bytes // 2 // PAGE_BYTES)}",
            "secure_delete = OFF",  # what is freed need not be written once more
            "temp_store = MEMORY",
            "trusted_schema = OFF",
        ):
            connection.execute(f"PRAGMA {pragma}")
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise CorruptError(f"{path}: {verdict}")
        (synchronous,) = connection.execute("PRAGMA synchronous").fetchone()
        if synchronous != 2:
            raise CorruptError(f"{path}: commits are not synced (synchronous={synchronous})")
        connection.executescript(schema)
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        connection.close()
        if is_nonsense(error) or not isinstance(error, sqlite3.OperationalError):
            raise CorruptError(f"{path}: {error}") from None
        raise
    except CorruptError:
        connection.close()
        raise
    return connection


def is_corrupt(error: BaseException) -> bool:
    """Whether an error says that the file is damaged."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT)


def is_nonsense(error: BaseException) -> bool:
    """Whether a file that is being opened is damaged; also by a header or schema that is nonsense.

    The last are told as errors of a statement, or of a file that must not be written, of a file
    that could be opened for writing by statements that have no errors.
    """
    code = getattr(error, "sqlite_errorcode", 0)
    return is_corrupt(error) or code in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_READONLY)


def is_full(error: BaseException) -> bool:
    """Whether an error says that the disk has no room."""
    code = getattr(error, "sqlite_errorcode", 0)
    if code & 0xFF == sqlite3.SQLITE_FULL or code == sqlite3.SQLITE_IOERR_SHMSIZE:
        return True
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that cannot write. Raises sqlite3.OperationalError if there is no such file."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None,
        check_same_thread=False,
    )  # fmt: skip
    connection.text_factory = readable
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA busy_timeout = 5000")
    return connection


def readable(text: bytes) -> str:
    """Text from a disk, which may rot."""
    return text.decode("utf-8", "replace")


def set_aside(path: Path, stamp_ms: int, *, keep: int = 3) -> Path:
    """Move a damaged file and its journals out of the way, as evidence; the newest `keep` stay."""
    aside = path.with_name(f"{path.name}.corrupt-{stamp_ms}")
    while aside.exists():
        stamp_ms += 1
        aside = path.with_name(f"{path.name}.corrupt-{stamp_ms}")
    for suffix in _SUFFIXES:
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    asides = [p for p in path.parent.glob(f"{path.name}.corrupt-*") if p.suffix[-4:].isdigit()]
    for old in sorted(asides, key=lambda p: p.stat().st_mtime_ns)[:-keep]:
        remove(old)
    return aside


def remove(path: Path) -> None:
    """Delete a file with its journals, if it is there."""
    for suffix in _SUFFIXES:
        path.with_name(path.name + suffix).unlink(missing_ok=True)


_SUFFIXES = ("", "-wal", "-shm")
