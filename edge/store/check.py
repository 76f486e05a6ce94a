"""`forecourt-edge check`: what can be verified at rest in a worker's data folder.

Reads only. Not here: mending; each finding says what to do.
"""

import json
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from edge.store import models, sqlite, tables
from edge.store.lanes import LaneState
from edge.store.tables import Shed
from wire import specs
from wire.facts import Fact
from wire.messages import digest, item_hash

_NEWEST_SHED = 50
_SALVAGE = "restart the worker: it sets the file aside and salvages what can be read"
_REPORT = "report it with a copy of the folder: an event may have been forgotten before its ack"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: where, which invariant it harms, what, and what to do."""

    file: str
    invariant: str
    problem: str
    advice: str


def findings(data: Path) -> Iterator[Finding]:
    """Everything that is wrong in the folder. Raises FileNotFoundError where no worker was."""
    if not (data / "instance").exists():
        raise FileNotFoundError(f"{data} is no worker's data folder: it has no file `instance`")
    for name, (invariant, look) in _LOOKS.items():
        path = data / name
        if not path.exists() and name == "facts.db":
            continue  # an older worker has none
        if not path.exists():
            yield Finding(
                name, invariant, "is missing", "start the worker once; it makes a new one"
            )
            continue
        try:
            with closing(sqlite.open_reader(path)) as connection:
                for (verdict,) in connection.execute("PRAGMA integrity_check(10)"):
                    if verdict != "ok":
                        yield Finding(name, invariant, verdict, _SALVAGE)
                yield from look(name, connection)
        except sqlite3.DatabaseError as error:
            yield Finding(name, invariant, f"cannot be read: {error}", _SALVAGE)
    for path in models.rotten(data):
        advice = "delete it: the worker fetches it again"
        yield Finding(f"models/{path.name}", "I7", "is not what its name says", advice)
    for aside in sorted(data.glob("*.corrupt-*")):
        if not aside.name.endswith(("-wal", "-shm")):
            invariant, _ = _LOOKS.get(aside.name.partition(".corrupt-")[0], ("I1", None))
            advice = "keep it for salvage, or delete it"
            yield Finding(aside.name, invariant, "was set aside as damaged", advice)


def _outbox(name: str, connection: sqlite3.Connection) -> Iterator[Finding]:
    """Each number above the watermark is there or in a gap (I1, I4); every row is sound."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version != tables.VERSION:
        advice = "start the worker once: it brings an older file to its own version"
        yield Finding(name, "I1", f"has version {version}, not {tables.VERSION}", advice)
        return
    states: dict[int, LaneState] = {}
    for row in connection.execute("SELECT * FROM lanes ORDER BY number").fetchall():
        state = tables.lane_from(row)
        if state is None:
            yield Finding(
                name, "I1", f"the row of lane {row[0]} does not fit its checksum", _SALVAGE
            )
        else:
            states[state.number] = state
            yield from _lane(name, connection, state)
    for table, strays in _strays(connection):
        yield Finding(name, "I1", f"{strays} rows of `{table}` belong to no known lane", _SALVAGE)
    for number, seq, row, crc, body in connection.execute("SELECT * FROM events"):
        state = states.get(number)
        if state is not None and not tables.sound(state.seed, seq, row, crc, body):
            problem = f"epoch {state.epoch} lane {state.lane}: event {seq} has rotted"
            yield Finding(name, "I1", problem, "check the disk; the center is told of it as a gap")
    for incident, number, seq, row, crc, body in connection.execute("SELECT * FROM incidents"):
        state = states.get(number)
        if state is None or not tables.sound(state.seed, seq, row, crc, body):
            yield Finding(name, "I1", f"open incident {incident} has rotted", _SALVAGE)


