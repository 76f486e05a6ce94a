"""Which brokers a worker tries, and in which order."""

from edge import brokers
from wire.link import Broker

CONFIGURED = [
    Broker.parse("mqtts://w1:secret@one.example"),
    Broker.parse("mqtts://w1:secret@two.example"),
]


def hosts(found: list[Broker]) -> list[str]:
    return [broker.host for broker in found]


def test_announced_brokers_join_with_the_credentials_of_the_configured() -> None:
    """A broker that the center announced is tried as one's own; a plain one never replaces TLS."""
    announced = ["mqtts://three.example", "mqtt://plain.example", "mqtts://one.example", "nonsense"]
    found = brokers.in_order(CONFIGURED, announced, None, "w1")
    assert sorted(hosts(found)) == ["one.example", "three.example", "two.example"]
    assert {(b.username, b.password) for b in found} == {("w1", "secret")}


def test_the_last_good_one_comes_first() -> None:
    """After a restart the broker that served last is tried before the others."""
    found = brokers.in_order(CONFIGURED, [], "two.example:8883", "w1")
    assert hosts(found)[0] == "two.example"


def test_workers_begin_at_different_brokers() -> None:
    """The first broker differs from worker to worker, and is each worker's own for ever."""
    first = [brokers.in_order(CONFIGURED, [], None, f"w{n}")[0].host for n in range(200)]
    assert 60 <= first.count("one.example") <= 140
    again = [brokers.in_order(CONFIGURED, [], None, f"w{n}")[0].host for n in range(200)]
    assert first == again


def test_what_is_remembered_is_read_again() -> None:
    """A list survives its writing down; what is no list is none."""
    urls = brokers.readable(["mqtts://three.example", "http://no.example", "x" * 400])
    assert urls == ["mqtts://three.example"]
    assert brokers.remembered(brokers.written(urls)) == urls
    assert brokers.remembered(None) == brokers.remembered("{") == brokers.remembered("3") == []
