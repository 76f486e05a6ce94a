"""What the tests of cameras share: reading one with short deadlines, and until it is given up."""

import time
from collections.abc import Callable, Iterator

import pytest

from edge.video.source import Pacer, Packet, SourceError, packets
from wire import specs


def read(
    url: str, clock: Callable[[], float] = time.monotonic, read_timeout_s: float = 5.0
) -> Iterator[Packet]:
    """A camera's packets; a busy machine may hold up a camera that is well."""
    stream = specs.Stream(url=url)
    return packets(stream, pace=Pacer(clock), open_timeout_s=2, read_timeout_s=read_timeout_s)


def given_up(
    url: str,
    why: str,
    clock: Callable[[], float] = time.monotonic,
    read_timeout_s: float = 0.5,
) -> int:
    """Read until the error; how many packets came before it."""
    seen: list[bool] = []
    with pytest.raises(SourceError, match=why) as raised:
        seen.extend(packet.data is not None for packet in read(url, clock, read_timeout_s))
    assert "; " in str(raised.value)
    return sum(seen)
