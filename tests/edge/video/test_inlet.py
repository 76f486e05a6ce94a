"""Between reading and decoding: nothing waits, nothing grows, and what is left out is counted."""

import threading
from collections.abc import Iterator
from typing import cast

import pytest
from av.packet import Packet as Encoded
from av.video.stream import VideoStream

from edge.video.errors import SourceError
from edge.video.inlet import Inlet
from edge.video.ring import Ring
from edge.video.source import Packet

DATA = cast("Encoded[VideoStream]", object())


def packet(pts_s: float, *, key: bool = False, size: int = 10) -> Packet:
    return Packet(DATA, pts_s, key, size)


def stream(seconds: int, gop: int) -> Iterator[Packet]:
    """One packet a second, a key packet every `gop`."""
    return (packet(float(n), key=n % gop == 0) for n in range(seconds))


def inlet(**bounds: float) -> Inlet:
    return Inlet(lambda: 0.0, lambda: 0, **bounds)  # type: ignore[arg-type]


def taken(from_: Inlet) -> list[tuple[float, bool]]:
    """Times of what waits, and whether each is a packet or the mark of a gap."""
    return [(each.pts_s, each.data is not None) for each in from_]


def test_packets_come_out_as_they_went_in() -> None:
    """In their order; the end of the source is the end, and its failure is raised after them."""
    made = inlet()

    def failing() -> Iterator[Packet]:
        yield from stream(3, 2)
        raise SourceError("the camera is gone")

    made.fill(failing())
    came = iter(made)
    assert [next(came).pts_s for _ in range(3)] == [0, 1, 2]
    with pytest.raises(SourceError, match="is gone"):
        next(came)


def test_who_decodes_too_slowly_goes_on_with_the_newest_key_packet() -> None:
    """I8, I10: what waits is bounded; the gap is marked, and its length told."""
    made = inlet(max_s=8.0)
    made.fill(stream(20, 5))
    assert taken(made) == [(15.0, False), *((float(n), True) for n in range(15, 20))]
    assert made.dropped_s == 15.0


def test_a_gop_that_is_too_long_is_left_out_to_its_end() -> None:
    """I10: the seconds until the next key packet count as left out, too."""
    made = inlet(max_s=8.0)
    made.fill(stream(43, 40))
    assert taken(made) == [(40.0, False), *((float(n), True) for n in range(40, 43))]
    assert made.dropped_s == 40.0


def test_bytes_are_bounded_too() -> None:
    """I8: one huge packet among small ones cannot pile up."""
    made = inlet(max_bytes=100)
    made.fill([packet(0, key=True, size=60), packet(1, size=60), packet(2, key=True)])
    assert taken(made) == [(2.0, False), (2.0, True)]


def test_a_recording_without_pace_waits() -> None:
    """Nothing is left out where nobody is held up."""
    made = inlet(patient=True, max_s=2.0)
    filling = threading.Thread(target=made.fill, args=(stream(50, 10),), daemon=True)
    filling.start()
    assert taken(made) == [(float(n), True) for n in range(50)]
    assert made.dropped_s == 0


def test_the_ring_gives_whole_gops_and_sheds_the_oldest() -> None:
    """I8: bounded in bytes; what was shed is counted, and cannot be had any more."""
    ring = Ring(max_bytes=100)
    for each in stream(14, 5):
        ring.add(each)
    assert [each.pts_s for each in ring.since(7.0) or ()] == [5, 6, 7, 8, 9, 10, 11, 12, 13]
    assert (ring.since(3.0), ring.shed, ring.size_bytes) == (None, 5, 90)
    ring.forget_before(11.0)
    assert [each.pts_s for each in ring.since(11.0) or ()] == [10, 11, 12, 13]
    assert ring.shed == 5
