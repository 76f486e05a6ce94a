"""The outbox's tables: what a row is, what it is sealed with, and files of an earlier kind.

Here: the schema, checksums, reading a file into the index. Not here: when what is written (writer).

Every commit is synced, so what counts is how few pages it touches: rows are keyed by a small number
of their lane, and nothing else is indexed. Each row carries a CRC-32 of all that it says and of
whose it is: a disk may rot in ways that SQLite cannot see, and a row can be told from noise.
"""

import functools
import re
import sqlite3
import zlib
from contextlib import closing
from dataclasses import dataclass

from edge.store import sqlite
from edge.store.lanes import LaneState, open_end
from wire.events import LANES, Lane

VERSION = 1
SCHEMA = f"""
CREATE TABLE IF NOT EXISTS lanes (
  number  INTEGER NOT NULL PRIMARY KEY,  -- in the order of birth
  epoch   INTEGER NOT NULL,
  lane    TEXT    NOT NULL,
  acked   INTEGER NOT NULL,              -- the center's watermark, or less: written in groups
  high    INTEGER NOT NULL,              -- at least; rows and gaps above it say more
  told    INTEGER NOT NULL,              -- the highest watermark ever heard
  told_ms INTEGER NOT NULL,
  crc     INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events (
  lane INTEGER NOT NULL,
  seq  INTEGER NOT NULL,
  id   INTEGER NOT NULL,                 -- order of append, for the display
  crc  INTEGER NOT NULL,
  body BLOB    NOT NULL,                 -- JSON, byte for byte what is sent
  PRIMARY KEY (lane, seq)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS gaps (        -- declared loss, until the watermark is past it
  lane  INTEGER NOT NULL,
  first INTEGER NOT NULL,
  last  INTEGER NOT NULL,
  why   TEXT    NOT NULL,
  crc   INTEGER NOT NULL,
  PRIMARY KEY (lane, first)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS incidents (   -- begun and not ended: what a crash leaves open
  incident TEXT    NOT NULL PRIMARY KEY,
  lane     INTEGER NOT NULL,             -- of its latest event
  seq      INTEGER NOT NULL,
  id       INTEGER NOT NULL,
  crc      INTEGER NOT NULL,
  body     BLOB    NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS marks (       -- when the watermark was where, to know the age of acks
  lane  INTEGER NOT NULL,
  seq   INTEGER NOT NULL,
  at_ms INTEGER NOT NULL,
  PRIMARY KEY (lane, seq)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS shed (        -- the ledger of what was given up, newest 1000
  id         INTEGER NOT NULL PRIMARY KEY,
  epoch      INTEGER NOT NULL,
  lane       TEXT    NOT NULL,
  first      INTEGER NOT NULL,
  last       INTEGER NOT NULL,
  why        TEXT    NOT NULL,
  size_bytes INTEGER NOT NULL,
  at_ms      INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS refused (     -- what the center could not read, newest 100
  id    INTEGER NOT NULL PRIMARY KEY,
  epoch INTEGER NOT NULL,
  lane  TEXT    NOT NULL,
  seq   INTEGER NOT NULL,
  body  BLOB    NOT NULL
) WITHOUT ROWID;
PRAGMA user_version = {VERSION};
"""


@dataclass(frozen=True, slots=True)
class Stored:
    """An event on disk. `id` is its place in the order of append."""

    id: int
    epoch: int
    lane: Lane
    seq: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Shed:
    """Events that were given up: whose, which, why, how large, and when (wall time)."""

    epoch: int
    lane: Lane
    first: int
    last: int
    why: str
    size_bytes: int
    at_ms: int


def seal(seed: int, seq: int, row: int, body: bytes) -> int:
    """Checksum of an event's row; `seed` is its lane's."""
    return zlib.crc32(body, zlib.crc32(b"%d %d" % (seq, row), seed))


def seal_gap(seed: int, first: int, last: int, why: str) -> int:
    """Checksum of a gap's row."""
    return zlib.crc32(f"gap {first} {last} {why}".encode(errors="replace"), seed)


def seal_lane(
    number: int, epoch: int, lane: str, acked: int, high: int, told: int, told_ms: int
) -> int:
    """Checksum of a lane's row."""
    said = f"lane {number} {epoch} {lane} {acked} {high} {told} {told_ms}"
    return zlib.crc32(said.encode(errors="replace"))


