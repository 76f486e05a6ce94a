"""A center at two brokers that know nothing of each other, one of which dies."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from center.app import Center, running
from center.clock import SystemClock
from center.config import load
from center.events import Filter, search
from tests.parts.brokers import BrokerHandle, mosquitto
from tests.parts.centers import camera, furnish, station, task, worker
from tests.parts.links import WAIT_S
from tests.parts.workers import FakeWorker, Voice, crossings, fake_worker
from tests.waiting import wait_for
from wire.events import Ack
from wire.link import Up
from wire.messages import Desired

FIRST = Voice(worker="w1", session="session-1")
SECOND = Voice(worker="w2", session="session-2", instance="disk-2", boot="boot-2")


@dataclass(frozen=True)
class Site:
    """A center and its two brokers."""

    center: Center
    a: BrokerHandle
    b: BrokerHandle


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[BrokerHandle, BrokerHandle]]:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    with mosquitto(tmp_path / "a") as a, mosquitto(tmp_path / "b") as b:
        yield a, b


@pytest.fixture
def site(tmp_path: Path, two: tuple[BrokerHandle, BrokerHandle]) -> Iterator[Site]:
    a, b = two
    flags = {"data": tmp_path / "center", "broker": [a.url, b.url], "announce_broker": [b.url]}
    with running(load(flags, {}), SystemClock()) as center:
        furnish(center.desk, "t1")
        for resource in (station("s2"), worker("w2", "s2"), camera(station="s2")):
            center.desk.put(resource)
        center.desk.put(task(station="s2"))
        yield Site(center, a, b)


def deliver(said: FakeWorker, first: int) -> None:
    """Send two events until they are acknowledged, wherever the worker is connected by then."""
    batch = said.voice.batch(first, crossings(2, first))

    def covered() -> bool:
        said.say("ev/bulk", batch)
        return said.wait_for(Ack).watermark.seq > first

    wait_for(covered, WAIT_S, f"an ack for {first}")


def stored(center: Center) -> list[tuple[str, int]]:
    with center.desk.database.reading() as connection:
        return sorted((one["worker"], one["seq"]) for one in search(connection, Filter(), "asc"))


def test_workers_move_when_their_broker_dies(site: Site) -> None:
    """I1, I2: the center hears both; who loses its broker goes on at the other, twice nothing."""
    with (
        fake_worker(site.a.url, FIRST, site.b.url) as moving,
        fake_worker(site.b.url, SECOND) as staying,
    ):
        assert moving.join().brokers == [site.b.url]
        staying.join()
        deliver(moving, 1)
        deliver(staying, 1)
        site.a.kill()
        moving.heard.wait(Up, 2)
        moving.join()
        deliver(moving, 3)
        deliver(staying, 3)
        site.a.start()
        deliver(moving, 5)
    both = [(name, seq) for name, last in (("w1", 6), ("w2", 4)) for seq in range(1, last + 1)]
    assert stored(site.center) == both


def edited(said: FakeWorker) -> bool:
    return b'"fps":2.0' in bytes(said.wait_for(Desired).items[1].body)


def test_an_edit_reaches_workers_at_both_brokers(site: Site) -> None:
    """A document that nobody asked for goes to the broker at which its worker was last heard."""
    with fake_worker(site.a.url, FIRST) as one, fake_worker(site.b.url, SECOND) as other:
        for said in (one, other):
            said.join()
            said.wait_for(Desired)
        site.center.desk.put(task("t1", fps=2.0))
        site.center.desk.put(task("t1", station="s2", fps=2.0))
        for said in (one, other):
            wait_for(partial(edited, said), WAIT_S, "the edited document")
