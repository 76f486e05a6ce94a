"""One stream's reader thread, and the desk on which it puts frames that are due.

Here: opening, decoding, retrying, counting. Not here: what is seen in a frame (shard, analysis).
"""

import logging
import random
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from edge.analysis import Analysis
from edge.clock import Clock
from edge.reconcile import StreamKey, StreamWork, TaskWork, shortened
from edge.video.decode import Anchor, DecodeStats, Frame, frames
from edge.video.source import SourceError, packets
from wire.backoff import full_jitter
from wire.messages import ItemObserved, ItemState, StreamHealth

log = logging.getLogger("forecourt.reader")

_COVERAGE_WINDOW_S = 60
_BACKOFF_S = (0.5, 30.0)
_STEADY_AFTER_S = 30.0
_STEP_S = 0.04
"""Stream time never falls back: a camera may send kept pictures first, and so run ahead."""
_MAX_WAITING = 4
"""Who waits for a stream's next picture; the one who has waited longest is given up first."""
_HANGS_AFTER_S = 45.0
"""Longer than opening and reading may take: then something does not come back."""
SUSPEND_AFTER_S = 5.0
"""Without a picture for so long, what was open ends as interrupted."""


class Coverage:
    """Looks made ÷ looks wanted over the last minute; a look counts once its fate is known."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._seconds: deque[list[int]] = deque(maxlen=_COVERAGE_WINDOW_S)

    def count(self, *, wanted: int, made: int = 0) -> None:
        """Add looks to the current second. May be called from any thread."""
        now_s = int(self._clock.monotonic_s())
        with self._lock:
            if not self._seconds or self._seconds[-1][0] != now_s:
                self._seconds.append([now_s, 0, 0])
            self._seconds[-1][1] += wanted
            self._seconds[-1][2] += made

    def ratio(self) -> float | None:
        """0..1, or None while nothing was wanted."""
        oldest_s = int(self._clock.monotonic_s()) - _COVERAGE_WINDOW_S
        with self._lock:
            recent = [entry for entry in self._seconds if entry[0] > oldest_s]
            wanted = sum(entry[1] for entry in recent)
            made = sum(entry[2] for entry in recent)
        return made / wanted if wanted else None


@dataclass(frozen=True, slots=True)
class Look:
    """A frame that is due, for these analyses."""

    reader: "Reader"
    frame: Frame
    analyses: tuple[Analysis, ...]


class Desk:
    """Where readers put frames and the analyst takes them: one slot per stream, in turn."""

    def __init__(self) -> None:
        self._ready = threading.Condition()
        self._slots: dict[StreamKey, Look] = {}
        self._errands: deque[Callable[[], None]] = deque()

    def put(self, look: Look) -> Look | None:
        """Lay a frame into its stream's slot; the one that it replaces was never looked at."""
        with self._ready:
            replaced = self._slots.get(look.reader.key)
            self._slots[look.reader.key] = look  # in the place of the old one, or it would starve
            self._ready.notify()
        return replaced

    def errand(self, do: Callable[[], None]) -> None:
        """Have the analyst do something between two looks."""
        with self._ready:
            self._errands.append(do)
            self._ready.notify()

    def forget(self, key: StreamKey) -> None:
        """Empty a slot."""
        with self._ready:
            self._slots.pop(key, None)

    def take(self) -> Look | Callable[[], None]:
        """The next errand, or else the frame that lies longest. Waits for one."""
        with self._ready:
            self._ready.wait_for(lambda: self._slots or self._errands)
            if self._errands:
                return self._errands.popleft()
            return self._slots.pop(next(iter(self._slots)))


@dataclass
class TaskStatus:
    """What a task's item reports. Written by one thread at a time, read by the beat."""

    work: TaskWork
    analysis: Analysis | None = None
    rejected: str = ""
    failure: str = ""
    """Why the last look failed, if it did."""
    looks: int = 0

    def observed(self, stream: "Reader") -> ItemObserved:
        """The task's state, and why if it is not well."""
        state: ItemState
        reason = ""
        if self.rejected:
            state, reason = "Rejected", self.rejected
        elif stream.state in ("lost", "ended"):
            state, reason = "Degraded", stream.error
        elif self.failure:
            state, reason = "Degraded", self.failure
        else:
            state = "Running" if self.looks else "Starting"
        return ItemObserved(
            kind="Task",
            id=self.work.name,
            revision=self.work.revision,
            state=state,
            reason=shortened(reason),
        )


@dataclass
class Rates:
    """Counters of a stream, and their values at the last beat."""

    decode: DecodeStats = field(default_factory=DecodeStats)
    looks: int = 0
    at_s: float = 0.0
    frames_then: int = 0
    looks_then: int = 0

    def since(self, now_s: float) -> tuple[float, float]:
        """(decoded, analysed) per second since the last call."""
        passed_s = max(now_s - self.at_s, 1e-6)
        decoded = (self.decode.frames - self.frames_then) / passed_s
        looked = (self.looks - self.looks_then) / passed_s
        self.at_s, self.frames_then, self.looks_then = now_s, self.decode.frames, self.looks
        return round(decoded, 2), round(looked, 2)


