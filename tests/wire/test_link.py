"""The link with a connection: messages out, messages in, acknowledging, stopping.

Each trap of the client library below has its regression test here or in test_link_connecting.py.
"""

import os
import resource
import threading
import time
from pathlib import Path

import pytest

from tests.parts.brokers import BrokerHandle, mosquitto
from tests.parts.links import WAIT_S, Heard, fail_on_received, linked, publish_raw, server
from tests.waiting import wait_for
from wire.link import MAX_PACKET_BYTES, Broker, Down, Link, LinkEvent, Received, Up

CONNACK_V5 = b"\x20\x03\x00\x00\x00"


def test_a_failing_callback_kills_nothing(broker: BrokerHandle) -> None:
    """Trap 5: an exception in the callback leaves thread and connection at work, and counts."""
    with linked(broker.url, subscribe=("t/#",), before=fail_on_received) as (link, heard):
        up = heard.wait(Up)
        for payload in (b"one", b"two"):
            assert link.publish(up.connection, "t/a", payload)
        heard.wait(Received, 2)
        wait_for(lambda: link.stats()["callback_errors"] == 2, WAIT_S, "both failures counted")
        assert link.connection == up.connection
        assert link.stats()["unacked"] == 2


def test_a_message_whose_callback_failed_is_not_acknowledged(tmp_path: Path) -> None:
    """Trap 6: with a window of one, the next message comes only after the failed one is acked."""
    failures = iter([True])

    def fail_once(event: LinkEvent) -> None:
        if isinstance(event, Received) and next(failures, False):
            raise RuntimeError("a bug in the callback")

    with (
        mosquitto(tmp_path, extra_config="max_inflight_messages 1") as broker,
        linked(f"{broker.url}?version=3.1.1", subscribe=("t/#", "probe"), before=fail_once) as (
            link,
            heard,
        ),
        linked(broker.url) as (other, other_heard),
    ):
        first_up, other_up = heard.wait(Up), other_heard.wait(Up)
        other.publish(other_up.connection, "t/a", b"failed")
        failed = heard.wait(Received)
        other.publish(other_up.connection, "t/a", b"held back")
        other.publish(other_up.connection, "probe", b"passes: QoS 0 needs no window", qos=0)
        heard.wait(Received, 2)
        assert heard.payloads()[1] == b"passes: QoS 0 needs no window"
        link.ack(failed)
        assert heard.wait(Received, 3).payload == b"held back"
        assert link.connection == first_up.connection


def test_a_window_lost_to_failures_is_left_by_reconnecting(broker: BrokerHandle) -> None:
    """Traps 1 and 6: a deaf link reconnects, and gets nothing of its earlier life, acked or not."""
    bug = threading.Event()
    bug.set()

    def fail_while_bug(event: LinkEvent) -> None:
        if bug.is_set():
            fail_on_received(event)
        if isinstance(event, Down):
            bug.clear()

    with linked(broker.url, subscribe=("t/#",), before=fail_while_bug, receive_window=2) as (
        link,
        heard,
    ):
        first = heard.wait(Up)
        for payload in (b"lost 1", b"lost 2"):
            link.publish(first.connection, "t/a", payload)
        assert "whole window" in heard.wait(Down).reason
        second = heard.wait(Up, 2)
        link.publish(second.connection, "t/a", b"new")
        wait_for(lambda: b"new" in heard.payloads(), WAIT_S, "a message on the new connection")
        assert [m.payload for m in heard.all(Received) if m.connection == second.connection] == [
            b"new"
        ]


