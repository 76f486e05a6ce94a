"""The database: opening it, transactions, migrations, and the one row about itself.

Here: everything that differs between database engines. Not here: the tables (tables.py), and any
query about a noun.

SQLite has one writing connection, which also does every checkpoint, and reading ones that cannot
write: writers queue for it in order, and no two of them race for the write-ahead log.

PostgreSQL may serve several centers at once. Transactions are READ COMMITTED and hold the rows that
they decide by (`FOR UPDATE`, which SQLite neither knows nor needs); readings are REPEATABLE READ.
Where rows are not enough, transactions queue: `take_turns` for edits, `in_order` for events.
"""

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import psycopg
from alembic import command
from alembic.config import Config
from sqlalchemy import (
    ARRAY,
    URL,
    ColumnElement,
    Connection,
    Dialect,
    Engine,
    Table,
    Text,
    UpdateBase,
    any_,
    bindparam,
    create_engine,
    event,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DatabaseError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from center.tables import meta

RowT = TypeVar("RowT")
FILE_NAME = "center.db"
MIGRATIONS = Path(__file__).parent / "migrations"
UNAVAILABLE = (OperationalError, InterfaceError, PoolTimeoutError)
"""What is raised when the database cannot do it now: busy, full, gone, or two transactions in each
other's way (a deadlock, a failed serialization). The same again may succeed."""
DAMAGED = DatabaseError
"""What is raised when the file is no database, or a damaged one; parent of most of the above."""

_BUSY_TIMEOUT_MS = 10_000
_WRITER_PRAGMAS = ("synchronous=FULL", "journal_mode=WAL", f"journal_size_limit={64 * 2**20}")

_LOCK_TIMEOUT_MS = 10_000
_STATEMENT_TIMEOUT_MS = 30_000
_IDLE_TIMEOUT_MS = 60_000
"""The server ends a transaction that says nothing for so long: it may hold rows."""
_POOL_SIZE, _POOL_OVERFLOW = 4, 8
"""Of writing and of reading connections each: a center holds at most 24."""
_CONNECTING = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
    "client_encoding": "utf8",
    "application_name": "forecourt-center",
}
_MIGRATING, _STORING = 0x666F7265_00000001, 0x666F7265_00000002
"""Advisory locks, as PostgreSQL calls them: any numbers that nobody else uses."""


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


def open_database(folder: Path, url: URL | None, *, patient: bool = False) -> Database:
    """The database at `url`, or where there is none the SQLite file in `folder`.

    A server is not connected to yet. `patient`: no limit to how long a statement takes there.
    """
    return open_sqlite(folder) if url is None else open_postgresql(url, patient=patient)


def name_of(folder: Path, url: URL | None) -> str:
    """The database's name for people, without user and password."""
    if url is None:
        return str(folder / FILE_NAME)
    return str(URL.create("postgresql", host=url.host, port=url.port, database=url.database))


