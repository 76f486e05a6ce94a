"""A decode process: `python -m edge.shard FD`, started by the agent, never by hand.

Here: which threads there are, and how a frame travels through them. Not here: the steps themselves
(video, vision, analysis), storing, the network: a shard knows only its pipe to the agent.

Each stream has a reader thread, which demuxes and decodes, and puts a frame that is due into a slot
for one. A single analyst thread takes from the slots in turn. Slow inference therefore never stalls
a camera: a frame that is replaced in its slot is a look that was wanted and not made, and counted.

The shard ends when its pipe closes, so no orphan decodes on.
"""

import logging
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Iterable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec

from edge.analysis import Analysis
from edge.clock import Clock, SystemClock
from edge.pipe import (
    Apply,
    Beat,
    Finish,
    Finished,
    Happened,
    Pipe,
    Settings,
    Show,
    Shown,
    Stored,
)
from edge.reader import Desk, Look, Reader, TaskStatus
from edge.reconcile import Start, Stop, StreamKey, TaskWork, Update
from edge.video.decode import Frame
from edge.video.jpeg import JpegError, jpeg
from edge.vision.detect import Detections, Detector
from edge.vision.manifest import ModelError, find
from wire.events import Event, encode_event

log = logging.getLogger("forecourt.shard")

_BEAT_S = 1.0
_MAX_UNANSWERED = 64