def test_file_descriptors_above_1023(broker: BrokerHandle) -> None:
    """Trap 9: a process with more than 1024 open files connects all the same."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    opened = [os.open(os.devnull, os.O_RDONLY)]
    try:
        while opened[-1] < 1100:
            opened.append(os.dup(opened[0]))
        with linked(broker.url, subscribe=("t",)) as (link, heard):
            link.publish(heard.wait(Up).connection, "t", b"high")
            assert heard.wait(Received).payload == b"high"
    finally:
        for descriptor in opened:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_publish_while_down_is_refused_and_never_sent(broker: BrokerHandle) -> None:
    """Trap 2: nothing that was published while down appears after the reconnect."""
    with (
        linked(broker.url) as (link, heard),
        linked(broker.url, subscribe=("t/#",)) as (_, watched),
    ):
        first = heard.wait(Up)
        watched.wait(Up)
        broker.kill()
        assert heard.wait(Down).connection == first.connection
        assert link.connection is None
        assert not link.publish(first.connection, "t/a", b"while down")
        broker.start()
        second = heard.wait(Up, 2)
        watched.wait(Up, 2)
        assert not link.publish(first.connection, "t/a", b"on a stale connection")
        assert link.publish(second.connection, "t/a", b"after")
        assert watched.wait(Received).payload == b"after"
        assert link.stats()["refused_publishes"] == 2


def test_publishing_from_callback_and_threads_does_not_deadlock(broker: BrokerHandle) -> None:
    """Trap 7: four publishing threads, answers from inside the callback, and nothing is lost."""
    count, threads = 100, 4
    with (
        linked(broker.url, subscribe=("up/#",)) as (station, station_heard),
        linked(broker.url, subscribe=("dn/#",)) as (center, heard),
    ):

        def answer(event: LinkEvent) -> None:
            if isinstance(event, Received):
                station.ack(event)
                station.publish(event.connection, "dn/w", event.payload)

        station_heard.before = answer
        heard.before = lambda event: center.ack(event) if isinstance(event, Received) else None
        station_heard.wait(Up)
        up = heard.wait(Up)

        def send(name: int) -> None:
            for number in range(count):
                assert center.publish(up.connection, "up/w", b"%d.%d" % (name, number))

        senders = [threading.Thread(target=send, args=(name,)) for name in range(threads)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join(WAIT_S)
        heard.wait(Received, count * threads)
        assert len(set(heard.payloads())) == count * threads
        wait_for(lambda: center.stats()["unacked"] == 0, WAIT_S, "everything acknowledged")
        assert station.stats()["callback_errors"] == center.stats()["callback_errors"] == 0


def test_a_killed_broker_is_found_again(broker: BrokerHandle) -> None:
    """Traps 8 and 15: a new number and session, subscribed again, and stale acks are ignored."""
    with linked(broker.url, subscribe=("t",)) as (link, heard):
        first = heard.wait(Up)
        link.publish(first.connection, "t", b"before")
        before = heard.wait(Received)
        broker.kill()
        heard.wait(Down)
        broker.start()
        second = heard.wait(Up, 2)
        assert second.connection > first.connection
        assert second.session != first.session
        link.publish(second.connection, "t", b"after")
        after = heard.wait(Received, 2)
        assert (after.connection, after.payload) == (second.connection, b"after")
        link.ack(before)
        assert link.stats()["dropped_stale"] == 1
        assert link.stats()["unacked"] == 1
        link.ack(after)
        link.ack(after)
        assert link.stats()["dropped_stale"] == 2
        assert link.stats()["unacked"] == 0
        assert [type(event) for event in heard.events] == [Up, Received, Down, Up, Received]


def test_stop_sends_what_was_handed_over(broker: BrokerHandle) -> None:
    """Trap 10: stop flushes its queue, sends no will, is quick, and can be called again."""
    with (
        linked(broker.url, subscribe=("t", "will")) as (watcher, watched),
        linked(broker.url, will=lambda session: ("will", session.encode())) as (link, heard),
    ):
        watched.before = lambda event: watcher.ack(event) if isinstance(event, Received) else None
        watched.wait(Up)
        up = heard.wait(Up)
        sent = [b"%d" % number for number in range(200)]
        for payload in sent:
            assert link.publish(up.connection, "t", payload, expires_s=60)
        link.stop(WAIT_S)
        assert not link.is_alive()
        assert heard.wait(Down).reason == "stopped"
        assert not link.publish(up.connection, "t", b"late")
        link.stop()
        assert link.stats()["published"] == len(sent)
        if broker.log is not None:  # amqtt may drop what it took once its sender is gone
            watched.wait(Received, len(sent))
            assert watched.payloads() == sent


def test_stop_is_bounded_when_the_broker_answers_nothing() -> None:
    """Trap 10: messages in flight that nobody acknowledges delay a stop by its timeout at most."""
    with (
        server(lambda client: client.sendall(CONNACK_V5)) as url,
        linked(url, max_inflight=3) as (link, heard),
    ):
        up = heard.wait(Up)
        for _ in range(10):
            assert link.publish(up.connection, "t", b"unanswered")
        wait_for(lambda: link.stats()["in_flight"] == 3, WAIT_S, "a full window")
        assert link.stats()["queued"] == 7
        began = time.monotonic()
        link.stop(1.0)
        assert time.monotonic() - began < 1.5
        assert not link.is_alive()
        assert link.stats()["dropped_stale"] == 7


def test_the_queue_is_bounded() -> None:
    """Trap 3: what cannot be sent is refused beyond the bound instead of piling up."""
    with (
        server(lambda client: client.sendall(CONNACK_V5)) as url,
        linked(url) as (link, heard),
    ):
        up = heard.wait(Up)
        accepted = sum(link.publish(up.connection, "t", b"x") for _ in range(1100))
        assert accepted <= 1000 + 20
        assert link.stats()["refused_publishes"] == 1100 - accepted
        link.stop(0.2)


def test_stop_before_start_and_inside_the_callback(tmp_path: Path) -> None:
    """A link that never ran stops at once, and one may be stopped from its own callback."""
    never = Link([Broker.parse("mqtt://127.0.0.1")], "test", (), Heard())
    never.stop()
    with mosquitto(tmp_path) as broker, linked(broker.url) as (link, heard):
        heard.before = lambda event: link.stop() if isinstance(event, Up) else None
        wait_for(lambda: heard.all(Down) or link.connection, WAIT_S, "the link up")
        link.stop()
        assert not link.is_alive()


def test_large_packets_pass_and_larger_ones_are_refused(broker: BrokerHandle) -> None:
    """Packets up to 512 KiB pass; larger ones raise at the sender and are dropped at arrival."""
    with linked(broker.url, subscribe=("t",)) as (link, heard):
        up = heard.wait(Up)
        large = bytes(MAX_PACKET_BYTES - 1000)
        assert link.publish(up.connection, "t", large)
        assert heard.wait(Received).payload == large
        with pytest.raises(ValueError, match="in parts"):
            link.publish(up.connection, "t", bytes(MAX_PACKET_BYTES))
        publish_raw(broker.url, b"t", bytes(MAX_PACKET_BYTES + 1))
        link.publish(up.connection, "t", b"after")
        assert heard.wait(Received, 2).payload == b"after"
        assert link.connection == up.connection


def test_a_brokers_smaller_limit_costs_the_message_only(tmp_path: Path) -> None:
    """Where the broker takes less, a larger publish is refused instead of ending connections."""
    with (
        mosquitto(tmp_path, extra_config="max_packet_size 100000") as broker,
        linked(broker.url) as (link, heard),
    ):
        up = heard.wait(Up)
        assert not link.publish(up.connection, "t", bytes(100_000))
        assert link.publish(up.connection, "t", bytes(90_000))
        wait_for(lambda: link.stats()["in_flight"] == 0, WAIT_S, "its PUBACK")
        assert link.connection == up.connection


@pytest.mark.parametrize("topic", ["", "a/+", "a/#", "a\0b"])
def test_topics_that_no_broker_takes_are_refused(topic: str) -> None:
    """A topic with wildcards never reaches the network, where it would end the connection."""
    link = Link([Broker.parse("mqtt://127.0.0.1")], "test", (), Heard())
    with pytest.raises(ValueError, match="cannot publish"):
        link.publish(1, topic, b"")
    with pytest.raises(ValueError, match="QoS"):
        link.publish(1, "t", b"", qos=2)


def test_a_publish_forbidden_by_the_broker_is_counted(tmp_path: Path) -> None:
    """Trap 17: with MQTT 5 the refusal in the PUBACK is seen, and the connection goes on."""
    acl = tmp_path / "acl"
    acl.write_text("topic readwrite ok/#\n")
    acl.chmod(0o600)
    config = f"user root\nacl_file {acl}" if os.getuid() == 0 else f"acl_file {acl}"
    with mosquitto(tmp_path, extra_config=config) as broker, linked(broker.url) as (link, heard):
        up = heard.wait(Up)
        link.publish(up.connection, "no/t", b"")
        link.publish(up.connection, "ok/t", b"")
        refused = "publishes_refused_by_broker"
        wait_for(lambda: link.stats()[refused] == 1, WAIT_S, "the refusal counted")
        wait_for(lambda: link.stats()["in_flight"] == 0, WAIT_S, "both answered")
        assert link.connection == up.connection
