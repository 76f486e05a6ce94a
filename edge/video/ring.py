"""The encoded packets of a stream's last GOPs, so that what was skipped can be decoded after all.

Here: keeping and finding packets, within bounds. Not here: decoding them (decode.py), when that is
worth it (watch.py).
"""

from collections import deque

from edge.video.source import Packet

MAX_BYTES = 16 * 1024 * 1024
MAX_S = 60.0


class Ring:
    """Whole GOPs, oldest first, bounded in bytes and seconds; `shed` counts packets that it lost.

    A GOP that does not fit by itself is given up: without its key packet the rest is no use.
    """

    def __init__(self, max_bytes: int = MAX_BYTES, max_s: float = MAX_S) -> None:
        self.size_bytes = 0
        self.shed = 0
        self._max_bytes = max_bytes
        self._max_s = max_s
        self._gops: deque[list[Packet]] = deque()

    def add(self, packet: Packet) -> None:
        """Keep a packet; before the first key packet nothing can be used, and nothing is kept."""
        if packet.is_key:
            self._gops.append([])
        elif not self._gops:
            return
        self._gops[-1].append(packet)
        self.size_bytes += packet.size_bytes
        while self._gops and self._overfull(packet.pts_s):
            self.shed += len(self._gops[0])
            self._drop_first()

    def since(self, pts_s: float) -> list[Packet] | None:
        """Packets from the last key packet at or before a time on; None if that is not here."""
        start = next(
            (n for n in reversed(range(len(self._gops))) if self._gops[n][0].pts_s <= pts_s), None
        )
        if start is None:
            return None
        return [packet for n in range(start, len(self._gops)) for packet in self._gops[n]]

    def forget_before(self, pts_s: float) -> None:
        """Drop the GOPs that `since` needs for no time from that one on."""
        while len(self._gops) > 1 and self._gops[1][0].pts_s <= pts_s:
            self._drop_first()

    def clear(self) -> None:
        """Drop everything: another connection, or another decoder."""
        self._gops.clear()
        self.size_bytes = 0

    def _overfull(self, now_s: float) -> bool:
        return self.size_bytes > self._max_bytes or now_s - self._gops[0][0].pts_s > self._max_s

    def _drop_first(self) -> None:
        self.size_bytes -= sum(packet.size_bytes for packet in self._gops.popleft())