class Reader(threading.Thread):
    """Reads one stream for ever: open, decode, put what is due on the desk; retry in one place."""

    def __init__(
        self, work: StreamWork, desk: Desk, clock: Clock, on_dark: Callable[["Reader"], None]
    ) -> None:
        """`on_dark` is called once when a stream has given no picture for `SUSPEND_AFTER_S`."""
        super().__init__(name=f"read-{work.key.camera}", daemon=True)
        self.key = work.key
        self.stream = work.stream
        self.state: Literal["opening", "running", "lost", "ended"] = "opening"
        self.error = ""
        self.tasks: dict[str, TaskStatus] = {}
        self.boot_offset_ms = 0
        self.coverage = Coverage(clock)
        self.rates = Rates(at_s=clock.monotonic_s())
        self._analyses: tuple[Analysis, ...] = ()
        self._waiting: deque[Callable[[Frame], None]] = deque(maxlen=_MAX_WAITING)
        self._desk = desk
        self._clock = clock
        self._on_dark = on_dark
        self._random = random.Random()
        self._stopping = threading.Event()
        self._began_s = clock.monotonic_s()
        self._seen_s = self._began_s
        self._told_s = self._began_s
        self._stream_s = 0.0

    def watch_with(self, analyses: tuple[Analysis, ...]) -> None:
        """From the next frame on, these analyses decide what is due."""
        self._analyses = analyses

    def show(self, to: Callable[[Frame], None]) -> None:
        """Have the analyst give the next picture to somebody, whether it is due or not."""
        self._waiting.append(to)

    def stop(self) -> None:
        """Stop reading; the thread ends at its next packet or deadline."""
        self._stopping.set()

    def run(self) -> None:
        """Retry in one place: full jitter, from the start again after a steady connection."""
        attempt = 0
        while not self._stopping.is_set():
            began_s = self._clock.monotonic_s()
            try:
                self._read_once()
                self.state, self.error = "ended", "the recording has ended"
                self._on_dark(self)
                return
            except SourceError as error:
                self._lost(str(error))
            except Exception:
                log.exception("stream %s/%s", self.key.camera, self.key.stream)
                self._lost("an unexpected error; the worker's log has it")
            steady = self._clock.monotonic_s() - began_s > _STEADY_AFTER_S
            attempt = 0 if steady else attempt + 1
            self._wait(full_jitter(attempt, *_BACKOFF_S, self._random))

    def _read_once(self) -> None:
        """One connection, from opening to its end. Stream time goes on where it was."""
        begin_s = max(self._clock.monotonic_s() - self._began_s, self._stream_s)
        source = packets(self.stream, begin_s=begin_s, stop=self._stopping.is_set)
        for frame in frames(source, anchor=self._anchor, stats=self.rates.decode):
            self.state, self.error = "running", ""
            self._seen_s = self._clock.monotonic_s()
            self._stream_s = frame.pts_s + _STEP_S
            while self._waiting:
                self._desk.errand(partial(self._waiting.popleft(), frame))
            due = tuple(analysis for analysis in self._analyses if analysis.due(frame.pts_s))
            if due:
                missed = self._desk.put(Look(self, frame, due))
                if missed is not None:
                    self.coverage.count(wanted=len(missed.analyses))

    def _anchor(self, pts_s: float) -> Anchor:
        """Tie a connection's first picture to the clocks."""
        wall_ms = self._clock.wall_ms()
        self.boot_offset_ms = self._clock.boot_ms() - wall_ms
        return Anchor(wall_ms, pts_s)

    def _lost(self, error: str) -> None:
        if self.error != error:
            log.warning("stream %s/%s: %s", self.key.camera, self.key.stream, error)
        self.state, self.error = "lost", error

    def _wait(self, wait_s: float) -> None:
        """Until the next attempt; a short loss leaves incidents open, a longer one ends them."""
        until_s = self._clock.monotonic_s() + wait_s
        dark_at_s = self._seen_s + SUSPEND_AFTER_S
        if dark_at_s <= until_s:
            self._stopping.wait(max(0.0, dark_at_s - self._clock.monotonic_s()))
            if not self._stopping.is_set() and self._seen_s > self._told_s:
                self._told_s = self._seen_s
                self._on_dark(self)
        self._stopping.wait(max(0.0, until_s - self._clock.monotonic_s()))

    def health(self) -> StreamHealth:
        """How the stream fares since the last beat; a reader that hangs is found out here."""
        silent_s = self._clock.monotonic_s() - self._seen_s
        if self.state == "running" and silent_s > _HANGS_AFTER_S:
            self._lost(f"no picture for {silent_s:.0f} s; the decoder may hang")
            if self._seen_s > self._told_s:
                self._told_s = self._seen_s
                self._on_dark(self)
        decoded, analysed = self.rates.since(self._clock.monotonic_s())
        return StreamHealth(
            camera=self.key.camera,
            stream=self.key.stream,
            state=self.state,
            decoded_fps=decoded,
            analysed_fps=analysed,
            wanted_fps=max((analysis.fps for analysis in self._analyses), default=0.0),
            coverage=self.coverage.ratio(),
            error=self.error,
        )