class Outgoing:
    """The sending side of the pipe: bounded by what the agent has answered."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._sending = threading.Lock()
        self._answered = threading.Condition()
        self._number = 0
        self._unanswered: set[int] = set()

    def events(self, events: Iterable[Event]) -> None:
        """Hand events to the agent; waits while too many are unanswered."""
        encoded = tuple(encode_event(event) for event in events)
        if not encoded:
            return
        with self._answered:
            self._answered.wait_for(lambda: len(self._unanswered) < _MAX_UNANSWERED)
            self._number += 1
            number = self._number
            self._unanswered.add(number)
        self.send(Happened(number, encoded))

    def stored(self, number: int) -> None:
        """The agent has answered."""
        with self._answered:
            self._unanswered.discard(number)
            self._answered.notify_all()

    def wait_empty(self, timeout_s: float) -> bool:
        """Wait until everything is answered."""
        with self._answered:
            return self._answered.wait_for(lambda: not self._unanswered, timeout_s)

    def send(self, message: Happened | Beat | Shown | Finished) -> None:
        """Send one message whole."""
        with self._sending:
            self._pipe.send(message)


class Shard:
    """The readers, the analyst, and what the agent told us to do."""

    def __init__(self, pipe: Pipe, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._pipe = pipe
        self._outgoing = Outgoing(pipe)
        self._desk = Desk()
        self._readers: dict[StreamKey, Reader] = {}
        self._detectors: dict[str, Detector] = {}
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
                case Show() as asked:
                    self._show(asked)
                case Finish():
                    threading.Thread(target=self._finish, name="finish", daemon=True).start()

    # --- what is to be done ---

    def _apply(self, action: Start | Update | Stop) -> None:
        match action:
            case Start(work):
                reader = Reader(work, self._desk, self._clock, self._suspend)
                self._readers[work.key] = reader
                self._set_tasks(reader, work.tasks)
                reader.start()
            case Update(work):
                self._set_tasks(self._readers[work.key], work.tasks)
            case Stop(key):
                reader = self._readers.pop(key)
                reader.stop()
                self._set_tasks(reader, ())
                self._desk.forget(key)

    def _set_tasks(self, reader: Reader, works: tuple[TaskWork, ...]) -> None:
        """Begin new and changed tasks, end those that are gone, leave the others as they are."""
        before = reader.tasks
        reader.tasks = {
            work.name: before[work.name]
            if work.name in before and before[work.name].work == work
            else self._begin(work)
            for work in works
        }
        reader.watch_with(tuple(s.analysis for s in reader.tasks.values() if s.analysis))
        kept = {id(status) for status in reader.tasks.values()}
        for status in before.values():
            if id(status) not in kept:
                self._desk.errand(partial(self._close, reader, status, "removed"))

    def _begin(self, work: TaskWork) -> TaskStatus:
        try:
            detector = self._detector(work.task.spec.model.name)
            analysis = Analysis(work.task, work.revision, detector, secrets.token_hex(6))
        except (ModelError, ValueError) as error:
            log.warning("task %s rejected: %s", work.name, error)
            return TaskStatus(work, rejected=str(error))
        return TaskStatus(work, analysis)

    def _detector(self, name: str) -> Detector:
        if name not in self._detectors:
            manifest = find([Path(folder) for folder in self._settings.models], name)
            self._detectors[name] = Detector(manifest, threads=self._settings.threads)
        return self._detectors[name]

    def _suspend(self, reader: Reader) -> None:
        """On the reader's thread: it sees nothing any more, so nothing open can be vouched for."""
        for status in list(reader.tasks.values()):
            self._desk.errand(partial(self._interrupt, reader, status))

    # --- the analyst's thread ---

    def _analyse(self) -> None:
        """A frame's way: detect once per model, then each task tracks and applies its rules."""
        while True:
            job = self._desk.take()
            if isinstance(job, Look):
                self._look(job)
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
        """One frame, for those tasks that still want it: a task may have gone while it waited."""
        by_detector: dict[Detector, list[TaskStatus]] = {}
        for status in list(look.reader.tasks.values()):
            if status.analysis is not None and status.analysis in look.analyses:
                by_detector.setdefault(status.analysis.detector, []).append(status)
        for detector, statuses in by_detector.items():
            try:
                detections = detector.detect_frame(look.frame)
                for status in statuses:
                    self._follow(look, status, detections)
            except Exception as error:
                self._failed(look, statuses, error)
        look.reader.rates.looks += 1
        self._looks += 1
        self._first_look.set()

    def _follow(self, look: Look, status: TaskStatus, detections: Detections) -> None:
        assert status.analysis is not None
        coverage = look.reader.coverage
        events = status.analysis.look(look.frame, detections, coverage.ratio())
        coverage.count(wanted=1, made=1)
        status.looks += 1
        status.failure = ""
        self._tell(look.reader, events)

    def _failed(self, look: Look, statuses: list[TaskStatus], error: Exception) -> None:
        """The look was wanted and not made (I10); the next picture is a new chance."""
        look.reader.coverage.count(wanted=len(statuses))
        failure = f"the model fails on the pictures: {type(error).__name__}: {error}"[:500]
        if any(status.failure != failure for status in statuses):
            names = ", ".join(status.work.name for status in statuses)
            log.error("task %s: %s", names, failure, exc_info=error)
        for status in statuses:
            status.failure = failure

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
        try:
            made = jpeg(frame, asked.width, asked.max_bytes)
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
        while True:
            self._send_beat()
            time.sleep(_BEAT_S)

    def _send_beat(self) -> None:
        readers = list(self._readers.values())
        tasks = [s.observed(reader) for reader in readers for s in list(reader.tasks.values())]
        self._outgoing.send(
            Beat(tuple(reader.health() for reader in readers), tuple(tasks), self._looks)
        )

    def _finish(self) -> None:
        """End every open incident as interrupted, and say so when the agent has stored it all."""
        for reader in self._readers.values():
            reader.stop()
        done = threading.Event()
        for reader in self._readers.values():
            reader.watch_with(())
            for status in reader.tasks.values():
                self._desk.errand(partial(self._close, reader, status, "interrupted"))
        self._desk.errand(done.set)
        done.wait(3.0)
        self._outgoing.wait_empty(3.0)
        self._outgoing.send(Finished())


def main(descriptor: int) -> None:
    """Serve the pipe on an inherited file descriptor."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the agent's to handle
    pipe: Pipe = Connection(descriptor)
    settings = pipe.recv()
    logging.basicConfig(
        level=settings.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    try:
        Shard(pipe, settings, SystemClock()).serve()
    except (EOFError, ConnectionError):
        log.info("the pipe to the agent closed; stopping")
    except Exception:
        log.exception("the shard fails; the agent will start another")
    finally:
        # Readers may hang in native code; nothing of theirs is worth waiting for.
        sys.stderr.flush()
        os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
