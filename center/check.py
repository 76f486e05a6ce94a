"""`forecourt-center check`: what can be verified of a database at rest.

Here: findings, each with what to do. It changes nothing. Not here: mending.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, func, select, text

from center import db, dispatch, models, resources
from center.db import Database
from center.ledger import Place
from center.tables import (
    cameras,
    clocks,
    desired,
    desired_items,
    events,
    gaps,
    meta,
    stations,
    tasks,
    watermarks,
    workers,
)
from center.tables import models as models_table
from wire import messages, specs
from wire.models import parse as parse_model

RESTORE = "restore the latest backup that passes this check; workers send again what it lacks"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that must not be."""

    invariant: str
    what: str
    do: str

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def check(database: Database) -> Iterator[Finding]:
    """Everything that is wrong, as it is found. Raises one of `db.UNAVAILABLE`."""
    try:
        yield from _findings(database)
    except db.UNAVAILABLE:
        raise
    except db.DAMAGED as error:
        cause = str(error).partition("\n")[0]
        yield Finding("file", f"the database cannot be read: {cause}", RESTORE)


def _findings(database: Database) -> Iterator[Finding]:
    with database.reading() as connection:
        damaged = list(_file(connection))
        yield from damaged
        if damaged:
            return
        outdated = list(_version(connection))
        yield from outdated
        if outdated:
            return
        yield from _one_row(connection)
        yield from _stored_once(connection)
        yield from _contiguous(connection)
        yield from _times(connection)
        unreadable = list(_readable(connection))
        yield from unreadable
        yield from _digests(connection)
        yield from _model_files(connection)
    if not unreadable:
        yield from _dispatched(database)


def _file(connection: Connection) -> Iterator[Finding]:
    if connection.dialect.name != "sqlite":
        return
    for (line,) in connection.execute(text("PRAGMA integrity_check")):
        if line != "ok":
            yield Finding("file", f"the database file is damaged: {line}", RESTORE)
    for row in connection.execute(text("PRAGMA foreign_key_check")):
        what = f"a row of {row[0]} refers to a row of {row[2]} that is not there"
        yield Finding("file", what, RESTORE)


def _version(connection: Connection) -> Iterator[Finding]:
    settings = Config()
    settings.set_main_option("script_location", str(db.MIGRATIONS))
    head = ScriptDirectory.from_config(settings).get_current_head()
    found = MigrationContext.configure(connection).get_current_revision()
    if found != head:
        what = f"the tables are of version {found}, this program needs {head}"
        yield Finding("version", what, "run: forecourt-center migrate")


def _one_row(connection: Connection) -> Iterator[Finding]:
    revision = connection.execute(select(meta.c.revision)).scalar()
    newest = connection.execute(select(func.max(desired.c.revision))).scalar() or 0
    if revision is None or revision < newest:
        what = f"revision {newest} is in use, but the counter says {revision}"
        yield Finding("I5", what, RESTORE)


def _stored_once(connection: Connection) -> Iterator[Finding]:
    place = (events.c.worker, events.c.epoch, events.c.lane, events.c.seq)
    twice = select(*place).group_by(*place).having(func.count() > 1)
    for row in connection.execute(twice):
        yield Finding("I2", f"an event is stored twice: {tuple(row)}", RESTORE)


def _contiguous(connection: Connection) -> Iterator[Finding]:
    """I3: every number up to a watermark is stored or lies in a gap."""
    spans = sorted([*_stored_spans(connection), *_gap_spans(connection)])
    covered = {lane: _covered(of_lane) for lane, of_lane in groupby(spans, itemgetter(0))}
    for row in connection.execute(select(watermarks)):
        reached = covered.get((row.worker, row.epoch, row.lane), 0)
        if reached < row.seq:
            yield Finding(
                "I3",
                f"worker {row.worker}, epoch {row.epoch}, lane {row.lane}: the watermark is "
                f"{row.seq}, but {reached + 1} is neither stored nor declared lost",
                RESTORE,
            )


