"""The machine's clocks, passed in so that tests can turn them. Nothing else reads time."""

import time
from typing import Protocol


class Clock(Protocol):
    """Wall time may jump; monotonic time never does. They never share a variable."""

    def wall_ms(self) -> int:
        """UTC, milliseconds since 1970."""

    def boot_ms(self) -> int:
        """Milliseconds since the machine booted, suspended time included."""

    def monotonic_s(self) -> float:
        """Seconds from an arbitrary origin, for intervals."""


class SystemClock:
    """The real clocks."""

    def wall_ms(self) -> int:
        """UTC, milliseconds since 1970."""
        return time.time_ns() // 1_000_000

    def boot_ms(self) -> int:
        """Milliseconds since the machine booted, suspended time included."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000

    def monotonic_s(self) -> float:
        """Seconds from an arbitrary origin, for intervals."""
        return time.monotonic()
