"""A decode process: `python -m edge.shard PIPE BLACK-BOX DUMP`, which the agent starts.

Here: which threads there are, and how a frame travels through them. Not here: the steps themselves
(video, vision, analysis), storing, the network: a shard knows only its pipe to the agent.

Each stream has two threads: one reads packets, the other decodes what is wanted of them, and puts a
picture that is due into a slot for one. A single analyst thread takes from the slots in turn. Slow
inference therefore never stalls a camera: a picture that is replaced in its slot is a look that was
wanted and not made, and counted. Once a second the governor keeps the streams within the budget.

The shard ends when its pipe closes, so no orphan decodes on.
"""

import faulthandler
import itertools
import logging
import math
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Collection, Iterable, Sequence
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import cv2
import msgspec
import numpy as np

from edge.accounts import TaskStatus
from edge.analysis import Analysis, unknown_classes
from edge.blackbox import Doing, Recorder, stream_name
from edge.budget import STEPS, CatchUp, Governor
from edge.clock import Clock, SystemClock
from edge.coverage import Coverage
from edge.desk import Desk
from edge.detectors import AwaitedModelError, Detectors
from edge.facts import Facts
from edge.outgoing import Outgoing
from edge.pipe import (
    Apply,
    Beat,
    Budget,
    Finish,
    Finished,
    Inputs,
    Pipe,
    Settings,
    Show,
    Shown,
    Stored,
    Supply,
)
from edge.plates import Ask
from edge.reader import Look, Reader
from edge.reconcile import Start, Stop, StreamKey, TaskWork, Update
from edge.scribe import Scribe
from edge.video.decode import Frame
from edge.video.jpeg import JpegError, jpeg
from edge.vision.blur import hidden_by, hide
from edge.vision.detect import Detections, Detector
from edge.vision.manifest import ModelError
from edge.vision.plates import Reading
from wire.events import Event

log = logging.getLogger("forecourt.shard")

_BEAT_S = 1.0
_FOLDERS_BEATS = 5
"""Beats after which the files of models in folders are looked at."""


