"""Centers for tests: a clock that stands still, a link that only remembers, small resources."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from sqlalchemy import make_url

from center import auth, db
from center.auth import Throttle
from center.calls import Calls
from center.credit import Credit
from center.db import Database
from center.desk import Desk
from center.downlink import Downlink, Terms
from center.ingest import Ingest
from center.live import Bell
from center.metrics import LINK_COUNTERS, LINK_GAUGES, Metrics
from wire import codec, specs, topics
from wire.link import Received
from wire.messages import Down, Up
from wire.topics import DownTopic, UpChannel

START_MS = 1_800_000_000_000
SQLITE_ONLY = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""For tests of the fixture `center` about the file itself, or that touch no SQL of their own."""


@dataclass
class SimulatedClock:
    """Time passes only when a test says so."""

    wall_ms: int = START_MS

    def now_ms(self) -> int:
        return self.wall_ms

    def elapsed_s(self) -> float:
        return self.wall_ms / 1000

    def pass_s(self, seconds: float) -> None:
        self.wall_ms += round(seconds * 1000)


@dataclass
class RecordingLink:
    """A link that is up and remembers what it was given."""

    connection: int | None = 1
    published: list[tuple[str, Down]] = field(default_factory=list)
    acked: list[Received] = field(default_factory=list)

    def publish(
        self,
        connection: int,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        expires_s: int | None = None,
    ) -> bool:
        assert qos == 1
        assert expires_s
        if connection != self.connection:
            return False
        parsed = topics.parse(topic)
        assert isinstance(parsed, DownTopic)
        self.published.append((parsed.worker, codec.decode_down(parsed, payload)))
        return True

    def ack(self, message: Received) -> None:
        self.acked.append(message)

    def said(self) -> list[Down]:
        """What was published since the last look."""
        said = [message for _, message in self.published]
        self.published.clear()
        return said


@dataclass
class Rig:
    """A center's parts without threads and broker: a test calls `hear` and reads the answers."""

    folder: Path
    database: Database
    clock: SimulatedClock
    link: RecordingLink
    metrics: Metrics
    credit: Credit
    downlink: Downlink
    ingest: Ingest
    desk: Desk
    woken: list[str]

    def hear(self, worker: str, channel: UpChannel, *said: Up | bytes) -> list[Down]:
        """Let the center hear messages as one group; what it answers."""
        group = [
            Received(
                connection=1,
                topic=topics.up(worker, channel),
                payload=one if isinstance(one, bytes) else codec.encode(one),
                mid=number,
                qos=1,
            )
            for number, one in enumerate(said, 1)
        ]
        (self.ingest if channel.startswith("ev/") else self.downlink).take(group)
        return self.link.said()

    def count(self, name: str) -> int:
        return self.metrics.counts()[name]

    def token(self) -> str:
        with self.database.transaction() as connection:
            return auth.issue(connection, "api", "test", self.clock.now_ms())


@cache
def _migrated() -> bytes:
    """A database file with its tables and a generation: migrating takes longer than most tests."""
    with TemporaryDirectory() as folder:
        database = db.open_sqlite(Path(folder))
        db.migrate(database)
        database.close()
        return (Path(folder) / db.FILE_NAME).read_bytes()


@contextmanager
def rig(folder: Path, heartbeat_s: float = 10.0, url: str | None = None) -> Iterator[Rig]:
    """A center over a real database: in `folder`, or the migrated one at `url`."""
    folder.mkdir(mode=0o700, exist_ok=True)
    if url is None:
        (folder / db.FILE_NAME).write_bytes(_migrated())
    database = db.open_database(folder, None if url is None else make_url(url))
    clock, link, metrics, bell = SimulatedClock(), RecordingLink(), Metrics(), Bell()
    woken: list[str] = []
    credit = Credit(clock)
    terms = Terms(heartbeat_s=heartbeat_s)
    downlink = Downlink(database, link, clock, terms, metrics, credit=credit)
    desk = Desk(
        database=database,
        clock=clock,
        heartbeat_s=heartbeat_s,
        wake=woken.extend,
        bell=bell,
        throttle=Throttle(clock),
        metrics=metrics,
        waiting=lambda: {"ingest": 0, "downlink": 0},
        strangers=downlink.strangers,
        link_stats=lambda: dict.fromkeys((*LINK_COUNTERS, *LINK_GAUGES), 0.0),
        calls=Calls(link, clock, metrics),
    )
    ingest = Ingest(database, link, clock, bell, metrics, credit)
    try:
        yield Rig(folder, database, clock, link, metrics, credit, downlink, ingest, desk, woken)
    finally:
        database.close()


# --- resources ---------------------------------------------------------------------------------


def station(name: str = "s1", **spec: Any) -> specs.Station:
    return specs.Station.model_validate({"metadata": {"name": name}, "spec": spec})


def worker(name: str = "w1", station: str = "s1") -> specs.Worker:
    return specs.Worker.model_validate({"metadata": {"name": name, "station": station}})


def camera(name: str = "c1", station: str = "s1", **stream: Any) -> specs.Camera:
    streams = {"main": {"url": f"rtsp://cameras.example/{name}", **stream}}
    document = {"metadata": {"name": name, "station": station}, "spec": {"streams": streams}}
    return specs.Camera.model_validate(document)


def task(name: str = "t1", camera: str = "c1", station: str = "s1", **spec: Any) -> specs.Task:
    whole = {
        "camera": camera,
        "model": {"name": "nano"},
        "rules": [{"name": "somebody", "when": {"class": "person"}, "for": "3s"}],
        **spec,
    }
    document = {"metadata": {"name": name, "station": station}, "spec": whole}
    return specs.Task.model_validate(document)


def furnish(desk: Desk, *names: str) -> None:
    """Station s1 with worker w1, camera c1 and a task for each name."""
    resources: list[specs.Resource] = [station(), worker(), camera(), *map(task, names)]
    for resource in resources:
        desk.put(resource)
