"""Several links behind the face of one: numbers, hints, and messages that answer none."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from center import links
from center.links import WHEREVER, Links
from tests.parts.brokers import BrokerHandle, mosquitto
from tests.parts.links import QUICK, WAIT_S, Heard, linked
from tests.waiting import wait_for
from wire import topics
from wire.link import Broker, Down, Link, Received, Up


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[BrokerHandle, BrokerHandle]]:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    with mosquitto(tmp_path / "a") as a, mosquitto(tmp_path / "b") as b:
        yield a, b


@contextmanager
def started(*brokers: BrokerHandle) -> Iterator[tuple[Links, Heard]]:
    heard = Heard()
    made = Links(
        [Broker.parse(one.url) for one in brokers], "center", [topics.ALL_UP], heard,
        backoff_s=QUICK, receive_window=10,
    )  # fmt: skip
    made.start()
    try:
        yield made, heard
    finally:
        made.stop(2.0)


def speak(link: Link, heard: Heard, worker: str) -> None:
    """Let a worker say something."""
    assert link.publish(heard.wait(Up).connection, topics.up(worker, "hello"), b"{}")


def test_every_connection_has_a_number_of_its_own(
    two: tuple[BrokerHandle, BrokerHandle],
) -> None:
    """What is heard names a connection, and an answer on that number goes back the same way."""
    a, b = two
    with (
        started(a, b) as (center, heard),
        linked(a.url, subscribe=(topics.all_down("w1"),)) as (one, at_a),
        linked(b.url, subscribe=(topics.all_down("w1"),)) as (other, at_b),
    ):
        heard.wait(Up, 2)
        assert len({up.connection for up in heard.all(Up)} | {WHEREVER}) == 3
        speak(one, at_a, "w1")
        from_a = heard.wait(Received)
        speak(other, at_b, "w1")
        from_b = heard.wait(Received, 2)
        for number, message in ((b"a", from_a), (b"b", from_b)):
            assert center.publish(message.connection, topics.down("w1", "ack"), number)
            center.ack(message)
        at_a.wait(Received)
        at_b.wait(Received)
        assert (at_a.payloads(), at_b.payloads()) == ([b"a"], [b"b"])
        wait_for(lambda: center.stats()["unacked"] == 0, WAIT_S, "both to be acknowledged")
        assert center.stats()["connects"] == 2


def test_wherever_is_where_the_worker_was_last_heard(
    two: tuple[BrokerHandle, BrokerHandle],
) -> None:
    """Before a first word, and when that connection is gone, it is every broker."""
    a, b = two
    topic = topics.down("w1", "desired")
    with (
        started(a, b) as (center, heard),
        linked(a.url, subscribe=(topic,)) as (one, at_a),
        linked(b.url, subscribe=(topic,)) as (_, at_b),
    ):
        heard.wait(Up, 2)
        at_a.wait(Up)
        at_b.wait(Up)
        assert center.publish(WHEREVER, topic, b"1")
        at_a.wait(Received)
        at_b.wait(Received)
        speak(one, at_a, "w1")
        heard.wait(Received)
        assert center.publish(WHEREVER, topic, b"2")
        at_a.wait(Received, 2)
        a.kill()
        heard.wait(Down)
        assert center.publish(WHEREVER, topic, b"3")
        at_b.wait(Received, 2)
        assert (at_a.payloads(), at_b.payloads()) == ([b"1", b"2"], [b"1", b"3"])
        assert isinstance(center.connection, int)
        b.kill()
        heard.wait(Down, 2)
        assert not center.publish(WHEREVER, topic, b"4")
        assert center.connection is None


def test_a_will_says_nothing_of_where_a_worker_is(two: tuple[BrokerHandle, BrokerHandle]) -> None:
    """The broker that it left says it late, when the worker was heard by the other."""
    a, b = two
    with (
        started(a, b) as (center, heard),
        linked(a.url) as (one, at_a),
        linked(b.url) as (other, at_b),
    ):
        heard.wait(Up, 2)
        speak(other, at_b, "w1")
        there = heard.wait(Received).connection
        assert one.publish(at_a.wait(Up).connection, topics.up("w1", "will"), b"{}")
        heard.wait(Received, 2)
        assert dict(center._last_heard) == {"w1": there}


def test_hints_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """I8: of many workers, those that were silent longest are forgotten."""
    monkeypatch.setattr(links, "MAX_HINTS", 2)
    with (
        mosquitto(tmp_path) as broker,
        started(broker) as (center, heard),
        linked(broker.url) as (link, at),
    ):
        heard.wait(Up)
        for number, name in enumerate(("w1", "w2", "w1", "w3"), 1):
            speak(link, at, name)
            center.ack(heard.wait(Received, number))
        assert list(center._last_heard) == ["w1", "w3"]