class Shard:
    """The readers, the analyst, and what the agent told us to do."""

    def __init__(
        self, pipe: Pipe, settings: Settings, clock: Clock, recorder: Recorder | None = None
    ) -> None:
        self._settings = settings
        self._recorder = recorder or Recorder(clock)
        self._slot = self._recorder.none
        self._governor = Governor()
        self._cores = math.inf
        self._catch_up = CatchUp()
        self._catch_up_lock = threading.Lock()
        self._used_s = time.process_time()
        self._governed_s = clock.monotonic_s()
        self._clock = clock
        self._pipe = pipe
        self._outgoing = Outgoing(pipe)
        self._desk: Desk[Look] = Desk()
        self._readers: dict[StreamKey, Reader] = {}
        self._detectors = Detectors(settings, clock, self._renewed, self._objection)
        self._facts = Facts()
        self._scribe = Scribe(
            [Path(folder) for folder in settings.models],
            settings.plates_key or secrets.token_bytes(32),
            clock,
            self._recorder,
        )
        self._looks = 0
        self._first_look = threading.Event()

    def serve(self) -> None:
        """Obey the pipe until it closes or the agent says to finish."""
        threading.Thread(target=self._analyse, name="analyst", daemon=True).start()
        threading.Thread(target=self._beat, name="beat", daemon=True).start()
        while True:
            match self._pipe.recv():
                case Apply(actions):
                    for action in actions:
                        self._apply(action)
                case Stored(number):
                    self._outgoing.stored(number)
                case Budget(cores):
                    self._cores = cores
                    with self._catch_up_lock:
                        self._catch_up.set_budget(cores, self._clock.monotonic_s())
                case Inputs(facts):
                    for fact in facts:
                        self._facts.put(fact)
                case Supply() as supply:
                    self._supplied(supply)
                case Show() as asked:
                    self._show(asked)
                case Finish():
                    threading.Thread(target=self._finish, name="finish", daemon=True).start()

    # --- what is to be done ---

    def _apply(self, action: Start | Update | Stop) -> None:
        match action:
            case Start(work, dark_since_s):
                reader = Reader(
                    work,
                    self._desk,
                    self._clock,
                    self._suspend,
                    recorder=self._recorder,
                    tell=self._tell,
                    may_catch_up=self._may_catch_up,
                    dark_since_s=dark_since_s,
                )
                self._readers[work.key] = reader
                self._set_tasks(reader, work.tasks)
                reader.start()
            case Update(work):
                self._set_tasks(self._readers[work.key], work.tasks)
            case Stop(key, reason):
                reader = self._readers.pop(key)
                reader.stop()
                self._set_tasks(reader, (), reason)
                self._desk.forget(key)

    def _set_tasks(
        self,
        reader: Reader,
        works: tuple[TaskWork, ...],
        reason: str = "removed",
        again: Collection[TaskStatus] = (),
    ) -> None:
        """Begin new and changed tasks, end those that are gone, leave the others as they are.

        Those of `again` are begun once more.
        """
        before = reader.tasks
        slot = self._recorder.slot(stream_name(reader.key.camera, reader.key.stream))
        slot.enter(Doing.OPENING)  # a model may crash while it is loaded
        reader.tasks = {
            work.name: before[work.name]
            if work.name in before
            and before[work.name].work == work
            and before[work.name] not in again
            else self._begin(work)
            for work in works
        }
        slot.close()
        hidden = hidden_by(work.task for work in works)
        for status in reader.tasks.values():
            if status.analysis is not None and status.analysis.plates is not None:
                status.analysis.plates.hidden = hidden
        reader.watch_with(works)
        kept = {id(status) for status in reader.tasks.values()}
        for status in before.values():
            if id(status) not in kept:
                self._desk.errand(partial(self._close, reader, status, reason))
        self._detectors.keep(status.model for _, status in self._statuses())
        # A model may have been exchanged since a task was begun with it.
        self._desk.errand(self._take_newest)

    def _supplied(self, supply: Supply) -> None:
        """The center's models are others: whoever waited for one of them may begin."""
        changed = self._detectors.supplied(supply)
        for reader in list(self._readers.values()):
            again = [
                status
                for status in reader.tasks.values()
                if status.analysis is None and status.model in changed and self._may_begin(status)
            ]
            if again:
                works = tuple(status.work for status in reader.tasks.values())
                self._set_tasks(reader, works, again=again)

    def _may_begin(self, status: TaskStatus) -> bool:
        """Whether a task that has no model has one now, or knows that there is none."""
        try:
            self._detectors.get(status.model)
        except AwaitedModelError as error:
            status.awaited = str(error)
            return False
        except ModelError:
            return True
        return True

    def _statuses(self) -> list[tuple[Reader, TaskStatus]]:
        readers = list(self._readers.values())
        return [(reader, s) for reader in readers for s in list(reader.tasks.values())]

    def _objection(self, name: str, detector: Detector) -> str:
        """On a loading thread: which classes the tasks at work would lose with another network."""
        problems = [
            f"task {status.work.name}: {problem}"
            for _, status in self._statuses()
            if status.analysis is not None and status.model == name
            for problem in unknown_classes(status.work.task, detector.labels)
        ]
        return "; ".join(problems[:3])

    def _renewed(self, _name: str) -> None:
        """On a loading thread: tasks go over between two looks."""
        self._desk.errand(self._take_newest)

    def _take_newest(self) -> None:
        """On the analyst's thread: have every task look with the network that its model now is.

        What it follows and what is open stays: only the eye is another one.
        """
        for _, status in self._statuses():
            newest = self._detectors.current(status.model)
            status.note = self._detectors.note(status.model)
            if status.analysis is not None and newest is not None:
                status.analysis.detector = newest

    def _begin(self, work: TaskWork) -> TaskStatus:
        coverage = Coverage(work.task.spec.fps, self._clock)
        try:
            detector = self._detectors.get(work.task.spec.model.name)
            analysis = Analysis(
                work.task,
                work.revision,
                detector,
                secrets.token_hex(6),
                zone=_zone(work.time_zone),
                facts=self._facts,
                plates=self._scribe.plates_of(work, detector.labels),
            )
        except AwaitedModelError as error:
            return TaskStatus(work, coverage, awaited=str(error))
        except (ModelError, ValueError) as error:
            log.warning("task %s rejected: %s", work.name, error)
            return TaskStatus(work, coverage, rejected=str(error))
        return TaskStatus(work, coverage, analysis)

    def _may_catch_up(self, cost_s: float) -> bool:
        """On a reader's thread: whether so many CPU seconds may be spent on what was left out."""
        with self._catch_up_lock:
            return self._catch_up.allows(cost_s, self._clock.monotonic_s())

    def _suspend(self, reader: Reader) -> None:
        """On the reader's thread: it sees nothing any more, so nothing open can be vouched for."""
        for status in list(reader.tasks.values()):
            self._desk.errand(partial(self._interrupt, reader, status))

    # --- the analyst's thread ---

    def _analyse(self) -> None:
        """A frame's way: detect once per model, then each task tracks and applies its rules."""
        self._slot = self._recorder.slot("analyst")
        while True:
            job = self._desk.take()
            if isinstance(job, Look):
                before_s = time.thread_time()
                self._look(job)
                job.reader.spent.looking_s += time.thread_time() - before_s
            else:
                job()

    def _interrupt(self, reader: Reader, status: TaskStatus, reason: str = "interrupted") -> None:
        """End what is open at its last seen moment; looks may go on."""
        if status.analysis is not None:
            self._tell(reader, status.analysis.close(reason))

    def _close(self, reader: Reader, status: TaskStatus, reason: str) -> None:
        """End what is open; a frame that still waits for this task is not looked at any more."""
        self._interrupt(reader, status, reason)
        status.analysis = None

    def _look(self, look: Look) -> None:
        """One frame, for those tasks that still want it.

        While it waited a task may have gone, or its hours may have ended: what it opened now would
        stand until they begin again.
        """
        by_detector: dict[Detector, list[TaskStatus]] = {}
        due, at_work = look.seen.due, look.reader.watch.analyses
        for status in list(look.reader.tasks.values()):
            analysis = status.analysis
            if analysis is not None and analysis in due and analysis in at_work:
                by_detector.setdefault(analysis.detector, []).append(status)
        if look.seen.quiet:
            for statuses in by_detector.values():
                for status in statuses:
                    self._carry(look, status)
        else:
            self._infer(look, by_detector)
        for statuses in by_detector.values():
            for status in statuses:
                self._ask_for_plates(look.reader, status)
        look.reader.rates.looks += 1
        if not look.seen.late:
            look.reader.spent.behind_s = self._clock.monotonic_s() - look.arrived_s
        self._looks += 1
        self._first_look.set()

    def _infer(self, look: Look, by_detector: dict[Detector, list[TaskStatus]]) -> None:
        """Detect, follow, judge; and tell the watch what that says of how much to decode."""
        boxes = []
        differs = False
        for detector, statuses in by_detector.items():
            try:
                detections = self._detected(look, detector)
                boxes.append(detections.boxes)
                for status in statuses:
                    differs |= self._follow(look, status, detections)
            except Exception as error:
                self._failed(look, statuses, error)
        followed = [s.analysis for statuses in by_detector.values() for s in statuses if s.analysis]
        if boxes:
            look.reader.watch.looked(
                np.concatenate(boxes),
                look.seen.frame.pts_s,
                restless=any(analysis.restless for analysis in followed),
                differs=differs,
            )

    def _detected(self, look: Look, detector: Detector) -> Detections:
        """What a model sees, while the black box tells that the analyst may not come back."""
        self._slot.enter(Doing.INFERRING, look.reader.slot)
        try:
            return detector.detect_frame(look.seen.frame)
        finally:
            self._slot.leave()

    def _follow(self, look: Look, status: TaskStatus, detections: Detections) -> bool:
        """One task's part of a look; whether a check found others than were carried."""
        assert status.analysis is not None
        differs = look.seen.check and status.analysis.differs(detections)
        if look.seen.check and not differs:
            self._carry(look, status)
            return False
        events = status.analysis.look(
            look.seen.frame, detections, status.coverage.ratio(), look.seen.level
        )
        if not look.seen.check:
            status.coverage.seen()
        status.looks += 1
        status.failure = ""
        self._tell(look.reader, events)
        return differs

    def _carry(self, look: Look, status: TaskStatus) -> None:
        """Nothing has changed: what was there still is, for so much longer."""
        assert status.analysis is not None
        ratio = status.coverage.ratio()
        self._tell(look.reader, status.analysis.carry(look.seen.frame, ratio, look.seen.level))
        status.looks += 1
        status.failure = ""

    def _ask_for_plates(self, reader: Reader, status: TaskStatus) -> None:
        """Have plates read where there is time for it: looks go first."""
        assert status.analysis is not None
        for ask in status.analysis.asks():
            done = partial(self._plate_read, reader, status, ask)
            if reader.step == STEPS[0]:
                self._scribe.put(ask, reader.slot, done)
            else:
                self._scribe.give_back(done)

    def _plate_read(
        self,
        reader: Reader,
        status: TaskStatus,
        ask: Ask,
        readings: Sequence[Reading] | None,
        failure: str,
    ) -> None:
        """On the scribe's thread: it is the analyst who judges."""

        def judge() -> None:
            status.unread = failure
            if status.analysis is not None:
                self._tell(reader, status.analysis.answer(ask, readings))

        self._desk.errand(judge)

    def _failed(self, look: Look, statuses: list[TaskStatus], error: Exception) -> None:
        """The look was wanted and not made (I10); the next picture is a new chance."""
        for status in statuses:
            status.coverage.missed()
        failure = f"the model fails on the pictures: {type(error).__name__}: {error}"[:500]
        if any(status.failure != failure for status in statuses):
            names = ", ".join(status.work.name for status in statuses)
            log.error("task %s: %s", names, failure, exc_info=error)
        for status in statuses:
            status.failure = failure
        # Nothing that was seen could be carried: stay awake, and try again.
        look.reader.watch.looked(np.empty((0, 4), np.float32), 0.0, restless=True)

    def _tell(self, reader: Reader, events: Iterable[Event]) -> None:
        """Add what the process knows of the circumstances, and hand over."""
        boot, offset_ms = self._settings.boot, reader.boot_offset_ms
        self._outgoing.events(
            msgspec.structs.replace(event, boot=boot, boot_ms=event.t_ms + offset_ms)
            for event in events
        )

    # --- a live picture ---

    def _show(self, asked: Show) -> None:
        """Whoever asks is answered by the stream's next picture; the agent bounds the wait."""
        reader = self._readers.get(asked.key)
        if reader is not None:
            reader.show(partial(self._shown, asked))
        else:
            self._outgoing.send(Shown(asked.number, error="the stream has just been stopped"))

    def _shown(self, asked: Show, frame: Frame) -> None:
        """On the analyst's thread, between two looks: scalers are not made for two threads."""
        reader = self._readers.get(asked.key)
        if reader is None:  # and with it went those who say what must not be seen
            self._outgoing.send(Shown(asked.number, error="the stream has just been stopped"))
            return
        tasks = [status.work.task for status in reader.tasks.values()]
        try:
            made = jpeg(frame, asked.width, asked.max_bytes, partial(hide, hidden=hidden_by(tasks)))
        except Exception as error:  # whatever it is, the analyst goes on
            told = str(error) if isinstance(error, JpegError) else "its picture cannot be encoded"
            log.warning("a picture of %s/%s: %s", asked.key.camera, asked.key.stream, error)
            self._outgoing.send(Shown(asked.number, error=told))
            return
        self._outgoing.send(Shown(asked.number, made.data, made.width, made.height, frame.t_ms))

    # --- beats and the end ---

    def _beat(self) -> None:
        self._send_beat()
        self._first_look.wait(_BEAT_S)
        for number in itertools.count(1):
            self._govern()
            self._send_beat()
            if number % _FOLDERS_BEATS == 0:
                self._detectors.look_at_folders()
            time.sleep(_BEAT_S)

    def _govern(self) -> None:
        """Measure what the last second cost, and keep the streams within the budget."""
        readers = list(self._readers.values())
        used_s, now_s = time.process_time(), self._clock.monotonic_s()
        used_cores = (used_s - self._used_s) / max(now_s - self._governed_s, 1e-3)
        self._used_s, self._governed_s = used_s, now_s
        loads = [reader.load() for reader in readers]
        steps = self._governor.decide(loads, used_cores, self._cores, now_s)
        self._facts.heed_clock(self._clock.wall_ms())
        for reader in readers:
            reader.degrade(steps[reader.key])
            for status in reader.heed_schedules():
                self._desk.errand(partial(self._interrupt, reader, status, "inactive"))

    def _send_beat(self) -> None:
        now_ms = self._clock.wall_ms()
        readers = list(self._readers.values())
        statuses = self._statuses()
        ratios = ((s.work.name, s.coverage.ratio()) for _, s in statuses)
        self._outgoing.send(
            Beat(
                streams=tuple(reader.health() for reader in readers),
                tasks=tuple(s.observed(reader, now_ms) for reader, s in statuses),
                looks=self._looks,
                coverage={name: ratio for name, ratio in ratios if ratio is not None},
                catch_ups_dropped=self._catch_up.dropped,
                plates_shed=self._scribe.shed,
                refused=self._detectors.refused(),
            )
        )

    def _finish(self) -> None:
        """End every open incident as interrupted, and say so when the agent has stored it all."""
        for reader in self._readers.values():
            reader.stop()
        done = threading.Event()
        for reader in self._readers.values():
            reader.watch.analyses = ()
            for status in reader.tasks.values():
                self._desk.errand(partial(self._close, reader, status, "interrupted"))
        self._desk.errand(done.set)
        done.wait(3.0)
        self._outgoing.wait_empty(3.0)
        self._outgoing.send(Finished())


def _zone(name: str) -> ZoneInfo:
    """A station's time zone. Raises ValueError if this machine does not know it."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, OSError):
        raise ValueError(f"this worker knows no time zone {name!r} of its station") from None


def main(descriptor: int, black_box: int, dump: int) -> None:
    """Serve the pipe on inherited file descriptors; a crash is told to `dump`."""
    faulthandler.enable(file=dump)
    cv2.setNumThreads(1)  # a thread for each core of each stream would be too many
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the agent's to handle
    pipe: Pipe = Connection(descriptor)
    try:
        settings = pipe.recv()
    except (EOFError, ConnectionError):
        return  # it was the spare one, and was not needed
    logging.basicConfig(
        level=settings.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    try:
        clock = SystemClock()
        Shard(pipe, settings, clock, Recorder(clock, black_box)).serve()
    except (EOFError, ConnectionError):
        log.info("the pipe to the agent closed; stopping")
    except Exception:
        log.exception("the shard fails; the agent will start another")
    finally:
        # Readers may hang in native code; nothing of theirs is worth waiting for.
        sys.stderr.flush()
        os._exit(0)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
