"""A clock that a test turns by hand."""


class SteppedClock:
    """Stands still until told otherwise. Wall time may be set apart from the others."""

    def __init__(self, wall_ms: int = 1_800_000_000_000) -> None:
        self.now_wall_ms = wall_ms
        self.now_s = 1000.0

    def wall_ms(self) -> int:
        """UTC, milliseconds since 1970."""
        return self.now_wall_ms

    def boot_ms(self) -> int:
        """Milliseconds since the machine booted."""
        return int(self.now_s * 1000)

    def monotonic_s(self) -> float:
        """Seconds from an arbitrary origin."""
        return self.now_s

    def step(self, seconds: float) -> None:
        """Let time pass."""
        self.now_s += seconds
        self.now_wall_ms += int(seconds * 1000)
