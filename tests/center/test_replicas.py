"""Several centers over one PostgreSQL, as real processes; and a database server that dies."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import make_url, select
from typer.testing import CliRunner

from center import db
from center.__main__ import app
from center.check import Finding, check
from center.config import ConfigError, load
from center.serving import serve
from center.tables import events, presence, tokens, watermarks
from tests.parts.brokers import mosquitto
from tests.parts.centers import furnish, rig
from tests.parts.links import WAIT_S
from tests.parts.postgres import Postgres, postgres
from tests.parts.processes import START_S, Process
from tests.parts.workers import FakeWorker, Voice, crossings, fake_worker
from tests.waiting import wait_for
from wire import codec, topics
from wire.events import Ack
from wire.link import Received
from wire.messages import Welcome
from wire.topics import DownTopic

PER_BATCH = 50


@contextmanager
def serving(folder: Path, broker: str, database: str, *names: str) -> Iterator[list[Process]]:
    """Centers that start together, each with a data folder of its own; returns when all answer."""
    processes = [
        Process(
            folder / f"{name}.log",
            ["center", "serve", "--data", str(folder / name), "--database", database,
             "--broker", broker, "--listen", "127.0.0.1:0",
             "--admin-token-file", str(folder / f"{name}.token")],
        )
        for name in names
    ]  # fmt: skip
    try:
        for process in processes:
            process.start()
        for name, process in zip(names, processes, strict=True):
            facts = folder / name / "center.json"
            wait_for(lambda f=facts, p=process: f.exists() or not p.alive, START_S, name)  # type: ignore[misc]
            assert process.alive, process.tail()
        yield processes
    finally:
        for process in processes:
            process.kill()


def deliver(worker: FakeWorker, batches: range) -> None:
    """Send batches, each again until an ack covers it."""
    for number in batches:
        first = number * PER_BATCH + 1
        last = first + PER_BATCH - 1
        batch = worker.voice.batch(first, crossings(PER_BATCH, first))

        def covered(batch: object = batch, last: int = last) -> bool:
            worker.say("ev/bulk", batch)  # type: ignore[arg-type]  # a Batch
            return worker.wait_for(Ack).watermark.seq >= last

        wait_for(covered, WAIT_S, f"an ack up to {last}")


def stored(database: str) -> list[int]:
    """The numbers of all events, in the order of their ids."""
    opened = db.open_postgresql(make_url(database))
    try:
        with opened.reading() as connection:
            return list(connection.execute(select(events.c.seq).order_by(events.c.id)).scalars())
    finally:
        opened.close()


def findings(database: str) -> list[Finding]:
    """What `check` has to say."""
    opened = db.open_postgresql(make_url(database), patient=True)
    try:
        return list(check(opened))
    finally:
        opened.close()


def fences(worker: FakeWorker) -> set[int]:
    """Those of all welcomes that came."""
    said = []
    for message in worker.heard.all(Received):
        topic = topics.parse(message.topic)
        assert isinstance(topic, DownTopic)
        said.append(codec.decode_down(topic, message.payload))
    return {one.fence for one in said if isinstance(one, Welcome)}


def test_two_centers_and_one_broker(tmp_path: Path, postgres_server: Postgres) -> None:
    """They make one database together and both hear all, yet each event is stored once, there is
    one fence and one token, and one may die (I2, I3).
    """
    with (
        postgres_server.database(migrated=False) as database,
        mosquitto(tmp_path) as broker,
        serving(tmp_path, broker.url, database, "one", "two") as (dying, _),
        rig(tmp_path / "desk", url=database) as center,
    ):
        furnish(center.desk, "t1")
        with fake_worker(broker.url, Voice()) as worker:
            worker.join()
            deliver(worker, range(6))
            dying.kill()
            deliver(worker, range(6, 10))
            assert fences(worker) == {1}
        assert stored(database) == list(range(1, 10 * PER_BATCH + 1))
        assert findings(database) == []
        with center.database.reading() as reading:
            assert reading.execute(select(watermarks.c.seq)).scalars().all() == [10 * PER_BATCH]
            assert reading.execute(select(presence.c.fence)).scalars().all() == [1]
            assert len(reading.execute(select(tokens)).all()) == 1
        assert len(list(tmp_path.glob("*.token"))) == 1


def test_a_server_that_dies_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    """I1: kill -9 of PostgreSQL in the middle; the center waits, and goes on by itself."""
    with (
        postgres(durable=True) as server,
        server.database(migrated=False) as database,
        mosquitto(tmp_path) as broker,
        serving(tmp_path, broker.url, database, "one"),
    ):
        with rig(tmp_path / "desk", url=database) as center:
            furnish(center.desk)
        with fake_worker(broker.url, Voice()) as worker:
            worker.join()
            deliver(worker, range(3))
            server.kill()
            worker.say("ev/bulk", worker.voice.batch(151, crossings(PER_BATCH, 151)))
            server.start()
            deliver(worker, range(3, 6))
        assert stored(database) == list(range(1, 6 * PER_BATCH + 1))
        assert findings(database) == []


NOWHERE = "postgresql://secretive@127.0.0.1:1/n"


def test_a_database_that_is_not_there_is_told(tmp_path: Path) -> None:
    """A clear sentence with its address, without the user's name."""
    flags = {"data": tmp_path, "listen": "127.0.0.1:0", "broker": "mqtt://127.0.0.1:1"}
    with pytest.raises(ConfigError, match=r"postgresql://127\.0\.0\.1:1/n") as refused:
        serve(load({**flags, "database": NOWHERE}, {}))
    assert "secretive" not in str(refused.value)
    for command in ("migrate", "check"):
        done = CliRunner().invoke(app, [command, "--database", NOWHERE])
        assert done.exit_code == 1, done.output
        assert "postgresql://127.0.0.1:1/n: " in done.output
        assert "secretive" not in done.output


def test_migrate_and_check(postgres_server: Postgres) -> None:
    """An empty database is found wanting; `migrate` makes one that is sound."""
    with postgres_server.database(migrated=False) as database:
        told = {"FORECOURT_CENTER_DATABASE": database}
        assert "to do:" in CliRunner(env=told).invoke(app, ["check"]).output
        assert CliRunner(env=told).invoke(app, ["migrate"]).exit_code == 0
        assert CliRunner().invoke(app, ["check", "--database", database]).exit_code == 0


@pytest.mark.parametrize(
    ("command", "option", "url"),
    [
        (["serve", "--data", "/d"], "broker", "mqtt://u:s3cret@h"),
        (["serve", "--data", "/d"], "database", "postgresql://u:s3cret@h/n"),
        (["migrate"], "database", "postgresql://u:s3cret@h/n"),
        (["check"], "database", "postgresql://u:s3cret@h/n"),
    ],
)
def test_a_password_on_the_command_line_is_refused(
    command: list[str], option: str, url: str
) -> None:
    """I11: every user of a machine can read command lines. The environment may hold it."""
    done = CliRunner().invoke(app, [*command, f"--{option}", url])
    assert done.exit_code == 2
    assert f"FORECOURT_CENTER_{option.upper()}" in done.output
    assert "s3cret" not in done.output
