"""The whole center over real brokers: a worker joins, is told its work, and delivers events."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from center import presence
from center.app import Center, running
from center.clock import SystemClock
from center.config import load
from center.events import Filter, search
from tests.parts.brokers import BrokerHandle
from tests.parts.centers import furnish, task
from tests.parts.links import WAIT_S
from tests.parts.workers import EPOCH, FakeWorker, Voice, crossings, fake_worker
from tests.waiting import wait_for
from wire.events import Ack, Rewind, Watermark
from wire.link import Received
from wire.messages import Bye, Delta, Deny, Desired, Known, Welcome
from wire.topics import UpChannel

HEARTBEAT_S = 30.0


@pytest.fixture
def center(tmp_path: Path, broker: BrokerHandle) -> Iterator[Center]:
    flags = {"data": tmp_path / "center", "broker": broker.url, "heartbeat_s": HEARTBEAT_S}
    with running(load(flags, {}), SystemClock()) as made:
        furnish(made.desk, "t1")
        yield made


def stored(center: Center) -> list[int]:
    with center.desk.database.reading() as connection:
        return [event["seq"] for event in search(connection, Filter(), "asc")]


def counted(center: Center, name: str) -> int:
    return center.desk.metrics.counts()[name]


def take_document(worker: FakeWorker) -> Desired:
    """Wait for a document and have it from now on."""
    document = worker.wait_for(Desired)
    known = Known(
        generation=document.generation, revision=document.revision, digest=document.digest
    )
    worker.voice = replace(worker.voice, desired=known)
    return document


def mark(seq: int) -> Watermark:
    return Watermark(epoch=EPOCH, lane="bulk", seq=seq)


def test_a_workers_day(center: Center, broker: BrokerHandle) -> None:
    """Hello, welcome, document, observed, events, a hole, a duplicate, an edit, a bye."""
    with fake_worker(broker.url, Voice()) as worker:
        welcome = worker.join()
        assert (welcome.fence, welcome.heartbeat_s) == (1, HEARTBEAT_S)
        document = take_document(worker)
        revision = document.items[1].revision
        worker.say("observed", worker.voice.observed("Task", "t1", revision, "Running"))

        batch = worker.voice.batch(1, crossings(3))
        worker.say("ev/bulk", batch)
        assert worker.wait_for(Ack).watermark == mark(3)
        worker.say("ev/bulk", batch)
        assert worker.wait_for(Ack).watermark == mark(3)
        worker.say("ev/bulk", worker.voice.batch(9, crossings(1, first=9)))
        assert worker.wait_for(Rewind).watermark == mark(3)
        worker.say("ev/bulk", worker.voice.batch(4, [b"{}", *crossings(1, first=5)]))
        assert worker.wait_for(Ack).watermark == mark(5)
        assert stored(center) == [1, 2, 3, 5]

        center.desk.put(task("t1", fps=3.0))
        delta = worker.wait_for(Delta)
        assert (delta.base_digest, len(delta.puts)) == (document.digest, 1)
        worker.say("hb", worker.voice.heartbeat())
        wait_for(lambda: counted(center, "heartbeats_total"), WAIT_S, "the heartbeat")
        worker.say("bye", Bye(session=worker.voice.session))
        wait_for(lambda: gone(center) == "bye", WAIT_S, "the bye")


def gone(center: Center) -> str:
    with center.desk.database.reading() as connection:
        held = presence.of_worker(connection, "w1")
    assert held is not None
    return held.gone


def test_a_will_ends_presence_at_once(center: Center, broker: BrokerHandle) -> None:
    """When a worker's connection breaks, the broker's word for it counts."""
    with fake_worker(broker.url, Voice()) as worker:
        worker.join()
        # A will is published on behalf of a client that is gone; here it speaks for itself.
        worker.say("will", b'{"k":"will","session":"session-1"}')
        wait_for(lambda: gone(center) == "will", WAIT_S, "the will")


def test_two_devices_with_one_name(center: Center, broker: BrokerHandle) -> None:
    """The second is denied while the first is heard, and welcomed after the first one's bye."""
    second = Voice(instance="disk-2", boot="boot-2", session="session-2")
    with fake_worker(broker.url, Voice()) as one, fake_worker(broker.url, second) as two:
        one.join()
        two.say("hello", second.hello())
        assert two.wait_for(Deny).code == "fenced"
        one.say("bye", Bye(session="session-1"))
        assert two.join().fence == 2


CHANNELS: list[UpChannel] = ["hello", "hb", "will", "bye", "observed", "rsp", "ev/alarm", "ev/bulk"]


def test_malformed_payloads_do_not_come_back(center: Center, broker: BrokerHandle) -> None:
    """Garbage on every topic is acknowledged to the broker, and work goes on behind it."""
    with fake_worker(broker.url, Voice()) as worker:
        worker.join()
        for channel in CHANNELS:
            for payload in (b"", b"\0\1", b"{", b'{"k":"ev"}'):
                worker.say(channel, payload)
        garbage = 4 * len(CHANNELS)
        names = ("unreadable_messages_total", "calls_foreign_total")  # nobody asked for an `rsp`
        wait_for(
            lambda: sum(counted(center, name) for name in names) >= garbage, WAIT_S, "the garbage"
        )
        worker.say("ev/bulk", worker.voice.batch(1, crossings(1)))
        assert worker.wait_for(Ack).watermark == mark(1)
        assert counted(center, "messages_discarded_total") == 0


def test_a_broker_that_dies_and_returns(center: Center, broker: BrokerHandle) -> None:
    """The center comes back by itself, and the worker's session goes on without a new hello."""
    with fake_worker(broker.url, Voice()) as worker:
        worker.join()
        take_document(worker)
        broker.kill()
        broker.start()

        def delivered() -> bool:
            connection = worker.link.connection
            if connection is not None:
                worker.heard.events[:] = [
                    event
                    for event in worker.heard.events
                    if isinstance(event, Received) or event.connection == connection
                ]
                worker.say("ev/bulk", worker.voice.batch(1, crossings(2)))
            return stored(center) == [1, 2]

        wait_for(delivered, WAIT_S, "events over the new connection", every_s=0.2)


def test_a_stranger(center: Center, broker: BrokerHandle) -> None:
    """A worker that is not registered is told so, by name."""
    with fake_worker(broker.url, Voice(worker="stranger")) as worker:

        def denied() -> bool:
            worker.say("hello", worker.voice.hello())
            return counted(center, "strangers_total") > 0

        wait_for(denied, WAIT_S, "the center", every_s=0.2)
        deny = worker.wait_for(Deny)
        assert deny.code == "revoked"
        assert "stranger" in deny.reason


def test_a_center_that_restarts(tmp_path: Path, broker: BrokerHandle) -> None:
    """What was acknowledged is there after a restart; the worker is asked for a hello, goes on."""
    flags = {"data": tmp_path / "center", "broker": broker.url, "heartbeat_s": HEARTBEAT_S}
    config = load(flags, {})
    with fake_worker(broker.url, Voice()) as worker:
        with running(config, SystemClock()) as center:
            furnish(center.desk)
            assert isinstance(worker.join(), Welcome)
            worker.say("ev/bulk", worker.voice.batch(1, crossings(2)))
            worker.wait_for(Ack)
        with running(config, SystemClock()) as center:
            assert worker.wait_for(Deny).code == "retry"
            worker.join()
            worker.say("ev/bulk", worker.voice.batch(3, crossings(1, first=3)))
            wait_for(
                lambda: stored(center) == [1, 2, 3],
                WAIT_S,
                "events at the restarted center",
                every_s=0.2,
            )
