"""Admission: how much a center takes on at once, so that a return of all drowns nobody. Pure.

Here: token buckets; time is passed in, in seconds of a clock that never goes back. Not here: who
is told to wait and what waits meanwhile (downlink, documents). Each process guards itself.
"""

from dataclasses import dataclass, field

HELLOS_A_S = 200.0
HELLOS_AT_ONCE = 400.0
DOCUMENTS_A_S = 50.0
DOCUMENTS_AT_ONCE = 100.0
DOCUMENT_BYTES_A_S = 8.0 * 2**20
MAX_WAIT_S = 300.0


class Bucket:
    """Holds at most `at_once` tokens and gains `rate` a second; it starts full.

    It may be overdrawn by one taking, so that one that needs more than it can hold is not stuck.
    """

    def __init__(self, rate: float, at_once: float) -> None:
        self.rate = rate
        self._at_once = at_once
        self._tokens = at_once
        self._at_s: float | None = None

    def has(self, now_s: float) -> bool:
        """Whether something may be taken now."""
        if self._at_s is not None:
            gained = max(0.0, now_s - self._at_s) * self.rate
            self._tokens = min(self._at_once, self._tokens + gained)
        self._at_s = now_s if self._at_s is None else max(now_s, self._at_s)
        return self._tokens > 0

    def take(self, tokens: float = 1.0) -> None:
        """Take what `has` allowed."""
        self._tokens -= tokens


class Door:
    """Lets hellos in; who must wait is told until when, one after another at the bucket's rate."""

    def __init__(self, rate: float = HELLOS_A_S, at_once: float = HELLOS_AT_ONCE) -> None:
        self._bucket = Bucket(rate, at_once)
        self._last_s = float("-inf")

    def wait_s(self, now_s: float) -> float:
        """0: come in. Otherwise the seconds after which to ask again, at most `MAX_WAIT_S`."""
        if self._bucket.has(now_s):
            self._bucket.take()
            return 0.0
        self._last_s = max(self._last_s, now_s) + 1 / self._bucket.rate
        if self._last_s - now_s > MAX_WAIT_S:  # more than fit: the line begins again
            self._last_s = now_s + 1 / self._bucket.rate
        return self._last_s - now_s


@dataclass
class Sluice:
    """Lets whole documents out, so many a second and so many bytes a second."""

    documents: Bucket = field(default_factory=lambda: Bucket(DOCUMENTS_A_S, DOCUMENTS_AT_ONCE))
    size_bytes: Bucket = field(
        default_factory=lambda: Bucket(DOCUMENT_BYTES_A_S, DOCUMENT_BYTES_A_S)
    )

    def is_open(self, now_s: float) -> bool:
        """Whether one more may go now."""
        return self.documents.has(now_s) and self.size_bytes.has(now_s)

    def passed(self, size_bytes: int) -> None:
        """One of that size has gone."""
        self.documents.take()
        self.size_bytes.take(size_bytes)
