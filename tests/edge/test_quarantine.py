"""Who is to blame for the end of a decode process, and what follows: the policy as tables."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge import quarantine
from edge.blackbox import Doing, SlotState, stream_name
from edge.quarantine import Record, Records, Trouble, Verdict, judge
from edge.reconcile import StreamKey

KEYS = [StreamKey(f"c{number:02}", "main") for number in range(16)]
A, B, C = KEYS[:3]


def slot(key: StreamKey, doing: Doing, since_s: float = 0.0, by: str = "") -> SlotState:
    """What a thread does; its identity is the stream's number."""
    name = stream_name(key.camera, key.stream)
    about = "" if doing is Doing.IDLE else name
    number = KEYS.index(key) + 1
    return SlotState(by or name, about, doing, int(since_s * 1000), number, number)


@pytest.mark.parametrize(
    ("ident", "culprit", "suspects"),
    [(1, A, set()), (2, B, set()), (3, C, set()), (None, None, {A, B}), (16, None, {A, B})],
)
def test_a_crash_is_blamed_on_the_thread_that_the_dump_names(
    ident: int | None, culprit: StreamKey | None, suspects: set[StreamKey]
) -> None:
    """A stream's thread makes it the culprit; any other thread leaves those who were busy."""
    slots = [slot(A, Doing.DECODING), slot(B, Doing.DECODING), slot(C, Doing.IDLE)]
    slots.append(slot(KEYS[15], Doing.IDLE, by="analyst"))
    trouble = quarantine.crashed("Segmentation fault", ident, slots)
    assert (trouble.culprit, set(trouble.suspects)) == (culprit, suspects)
    assert "Segmentation fault" in trouble.what


def test_a_model_that_crashes_is_the_fault_of_the_stream_being_looked_at() -> None:
    """The analyst's thread is busy with a stream, and that one is the culprit."""
    slots = [slot(A, Doing.DECODING), slot(B, Doing.INFERRING, by="analyst")]
    trouble = quarantine.crashed("Aborted", 2, slots)
    assert trouble.culprit == B
    assert "the model" in trouble.what


@pytest.mark.parametrize(
    ("returncode", "slots", "suspects"),
    [
        (3, [slot(A, Doing.DECODING), slot(B, Doing.DEMUXING)], {A}),
        (0, [slot(A, Doing.IDLE), slot(B, Doing.OPENING)], {B}),
        (1, [slot(A, Doing.IDLE)], set()),
        (-9, [slot(A, Doing.DECODING)], {A, B, C}),
    ],
)
def test_an_end_without_a_dump_leaves_suspects(
    returncode: int, slots: list[SlotState], suspects: set[StreamKey]
) -> None:
    """Those who were busy; everybody when it was killed, since memory is nobody's in particular."""
    assert set(quarantine.ended(returncode, [A, B, C], slots).suspects) == suspects


def test_silence_is_blamed_on_the_last_who_began() -> None:
    """Whoever holds Python's lock let nobody begin after it; a stopped process has no culprit."""
    slots = [slot(A, Doing.DECODING, 10.0), slot(B, Doing.DECODING, 10.2), slot(C, Doing.DEMUXING)]
    assert quarantine.silent(slots, 15.0, stopped=False).culprit == B
    assert quarantine.silent(slots, 12.0, stopped=False).culprit is None, "its threads go on"
    held_still = quarantine.silent(slots, 15.0, stopped=True)
    assert (held_still.culprit, held_still.suspects) == (None, frozenset())
    assert quarantine.silent([slot(A, Doing.DEMUXING)], 15.0, stopped=False).culprit is None


