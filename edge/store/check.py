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

import msgspec

from edge.store import sqlite
from wire import specs
from wire.events import decode_event
from wire.messages import digest, item_hash


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
                        advice = "restart the worker: it sets the file aside and starts a new one"
                        yield Finding(name, verdict, advice)
                yield from look(name, connection)
        except sqlite3.DatabaseError as error:
            advice = "restart the worker: it sets the file aside and starts a new one"
            yield Finding(name, f"cannot be read: {error}", advice)
    for aside in sorted(data.glob("*.corrupt-*")):
        if not aside.name.endswith(("-wal", "-shm")):
            yield Finding(
                aside.name, "was set aside as damaged", "keep it for salvage, or delete it"
            )


def _outbox(name: str, connection: sqlite3.Connection) -> Iterator[Finding]:
    """Each number above the watermark is there or in a gap (I1, I4); every event can be read."""
    report = "report it with a copy of the folder: an event may have been forgotten before its ack"
    for epoch, lane, high, acked in connection.execute(
        "SELECT epoch, lane, high, acked FROM lanes ORDER BY epoch, lane"
    ).fetchall():
        where = f"epoch {epoch} lane {lane}"
        if acked > high:
            yield Finding(name, f"{where}: acked {acked} is above the highest {high}", report)
        position = acked
        spans = [
            (first, last)
            for first, last in connection.execute(
                "SELECT seq, seq FROM events WHERE epoch = ? AND lane = ? AND seq > ?"
                " UNION ALL SELECT first, last FROM gaps WHERE epoch = ? AND lane = ? AND last > ?"
                " ORDER BY 1",
                (epoch, lane, acked, epoch, lane, acked),
            )
        ]
        for first, last in spans:
            if first > position + 1:
                yield Finding(name, f"{where}: {position + 1}..{first - 1} are missing", report)
            position = max(position, last)
        if position != high:
            problem = f"{where}: it ends at {position}, and {high} was given out"
            yield Finding(name, problem, report)
    strays = connection.execute(
        "SELECT count(*) FROM events WHERE NOT EXISTS (SELECT 1 FROM lanes"
        " WHERE lanes.epoch = events.epoch AND lanes.lane = events.lane)"
    ).fetchone()[0]
    if strays:
        yield Finding(name, f"{strays} events belong to no known lane", report)
    for seq, body in connection.execute("SELECT seq, CAST(body AS BLOB) FROM events"):
        try:
            decode_event(body)
        except msgspec.MsgspecError as error:
            yield Finding(name, f"event {seq} cannot be read: {error}", report)


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
