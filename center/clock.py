"""Time, passed in: whoever needs it takes a `Clock`, and a test gives its own.

Wall time (`now_ms`) is what is stored and shown; monotonic time (`elapsed_s`) is what is waited by.
"""

import time
from dataclasses import dataclass
from typing import Protocol


class Clock(Protocol):
    """Two clocks that never share a variable."""

    def now_ms(self) -> int:
        """Wall time, UTC milliseconds."""

    def elapsed_s(self) -> float:
        """Monotonic seconds from some moment on."""


@dataclass(frozen=True, slots=True)
class SystemClock:
    """The machine's clocks."""

    def now_ms(self) -> int:
        """Wall time, UTC milliseconds."""
        return time.time_ns() // 1_000_000

    def elapsed_s(self) -> float:
        """Monotonic seconds from some moment on."""
        return time.monotonic()
