"""Messages survive the wire; what is no message is refused and costs no memory."""

import contextlib
import zlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire import codec, topics
from wire.events import Ack, Batch, Event, Rewind, Watermark, decode_event, encode_event, lane_of
from wire.messages import (
    Bye,
    Clock,
    Deny,
    Desired,
    Down,
    Heartbeat,
    Held,
    Hello,
    Item,
    ItemObserved,
    Known,
    Observed,
    Up,
    Welcome,
    Will,
    digest,
    item_hash,
)  # fmt: skip

words = st.text(max_size=20)
numbers = st.integers(min_value=0, max_value=2**53 - 1)
clocks = st.builds(Clock, wall_ms=numbers, boot_ms=numbers)
known = st.builds(Known, generation=numbers, revision=numbers, digest=words)
marks = st.builds(Watermark, epoch=numbers, lane=st.sampled_from(["alarm", "bulk"]), seq=numbers)
events = st.builds(
    Event,
    kind=words, t_ms=numbers, camera=words, severity=st.sampled_from(["info", "critical", "new"]),
    score=st.none() | st.floats(0, 1), phase=st.sampled_from([None, "start", "end"]), label=words,
)  # fmt: skip
raw_events = events.map(lambda event: msgspec.Raw(encode_event(event)))
batches = st.builds(
    Batch, session=words, fence=numbers, epoch=numbers, lane=st.just("alarm"), first=numbers,
    events=st.lists(raw_events, max_size=20), backfill=st.booleans(),
)  # fmt: skip
hellos = st.builds(
    Hello, worker=words, instance=words, boot=words, session=words, fence=numbers,
    versions=st.lists(words, max_size=3), software=words, clock=clocks, desired=known,
    epochs=st.lists(
        st.builds(Held, epoch=numbers, lane=st.just("bulk"), low=numbers, high=numbers), max_size=3
    ),
)  # fmt: skip
ups: dict[str, st.SearchStrategy[Any]] = {
    "hello": hellos,
    "hb": st.builds(
        Heartbeat, session=words, fence=numbers, clock=clocks, desired=known,
        pending=st.dictionaries(words, numbers, max_size=2),
    ),
    "will": st.builds(Will, session=words),
    "bye": st.builds(Bye, session=words),
    "ev/alarm": batches,
    "observed": st.builds(
        Observed, session=words, desired=known,
        items=st.lists(
            st.builds(
                ItemObserved, kind=words, id=words, revision=numbers, state=st.just("Rejected"),
                reason=words,
            ),
            max_size=3,
        ),
    ),
}  # fmt: skip
downs: dict[str, st.SearchStrategy[Any]] = {
    "desired": st.builds(
        Desired, session=words, generation=numbers, revision=numbers, digest=words,
        items=st.lists(
            st.builds(
                Item, kind=words, id=words, revision=numbers,
                body=st.just(msgspec.Raw(b'{"a": 1, "b":[ ]}')),
            ),
            max_size=3,
        ),
    ),
    "ack": st.one_of(
        st.builds(Ack, session=words, watermark=marks),
        st.builds(Rewind, session=words, watermark=marks),
        st.builds(
            Welcome, session=words, fence=numbers, generation=numbers,
            watermarks=st.lists(marks, max_size=3), heartbeat_s=st.floats(1, 60), window=numbers,
        ),
        st.builds(Deny, session=words, code=st.just("fenced"), reason=words),
    ),
}  # fmt: skip


def same(one: Up | Down, other: Up | Down) -> bool:
    """Equality by content; encoded parts are compared byte for byte."""
    return msgspec.json.encode(one) == msgspec.json.encode(other) and type(one) is type(other)


@pytest.mark.parametrize("channel", ups)
@given(data=st.data())
def test_what_a_worker_says_survives_the_wire(channel: Any, data: st.DataObject) -> None:
    """Each message up decodes to itself."""
    message = data.draw(ups[channel])
    topic = topics.UpTopic("w1", channel)
    assert same(codec.decode_up(topic, codec.encode(message)), message)


@pytest.mark.parametrize("channel", downs)
@given(data=st.data())
def test_what_the_center_says_survives_the_wire(channel: Any, data: st.DataObject) -> None:
    """Each message down decodes to itself."""
    message = data.draw(downs[channel])
    topic = topics.DownTopic("w1", channel)
    assert same(codec.decode_down(topic, codec.encode(message)), message)