def _times(connection: Connection) -> Iterator[Finding]:
    """An event's time is its own, unless it was corrected; a clock is known since it was heard."""
    column = events.c
    wrong = select(func.count()).where(column.clock != "corrected", column.at_ms != column.t_ms)
    count = connection.execute(wrong).scalar()
    if count:
        what = f"{count} events have another time than their own, though none was corrected"
        yield Finding("times", what, RESTORE)
    early = select(clocks).where(clocks.c.booted_ms > clocks.c.heard_ms)
    for row in connection.execute(early):
        what = f"worker {row.worker}: its machine {row.machine} was heard before it booted"
        yield Finding("times", what, "correct the center's clock; the next heartbeat mends it")


def _stored_spans(connection: Connection) -> Iterator[tuple[Place, int, int]]:
    """The runs of numbers without a hole, of each lane."""
    lane = (events.c.worker, events.c.epoch, events.c.lane)
    place_in_lane = func.row_number().over(partition_by=lane, order_by=events.c.seq)
    numbered = select(*lane, events.c.seq, (events.c.seq - place_in_lane).label("run")).subquery()
    column = numbered.c
    runs = select(
        column.worker, column.epoch, column.lane, func.min(column.seq), func.max(column.seq)
    ).group_by(column.worker, column.epoch, column.lane, column.run)
    for worker, epoch, name, first, last in connection.execute(runs):
        yield (worker, epoch, name), first, last


def _gap_spans(connection: Connection) -> Iterator[tuple[Place, int, int]]:
    for row in connection.execute(select(gaps)):
        yield (row.worker, row.epoch, row.lane), row.first, row.last


def _covered(spans: Iterable[tuple[Place, int, int]]) -> int:
    """How far sorted spans reach from 1 without a hole."""
    far = 0
    for _, first, last in spans:
        if first > far + 1:
            break
        far = max(far, last)
    return far


def _readable(connection: Connection) -> Iterator[Finding]:
    """Every document is one that this program accepts."""
    for table in (stations, workers, cameras, tasks):
        for row in connection.execute(select(table)):
            name = f"{row.station}/{row.name}" if "station" in table.c else row.name
            try:
                resources.parse(row.document)
            except specs.SpecError as error:
                what = f"{table.name} {name} cannot be read: {error}"
                yield Finding("documents", what, "apply a corrected document of the same name")
            except ValueError as error:
                yield Finding("documents", f"{table.name} {name} is no JSON: {error}", RESTORE)


def _digests(connection: Connection) -> Iterator[Finding]:
    """I5: what a worker compares its document with is what the document says."""
    live = select(desired_items).where(~desired_items.c.removed)
    entries: dict[str, list[tuple[str, str, int, str]]] = {}
    for row in connection.execute(live):
        if messages.item_hash(row.body) != row.hash:
            what = f"worker {row.worker}: {row.kind} {row.id} is not what its hash says"
            yield Finding("I5", what, RESTORE)
        entries.setdefault(row.worker, []).append((row.kind, row.id, row.revision, row.hash))
    documents = {row.worker: row.digest for row in connection.execute(select(desired))}
    for (worker,) in connection.execute(select(workers.c.name)):
        if documents.get(worker) != messages.digest(entries.get(worker, [])):
            yield Finding("I5", f"worker {worker}: the document's digest is wrong", RESTORE)


def _model_files(connection: Connection) -> Iterator[Finding]:
    """Each model's file is whole and the one that it means."""
    for row in connection.execute(select(models_table)):
        try:
            found = models.parts_digest(connection, parse_model(row.document))
        except ValueError as error:
            yield Finding("models", f"model {row.name} cannot be read: {error}", RESTORE)
            continue
        if found != (row.sha256, row.size_bytes):
            what = f"the file of model {row.name} is not the one that its sha256 means"
            yield Finding("models", what, RESTORE)


def _dispatched(database: Database) -> Iterator[Finding]:
    """I5: the documents are what the tasks ask for; found by doing it again, and undoing that."""
    with database.transaction(dry_run=True) as connection:
        names = connection.execute(select(stations.c.name)).scalars().all()
        late = [worker for name in names for worker in dispatch.refresh(connection, name, 0)]
    for worker in late:
        what = f"worker {worker}: its document is not what the station's tasks ask for"
        yield Finding("I5", what, "apply any task of the station with a change, then check again")