@pytest.mark.parametrize(
    ("doing", "for_s", "hangs"),
    [
        (Doing.DECODING, 4.0, False),
        (Doing.DECODING, 6.0, True),
        (Doing.INFERRING, 6.0, False),
        (Doing.INFERRING, 11.0, True),
        (Doing.OPENING, 40.0, False),
        (Doing.OPENING, 50.0, True),
        (Doing.DEMUXING, 610.0, False),
        (Doing.IDLE, 10_000.0, False),
    ],
)
def test_each_call_has_its_time(doing: Doing, for_s: float, hangs: bool) -> None:
    """A decoder that takes five seconds hangs; reading a recording may wait ten minutes."""
    assert bool(quarantine.hanging([slot(A, doing, 100.0)], 100.0 + for_s)) is hangs


def test_a_certain_culprit_goes_at_once_and_longer_each_time() -> None:
    """Neighbours lose one restart; who comes back and does it again is kept away for longer."""
    records: Records = {}
    terms_s = []
    for now_s in (0.0, 5000.0, 20_000.0, 90_000.0, 200_000.0, 400_000.0, 600_000.0):
        records, verdict = judge(records, Trouble("crash", "it crashed", A), now_s)
        assert verdict == Verdict(confine=(A,))
        terms_s.append(records[A].term_s)
    assert terms_s == [3600, 7200, 14_400, 28_800, 57_600, 86_400, 86_400]


def test_a_suspect_is_guilty_the_second_time_within_ten_minutes() -> None:
    """One suspicion is forgotten after ten minutes and leaves no record."""
    trouble = Trouble("exit", "it ended", suspects=frozenset({A}))
    records, verdict = judge({}, trouble, 0.0)
    assert verdict == Verdict()
    records, verdict = judge(records, trouble, 601.0)
    assert verdict == Verdict()
    records, verdict = judge(records, trouble, 700.0)
    assert verdict == Verdict(confine=(A,))
    assert judge({B: Record((0.0,))}, trouble, 601.0)[0].keys() == {A}


def test_of_those_who_were_suspected_once_the_one_of_both_times_goes() -> None:
    """Whoever happened to be busy at one of two deaths stays."""
    records, _ = judge({}, Trouble("exit", "", suspects=frozenset({A, B})), 0.0)
    _, verdict = judge(records, Trouble("exit", "", suspects=frozenset({A, C})), 10.0)
    assert verdict == Verdict(confine=(A,))


@given(
    culprit=st.sampled_from(KEYS),
    streams=st.integers(1, len(KEYS)),
    cause=st.sampled_from(["leak", "killed"]),
)
def test_the_culprit_ends_alone_and_nobody_else_is_confined(
    culprit: StreamKey, streams: int, cause: quarantine.Cause
) -> None:
    """However many are suspected, halving finds the one in as many deaths as 2 has powers, and one
    more where suspicion is no proof."""
    together = set(KEYS[:streams]) | {culprit}
    allowed = (len(together) - 1).bit_length() + 1 + (cause == "killed")
    records: Records = {}
    for death in range(allowed):
        trouble = Trouble(cause, "", suspects=frozenset(together), proven=cause == "leak")
        records, verdict = judge(records, trouble, float(death))
        if verdict.confine:
            assert verdict.confine == (culprit,)
            return
        apart = set(verdict.divide)
        assert apart <= together
        together = apart if culprit in apart else together - apart
    raise AssertionError(f"not found in {allowed} deaths: {together}")


def test_memory_has_room_for_streams_and_ends_below_the_limit() -> None:
    """The bound grows with the streams, keeps below the worker's limit and above need (I8)."""
    assert quarantine.memory_bound_bytes(0, None) < quarantine.memory_bound_bytes(16, None)
    assert quarantine.memory_bound_bytes(8, 1_000_000_000) == 800_000_000
    assert quarantine.memory_bound_bytes(8, 100_000_000) == 650_000_000


def test_nothing_is_said_of_a_trouble_without_suspects() -> None:
    """A death at the start, before any stream was touched, is nobody's fault."""
    assert judge({}, quarantine.ended(1, [A], []), 0.0) == ({}, Verdict())
    assert dataclasses.replace(quarantine.spins()).suspects == frozenset()
