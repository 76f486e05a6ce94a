"""The database: its transactions on both engines, migrations that lead to exactly the tables.

Tests without the fixture `center` are about SQLite's file; of servers' own ways: test_postgres.
"""

import sqlite3
import threading
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import insert, select, text
from sqlalchemy.exc import DBAPIError

from center import db
from center.tables import meta, metadata, stations
from tests.parts.centers import SQLITE_ONLY, Rig

ROW = {"name": "s1", "document": b"{}", "revision": 1, "created_ms": 1, "updated_ms": 1}


def test_migrations_lead_to_the_tables(tmp_path: Path) -> None:
    """A fresh start makes exactly what tables.py says, and a second start changes nothing."""
    database = db.open_sqlite(tmp_path / "data")
    db.migrate(database)
    with database.reading() as connection:
        generation = db.generation(connection)
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        found = connection.execute(text("SELECT sql FROM sqlite_master WHERE sql LIKE '%CHECK%'"))
        named = {name for table in metadata.tables.values() for name in _checks(table)}
        made = " ".join(found.scalars())
    assert all(name in made for name in named)
    db.migrate(database)
    with database.reading() as connection:
        assert db.generation(connection) == generation
    database.close()
    assert 0 < generation < 2**53


def _checks(table: object) -> list[str]:
    return [str(one.name) for one in getattr(table, "constraints", ()) if hasattr(one, "sqltext")]


def test_two_databases_are_two_generations(tmp_path: Path) -> None:
    """Each database has a life of its own."""
    generations = set()
    for name in ("a", "b"):
        database = db.open_sqlite(tmp_path / name)
        db.migrate(database)
        with database.reading() as connection:
            generations.add(db.generation(connection))
        database.close()
    assert len(generations) == 2


def test_the_file_is_private_and_durable(tmp_path: Path) -> None:
    """Nobody else reads it, and a commit is on disk when it returns."""
    folder = tmp_path / "new"
    database = db.open_sqlite(folder)
    db.migrate(database)
    with database.transaction() as connection:
        connection.execute(insert(stations).values(**ROW))
        pragmas = {
            name: connection.execute(text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
        modes = {path.stat().st_mode & 0o077 for path in folder.glob("center.db*")}
    database.close()
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
    assert modes == {0}
    assert folder.stat().st_mode & 0o077 == 0


def test_a_transaction_is_whole_or_nothing(center: Rig) -> None:
    """An exception or a dry run leaves nothing behind."""
    with pytest.raises(DBAPIError), center.database.transaction() as connection:  # noqa: PT012 - halfway
        connection.execute(insert(stations).values(**ROW))
        connection.execute(insert(stations).values(**ROW))
    with center.database.transaction(dry_run=True) as connection:
        connection.execute(insert(stations).values(**ROW))
    with center.database.reading() as connection:
        assert connection.execute(select(stations)).all() == []


def test_reading_cannot_write(center: Rig) -> None:
    """A reading connection refuses to write."""
    with pytest.raises(DBAPIError), center.database.reading() as connection:
        connection.execute(insert(stations).values(**ROW))


def test_reading_sees_one_state(center: Rig) -> None:
    """What is committed during a reading is not seen by it."""
    with center.database.reading() as connection:
        assert connection.execute(select(stations)).all() == []
        with center.database.transaction() as writing:
            writing.execute(insert(stations).values(**ROW))
        assert connection.execute(select(stations)).all() == []


def test_writers_queue(center: Rig) -> None:
    """Revisions that many threads draw at once are all different."""
    drawn: list[int] = []

    def draw() -> None:
        for _ in range(20):
            with center.database.transaction() as connection:
                drawn.append(db.next_revision(connection))

    threads = [threading.Thread(target=draw) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(drawn) == list(range(1, 81))


@SQLITE_ONLY
def test_a_lock_of_somebody_else_is_told_as_unavailable(
    center: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that is locked for longer than we wait raises one of UNAVAILABLE."""
    monkeypatch.setattr("center.db._BUSY_TIMEOUT_MS", 1)
    center.database.close()
    blocker = sqlite3.connect(center.folder / db.FILE_NAME, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(db.UNAVAILABLE), center.database.transaction() as connection:
        connection.execute(select(meta))
    blocker.close()
