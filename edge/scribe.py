"""The thread of a decode process that reads plates, seldom enough to hold up nothing.

Here: what waits to be read, how often, and what is shed. Not here: which pictures are read
(plates.py), reading (ocr.py), what becomes of a reading (shard.py).

    plates = scribe.plates_of(work, labels)             # loads the library, the first time
    scribe.put(ask, reader.slot, done)                  # for each of the task's asks

Reading a plate costs as much as ten or twenty looks. So it has a thread of its own, of low
priority, that rests three times as long as it worked: a quarter of a core at most, and no more than
one reading a second. A picture that waits too long is given back unread, and counted.
"""

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge.blackbox import Doing, Recorder, Slot
from edge.clock import Clock
from edge.ocr import Ocr
from edge.plates import Ask, Plates
from edge.reconcile import TaskWork
from edge.vision.detect import Detector
from edge.vision.manifest import find
from edge.vision.plates import Reading

log = logging.getLogger("forecourt.plates")

WAITING = 8
"""Pictures that wait; the one that has waited longest is given back first."""
EVERY_S = 1.0
REST_FACTOR = 3.0
_NICE = 5

Done = Callable[[Sequence[Reading] | None, str], None]
"""Gets the readings, None if there was no time for any, and why reading failed, if it did."""


@dataclass(frozen=True, slots=True)
class _Job:
    ask: Ask
    about: Slot
    done: Done


class Scribe(threading.Thread):
    """Reads what is put before it, one picture after the other. `done` is called on its thread."""

    def __init__(
        self, models: Sequence[Path], key: bytes, clock: Clock, recorder: Recorder
    ) -> None:
        """Loads nothing and does not run before a task wants plates. `key` makes pseudonyms."""
        super().__init__(name="plates", daemon=True)
        self.shed = 0
        """Pictures that were given back unread."""
        self._models = models
        self._key = key
        self._ocr: Ocr | None = None
        self._detectors: dict[str, Detector] = {}
        self._clock = clock
        self._recorder = recorder
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._failure = ""

    def plates_of(self, work: TaskWork, labels: Sequence[str]) -> Plates | None:
        """The plates of a task whose model has these labels; None: it wants none.

        Raises ModelError where they cannot be read, because the library or a model is missing.
        """
        wish = work.task.spec.plates
        if wish is None:
            return None
        detector = None
        if wish.detector is not None:
            detector = self._detectors.get(wish.detector)
            if detector is None:
                detector = Detector(find(self._models, wish.detector), threads=1)
                self._detectors[wish.detector] = detector
        if self._ocr is None:
            self._ocr = Ocr()
            self.start()
        return Plates(work.task, work.revision, labels, self._key, detector)

    def put(self, ask: Ask, about: Slot, done: Done) -> None:
        """Have a picture read; `about` is its stream's place in the black box."""
        shed = None
        with self._changed:
            if len(self._jobs) >= WAITING:
                shed = self._jobs.popleft()
                self.shed += 1
            self._jobs.append(_Job(ask, about, done))
            self._changed.notify_all()
        if shed is not None:
            shed.done(None, "")

    def give_back(self, done: Done) -> None:
        """There is no time for a picture at all: the CPU is short."""
        self.shed += 1
        done(None, "")

    def run(self) -> None:
        """For ever."""
        slot = self._recorder.slot("plates")
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        resting = threading.Event()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs)
                job = self._jobs.popleft()
            began_s = self._clock.monotonic_s()
            slot.enter(Doing.INFERRING, job.about)
            readings, failure = self._read(job.ask)
            slot.leave()
            job.done(readings, failure)
            resting.wait(rest_s(self._clock.monotonic_s() - began_s))

    def _read(self, ask: Ask) -> tuple[Sequence[Reading], str]:
        assert self._ocr is not None
        try:
            return self._ocr.read(ask.image, ask.detector), ""
        except Exception as error:  # one picture must not end the thread
            failure = f"plates cannot be read: {type(error).__name__}: {error}"[:500]
            if failure != self._failure:
                log.error("%s", failure, exc_info=error)
            self._failure = failure
            return (), failure


def rest_s(took_s: float) -> float:
    """How long it rests after a reading that took so long."""
    return max(EVERY_S - took_s, REST_FACTOR * took_s)
