"""Presence: what silence means, and what it comes from."""

from dataclasses import replace
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from center.fencing import Gone, Identity
from center.healing import Healing
from center.presence import Presence, State, state
from wire.messages import Known, StreamHealth

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


StreamState = Literal["running", "lost"]
LOST: list[StreamState] = ["lost"]
HELD = Presence(
    worker="w1",
    station="s1",
    autonomy_duration_s=None,
    identity=Identity(instance="disk-1", boot="boot-1", fence=7, heard_ms=NOW_MS),
    session="session-1",
    software="",
    known=Known(),
    pending_alarm=0,
    pending_bulk=0,
    shed=0,
    streams=(),
    denied="",
    observed_digest="",
    healing=Healing(),
    beat_boot_ms=0,
)
SILENT = replace(HELD, identity=replace(HELD.identity, heard_ms=NOW_MS - 60_000))


def _gone(how: Gone) -> Presence:
    return replace(HELD, identity=replace(HELD.identity, gone=how))


def _streams(*states: StreamState) -> Presence:
    streams = [
        StreamHealth(camera=f"c{number}", stream="main", state=state)
        for number, state in enumerate(states)
    ]
    return replace(HELD, streams=tuple(streams))


@pytest.mark.parametrize(
    ("held", "cause"),
    [
        (HELD, ""),
        (_gone("bye"), "stopped"),
        (_gone("will"), "link down"),
        (SILENT, "silent: it hangs, or its link is half open"),
        (_streams("running", "lost"), "cameras down: c1/main"),
        (_streams(*LOST * 7), "cameras down: c0/main, c1/main, c2/main, c3/main, c4/main and 2"
         " more"),
        (replace(SILENT, denied="fenced: another device"), "denied"),
        (replace(HELD, denied="fenced: another device"), ""),
        (replace(HELD, identity=Identity()), "never heard"),
        (replace(HELD, identity=Identity(), denied="upgrade: old"), "denied"),
        (replace(SILENT, streams=_streams("lost").streams), "silent: it hangs, or its link is half"
         " open"),
    ],
)  # fmt: skip
def test_cause(held: Presence, cause: str) -> None:
    """Stopped, link down, silent, cameras down and denied are told apart, as far as facts tell."""
    assert held.cause(NOW_MS, HEARTBEAT_S) == cause


def test_trouble_is_a_sentence() -> None:
    """All troubles of a worker, one after another; nothing where there is none."""
    assert HELD.trouble == ""
    healing = Healing().troubled("clone", "two live", 1).troubled("desired", "stuck", 2)
    assert replace(HELD, healing=healing).trouble == "two live; stuck"
