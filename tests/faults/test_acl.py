"""I12 on the wire: with the broker's ACL a worker can read and write nothing of another worker."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.parts.brokers import mosquitto
from tests.parts.links import WAIT_S, Heard, linked
from tests.parts.workers import Voice
from tests.waiting import wait_for
from wire import codec, topics
from wire.link import Link, Received, Up
from wire.messages import Ask

ACL = f"""\
user center
topic readwrite {topics.ROOT}/#
pattern write {topics.ROOT}/up/%u/#
pattern read {topics.ROOT}/dn/%u/#
"""


@contextmanager
def guarded(folder: Path) -> Iterator[str]:
    """Mosquitto with a password for each user and the ACL that one pattern a way makes."""
    program = shutil.which("mosquitto_passwd")
    if program is None:
        pytest.skip("mosquitto_passwd is not installed (apt-get install mosquitto)")
    passwords, acl = folder / "passwords", folder / "acl"
    passwords.write_text("".join(f"{user}:{user}-secret\n" for user in ("center", "w1", "w2")))
    subprocess.run([program, "-U", str(passwords)], check=True, capture_output=True)
    acl.write_text(ACL)
    config = f"allow_anonymous false\npassword_file {passwords}\nacl_file {acl}"
    if os.geteuid() == 0:
        config += "\nuser root"  # as its own user it could not read the files of a test
    with mosquitto(folder, extra_config=config) as broker:
        yield broker.url


@contextmanager
def user(url: str, name: str, *subscribed: str) -> Iterator[tuple[Link, Heard]]:
    address = url.replace("mqtt://", f"mqtt://{name}:{name}-secret@")
    with linked(address, subscribe=subscribed) as (link, heard):
        heard.wait(Up)
        yield link, heard


def say(link: Link, topic: str, payload: bytes) -> None:
    assert link.connection is not None
    assert link.publish(link.connection, topic, payload)


def test_a_worker_reaches_nothing_of_another(tmp_path: Path) -> None:
    """I12: what w2 says in the name of w1 arrives nowhere, and what is said to w1 not at w2."""
    hello = codec.encode(Voice().hello())
    ask = codec.encode(Ask(session="s", what="observed"))
    with (
        guarded(tmp_path) as url,
        user(url, "center", topics.ALL_UP) as (center, at_center),
        user(url, "w1", topics.all_down("w1")) as (honest, at_honest),
        user(url, "w2", topics.all_down("w2"), topics.all_down("w1")) as (thief, at_thief),
    ):
        for channel in ("hello", "ev/alarm", "observed"):
            say(thief, f"{topics.ROOT}/up/w1/{channel}", hello)
        say(thief, topics.down("w1", "ack"), ask)
        say(thief, topics.up("w2", "hello"), hello)
        say(honest, topics.up("w1", "hello"), hello)
        say(center, topics.down("w1", "ack"), ask)
        say(center, topics.down("w2", "ack"), ask)
        wait_for(lambda: len(at_center.all(Received)) >= 2, WAIT_S, "what may be said")
        at_honest.wait(Received)
        at_thief.wait(Received)
        # The last word of each came after all that was forbidden.
        assert sorted(one.topic for one in at_center.all(Received)) == [
            topics.up("w1", "hello"),
            topics.up("w2", "hello"),
        ]
        assert [one.topic for one in at_honest.all(Received)] == [topics.down("w1", "ack")]
        assert [one.topic for one in at_thief.all(Received)] == [topics.down("w2", "ack")]
