"""Rows of a damaged SQLite file, read page by page without SQLite.

Here: index pages of 4 KiB, which is where tables WITHOUT ROWID keep their rows. Nothing above a
page is trusted, so no damage elsewhere hides a row, and each row must prove itself by a checksum of
its own. Not here: what rows mean (salvage). The format: sqlite.org/fileformat2.html.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from edge.store.sqlite import PAGE_BYTES
from wire.events import MAX_EVENT_BYTES

Value = int | str | bytes | None
Row = tuple[Value, ...]

_LEAF, _INTERIOR = 0x0A, 0x02
_MAX_PAYLOAD = MAX_EVENT_BYTES + 256
_MAX_LOCAL = (PAGE_BYTES - 12) * 64 // 255 - 23
_MIN_LOCAL = (PAGE_BYTES - 12) * 32 // 255 - 23
_GIVE_UP_AFTER = 3
_MAX_COLUMNS = 8
_FRAME_BYTES = PAGE_BYTES + 24
_WAL_HEADER_BYTES = 32
_INTEGER_BYTES = (0, 1, 2, 3, 4, 6, 8)


def rows(path: Path, wanted: Callable[[Row], bool]) -> Iterator[Row]:
    """Every row that can be read in a file and its WAL, old copies included.

    A page is left when its first rows are not `wanted`: a page holds rows of one table.
    """
    with ExitStack() as stack:
        files = []
        for name, header, stride in (
            (path, 0, PAGE_BYTES), (path.with_name(path.name + "-wal"), 32, _FRAME_BYTES),
        ):  # fmt: skip
            if name.exists():
                descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
                stack.callback(os.close, descriptor)
                files.append((descriptor, header, stride))
        log_pages = _log_pages(*files[1][:1]) if len(files) > 1 else {}

        def load(number: int) -> Iterator[bytes]:
            """Each copy that there is of a page, newest first."""
            for offset in reversed(log_pages.get(number, [])):
                yield os.pread(files[1][0], PAGE_BYTES, offset)
            yield os.pread(files[0][0], PAGE_BYTES, (number - 1) * PAGE_BYTES)

        for descriptor, header, stride in files:
            size_bytes = os.fstat(descriptor).st_size
            for start in range(header, size_bytes, stride):
                page = os.pread(descriptor, PAGE_BYTES, start + stride - PAGE_BYTES)
                misses = 0
                for row in _rows_of(page.ljust(PAGE_BYTES, b"\0"), load):
                    if wanted(row):
                        misses = -PAGE_BYTES
                        yield row
                    else:
                        misses += 1
                    if misses == _GIVE_UP_AFTER:
                        break


def _log_pages(descriptor: int) -> dict[int, list[int]]:
    """Where in the WAL each page lies, oldest first."""
    found: dict[int, list[int]] = {}
    size_bytes = os.fstat(descriptor).st_size
    for start in range(_WAL_HEADER_BYTES, size_bytes - _FRAME_BYTES + 1, _FRAME_BYTES):
        number = int.from_bytes(os.pread(descriptor, 4, start), "big")
        found.setdefault(number, []).append(start + 24)
    return found


def _rows_of(page: bytes, load: Callable[[int], Iterator[bytes]]) -> Iterator[Row]:
    """The rows of one page; none if it is no index page."""
    if page[0] not in (_LEAF, _INTERIOR):
        return
    header = 8 if page[0] == _LEAF else 12
    count = min(int.from_bytes(page[3:5], "big"), (PAGE_BYTES - header) // 2)
    for index in range(count):
        cell = int.from_bytes(page[header + 2 * index : header + 2 * index + 2], "big")
        try:
            size_bytes, start = _varint(page, cell if page[0] == _LEAF else cell + 4)
            if not 0 < size_bytes <= _MAX_PAYLOAD:
                continue
            if size_bytes <= _MAX_LOCAL:
                yield _record(page[start : start + size_bytes])
                continue
            yield from _long_records(page, start, size_bytes, load)
        except (IndexError, ValueError):
            continue


def _long_records(
    page: bytes, start: int, size_bytes: int, load: Callable[[int], Iterator[bytes]]
) -> Iterator[Row]:
    """A long cell's row; there may be several copies of what lies on other pages."""
    local = _MIN_LOCAL + (size_bytes - _MIN_LOCAL) % (PAGE_BYTES - 4)
    if local > _MAX_LOCAL:
        local = _MIN_LOCAL
    following = int.from_bytes(page[start + local : start + local + 4], "big")
    head = page[start : start + local]
    for newest_first in (True, False):
        payload = head + _overflow(following, size_bytes - local, load, newest_first)
        if len(payload) == size_bytes:
            yield _record(payload)


def _overflow(
    number: int, size_bytes: int, load: Callable[[int], Iterator[bytes]], newest_first: bool
) -> bytes:
    """What follows on other pages; shorter than asked where the chain is broken."""
    parts: list[bytes] = []
    while size_bytes > 0 and number:
        copies = list(load(number))
        page = copies[0 if newest_first else -1]
        if len(page) < PAGE_BYTES:
            break
        number = int.from_bytes(page[:4], "big")
        parts.append(page[4 : 4 + min(size_bytes, PAGE_BYTES - 4)])
        size_bytes -= len(parts[-1])
    return b"".join(parts)


def _record(payload: bytes) -> Row:
    """The values of a record. Raises IndexError, ValueError for what is none."""
    header_bytes, position = _varint(payload, 0)
    value = header_bytes
    found: list[Value] = []
    while position < header_bytes:
        kind = payload[position]
        position += 1
        if kind >= 0x80:
            kind, position = _varint(payload, position - 1)
        if kind >= 12:
            end = value + (kind - 12) // 2
            if end > len(payload):
                raise ValueError("a value beyond the record")
            raw = payload[value:end]
            found.append(raw.decode("utf-8", "replace") if kind % 2 else raw)
            value = end
        elif 1 <= kind <= 6:
            end = value + _INTEGER_BYTES[kind]
            found.append(int.from_bytes(payload[value:end], "big", signed=True))
            value = end
        elif kind in (0, 8, 9):
            found.append((None, 0, 1)[max(0, kind - 7)])
        else:
            raise ValueError("a kind of value that no table here has")
        if len(found) > _MAX_COLUMNS:
            raise ValueError("more columns than any table here has")
    return tuple(found)


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """A number of up to 9 bytes, and where it ends."""
    value = 0
    for index in range(8):
        byte = data[position + index]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, position + index + 1
    return value << 8 | data[position + 8], position + 9
