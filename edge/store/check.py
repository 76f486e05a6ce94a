"""`forecourt-edge check`: what can be verified at rest in a worker's data folder.

Reads only. Not here: mending; each finding says what to do.
"""

import json
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from edge.store import sqlite, tables
from edge.store.lanes import LaneState
from wire import specs
from wire.messages import digest, item_hash

_SALVAGE = "restart the worker: it sets the file aside and salvages what can be read"
_REPORT = "report it with a copy of the folder: an event may have been forgotten before its ack"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: where, what, and what to do."""

    file: str
    problem: str
    advice: str


def findings(data: Path) -> Iterator[Finding]:
    """Everything that is wrong in the folder. Raises FileNotFoundError where no worker was."""
    if not (data / "instance").exists():
        raise FileNotFoundError(f"{data} is no worker's data folder: it has no file `instance`")
    for name, look in (("outbox.db", _outbox), ("desired.db", _desired)):
        path = data / name
        if not path.exists():
            yield Finding(name, "is missing", "start the worker once; it makes a new one")
            continue
        try:
            with closing(sqlite.open_reader(path)) as connection:
                for (verdict,) in connection.execute("PRAGMA integrity_check(10)"):
                    if verdict != "ok":
                        yield Finding(name, verdict, _SALVAGE)
                yield from look(name, connection)
        except sqlite3.DatabaseError as error:
            yield Finding(name, f"cannot be read: {error}", _SALVAGE)
    for aside in sorted(data.glob("*.corrupt-*")):
        if not aside.name.endswith(("-wal", "-shm")):
            yield Finding(
                aside.name, "was set aside as damaged", "keep it for salvage, or delete it"
            )


def _outbox(name: str, connection: sqlite3.Connection) -> Iterator[Finding]:
    """Each number above the watermark is there or in a gap (I1, I4); every row is sound."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version != tables.VERSION:
        advice = "start the worker once: it brings an older file to its own version"
        yield Finding(name, f"has version {version}, not {tables.VERSION}", advice)
        return
    states: dict[int, LaneState] = {}
    for row in connection.execute("SELECT * FROM lanes ORDER BY number").fetchall():
        state = tables.lane_from(row)
        if state is None:
            yield Finding(name, f"the row of lane {row[0]} does not fit its checksum", _SALVAGE)
        else:
            states[state.number] = state
            yield from _lane(name, connection, state)
    for table, strays in _strays(connection):
        yield Finding(name, f"{strays} rows of `{table}` belong to no known lane", _SALVAGE)
    for number, seq, row, crc, body in connection.execute("SELECT * FROM events"):
        state = states.get(number)
        if state is not None and not tables.sound(state.seed, seq, row, crc, body):
            problem = f"epoch {state.epoch} lane {state.lane}: event {seq} has rotted"
            yield Finding(name, problem, "check the disk; the center is told of it as a gap")
    for incident, number, seq, row, crc, body in connection.execute("SELECT * FROM incidents"):
        state = states.get(number)
        if state is None or not tables.sound(state.seed, seq, row, crc, body):
            yield Finding(name, f"open incident {incident} has rotted", _SALVAGE)


def _lane(name: str, connection: sqlite3.Connection, state: LaneState) -> Iterator[Finding]:
    """From the watermark to the highest number there is no hole (I3, I4)."""
    where = f"epoch {state.epoch} lane {state.lane}"
    if state.acked > max(state.high, state.told):
        problem = f"{where}: acked {state.acked} is above the highest {state.high}"
        yield Finding(name, problem, _REPORT)
    position = state.acked
    for first, last in connection.execute(
        "SELECT seq, seq FROM events WHERE lane = ? AND seq > ?"
        " UNION ALL SELECT first, last FROM gaps WHERE lane = ? AND last > ? ORDER BY 1",
        (state.number, state.acked, state.number, state.acked),
    ):
        # What a restored center asks for once more may have been forgotten: a gap when sent.
        if first > max(position, state.told) + 1:
            missing = f"{max(position, state.told) + 1}..{first - 1}"
            yield Finding(name, f"{where}: {missing} are missing", _REPORT)
        position = max(position, last)
    if max(position, state.told) < state.high:
        problem = f"{where}: it ends at {position}, and {state.high} was given out"
        yield Finding(name, problem, _REPORT)
    for first, last, why, crc in connection.execute(
        "SELECT first, last, why, crc FROM gaps WHERE lane = ?", (state.number,)
    ):
        if crc != tables.seal_gap(state.seed, first, last, why):
            yield Finding(name, f"{where}: gap {first}..{last} has rotted", _SALVAGE)


def _strays(connection: sqlite3.Connection) -> Iterator[tuple[str, int]]:
    for table, query in (
        ("events", "SELECT count(*) FROM events WHERE lane NOT IN (SELECT number FROM lanes)"),
        ("gaps", "SELECT count(*) FROM gaps WHERE lane NOT IN (SELECT number FROM lanes)"),
    ):
        (count,) = connection.execute(query).fetchone()
        if count:
            yield table, count


def _desired(name: str, connection: sqlite3.Connection) -> Iterator[Finding]:
    """The document's digest fits its items, and each item can be read."""
    again = "connect the worker to its center: it sends the whole document when digests differ"
    facts = dict(connection.execute("SELECT name, value FROM facts").fetchall())
    entries = []
    for kind, item, revision, body in connection.execute(
        "SELECT kind, id, revision, CAST(body AS BLOB) FROM items"
    ).fetchall():
        entries.append((kind, item, revision, item_hash(body)))
        try:
            specs.parse(json.loads(body))
        except ValueError as error:
            yield Finding(name, f"{kind} {item}: {error}", "correct it at the center")
    if "digest" in facts and digest(entries) != facts["digest"]:
        yield Finding(name, "the document's digest does not fit its items", again)


def command(data: Path, *, as_json: bool) -> int:
    """Print the findings; the exit code."""
    try:
        found = list(findings(data))
    except FileNotFoundError as error:
        print(f"forecourt-edge: {error}", file=sys.stderr)  # noqa: T201 - a command's output
        return 2
    if as_json:
        answer = {"ok": not found, "findings": [asdict(finding) for finding in found]}
        print(json.dumps(answer))  # noqa: T201
    else:
        for finding in found:
            print(f"{finding.file}: {finding.problem}\n  -> {finding.advice}")  # noqa: T201
        print(f"{data}: {len(found)} findings" if found else f"{data}: all is well")  # noqa: T201
    return 1 if found else 0
