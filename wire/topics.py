"""Every MQTT topic, built and parsed in one place.

Direction comes before identity, so that one ACL pattern covers each way:
`fc/v1/up/{worker}/...` is written by the worker alone, `fc/v1/dn/{worker}/...` read by it alone.
"""

import re
from dataclasses import dataclass
from typing import Literal

from wire.events import Lane
from wire.specs import NAME_PATTERN

ROOT = "fc/v1"
UpChannel = Literal["hello", "hb", "will", "bye", "ev/alarm", "ev/bulk", "observed", "rsp"]
DownChannel = Literal["desired", "ack", "rpc"]
_UP: tuple[UpChannel, ...] = (
    "hello", "hb", "will", "bye", "ev/alarm", "ev/bulk", "observed", "rsp",
)  # fmt: skip
_DOWN: tuple[DownChannel, ...] = ("desired", "ack", "rpc")
_NAME = re.compile(NAME_PATTERN)

ALL_UP = f"{ROOT}/up/+/#"
"""What a center subscribes to."""


@dataclass(frozen=True, slots=True)
class UpTopic:
    """A topic on which a worker speaks."""

    worker: str
    channel: UpChannel


@dataclass(frozen=True, slots=True)
class DownTopic:
    """A topic on which a worker is spoken to."""

    worker: str
    channel: DownChannel


def _checked(worker: str) -> str:
    if not _NAME.fullmatch(worker):
        raise ValueError(f"{worker!r} is no worker's name")
    return worker


def up(worker: str, channel: UpChannel) -> str:
    """Raises ValueError if `worker` is no name."""
    return f"{ROOT}/up/{_checked(worker)}/{channel}"


def events(worker: str, lane: Lane) -> str:
    """Where a worker's batches of a lane go. Raises ValueError if `worker` is no name."""
    return up(worker, "ev/alarm" if lane == "alarm" else "ev/bulk")


def down(worker: str, channel: DownChannel) -> str:
    """Raises ValueError if `worker` is no name."""
    return f"{ROOT}/dn/{_checked(worker)}/{channel}"


def all_down(worker: str) -> str:
    """What a worker subscribes to. Raises ValueError if `worker` is no name."""
    return f"{ROOT}/dn/{_checked(worker)}/#"


def parse(topic: str) -> UpTopic | DownTopic:
    """The parts of a topic. Raises ValueError if it is none of ours."""
    rest = topic.removeprefix(f"{ROOT}/")
    direction, _, tail = rest.partition("/")
    worker, _, channel = tail.partition("/")
    if rest != topic and _NAME.fullmatch(worker):
        for up_channel in _UP:
            if direction == "up" and channel == up_channel:
                return UpTopic(worker, up_channel)
        for down_channel in _DOWN:
            if direction == "dn" and channel == down_channel:
                return DownTopic(worker, down_channel)
    raise ValueError(f"{topic!r} is no topic of {ROOT}")
