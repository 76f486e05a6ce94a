"""Presence: what silence means, and who may take the fence."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from center.presence import Gone, Presence, Refusal, State, judge, state
from tests.parts.workers import Voice
from wire.messages import Known

HEARTBEAT_S = 10.0
NOW_MS = 1_800_000_000_000


@pytest.mark.parametrize(
    ("silent_s", "gone", "autonomy_s", "expected"),
    [
        (None, "", None, "Unknown"),
        (0, "", None, "Online"),
        (30, "", None, "Online"),
        (30.1, "", None, "Autonomous"),
        (1, "will", None, "Autonomous"),
        (1, "bye", None, "Autonomous"),
        (10_000_000, "", None, "Autonomous"),
        (3601, "", 3600, "Lost"),
        (3599, "", 3600, "Autonomous"),
        (2, "will", 1, "Lost"),
        (20, "", 1, "Online"),
    ],
)
def test_state(
    silent_s: float | None, gone: Gone, autonomy_s: float | None, expected: State
) -> None:
    """Unknown until heard, Autonomous after three silent beats, Lost only if the station says."""
    heard_ms = None if silent_s is None else NOW_MS - round(silent_s * 1000)
    assert state(heard_ms, NOW_MS, HEARTBEAT_S, gone, autonomy_s) == expected


@given(st.integers(0, 10**12), st.sampled_from(["", "will", "bye"]), st.floats(0.2, 3600))
def test_without_a_duration_nobody_is_lost(silent_ms: int, gone: Gone, heartbeat_s: float) -> None:
    """I6: by default no silence makes a worker Lost."""
    assert state(NOW_MS - silent_ms, NOW_MS, heartbeat_s, gone, None) in ("Online", "Autonomous")


HELD = Presence(
    worker="w1",
    station="s1",
    autonomy_duration_s=None,
    instance="disk-1",
    boot="boot-2",
    past_boots=("boot-1",),
    session="session-2",
    fence=7,
    heard_ms=NOW_MS,
    gone="",
    software="",
    known=Known(),
    pending_alarm=0,
    pending_bulk=0,
    shed=0,
    streams=(),
    denied="",
)


@pytest.mark.parametrize(
    ("held", "voice", "fence"),
    [
        (replace(HELD, instance="", boot="", fence=0), Voice(fence=0), 1),
        (HELD, Voice(boot="boot-2", session="session-2", fence=7), 7),
        (HELD, Voice(boot="boot-2", session="session-3", fence=7), 7),
        (HELD, Voice(boot="boot-3", fence=7), 8),
        (HELD, Voice(boot="boot-3", fence=20), 21),
        (replace(HELD, gone="bye"), Voice(instance="disk-2"), 8),
        (replace(HELD, heard_ms=NOW_MS - 30_001), Voice(instance="disk-2", fence=3), 8),
    ],
    ids=[
        "first",
        "same-session",
        "reconnect",
        "new-boot",
        "restored",
        "after-bye",
        "after-silence",
    ],
)
def test_who_is_accepted(held: Presence, voice: Voice, fence: int) -> None:
    """A hello is accepted with the fence that its history gives it."""
    assert judge(held, voice.hello(), NOW_MS, HEARTBEAT_S) == fence


@pytest.mark.parametrize(
    ("held", "voice"),
    [
        (HELD, Voice(instance="disk-2", fence=99)),
        (replace(HELD, gone="will"), Voice(instance="disk-2")),
        (replace(HELD, heard_ms=NOW_MS - 30_000), Voice(instance="disk-2")),
        (HELD, Voice(boot="boot-1")),
    ],
    ids=["another-disk", "will-is-not-bye", "three-beats-exactly", "superseded-boot"],
)
def test_who_is_fenced(held: Presence, voice: Voice) -> None:
    """A second device, or a second process with the same data, is refused while the first lives."""
    judged = judge(held, voice.hello(), NOW_MS, HEARTBEAT_S)
    assert isinstance(judged, Refusal)
    assert "stop" in judged.reason
    assert judged.retry_after_s >= 1