def lane_row(state: LaneState, acked: int) -> tuple[int | str, ...]:
    """A lane's row with this watermark."""
    row = (
        state.number, state.epoch, state.lane, acked, max(state.high, acked), state.told,
        state.told_ms,
    )  # fmt: skip
    return (*row, seal_lane(*row))


def lane_from(row: tuple[object, ...]) -> LaneState | None:
    """A lane from its row; None if the row has rotted."""
    match row:
        case (int(number), int(epoch), str(name), int(acked), int(high), int(told), int(at), crc):
            for lane in LANES:
                if lane == name and crc == seal_lane(number, epoch, lane, acked, high, told, at):
                    return LaneState(
                        number=number, epoch=epoch, lane=lane, acked=acked, high=high, told=told,
                        told_ms=at, saved=acked, on_disk=True,
                    )  # fmt: skip
    return None


@dataclass(slots=True)
class Totals:
    """What the writer knows of the file as a whole; sizes are those of bodies, in bytes."""

    size_bytes: int = 0
    acked_bytes: int = 0
    last_id: int = 0
    last_lane: int = 0
    shed: int = 0
    """Events given up since the process began."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What is kept in memory of a file."""

    lanes: list[LaneState]
    open_incidents: dict[str, Stored]
    totals: Totals


def load(connection: sqlite3.Connection) -> Contents:
    """Read the index from a file. Raises sqlite.CorruptError if it contradicts itself.

    Highest numbers are found by going through all rows, not by looking one up: a lookup may miss
    rows on a page whose key has rotted.
    """
    if _shape(connection) != _shape_of_this_version():
        raise sqlite.CorruptError("its tables are not those of an outbox")
    totals = Totals()
    by_number: dict[int, LaneState] = {}
    for row in connection.execute("SELECT * FROM lanes"):
        state = lane_from(row)
        if state is None:
            raise sqlite.CorruptError(f"the row of lane {row[0]!r} does not fit its checksum")
        by_number[state.number] = state
        totals.last_lane = max(totals.last_lane, state.number)
    seen: set[int] = set()
    for number, size_bytes, last_id in connection.execute(
        "SELECT lane, sum(length(body)), max(id) FROM events GROUP BY lane"
    ).fetchall():
        state = by_number.get(number)
        if state is None or number in seen:
            raise sqlite.CorruptError(f"events of lane {number!r} are not where they belong")
        seen.add(number)
        tail = connection.execute(
            "SELECT seq, id, crc, body FROM events WHERE lane = ? ORDER BY seq DESC LIMIT 1",
            (number,),
        ).fetchone()
        if tail is None or tail[1] != last_id or not sound(state.seed, *tail):
            raise sqlite.CorruptError(f"the last event of lane {number} has rotted")
        state.high = max(state.high, tail[0])
        (acked_bytes,) = connection.execute(
            "SELECT coalesce(sum(length(body)), 0) FROM events WHERE lane = ? AND seq <= ?",
            (number, state.acked),
        ).fetchone()
        totals.size_bytes += size_bytes
        totals.acked_bytes += acked_bytes
        totals.last_id = max(totals.last_id, last_id)
    for number, first, last, why, crc in connection.execute("SELECT * FROM gaps"):
        state = by_number.get(number)
        if state is None or crc != seal_gap(state.seed, first, last, why):
            raise sqlite.CorruptError(f"a gap of lane {number!r} does not fit its checksum")
        state.high = max(state.high, last)
        if open_end(last):
            state.open_from = first
    open_incidents: dict[str, Stored] = {}
    for incident, number, seq, row, crc, body in connection.execute("SELECT * FROM incidents"):
        state = by_number.get(number)
        if state is None or not sound(state.seed, seq, row, crc, body):
            raise sqlite.CorruptError("an open incident does not fit its checksum")
        open_incidents[incident] = Stored(row, state.epoch, state.lane, seq, body)
    return Contents(list(by_number.values()), open_incidents, totals)


NONSENSE = (sqlite3.ProgrammingError, sqlite3.DataError, OverflowError, TypeError, ValueError)
"""What reading a file raises whose values are none that a column can have."""


def _shape(connection: sqlite3.Connection) -> dict[str, str]:
    """Each table's definition, without remarks."""
    return {
        name: " ".join(re.sub(r"--.*", "", sql).split())
        for name, sql in connection.execute("SELECT name, sql FROM sqlite_schema")
        if name != "sqlite_sequence"
    }


