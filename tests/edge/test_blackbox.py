"""The black box tells, from outside and after a death, what each thread was doing."""

import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from edge.blackbox import SLOTS, BlackBox, Doing, Recorder, read_dump, stream_name
from tests.parts.clock import SteppedClock

CRASHING = """
import ctypes, faulthandler, sys, threading
from edge.blackbox import Doing, Recorder, stream_name
from edge.clock import SystemClock

recorder = Recorder(SystemClock(), int(sys.argv[1]))
faulthandler.enable(int(sys.argv[2]))
resting = threading.Event()

def rest():
    recorder.slot("resting/main").enter(Doing.DECODING)
    resting.set()
    threading.Event().wait()

def crash():
    recorder.slot("culprit/main").enter(Doing.DECODING)
    ctypes.string_at(0)

threading.Thread(target=rest, daemon=True).start()
resting.wait()
thread = threading.Thread(target=crash)
thread.start()
thread.join()
"""


@pytest.fixture
def box() -> Iterator[BlackBox]:
    """A black box as the agent makes it."""
    made = BlackBox()
    yield made
    made.close()


def test_what_a_thread_does_is_read_from_outside(box: BlackBox) -> None:
    """A slot tells whose it is, what it does, since when, on which thread, until it is closed."""
    clock = SteppedClock()
    recorder = Recorder(clock, box.descriptor)
    slot = recorder.slot(stream_name("pump", "main"))
    clock.step(1.5)
    slot.enter(Doing.DECODING)
    (state,) = box.slots()
    assert (state.name, state.about, state.doing) == ("pump/main", "pump/main", Doing.DECODING)
    assert state.since_ms == int(clock.monotonic_s() * 1000)
    assert (state.ident, state.native_id) == (threading.get_ident(), threading.get_native_id())
    slot.leave()
    (state,) = box.slots()
    assert (state.about, state.doing) == ("", Doing.IDLE)
    slot.close()
    assert box.slots() == ()


def test_the_analyst_is_busy_with_a_stream_of_another(box: BlackBox) -> None:
    """A thread that serves many streams says which one it looks at."""
    recorder = Recorder(SteppedClock(), box.descriptor)
    streams = [recorder.slot(stream_name(f"c{number}", "main")) for number in range(3)]
    analyst = recorder.slot("analyst")
    analyst.enter(Doing.INFERRING, streams[1])
    (busy,) = (state for state in box.slots() if state.doing is Doing.INFERRING)
    assert (busy.name, busy.about) == ("analyst", "c1/main")


def test_threads_beyond_the_slots_are_unknown_and_harmless(box: BlackBox) -> None:
    """More threads than slots share none (I8); a slot that is closed serves again."""
    recorder = Recorder(SteppedClock(), box.descriptor)
    slots = [recorder.slot(f"c{number}/main") for number in range(SLOTS + 2)]
    for slot in slots:
        slot.enter(Doing.DECODING)
    assert len(box.slots()) == SLOTS
    slots[-1].close()
    slots[7].close()
    recorder.slot("late/main")
    assert {state.name for state in box.slots()} >= {"late/main", "c8/main"}
    assert f"c{SLOTS}/main" not in {state.name for state in box.slots()}


def test_a_crash_names_the_thread_that_crashed(box: BlackBox) -> None:
    """After SIGSEGV in one of two decoding threads, dump and slots together name the stream."""
    passed = (box.descriptor, box.dump_descriptor)
    done = subprocess.run(
        [sys.executable, "-c", CRASHING, *map(str, passed)], pass_fds=passed, timeout=20
    )
    crash = box.crash()
    assert done.returncode == -11
    assert crash is not None
    assert crash.what == "Segmentation fault"
    assert [state.name for state in box.slots() if state.ident == crash.ident] == ["culprit/main"]
    assert {state.doing for state in box.slots()} == {Doing.DECODING}


def test_no_dump_is_no_crash(box: BlackBox) -> None:
    """A process that was killed left nothing; text without a thread names none."""
    assert box.crash() is None
    found = read_dump("Fatal Python error: Aborted\n\nThread 0x01 (most recent call first):\n")
    assert found is not None
    assert (found.what, found.ident) == ("Aborted", None)
