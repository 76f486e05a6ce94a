"""The link between connections: which broker, which version of MQTT, when, with what secrets."""

import logging
import os
import random
import shutil
import socket
import ssl
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.parts.brokers import BrokerHandle, embedded, free_port, mosquitto
from tests.parts.links import WAIT_S, Heard, fail_on_received, linked, server
from tests.waiting import wait_for
from wire.backoff import full_jitter
from wire.link import Broker, Down, Link, Received, Up


def test_back_off_has_full_jitter() -> None:
    """Trap 11: waits spread over the whole range from 0 to the doubled, capped bound."""
    rng = random.Random(7)
    for attempt, bound_s in ((0, 0.5), (1, 1.0), (3, 4.0), (7, 60.0), (10_000, 60.0)):
        waits = [full_jitter(attempt, 0.5, 60.0, rng) for _ in range(400)]
        assert 0 <= min(waits) < 0.1 * bound_s
        assert 0.9 * bound_s < max(waits) <= bound_s
        assert len(set(waits)) > 390


def test_the_will_carries_the_session_of_its_connection(broker: BrokerHandle) -> None:
    """A process that dies leaves a will with the session id that its link reported as up."""
    script = (
        "import sys, threading\n"
        "from wire.link import Broker, Link, Up\n"
        "def tell(event):\n"
        "    if isinstance(event, Up): print(event.session, flush=True)\n"
        "will = lambda session: ('will/w', session.encode())\n"
        "Link([Broker.parse(sys.argv[1])], 'w', ['t'], tell, will=will).start()\n"
        "threading.Event().wait()\n"
    )
    with linked(broker.url, subscribe=("will/#",)) as (_, watched):
        watched.wait(Up)
        with subprocess.Popen(
            [sys.executable, "-c", script, broker.url], stdout=subprocess.PIPE
        ) as dying:
            assert dying.stdout is not None
            session = dying.stdout.readline().strip()
            dying.kill()
        assert session
        assert watched.wait(Received).payload == session


def test_auto_speaks_mqtt_5_where_the_broker_does(tmp_path: Path) -> None:
    """Version `auto` connects to Mosquitto with MQTT 5 at once; a version named is obeyed."""
    with mosquitto(tmp_path) as broker:
        for url, mark in ((broker.url, "(p5, c1"), (f"{broker.url}?version=3.1.1", "(p2, c1")):
            with linked(url) as (link, heard):
                heard.wait(Up)
                assert link.stats()["attempts"] == 1
            assert broker.log is not None
            assert broker.log.read_text().count(mark) == 1


def test_auto_falls_back_to_mqtt_3_1_1_and_remembers() -> None:
    """The embedded broker refuses MQTT 5: the next attempt, and each later one, is 3.1.1."""
    with (
        embedded() as broker,
        linked(broker.url, subscribe=("t",), receive_window=1) as (link, heard),
    ):
        first = heard.wait(Up)
        assert first.connection == 2
        heard.before = fail_on_received
        link.publish(first.connection, "t", b"ends this connection")
        assert heard.wait(Up, 2).connection == 3


def test_auto_tries_3_1_1_when_mqtt_5_is_left_unanswered() -> None:
    """A broker that closes on an MQTT 5 CONNECT gets the older version next."""
    asked: list[int] = []

    def answer_older(client: socket.socket) -> None:
        connect = client.recv(4096)
        asked.append(connect[connect.index(b"MQTT") + 4])
        if asked[-1] == 4:
            client.sendall(b"\x20\x02\x00\x00")
        else:
            client.shutdown(socket.SHUT_RDWR)

    with server(answer_older) as url, linked(url) as (_, heard):
        assert heard.wait(Up).connection == 2
        assert asked == [5, 4]


def test_a_silent_broker_is_left_for_the_next(broker: BrokerHandle) -> None:
    """A broker that accepts TCP and says nothing costs the CONNACK timeout, not the connection."""
    began = time.monotonic()
    with (
        server(lambda client: None) as silent,
        linked(silent, broker.url, connect_timeout_s=0.3) as (link, heard),
    ):
        heard.wait(Up)
        assert time.monotonic() - began < 5
        broker.kill()
        heard.wait(Down)
        broker.start()
        heard.wait(Up, 2)
        assert link.stats()["connects"] == 2