@functools.cache
def _shape_of_this_version() -> dict[str, str]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(SCHEMA)
        return _shape(connection)


def sound(seed: int, seq: object, row: object, crc: object, body: object) -> bool:
    """Whether an event's row is what was written; a disk may rot."""
    return (
        type(body) is bytes and type(seq) is int and type(row) is int
        and crc == seal(seed, seq, row, body)
    )  # fmt: skip


def migrate(connection: sqlite3.Connection) -> int:
    """Bring a file of version 0 to this one in one transaction; how many events it had.

    A fresh file has no tables and needs none of this: None of its rows is touched.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version not in (0, VERSION):
        raise sqlite.CorruptError(f"it has version {version}, not {VERSION}")
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
    if version or "events" not in names:
        return 0
    connection.execute("BEGIN IMMEDIATE")
    try:
        for name in ("events", "lanes", "gaps", "incidents"):
            connection.execute(f"ALTER TABLE {name} RENAME TO old_{name}")
        for statement in SCHEMA.split(";\n"):
            if statement.strip():
                connection.execute(statement)
        moved = _move(connection)
        for name in ("events", "lanes", "gaps", "incidents"):
            connection.execute(f"DROP TABLE old_{name}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return moved


def _move(connection: sqlite3.Connection) -> int:
    states: dict[tuple[int, str], LaneState] = {}
    for number, (epoch, lane, high, acked, born_ms) in enumerate(connection.execute(
        "SELECT epoch, lane, high, acked, born_ms FROM old_lanes ORDER BY"
        " (SELECT min(id) FROM old_events e WHERE e.epoch = old_lanes.epoch), born_ms, epoch, lane"
    ).fetchall(), 1):  # fmt: skip
        state = LaneState(
            number=number, epoch=epoch, lane=lane, acked=acked, high=high, told=acked,
            told_ms=born_ms if acked else 0,
        )  # fmt: skip
        states[epoch, lane] = state
        connection.execute(INSERT_LANE, lane_row(state, acked))
    moved = 0
    for row, epoch, lane, seq, body in connection.execute(
        "SELECT id, epoch, lane, seq, CAST(body AS BLOB) FROM old_events ORDER BY id"
    ):
        state = states[epoch, lane]
        connection.execute(
            INSERT_EVENT, (state.number, seq, row, seal(state.seed, seq, row, body), body)
        )
        moved += 1
    for epoch, lane, first, last, why in connection.execute(
        "SELECT epoch, lane, first, last, why FROM old_gaps"
    ).fetchall():
        state = states[epoch, lane]
        connection.execute(INSERT_GAP, (state.number, first, last, why,
                                        seal_gap(state.seed, first, last, why)))  # fmt: skip
    for incident, body in connection.execute(
        "SELECT incident, CAST(body AS BLOB) FROM old_incidents"
    ).fetchall():
        found = connection.execute(
            "SELECT lane, seq, id, crc FROM events WHERE body = ?", (body,)
        ).fetchone()
        if found is not None:
            connection.execute(INSERT_INCIDENT, (incident, *found, body))
    return moved


INSERT_LANE = "INSERT OR REPLACE INTO lanes VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
INSERT_EVENT = "INSERT INTO events (lane, seq, id, crc, body) VALUES (?, ?, ?, ?, ?)"
SAVE_EVENT = "INSERT OR IGNORE INTO events (lane, seq, id, crc, body) VALUES (?, ?, ?, ?, ?)"
INSERT_GAP = "INSERT OR REPLACE INTO gaps (lane, first, last, why, crc) VALUES (?, ?, ?, ?, ?)"
INSERT_INCIDENT = "INSERT OR REPLACE INTO incidents VALUES (?, ?, ?, ?, ?, ?)"

SHED_LEDGER = "SELECT epoch, lane, first, last, why, size_bytes, at_ms FROM shed ORDER BY id DESC"
"""The columns of `Shed`, newest first."""
LANES_WITH_ROWS = """
WITH RECURSIVE hop (number) AS (
  SELECT min(lane) FROM events
  UNION ALL
  SELECT (SELECT min(lane) FROM events WHERE lane > number) FROM hop WHERE number NOTNULL
) SELECT number FROM hop WHERE number NOTNULL
"""
"""Oldest first, without going through the rows."""
