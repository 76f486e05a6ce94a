"""Pinned messages: what version 1.0 says must be readable, and written alike, for ever."""

import json
import re
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from wire import codec, topics
from wire.messages import Down, Up
from wire.topics import DownTopic, UpTopic

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden" / "1.0"
PINNED = sorted(GOLDEN.iterdir())
_ON_ACK = {"welcome", "deny", "credit", "ask", "ack", "rewind", "refused"}
_DOCUMENTED = re.compile(r"^`(up|dn)/…/([\w/]+)` (\w+)\n\n```json\n(.*?)\n```$", re.M | re.S)


def topic_of(file: Path) -> UpTopic | DownTopic:
    """`up.ev.alarm.express.json` was said on `up/w1/ev/alarm`."""
    direction, name, *rest = file.name.split(".")
    if name in _ON_ACK:
        name = "ack"
    elif name == "delta":
        name = "desired"
    elif name == "ev":
        name = f"ev/{rest[0]}"
    return topics.parse(f"{topics.ROOT}/{direction}/w1/{name}")


def read(topic: UpTopic | DownTopic, payload: bytes) -> Up | Down:
    if isinstance(topic, UpTopic):
        return codec.decode_up(topic, payload)
    return codec.decode_down(topic, payload)


@pytest.mark.parametrize("file", PINNED, ids=lambda file: file.name)
def test_a_pinned_message_is_read_and_written_alike(file: Path) -> None:
    """The bytes decode on their topic, and the message encodes to the same JSON."""
    payload = file.read_bytes().removesuffix(b"\n") if file.suffix == ".json" else file.read_bytes()
    message = read(topic_of(file), payload)
    assert msgspec.json.encode(message) == codec.inflate(payload)
    newer = codec.inflate(payload)[:-1] + b',"unknown_field":[1]}'
    assert read(topic_of(file), newer) == message


def test_every_message_is_pinned() -> None:
    """No kind of message is without a pinned example."""
    pinned = {type(read(topic_of(f), f.read_bytes().removesuffix(b"\n"))) for f in PINNED}
    assert pinned == {*get_args(Up), *get_args(Down)}


def test_the_reference_shows_every_message() -> None:
    """Each example of the protocol's reference decodes on its topic, and none is missing."""
    text = (ROOT / "docs" / "reference" / "protocol.md").read_text()
    shown = set()
    for direction, channel, name, example in _DOCUMENTED.findall(text):
        topic = topics.parse(f"{topics.ROOT}/{direction}/w1/{channel}")
        message = read(topic, json.dumps(json.loads(example.replace("\n", " "))).encode())
        assert type(message).__name__ == name
        shown.add(type(message))
    assert shown == {*get_args(Up), *get_args(Down)}
