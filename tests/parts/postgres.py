"""A real PostgreSQL for tests: a server of Debian's package in a folder of its own.

PostgreSQL refuses to run as root: then the server's user is `postgres`, else who runs the tests.
Each test has a database of its own.
"""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url

from center import db
from tests.waiting import wait_for

USER = "forecourt"
_TEMPLATE = "migrated"
_READY_S = 30.0
_PORT_ATTEMPTS = 5
_QUICK = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")

# Without checks and triggers, so in any order.
_EMPTY = """
DO $$ DECLARE one text; BEGIN
  SET LOCAL session_replication_role = replica;
  SET LOCAL lock_timeout = '1s';
  FOR one IN SELECT tablename FROM pg_tables WHERE schemaname = 'public'
    AND tablename NOT IN ('meta', 'alembic_version')
  LOOP EXECUTE format('DELETE FROM %I', one); END LOOP;
  UPDATE meta SET revision = 0;
  FOR one IN SELECT sequencename FROM pg_sequences
  LOOP EXECUTE format('ALTER SEQUENCE %I RESTART', one); END LOOP;
END $$
"""
_SHAPE = """
SELECT (SELECT count(*) FROM meta), (SELECT min(version_num) FROM alembic_version),
  (SELECT count(*) FROM pg_class), (SELECT count(*) FROM pg_constraint)
"""


def programs() -> Path | None:
    """The folder of the newest server that is installed, None without one."""
    found = Path("/usr/lib/postgresql").glob("*/bin/postgres")
    return max((path.parent for path in found), key=lambda path: int(path.parts[-2]), default=None)


@dataclass
class Postgres:
    """A running server. `kill` ends it as a power cut would, `start` lets it recover."""

    port: int
    kill: Callable[[], None]
    start: Callable[[], None]
    log: Path
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))
    _free: list[str] = field(default_factory=list)
    _shape: tuple[Any, ...] | None = None

    def url(self, database: str) -> str:
        """The address of one database, without a password."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    @contextmanager
    def database(self, *, migrated: bool = True, encoding: str = "UTF8") -> Iterator[str]:
        """A database of a test's own, and its URL: empty, or migrated and without rows.

        A migrated one is emptied afterwards for the next test, which takes a tenth of the time that
        a new one does; it is dropped where that fails, or where its tables are not what they were.
        """
        kept = self._free.pop() if migrated and self._free else None
        name = kept or f"test{next(self._numbers)}"
        if kept is None:
            template = self._template() if migrated else "template0"
            self._do(f"CREATE DATABASE {{}} TEMPLATE {{}} ENCODING {encoding}", name, template)
        try:
            yield self.url(name)
        finally:
            if migrated and self._emptied(name):
                self._free.append(name)
            else:
                self._do("DROP DATABASE {} WITH (FORCE)", name)

    def _emptied(self, name: str) -> bool:
        try:
            with psycopg.connect(self.url(name), autocommit=True) as connection:
                connection.execute(_EMPTY)
                return connection.execute(_SHAPE).fetchone() == self._shape
        except psycopg.Error:
            return False

    def _template(self) -> str:
        """The database that others are copied from, made for the first."""
        if self._shape is None:
            self._do("CREATE DATABASE {}", _TEMPLATE)
            database = db.open_postgresql(make_url(self.url(_TEMPLATE)))
            db.migrate(database)
            database.close()
            with psycopg.connect(self.url(_TEMPLATE)) as connection:
                self._shape = connection.execute(_SHAPE).fetchone()
        return _TEMPLATE

    def _do(self, statement: str, *names: str) -> None:
        with self._admin() as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))

    def _admin(self) -> "psycopg.Connection[tuple[Any, ...]]":
        return psycopg.connect(self.url("postgres"), autocommit=True)


@contextmanager
def postgres(*, durable: bool = False) -> Iterator[Postgres]:
    """A server on a free loopback port; skips where Debian's package is missing.

    `durable` keeps fsync on, for tests that cut its power.
    """
    binaries = programs()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="fc-pg-", dir="/tmp"))  # a short path, open to its user
    try:
        server = _Server(binaries, folder, () if durable else _QUICK)
        for left in reversed(range(_PORT_ATTEMPTS)):
            server.port = _free_port()
            try:
                server.start()
                break
            except RuntimeError:
                if not left:
                    raise
        try:
            yield Postgres(server.port, server.kill, server.start, server.log)
        finally:
            server.kill()
    finally:
        shutil.rmtree(folder)


class _Server:
    """The server's process; `port` is set before the first start."""

    def __init__(self, binaries: Path, folder: Path, settings: tuple[str, ...]) -> None:
        self.port = 0
        self.log = folder / "postgres.log"
        self._binaries = binaries
        self._folder = folder
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._identity: dict[str, Any] = {}
        if os.geteuid() == 0:
            self._identity = {"user": "postgres", "group": "postgres", "extra_groups": []}
            shutil.chown(folder, "postgres", "postgres")
        self._run(
            "initdb", "--pgdata", str(folder / "data"), "--username", USER, "--auth", "trust",
            "--encoding", "UTF8", "--locale", "C", "--no-sync",
        )  # fmt: skip

    def start(self) -> None:
        """Return when it accepts. RuntimeError with the end of its log when it does not."""
        settings = [
            f"port={self.port}",
            "listen_addresses=127.0.0.1",
            f"unix_socket_directories={self._folder}",
            *self._settings,
        ]
        command = [str(self._binaries / "postgres"), "-D", str(self._folder / "data")]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *(word for one in settings for word in ("-c", one))],
                stdout=log, stderr=log, cwd=self._folder, **self._identity,
            )  # fmt: skip
        wait_for(self._settled, _READY_S, "PostgreSQL to start")
        if self._process.poll() is not None:
            self.kill()
            raise RuntimeError(f"PostgreSQL did not start: {self.log.read_text()[-500:]}")

    def _settled(self) -> bool:
        """It has ended, or it answers."""
        assert self._process is not None
        if self._process.poll() is not None:
            return True
        try:
            psycopg.connect(
                host=str(self._folder), port=self.port, user=USER, dbname="postgres"
            ).close()
        except psycopg.OperationalError:
            return False
        return True

    def kill(self) -> None:
        """Kill -9; its children end with it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._binaries / program), *arguments],
            capture_output=True, text=True, cwd=self._folder, check=False, **self._identity,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{program} failed: {done.stderr[-500:]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