def _lane(name: str, connection: sqlite3.Connection, state: LaneState) -> Iterator[Finding]:
    """From the watermark to the highest number there is no hole (I3, I4)."""
    where = f"epoch {state.epoch} lane {state.lane}"
    if state.acked > max(state.high, state.told):
        problem = f"{where}: acked {state.acked} is above the highest {state.high}"
        yield Finding(name, "I3", problem, _REPORT)
    position = state.acked
    for first, last in connection.execute(
        "SELECT seq, seq FROM events WHERE lane = ? AND seq > ?"
        " UNION ALL SELECT first, last FROM gaps WHERE lane = ? AND last > ? ORDER BY 1",
        (state.number, state.acked, state.number, state.acked),
    ):
        # What a restored center asks for once more may have been forgotten: a gap when sent.
        if first > max(position, state.told) + 1:
            missing = f"{max(position, state.told) + 1}..{first - 1}"
            yield Finding(name, "I4", f"{where}: {missing} are missing", _REPORT)
        position = max(position, last)
    if max(position, state.told) < state.high:
        problem = f"{where}: it ends at {position}, and {state.high} was given out"
        yield Finding(name, "I4", problem, _REPORT)
    for first, last, why, crc in connection.execute(
        "SELECT first, last, why, crc FROM gaps WHERE lane = ?", (state.number,)
    ):
        if crc != tables.seal_gap(state.seed, first, last, why):
            yield Finding(name, "I1", f"{where}: gap {first}..{last} has rotted", _SALVAGE)


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
            yield Finding(name, "I5", f"{kind} {item}: {error}", "correct it at the center")
    if "digest" in facts and digest(entries) != facts["digest"]:
        yield Finding(name, "I5", "the document's digest does not fit its items", again)


def _facts(name: str, connection: sqlite3.Connection) -> Iterator[Finding]:
    """Each fact of an input can be read."""
    again = "nothing, if the input says something soon; until then it is unknown after a restart"
    for row, body in connection.execute("SELECT input, CAST(body AS BLOB) FROM facts").fetchall():
        try:
            msgspec.json.decode(body, type=Fact)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            yield Finding(name, "I7", f"what {row} said has rotted", again)


_LOOKS = {
    "outbox.db": ("I1", _outbox),
    "desired.db": ("I5", _desired),
    "facts.db": ("I7", _facts),
}
"""By file: the invariant that its loss harms, and what is verified in it."""


@dataclass(frozen=True, slots=True)
class GivenUp:
    """What this worker gave up: nothing that is wrong, as all of it was declared."""

    shed: list[Shed]
    """For want of room; newest first."""
    dead_letters: int
    """Events that the center could not read and that are kept here."""


def given_up(data: Path) -> GivenUp:
    """The ledger of what was shed, and how many dead letters there are."""
    path = data / "outbox.db"
    try:
        with closing(sqlite.open_reader(path)) as connection:
            shed = connection.execute(tables.SHED_LEDGER).fetchall()
            (letters,) = connection.execute("SELECT count(*) FROM refused").fetchone()
    except sqlite3.DatabaseError:  # missing, damaged or of an earlier version: that is a finding
        return GivenUp([], 0)
    return GivenUp([Shed(*row) for row in shed], letters)


def _told(given: GivenUp) -> Iterator[str]:
    """A line for each cause."""
    for why in sorted({entry.why for entry in given.shed}):
        entries = [entry for entry in given.shed if entry.why == why]
        numbers = sum(entry.last - entry.first + 1 for entry in entries)
        size_bytes = sum(entry.size_bytes for entry in entries)
        latest = datetime.fromtimestamp(entries[0].at_ms / 1000, UTC)
        yield (
            f"outbox.db: {why}: {numbers} events ({size_bytes} bytes) were given up and declared,"
            f" last at {latest:%Y-%m-%d %H:%M:%S} UTC"
        )
    if given.dead_letters:
        yield f"outbox.db: {given.dead_letters} dead letters: the center could not read them"


def command(data: Path, *, as_json: bool) -> int:
    """Print the findings and what was given up; the exit code."""
    try:
        found = list(findings(data))
        given = given_up(data)
    except FileNotFoundError as error:
        print(f"forecourt-edge: {error}", file=sys.stderr)  # noqa: T201 - a command's output
        return 2
    if as_json:
        answer = {
            "ok": not found,
            "findings": [asdict(finding) for finding in found],
            "shed": [asdict(entry) for entry in given.shed[:_NEWEST_SHED]],
            "dead_letters": given.dead_letters,
        }
        print(json.dumps(answer))  # noqa: T201
    else:
        for finding in found:
            told = f"{finding.file}: {finding.invariant}: {finding.problem}"
            print(f"{told}\n  -> {finding.advice}")  # noqa: T201
        for line in _told(given):
            print(line)  # noqa: T201
        print(f"{data}: {len(found)} findings" if found else f"{data}: all is well")  # noqa: T201
    return 1 if found else 0