@given(payload=st.binary(max_size=400), channel=st.sampled_from(sorted(ups)))
def test_noise_is_refused_and_nothing_else(payload: bytes, channel: Any) -> None:
    """Whatever bytes arrive, the answer is a message or a WireError."""
    with contextlib.suppress(codec.WireError):
        codec.decode_up(topics.UpTopic("w1", channel), payload)


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b"", "empty"),
        (b"hello", "neither JSON nor zlib"),
        (b"{", "no message"),
        (b'{"k":"nonsense"}', "no message"),
        (b'{"k":"will"}', "no message"),
        (b"\x78\x9cxxxx", "damaged zlib"),
        (zlib.compress(b"{}" * 999)[:-6], "ends too early"),
        (b"{" * 100_000, "no message"),
        (b'{"k":"will","session":"' + b"x" * 300_000 + b'"}', "above the cap"),
    ],
)
def test_a_bad_payload_is_told_in_a_line(payload: bytes, expected: str) -> None:
    """Each way of being no message has its own short text."""
    with pytest.raises(codec.WireError, match=expected) as refused:
        codec.decode_up(topics.UpTopic("w1", "will"), payload)
    assert len(str(refused.value)) < 300


def test_a_bomb_is_not_unpacked() -> None:
    """A small payload that unpacks to 100 MB is refused before it does."""
    bomb = zlib.compress(b" " * 100_000_000, 9)
    assert len(bomb) < codec.MAX_WIRE_BYTES
    with pytest.raises(codec.TooLargeError):
        codec.inflate(bomb)


def test_a_message_on_the_wrong_topic_is_refused() -> None:
    """A worker cannot pass a batch of one lane off on the other, nor a will as a hello."""
    will = codec.encode(Will(session="s"))
    with pytest.raises(codec.WireError, match="does not belong"):
        codec.decode_up(topics.UpTopic("w1", "hello"), will)
    batch = codec.encode(Batch(session="s", fence=1, epoch=1, lane="bulk", first=1, events=[]))
    with pytest.raises(codec.WireError, match="lane bulk"):
        codec.decode_up(topics.UpTopic("w1", "ev/alarm"), batch)


def test_small_messages_stay_readable_and_large_ones_shrink() -> None:
    """Up to 512 bytes go as JSON; a batch of similar events shrinks to a fraction."""
    assert codec.encode(Will(session="s")).startswith(b"{")
    event = Event(kind="presence", t_ms=1, camera="bay-2", severity="info", rule="drive-out")
    raw = [msgspec.Raw(encode_event(event))] * 200
    batch = Batch(session="s", fence=1, epoch=1, lane="bulk", first=1, events=raw)
    packed = codec.encode(batch)
    assert packed[0] == 0x78
    assert len(packed) < sum(len(bytes(body)) for body in raw) / 10


def test_above_the_cap_is_not_sent() -> None:
    """A message that the other side would refuse is refused here already."""
    body = msgspec.Raw(b'"' + b"x" * 300_000 + b'"')
    item = Item(kind="Task", id="t", revision=1, body=body)
    huge = Desired(session="s", generation=1, revision=1, digest="", items=[item])
    with pytest.raises(codec.TooLargeError):
        codec.encode(huge)


def test_a_newer_sender_is_understood() -> None:
    """Unknown fields are ignored, and an unknown kind of event is an event."""
    body = b'{"kind":"drone","t_ms":5,"camera":"c","severity":"warning","rotors":4}'
    event = decode_event(body)
    assert (event.kind, lane_of(event)) == ("drone", "alarm")


def test_topics_parse_to_what_built_them() -> None:
    """Every topic that we build is read back; others are refused."""
    for channel in ups:
        assert topics.parse(topics.up("w1", channel)) == topics.UpTopic("w1", channel)  # type: ignore[arg-type] # the keys are channels
    for down in ("desired", "ack", "rpc"):
        assert topics.parse(topics.down("w1", down)) == topics.DownTopic("w1", down)
    for wrong in (
        "", "fc/v1/up/w1", "fc/v1/up/W 1/hello", "fc/v1/up/w1/hello/x", "fc/v2/up/w1/hello",
        "fc/v1/dn/w1/hello", "fc/v1/up/+/hello", "x/fc/v1/up/w1/hello",
    ):  # fmt: skip
        with pytest.raises(ValueError, match="no topic"):
            topics.parse(wrong)
    with pytest.raises(ValueError, match="no worker's name"):
        topics.up("a/b", "hello")


@given(
    st.lists(
        st.tuples(words, words, numbers, st.binary(max_size=9).map(item_hash)), max_size=6,
        unique_by=lambda entry: (entry[0], entry[1]),
    ),
    st.randoms(),
)  # fmt: skip
def test_a_digest_knows_the_content_and_not_the_order(entries: list[Any], random: Any) -> None:
    """Both sides get the same digest whatever the order; any change gives another."""
    before = digest(entries)
    random.shuffle(entries)
    assert digest(entries) == before
    if entries:
        kind, name, revision, hashed = entries[0]
        assert digest([(kind, name, revision + 1, hashed), *entries[1:]]) != before
        assert digest(entries[1:]) != before
