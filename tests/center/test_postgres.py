"""PostgreSQL's own ways: migrations at once, rows that others hold, lost connections, ids."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import URL, func, insert, make_url, select, text
from sqlalchemy.exc import DBAPIError

from center import db, events, ledger
from center.db import Database
from center.tables import events as events_table
from center.tables import metadata, stations
from tests.parts.centers import Rig, furnish, rig, worker
from tests.parts.postgres import Postgres
from tests.parts.workers import Voice
from tests.waiting import wait_for
from wire import codec, topics
from wire.link import Received

WAIT_S = 10.0
ROW = {"name": "s1", "document": b"{}", "revision": 1, "created_ms": 1, "updated_ms": 1}


@contextmanager
def opened(url: str) -> Iterator[Database]:
    database = db.open_postgresql(make_url(url))
    try:
        yield database
    finally:
        database.close()


@pytest.fixture
def url(postgres_server: Postgres) -> Iterator[str]:
    with postgres_server.database() as made:
        yield made


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    with opened(url) as made:
        yield made


def test_migrations_lead_to_the_tables(database: Database) -> None:
    """The tables are what tables.py says, down to the named checks; comments stand only there."""
    with database.reading() as connection:
        different = compare_metadata(MigrationContext.configure(connection), metadata)
        found = connection.execute(text("SELECT conname FROM pg_constraint WHERE contype = 'c'"))
        made = set(found.scalars())
    kinds = {entry[0][0] if isinstance(entry, list) else entry[0] for entry in different}
    assert kinds <= {"modify_comment", "add_table_comment"}, different
    checks = [
        str(one.name)
        for table in metadata.tables.values()
        for one in table.constraints
        if hasattr(one, "sqltext")
    ]
    assert made >= set(checks)


def test_centers_that_start_together_migrate_once(postgres_server: Postgres) -> None:
    """The second waits for the first, and both see the same generation."""
    with postgres_server.database(migrated=False) as url, opened(url) as a, opened(url) as b:
        with ThreadPoolExecutor() as pool:
            list(pool.map(db.migrate, [a, b, a, b]))
        with a.reading() as one, b.reading() as other:
            assert db.generation(one) == db.generation(other)


def test_a_database_that_cannot_hold_every_text_is_refused(postgres_server: Postgres) -> None:
    """Another encoding than UTF8 is told before anything is made."""
    with (
        postgres_server.database(migrated=False, encoding="LATIN1") as url,
        opened(url) as database,
        pytest.raises(ValueError, match="encoding is LATIN1"),
    ):
        db.migrate(database)


def test_many_rows_at_once_and_once_only(database: Database) -> None:
    """Rows of every type arrive as they are; a key that is there already is left alone."""
    rows = [_row(seq, phase=None, incident="ü" if seq % 2 else None) for seq in range(1, 301)]
    for _ in range(2):
        with database.transaction() as connection:
            db.insert_new(connection, events_table, rows, events.KEY)
    with database.reading() as connection:
        kept = connection.execute(select(events_table).order_by(events_table.c.seq)).mappings()
        assert [{name: row[name] for name in rows[0]} for row in kept] == rows


def _row(seq: int, **changes: object) -> dict[str, object]:
    row: dict[str, object] = {column.name: "x" for column in events_table.columns}
    numbers = {"epoch": 2**53 - 1, "seq": seq, "t_ms": -1, "at_ms": 2, "received_ms": 3}
    row.update(numbers, worker="w1", lane="bulk", backfill=seq > 5, body=bytes(range(256)))
    row.update(changes)
    del row["id"]
    return row


def test_ids_follow_the_order_of_commits(database: Database) -> None:
    """Who follows the ids misses none: a later transaction stores only when the first has ended."""
    stored = threading.Event()

    def second() -> None:
        with database.transaction() as connection:
            db.in_order(connection)
            db.insert_new(connection, events_table, [_row(2)], events.KEY)
        stored.set()

    with database.transaction() as connection:
        db.in_order(connection)
        thread = threading.Thread(target=second)
        thread.start()
        wait_for(lambda: _waiting(database), WAIT_S, "the second to wait")
        db.insert_new(connection, events_table, [_row(1)], events.KEY)
        assert not stored.is_set()
    thread.join(WAIT_S)
    with database.reading() as reading:
        ordered = select(events_table.c.seq).order_by(events_table.c.id)
        assert reading.execute(ordered).scalars().all() == [1, 2]


def test_edits_take_turns(database: Database) -> None:
    """An edit sees all that an earlier one has written, even where it looked before."""
    seen: list[int] = []

    def second() -> None:
        with database.transaction() as connection:
            db.take_turns(connection)
            seen.append(connection.execute(select(func.count()).select_from(stations)).scalar_one())

    with database.transaction() as connection:
        db.take_turns(connection)
        thread = threading.Thread(target=second)
        thread.start()
        wait_for(lambda: _waiting(database), WAIT_S, "the second to wait")
        connection.execute(insert(stations).values(**ROW))
    thread.join(WAIT_S)
    assert seen == [1]


def _waiting(database: Database) -> bool:
    """Whether a transaction waits for a lock of another."""
    with database.reading() as connection:
        waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return bool(connection.execute(waiting).scalar_one())


def test_rows_that_somebody_holds_are_told_as_unavailable(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits for longer than we do raises one of UNAVAILABLE."""
    monkeypatch.setattr("center.db._LOCK_TIMEOUT_MS", 50)
    with opened(url) as database, database.transaction() as holder:
        db.take_turns(holder)
        with pytest.raises(db.UNAVAILABLE), database.transaction() as connection:
            db.take_turns(connection)