def open_sqlite(folder: Path) -> Database:
    """The SQLite database in `folder`, both made private to this user if they are new."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / FILE_NAME
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    url = f"sqlite:///{path}"
    # Parameters hold documents, and these hold cameras' passwords: no error may show them.
    settings: dict[str, Any] = {"pool_timeout": 30, "hide_parameters": True}
    writer = create_engine(url, pool_size=1, max_overflow=0, **settings)
    reader = create_engine(url, pool_size=8, max_overflow=32, **settings)
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


def open_postgresql(url: URL, *, patient: bool = False) -> Database:
    """The database at a server; connected to when it is first used."""
    # Whoever writes needs the primary, should the URL name several hosts.
    writing = {"target_session_attrs": "read-write"}
    writer = _server_engine(
        url, writing, patient, ["default_transaction_isolation=read\\ committed"]
    )
    snapshot = [
        "default_transaction_isolation=repeatable\\ read",
        "default_transaction_read_only=on",
    ]
    return Database(writer, _server_engine(url, {}, patient, snapshot))


def _server_engine(
    url: URL, connecting: dict[str, Any], patient: bool, settings: list[str]
) -> Engine:
    settings = [*settings, f"lock_timeout={_LOCK_TIMEOUT_MS}"]
    if not patient:
        settings.append(f"statement_timeout={_STATEMENT_TIMEOUT_MS}")
        settings.append(f"idle_in_transaction_session_timeout={_IDLE_TIMEOUT_MS}")
    options = " ".join(f"-c {setting}" for setting in settings)
    return create_engine(
        url.set(drivername="postgresql+psycopg"),
        connect_args={**_CONNECTING, **connecting, "options": options},
        pool_size=_POOL_SIZE,
        max_overflow=_POOL_OVERFLOW,
        pool_timeout=30,
        pool_pre_ping=True,
        hide_parameters=True,
    )


def migrate(database: Database) -> None:
    """Bring the tables to this program's version, and give a new database its generation.

    Centers that start together do it one after the other. Raises ValueError if the database cannot
    hold every text.
    """
    settings = Config()
    settings.set_main_option("script_location", str(MIGRATIONS))
    with database.transaction() as connection:
        if _is_server(connection):
            connection.execute(text("SET LOCAL lock_timeout = 0"))
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            _queue(connection, _MIGRATING)
            encoding = connection.execute(text("SHOW server_encoding")).scalar_one()
            if encoding != "UTF8":
                raise ValueError(
                    f"the database's encoding is {encoding}, and texts of any language must fit; "
                    "create it anew with: CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0"
                )
        settings.attributes["connection"] = connection
        command.upgrade(settings, "head")
        if connection.execute(select(meta.c.id)).first() is None:
            connection.execute(insert(meta).values(id=1, generation=_new_generation(), revision=0))


def generation(connection: Connection) -> int:
    """The life of this database, 1..2^53-1."""
    return int(connection.execute(select(meta.c.generation)).scalar_one())


def renew_generation(connection: Connection, known: int) -> bool:
    """Begin a new life: what workers remember of the old one counts no more.

    False if the generation is not the `known` one any more: somebody else was faster.
    """
    statement = update(meta).where(meta.c.generation == known).values(generation=_new_generation())
    return connection.execute(statement).rowcount > 0


def next_revision(connection: Connection) -> int:
    """The next number for a change; never given out twice, whatever it is a change of."""
    statement = update(meta).values(revision=meta.c.revision + 1).returning(meta.c.revision)
    return int(connection.execute(statement).scalar_one())


def take_turns(connection: Connection) -> None:
    """Hold every other transaction that says so until this one has ended.

    Edits do: they write by what they have read of other rows.
    """
    connection.execute(select(meta.c.id).with_for_update())


def in_order(connection: Connection) -> None:
    """Let the ids of events that this transaction stores be higher than any committed before.

    So whoever follows the ids misses none: a lower one never comes after a higher one was seen.
    """
    if _is_server(connection):
        _queue(connection, _STORING)


def _queue(connection: Connection, lock: int) -> None:
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": lock})


def _is_server(connection: Connection) -> bool:
    return connection.dialect.name == "postgresql"


def insert_new(
    connection: Connection, table: Table, rows: list[dict[str, Any]], key: tuple[str, ...]
) -> None:
    """Insert the rows whose `key` is not there yet; leave the others as they are.

    An empty `key` is whatever the table says is unique.
    The driver gets the rows as they are: they hold plain int, str, bytes, bool and None only.
    """
    if rows:
        names = tuple(rows[0])
        tuples = [tuple(row[name] for name in names) for row in rows]
        insert_new_tuples(connection, table, names, tuples, key)


def insert_new_tuples(
    connection: Connection,
    table: Table,
    names: tuple[str, ...],
    rows: Sequence[tuple[Any, ...]],
    key: tuple[str, ...],
) -> None:
    """The same for rows that hold the columns `names` in this order; for rows by the thousand."""
    if not rows:
        return
    dialect = connection.dialect
    if _is_server(connection):
        columns = tuple(map(list, zip(*rows, strict=True)))
        connection.exec_driver_sql(_unnest_sql(dialect, table, key, names), columns)
        return
    done = 0
    while done < len(rows):
        count = min(_ROWS_AT_ONCE, 1 << ((len(rows) - done).bit_length() - 1))
        values = tuple(chain.from_iterable(rows[done : done + count]))
        connection.exec_driver_sql(_values_sql(dialect, table, key, names, count), values)
        done += count


def insert_known_new(
    connection: Connection,
    table: Table,
    names: tuple[str, ...],
    rows: Sequence[tuple[Any, ...]],
    key: tuple[str, ...],
) -> None:
    """Insert rows of which the caller has made sure, under a lock, that they are not there yet.

    A server takes many such rows by COPY, which knows no ON CONFLICT. Raises what other statements
    raise where it cannot do it now.
    """
    if not _is_server(connection) or len(rows) < _COPIED_FROM:
        insert_new_tuples(connection, table, names, rows, key)
        return
    copy, types = _copy_sql(connection.dialect, table, names)
    driver: Any = connection.connection.driver_connection
    try:
        with driver.cursor() as cursor, cursor.copy(copy) as copying:
            copying.set_types(types)
            for row in rows:
                copying.write_row(row)
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        raise OperationalError(copy, None, error) from error


_COPIED_FROM = 20
"""Rows from which on COPY is worth its round trips."""


@lru_cache(maxsize=64)
def _copy_sql(
    dialect: Dialect, table: Table, columns: tuple[str, ...]
) -> tuple[str, tuple[str, ...]]:
    """The statement, and the columns' types."""
    quote = dialect.identifier_preparer.quote
    named = ", ".join(map(quote, columns))
    types = tuple(table.c[name].type.compile(dialect).lower() for name in columns)
    return f"COPY {quote(table.name)} ({named}) FROM STDIN (FORMAT BINARY)", types


