"""What the console says of a stream, in words."""

import pytest

from center.console.station_page import _health
from center.console.watch import View


@pytest.mark.parametrize(
    ("stream", "told"),
    [
        ({"state": "opening"}, "opening at FULL, 0.0 of 0.0 looks per second"),
        ({"state": "lost", "level": "OFF", "error": "no answer"}, "lost: no answer"),
        (
            {"state": "running", "level": "KEY", "wanted_fps": 5.0, "coverage": 1.0},
            "running at KEY, 0.0 of 5.0 looks per second, coverage 100 %",
        ),
        (
            {"state": "running", "analysed_fps": 2.5, "wanted_fps": 5.0, "coverage": 0.999,
             "step": "half"},
            "running at FULL, 2.5 of 5.0 looks per second, coverage 99 %,"
            " short of CPU: half of the looks",
        ),
        (
            {"state": "running", "analysed_fps": 1.0, "wanted_fps": 5.0, "step": "newer"},
            "running at FULL, 1.0 of 5.0 looks per second, short of CPU: newer",
        ),
    ],
)  # fmt: skip
def test_a_streams_health_is_told_with_what_it_lacks(stream: View, told: str) -> None:
    """I10: level, coverage and how far it is degraded are named, never rounded up to whole."""
    assert _health(stream) == told