def test_events_that_cannot_be_copied_now_are_told_as_unavailable(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By COPY too, where the driver raises errors of its own."""
    monkeypatch.setattr("center.db._LOCK_TIMEOUT_MS", 50)
    names = tuple(ROW)
    rows = [tuple({**ROW, "name": f"s{number}"}.values()) for number in range(50)]
    with opened(url) as database, database.transaction() as holder:
        holder.execute(text("LOCK TABLE stations IN ACCESS EXCLUSIVE MODE"))
        with pytest.raises(db.UNAVAILABLE), database.transaction() as connection:
            db.insert_known_new(connection, stations, names, rows, ("name",))


def test_workers_that_speak_to_two_centers_at_once_lock_nobody_out(
    url: str, tmp_path: Path
) -> None:
    """Each hears the same workers in another order; neither waits for what the other holds."""
    with rig(tmp_path / "a", url=url) as one, rig(tmp_path / "b", url=url) as other:
        furnish(one.desk)
        one.desk.put(worker("w2"))
        met = threading.Barrier(2)

        def speak(center: Rig, names: list[str]) -> None:
            for number in range(20):
                met.wait(WAIT_S)
                center.downlink.take(
                    [
                        Received(
                            connection=1,
                            topic=topics.up(name, "hello"),
                            payload=codec.encode(Voice(worker=name, session=f"s{number}").hello()),
                            mid=1,
                            qos=1,
                        )
                        for name in names
                    ]
                )

        with ThreadPoolExecutor() as pool:
            list(pool.map(speak, [one, other], [["w1", "w2"], ["w2", "w1"]]))


def test_a_deadlock_is_told_as_unavailable(database: Database) -> None:
    """Two that hold what the other wants: one is undone and may try again."""
    met = threading.Barrier(2)

    def cross(first: str, second: str) -> bool:
        try:
            with database.transaction() as connection:
                connection.execute(insert(stations).values({**ROW, "name": first}))
                met.wait(WAIT_S)
                connection.execute(insert(stations).values({**ROW, "name": second}))
        except db.UNAVAILABLE:
            return False
        except DBAPIError:
            return True  # the other's row was there
        return True

    with ThreadPoolExecutor() as pool:
        assert sorted(pool.map(cross, ["a", "b"], ["b", "a"])) == [False, True]


def test_connections_that_were_ended_are_replaced(database: Database) -> None:
    """In the middle of a transaction it is UNAVAILABLE; the next transaction is on a new one."""
    with database.reading() as connection:
        connection.execute(text("SELECT 1"))
    with pytest.raises(db.UNAVAILABLE), database.transaction() as connection:  # noqa: PT012 - halfway
        connection.execute(insert(stations).values(**ROW))
        with database.transaction() as other:
            others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            here = "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            other.execute(text(f"{others} {here}"))
        connection.execute(select(stations))
    with database.reading() as connection:
        assert connection.execute(select(stations)).all() == []


def test_a_server_that_is_not_there() -> None:
    """It is UNAVAILABLE, and what is said of it holds no password (I11)."""
    address = URL.create("postgresql", "u", "s3cret", "127.0.0.1", 1, "n")
    database = db.open_postgresql(address)
    with pytest.raises(db.UNAVAILABLE) as refused, database.transaction():
        pass
    assert "s3cret" not in str(refused.value)
    assert db.name_of(Path(), address) == "postgresql://127.0.0.1:1/n"


def test_no_error_shows_what_was_written(database: Database) -> None:
    """I11: parameters hold documents, and those hold passwords of cameras."""
    secret = b"s3cret" * 10
    with pytest.raises(DBAPIError) as refused, database.transaction() as connection:  # noqa: PT012 - twice
        for _ in range(2):
            connection.execute(insert(stations).values({**ROW, "document": secret}))
    assert "s3cret" not in str(refused.value)
    assert secret.hex()[:12] not in str(refused.value)


def test_two_first_batches_of_a_lane_queue(database: Database) -> None:
    """I3: a lane's first watermark is held like any other."""
    place: ledger.Place = ("w1", 7, "bulk")
    seen: list[int] = []

    def second() -> None:
        with database.transaction() as connection:
            seen.append(ledger.mark(connection, place, 2))

    with database.transaction() as connection:
        assert ledger.mark(connection, place, 1) == 0
        thread = threading.Thread(target=second)
        thread.start()
        wait_for(lambda: _waiting(database), WAIT_S, "the second to wait")
        ledger.advance(connection, {place: 5}, 1)
    thread.join(WAIT_S)
    assert seen == [5]