_ROWS_AT_ONCE = 128
"""Rows in one statement of SQLite; others go by powers of two, so that there are few statements.

Its driver gives way to other threads at each statement, and waits to be let in again.
"""


@lru_cache(maxsize=256)
def _values_sql(
    dialect: Dialect, table: Table, key: tuple[str, ...], columns: tuple[str, ...], count: int
) -> str:
    """An insert of so many rows."""
    quote = dialect.identifier_preparer.quote
    conflict = f"({', '.join(map(quote, key))}) " if key else ""
    row = f"({', '.join('?' * len(columns))})"
    return (
        f"INSERT INTO {quote(table.name)} ({', '.join(map(quote, columns))}) "  # noqa: S608 - names from tables.py
        f"VALUES {', '.join([row] * count)} ON CONFLICT {conflict}DO NOTHING"
    )


def among(column: ColumnElement[str], name: str, dialect_name: str) -> ColumnElement[bool]:
    """Whether a text column is one of the parameter `name`, a list.

    A server takes the list as one array; a parameter a word costs it as much as the search.
    """
    if dialect_name == "postgresql":
        return column == any_(bindparam(name, type_=ARRAY(Text)))
    return column.in_(bindparam(name, expanding=True))


def chunks(rows: Sequence[RowT], most: int = 500) -> Iterator[Sequence[RowT]]:
    """The rows, so many at once that the parameters of a statement suffice."""
    for first in range(0, len(rows), most):
        yield rows[first : first + most]


@lru_cache(maxsize=64)
def _unnest_sql(
    dialect: Dialect, table: Table, key: tuple[str, ...], columns: tuple[str, ...]
) -> str:
    """One statement whose parameters are arrays, one for each column.

    A statement a row costs PostgreSQL several times as much as the row.
    """
    quote = dialect.identifier_preparer.quote
    conflict = f"({', '.join(map(quote, key))}) " if key else ""
    arrays = (f"%b::{table.c[name].type.compile(dialect)}[]" for name in columns)
    return (
        f"INSERT INTO {quote(table.name)} ({', '.join(map(quote, columns))}) "  # noqa: S608 - names from tables.py
        f"SELECT * FROM unnest({', '.join(arrays)}) "
        f"ON CONFLICT {conflict}DO NOTHING"
    )


def upsert(
    connection: Connection, table: Table, rows: list[dict[str, Any]], key: tuple[str, ...]
) -> None:
    """Insert the rows, replacing the other columns of those whose `key` is there already."""
    if rows:
        connection.execute(_upsert(connection.dialect, table, tuple(rows[0]), key), rows)


@lru_cache(maxsize=64)
def _upsert(
    dialect: Dialect, table: Table, names: tuple[str, ...], key: tuple[str, ...]
) -> UpdateBase:
    statement = _dialect_insert(dialect, table)
    replaced = {name: statement.excluded[name] for name in names if name not in key}
    return statement.on_conflict_do_update(index_elements=key, set_=replaced)


def _dialect_insert(dialect: Dialect, table: Table) -> sqlite.Insert | postgresql.Insert:
    """The two dialects say ON CONFLICT alike, but SQLAlchemy keeps them apart: chosen here only."""
    if dialect.name == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)


def _new_generation() -> int:
    return secrets.randbelow(2**53 - 1) + 1