def test_a_refused_port_leads_to_the_next_broker(broker: BrokerHandle) -> None:
    """Brokers are tried in the order given, and the last good one first."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        dead = f"mqtt://127.0.0.1:{taken.getsockname()[1]}"
    with linked(dead, broker.url) as (link, heard):
        heard.wait(Up)
        attempts = link.stats()["attempts"]
        broker.kill()
        broker.start()
        heard.wait(Up, 2)
        assert attempts in (2, 3)  # with or without the fall-back to MQTT 3.1.1


def test_tls_context_is_made_for_each_connection(tmp_path: Path) -> None:
    """Trap 14: over TLS a large message passes, and rotated files are read on reconnecting."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed, and makes the certificate of this test")
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command.split(), *names, *files], check=True, capture_output=True)
    made: list[ssl.SSLContext] = []

    def context() -> ssl.SSLContext:
        made.append(ssl.create_default_context(cafile=certificate))
        return made[-1]

    port = free_port()
    config = f"listener {port} 127.0.0.1\ncertfile {certificate}\nkeyfile {key}"
    if os.getuid() == 0:
        config = f"user root\n{config}"
    with (
        mosquitto(tmp_path, extra_config=config) as broker,
        linked(f"mqtts://127.0.0.1:{port}", subscribe=("t",), tls=context) as (link, heard),
    ):
        large = random.Random(1).randbytes(300_000)
        link.publish(heard.wait(Up).connection, "t", large)
        assert heard.wait(Received).payload == large
        broker.kill()
        heard.wait(Down)
        connections = len(made)
        broker.start()
        heard.wait(Up, 2)
        assert len(made) > connections


def test_a_failed_tls_handshake_is_tried_again_and_leaks_nothing(tmp_path: Path) -> None:
    """TLS towards a plain port fails and repeats without leaving sockets for the collector."""
    with mosquitto(tmp_path) as broker:
        url = broker.url.replace("mqtt:", "mqtts:")
        with linked(url, tls=ssl.create_default_context) as (link, heard):
            wait_for(lambda: link.stats()["attempts"] > 2, WAIT_S, "several attempts")
            assert link.stats()["faults"] == 0
        assert heard.events == []


def test_a_failing_will_is_an_attempt_that_failed(tmp_path: Path) -> None:
    """An exception in `will` or `tls` is counted and tried again; the thread lives."""
    failures = iter([True])

    def will(session: str) -> tuple[str, bytes]:
        if next(failures, False):
            raise RuntimeError("no will yet")
        return "will", session.encode()

    with mosquitto(tmp_path) as broker, linked(broker.url, will=will) as (link, heard):
        assert heard.wait(Up).connection == 2
        assert link.stats()["faults"] == 1


def test_a_link_without_brokers_is_refused() -> None:
    """An empty list of brokers is an error at once, not a link that never connects."""
    with pytest.raises(ValueError, match="at least one broker"):
        Link([], "test", (), Heard())


def test_the_password_is_shown_nowhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Invariant I11: not in repr, str, log lines or the reasons of failures."""
    caplog.set_level(logging.DEBUG)
    passwords = tmp_path / "passwords"
    passwords.write_text("")
    config = f"allow_anonymous false\npassword_file {passwords}"
    if os.getuid() == 0:
        config = f"user root\n{config}"
    with mosquitto(tmp_path, extra_config=config) as broker:
        url = broker.url.replace("//", "//user:s3cret@")
        with linked(url) as (link, heard):
            wait_for(lambda: link.stats()["attempts"] > 2, WAIT_S, "refused attempts")
        shown = [
            repr(Broker.parse(url)),
            str(Broker.parse(url)),
            caplog.text,
            *map(repr, heard.events),
        ]
    assert "Not authorized" in caplog.text
    assert "user:***@" in caplog.text
    assert not any("s3cret" in text for text in shown)


def test_each_good_broker_is_told(tmp_path: Path) -> None:
    """`on_good` names the broker of each connection that is up, and none that was only tried."""
    dead = f"mqtt://127.0.0.1:{free_port()}"
    good: list[Broker] = []
    with mosquitto(tmp_path) as broker, linked(dead, broker.url, on_good=good.append) as (_, heard):
        heard.wait(Up)
        wait_for(lambda: good, WAIT_S, "the good broker")
        assert good == [Broker.parse(broker.url)]


def test_a_list_that_changes_while_running(tmp_path: Path) -> None:
    """The connection that is up stays; the next one is to a broker of the new list."""
    folders = [tmp_path / name for name in ("old", "new")]
    for folder in folders:
        folder.mkdir()
    good: list[Broker] = []
    with (
        mosquitto(folders[0]) as old,
        mosquitto(folders[1]) as new,
        linked(old.url, on_good=good.append) as (link, heard),
    ):
        up = heard.wait(Up)
        link.reorder([Broker.parse(new.url)])
        assert link.connection == up.connection
        old.kill()
        heard.wait(Up, 2)
        wait_for(lambda: len(good) == 2, WAIT_S, "the second broker")
        assert good == [Broker.parse(old.url), Broker.parse(new.url)]
        with pytest.raises(ValueError, match="at least one broker"):
            link.reorder([])
