"""The database: opening it, transactions, migrations, and the one row about itself.

Here: everything that differs between database engines. Not here: the tables (tables.py), and any
query about a noun.

SQLite has one writing connection, which also does every checkpoint, and reading ones that cannot
write: writers queue for it in order, and no two of them race for the write-ahead log.
"""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from operator import itemgetter
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import (
    Connection,
    Dialect,
    Engine,
    Table,
    create_engine,
    event,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DatabaseError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from center.tables import meta

FILE_NAME = "center.db"
MIGRATIONS = Path(__file__).parent / "migrations"
UNAVAILABLE = (OperationalError, InterfaceError, PoolTimeoutError)
"""What is raised when the database cannot do it now: busy, full, gone."""
DAMAGED = DatabaseError
"""What is raised when the file is no database, or a damaged one; parent of most of the above."""

_BUSY_TIMEOUT_MS = 10_000
_WRITER_PRAGMAS = ("synchronous=FULL", "journal_mode=WAL", f"journal_size_limit={64 * 2**20}")


class Database:
    """Two ways in: `transaction()` to write, `reading()` to read one consistent state."""

    def __init__(self, writer: Engine, reader: Engine) -> None:
        self._writer = writer
        self._reader = reader

    @contextmanager
    def transaction(self, *, dry_run: bool = False) -> Iterator[Connection]:
        """Commit at the end of the block; undo it all on an exception, or if `dry_run`.

        Raises one of `UNAVAILABLE` if the database cannot be written now.
        """
        with self._writer.connect() as connection, connection.begin() as transaction:
            yield connection
            if dry_run:
                transaction.rollback()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Every query in the block sees the same state; writing is an error."""
        with self._reader.connect() as connection, connection.begin():
            yield connection

    def close(self) -> None:
        """Give every connection back to the system."""
        self._reader.dispose()
        self._writer.dispose()


def open_sqlite(folder: Path) -> Database:
    """The SQLite database in `folder`, both made private to this user if they are new."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / FILE_NAME
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    url = f"sqlite:///{path}"
    writer = create_engine(url, pool_size=1, max_overflow=0, pool_timeout=30)
    reader = create_engine(url, pool_size=8, max_overflow=32, pool_timeout=30)
    _prepare(writer, begin="BEGIN IMMEDIATE", pragmas=_WRITER_PRAGMAS)
    _prepare(reader, begin="BEGIN", pragmas=("query_only=ON", "wal_autocheckpoint=0"))
    return Database(writer, reader)


def _prepare(engine: Engine, begin: str, pragmas: tuple[str, ...]) -> None:
    """Set each new connection up, and begin transactions ourselves instead of the driver."""

    @event.listens_for(engine, "connect")
    def _connected(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in (f"busy_timeout={_BUSY_TIMEOUT_MS}", "foreign_keys=ON", *pragmas):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)


def migrate(database: Database) -> None:
    """Bring the tables to this program's version, and give a new database its generation."""
    settings = Config()
    settings.set_main_option("script_location", str(MIGRATIONS))
    with database.transaction() as connection:
        settings.attributes["connection"] = connection
        command.upgrade(settings, "head")
        if connection.execute(select(meta.c.id)).first() is None:
            connection.execute(insert(meta).values(id=1, generation=_new_generation(), revision=0))


def generation(connection: Connection) -> int:
    """The life of this database, 1..2^53-1."""
    return int(connection.execute(select(meta.c.generation)).scalar_one())


def renew_generation(connection: Connection) -> int:
    """Begin a new life: what workers remember of the old one counts no more."""
    renewed = _new_generation()
    connection.execute(update(meta).values(generation=renewed))
    return renewed


def next_revision(connection: Connection) -> int:
    """The next number for a change; never given out twice, whatever it is a change of."""
    statement = update(meta).values(revision=meta.c.revision + 1).returning(meta.c.revision)
    return int(connection.execute(statement).scalar_one())


def insert_new(
    connection: Connection, table: Table, rows: list[dict[str, Any]], key: tuple[str, ...]
) -> None:
    """Insert the rows whose `key` is not there yet; leave the others as they are.

    The driver gets the rows as they are: they hold plain int, str, bytes, bool and None only.
    """
    if not rows:
        return
    dialect = connection.dialect
    sql, order = _insert_new_sql(dialect, table, key, tuple(rows[0]))
    if order is None:
        connection.exec_driver_sql(sql, rows)
    else:
        connection.exec_driver_sql(sql, list(map(itemgetter(*order), rows)))


@lru_cache(maxsize=64)
def _insert_new_sql(
    dialect: Dialect, table: Table, key: tuple[str, ...], columns: tuple[str, ...]
) -> tuple[str, list[str] | None]:
    """The statement, and the order of its parameters where the driver takes them by position.

    Compiled once: for rows by the hundred, SQLAlchemy's own preparing of each one costs more than
    SQLite's inserting it.
    """
    statement = _dialect_insert(dialect, table).on_conflict_do_nothing(index_elements=key)
    compiled = statement.compile(dialect=dialect, column_keys=list(columns))
    return str(compiled), compiled.positiontup


def upsert(
    connection: Connection, table: Table, rows: list[dict[str, Any]], key: tuple[str, ...]
) -> None:
    """Insert the rows, replacing the other columns of those whose `key` is there already."""
    if rows:
        statement = _dialect_insert(connection.dialect, table)
        replaced = {name: statement.excluded[name] for name in rows[0] if name not in key}
        connection.execute(statement.on_conflict_do_update(index_elements=key, set_=replaced), rows)


def _dialect_insert(dialect: Dialect, table: Table) -> sqlite.Insert | postgresql.Insert:
    """The two dialects say ON CONFLICT alike, but SQLAlchemy keeps them apart: chosen here only."""
    if dialect.name == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)


def _new_generation() -> int:
    return secrets.randbelow(2**53 - 1) + 1
