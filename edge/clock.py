"""The machine's clocks, passed in so that tests can turn them. Nothing else reads time."""

import secrets
import time
from pathlib import Path
from typing import Protocol


class Clock(Protocol):
    """Wall time may jump; monotonic time never does. They never share a variable."""

    def wall_ms(self) -> int:
        """UTC, milliseconds since 1970."""

    def boot_ms(self) -> int:
        """Milliseconds since the machine booted, suspended time included."""

    def monotonic_s(self) -> float:
        """Seconds from an arbitrary origin, for intervals."""


def boot_name() -> str:
    """A name for this process's life, `MACHINE-PROCESS`: the first part is the machine's boot.

    Boot times of processes with the same first part count from the same moment.
    """
    try:
        machine = Path("/proc/sys/kernel/random/boot_id").read_text().replace("-", "")[:12]
    except OSError:
        machine = secrets.token_hex(6)
    return f"{machine}-{secrets.token_hex(8)}"


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
