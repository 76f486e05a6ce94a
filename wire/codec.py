"""Bytes to messages and back: JSON, compressed where it pays, sizes capped before parsing.

A payload is JSON (its first byte is `{`) or a zlib stream (first byte 0x78); nothing else needs to
be agreed upon. Unknown fields are ignored, so that either side may be newer.
"""

import zlib
from typing import TypeVar

import msgspec

from wire.events import Ack, Batch, Refused, Rewind
from wire.messages import (
    Ask,
    Bye,
    Credit,
    Delta,
    Deny,
    Desired,
    Down,
    Heartbeat,
    Hello,
    Observed,
    Rpc,
    Rsp,
    Up,
    Welcome,
    Will,
)
from wire.topics import DownTopic, UpTopic

MAX_RAW_BYTES = 256 * 1024
MAX_WIRE_BYTES = MAX_RAW_BYTES
COMPRESS_ABOVE_BYTES = 512

_UP: msgspec.json.Decoder[Up] = msgspec.json.Decoder(
    Hello | Batch | Observed | Heartbeat | Will | Bye | Rsp
)
_DOWN: msgspec.json.Decoder[Down] = msgspec.json.Decoder(
    Welcome | Deny | Credit | Ask | Desired | Delta | Ack | Rewind | Refused | Rpc
)
_ENCODER = msgspec.json.Encoder()
_EXPECTED: dict[str, tuple[type, ...]] = {
    "hello": (Hello,),
    "hb": (Heartbeat,),
    "will": (Will,),
    "bye": (Bye,),
    "ev/alarm": (Batch,),
    "ev/bulk": (Batch,),
    "observed": (Observed,),
    "rsp": (Rsp,),
    "desired": (Desired, Delta),
    "ack": (Welcome, Deny, Credit, Ask, Ack, Rewind, Refused),
    "rpc": (Rpc,),
}

MessageT = TypeVar("MessageT", bound=msgspec.Struct)


class WireError(ValueError):
    """A payload that is no message of ours; the text says why, in one line."""


class TooLargeError(WireError):
    """A message above the cap."""


def encode(message: Up | Down) -> bytes:
    """The message's bytes for the wire. Raises TooLargeError above `MAX_RAW_BYTES`."""
    raw = _ENCODER.encode(message)
    if len(raw) > MAX_RAW_BYTES:
        raise TooLargeError(
            f"a {type(message).__name__} of {len(raw)} bytes is above the cap of {MAX_RAW_BYTES}"
        )
    if len(raw) <= COMPRESS_ABOVE_BYTES:
        return raw
    packed = zlib.compress(raw, 6)
    return packed if len(packed) < len(raw) else raw


def decode_up(topic: UpTopic, payload: bytes) -> Up:
    """What a worker said. Raises WireError, also where the message does not belong on the topic."""
    message = _decode(_UP, payload)
    _require_fit(topic.channel, message)
    if isinstance(message, Batch) and topic.channel != f"ev/{message.lane}":
        raise WireError(f"a batch of lane {message.lane} on {topic.channel}")
    return message


def decode_down(topic: DownTopic, payload: bytes) -> Down:
    """What the center said. Raises WireError, also where the message does not belong there."""
    message = _decode(_DOWN, payload)
    _require_fit(topic.channel, message)
    return message


def _require_fit(channel: str, message: msgspec.Struct) -> None:
    if not isinstance(message, _EXPECTED.get(channel, ())):
        raise WireError(f"a {type(message).__name__} does not belong on {channel}")


def _decode(decoder: msgspec.json.Decoder[MessageT], payload: bytes) -> MessageT:
    try:
        return decoder.decode(inflate(payload))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"no message: {str(error)[:200]}") from None


def inflate(payload: bytes) -> bytes:
    """The JSON bytes of a payload. Raises WireError; never makes more than `MAX_RAW_BYTES`."""
    if not payload:
        raise WireError("an empty payload")
    if len(payload) > MAX_WIRE_BYTES:
        raise TooLargeError(f"{len(payload)} bytes are above the cap of {MAX_WIRE_BYTES}")
    if payload[0] == 0x7B:
        return payload
    if payload[0] != 0x78:
        raise WireError("neither JSON nor zlib")
    unpacker = zlib.decompressobj()
    try:
        raw = unpacker.decompress(payload, MAX_RAW_BYTES)
    except zlib.error as error:
        raise WireError(f"damaged zlib: {error}") from None
    if not unpacker.eof:
        if unpacker.unconsumed_tail:
            raise TooLargeError(f"it unpacks to more than {MAX_RAW_BYTES} bytes")
        raise WireError("damaged zlib: it ends too early")
    return raw
