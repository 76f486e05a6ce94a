"""One stream at work in a shard: its two threads, its retries, and how it fares.

Here: opening, reading, decoding, retrying, counting. Not here: how much is decoded (watch), what is
seen in a picture (shard, analysis).

One thread reads packets, so that a camera is never held up; the other decodes what its watch wants
of them and puts it on the desk.
"""

import logging
import random
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

from edge.accounts import Rates, Spent, TaskStatus
from edge.blackbox import Doing, Recorder, followed, stream_name
from edge.budget import STEPS, Step, StreamLoad
from edge.checkup import Checkup
from edge.clock import Clock
from edge.coverage import below, ratio_of
from edge.desk import Desk
from edge.faults import Lost
from edge.reconcile import StreamWork, TaskWork
from edge.video import demand as demands
from edge.video.decode import Anchor, Decoder, Frame
from edge.video.inlet import Inlet
from edge.video.source import Packet, SourceError, is_recording, packets
from edge.watch import NOTHING, Seen, Watch, motion_of
from wire.backoff import full_jitter
from wire.events import Event
from wire.messages import StreamHealth

log = logging.getLogger("forecourt.reader")

_BACKOFF_S = (0.5, 30.0)
_STEADY_AFTER_S = 30.0
_STEP_S = 0.04
"""Stream time never falls back: a camera may send kept pictures first, and so run ahead."""
_MAX_WAITING = 4
"""Who waits for a stream's next picture; the one who has waited longest is given up first."""
_HANGS_AFTER_S = 45.0
"""Longer than opening and reading may take: then something does not come back."""
_BLIND_AFTER_S = 15.0
"""Packets that give no picture for so long, or for two GOPs, give none."""
_ENDS_WITHIN_S = 25.0
"""Opening and reading have deadlines; a thread that keeps none of them is left behind."""
_LATE_S = 0.5
_GIVES_UP_S = 4.0
"""Who catches up and is later than this waits for the analyst no more: live work goes first."""
_CLOCK_SET_S = 2.0
"""A wall clock that leaps by more was set; what is less NTP does by and by."""
SUSPEND_AFTER_S = 5.0
"""Without a picture for so long, what was open ends as interrupted."""


@dataclass(frozen=True, slots=True)
class Look:
    """A picture that is to be looked at."""

    reader: "Reader"
    seen: Seen
    arrived_s: float
    """When the packet came that brought it, by the monotonic clock."""


class Reader(threading.Thread):
    """Reads one stream for ever: open, decode, put what is due on the desk; retry in one place."""

    def __init__(
        self,
        work: StreamWork,
        desk: Desk[Look],
        clock: Clock,
        on_dark: Callable[["Reader"], None],
        *,
        recorder: Recorder | None = None,
        tell: Callable[["Reader", Iterable[Event]], None] = lambda _reader, _events: None,
        may_catch_up: Callable[[float], bool] = lambda _: True,
        dark_since_s: float | None = None,
    ) -> None:
        """`on_dark` is called once when a stream has given no picture for `SUSPEND_AFTER_S`.

        `tell` gets the events of the fault `lost`; `may_catch_up` is asked whether so many CPU
        seconds may be spent on what was left out; since `dark_since_s` (monotonic) nobody looked.
        """
        super().__init__(name=f"read-{work.key.camera}", daemon=True)
        self.key = work.key
        self.stream = work.stream
        self.state: Literal["opening", "running", "lost", "ended"] = "opening"
        self.error = ""
        self.step: Step = STEPS[0]
        self.tasks: dict[str, TaskStatus] = {}
        self.boot_offset_ms = clock.boot_ms() - clock.wall_ms()
        self.rates = Rates(at_s=clock.monotonic_s())
        self.spent = Spent()
        self._recorder = recorder or Recorder(clock)
        self.slot = self._recorder.none
        self._demand = _demand(work.tasks)
        self._tasks_lock = threading.Lock()
        self._works: tuple[TaskWork, ...] = ()
        self._active: frozenset[str] = frozenset()
        """The tasks that are at work by their schedules."""
        self.watch = Watch(
            self._demand,
            motion_of(each.task for each in work.tasks),
            self._may_catch_up,
            self._inspect,
        )
        self._allows = may_catch_up
        self._tell = tell
        self._waiting: deque[Callable[[Frame], None]] = deque(maxlen=_MAX_WAITING)
        self._desk = desk
        self._clock = clock
        self._on_dark = on_dark
        self._random = random.Random()
        self._stopping = threading.Event()
        self._began_s = clock.monotonic_s()
        self._seen_s = self._began_s
        self._pictured_s = self._began_s
        self._dark_told_s = self._began_s
        self._dark_since_s = dark_since_s
        self._stream_s = 0.0
        self._catching_up = False
        self._why_full = ""
        self._accounted_s = 0.0
        self._fault_lock = threading.Lock()
        scope = secrets.token_hex(6)
        self._checkup = Checkup(work.key.camera, work.key.stream, scope, work.health)
        self._fault = Lost(
            work.key.camera,
            work.key.stream,
            scope,
            clock.monotonic_s(),
            clock.wall_ms(),
            grace_s=work.health.lost.after,
            severity=work.health.lost.severity,
        )

    # --- what others tell ---

    @property
    def is_stopped(self) -> bool:
        """Whether it has been told to end."""
        return self._stopping.is_set()

    def watch_with(self, works: tuple[TaskWork, ...]) -> None:
        """From the next packet on, these tasks decide what is decoded and looked at."""
        with self._tasks_lock:
            self._works = works
            self._begin_anew()

    def _begin_anew(self) -> None:
        """Have the watch follow the tasks that are at work now."""
        self._active = self._active_at(self._clock.wall_ms())
        works = tuple(work for work in self._works if work.name in self._active)
        found = (status.analysis for status in self._at_work())
        analyses = tuple(analysis for analysis in found if analysis is not None)
        self.watch.analyses = analyses
        for analysis in analyses:
            analysis.slow_down(self.step.fps_factor)
        if works:
            self._demand = _demand(works)
            self.watch.change(self._demand, motion_of(work.task for work in works))

    def heed_schedules(self) -> list[TaskStatus]:
        """Begin and end what schedules say of this moment; the tasks that are at work no more."""
        with self._tasks_lock:
            active = self._active_at(self._clock.wall_ms())
            if active == self._active:
                return []
            gone = [status for status in self._at_work() if status.work.name not in active]
            self._begin_anew()
            return gone

    def _active_at(self, wall_ms: int) -> frozenset[str]:
        return frozenset(
            name
            for name, status in list(self.tasks.items())
            if status.analysis is not None and status.analysis.is_active(wall_ms)
        )

    def _at_work(self) -> list[TaskStatus]:
        """The tasks whose pictures are wanted now."""
        return [
            status
            for name, status in list(self.tasks.items())
            if status.analysis is not None and name in self._active
        ]

    def degrade(self, step: Step) -> None:
        """How far it may go from now on."""
        if step == self.step:
            return
        self.step = step
        self.watch.keys_only = step.level == "KEY"
        for analysis in self.watch.analyses:
            analysis.slow_down(step.fps_factor)  # type: ignore[attr-defined]

    def show(self, to: Callable[[Frame], None]) -> None:
        """Have the analyst give the next picture to somebody, whether it is due or not."""
        self._waiting.append(to)
        self.watch.ask()

    def stop(self) -> None:
        """Stop reading; the threads end at their next packet or deadline."""
        self._stopping.set()
        with self._fault_lock:
            self._say(self._fault.close("interrupted") + self._checkup.close("interrupted"))

    @property
    def faults(self) -> tuple[str, ...]:
        """What ails its pictures."""
        return self._checkup.faults

    # --- the decoding thread ---

    def run(self) -> None:
        """Retry in one place: full jitter, from the start again after a steady connection."""
        self.slot = self._recorder.slot(stream_name(self.key.camera, self.key.stream))
        try:
            self._retry()
        finally:
            self.slot.close()

    def _retry(self) -> None:
        attempt = 0
        while not self.is_stopped:
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
        patient = is_recording(self.stream) and self.stream.pace == "fast"
        inlet = Inlet(self._clock.monotonic_s, self._clock.wall_ms, patient=patient)
        reading = threading.Thread(
            target=self._fill, args=(inlet, begin_s), name=f"packets-{self.key.camera}", daemon=True
        )
        reading.start()
        decoder = Decoder(partial(self._anchor, inlet), self.rates.decode)
        try:
            for seen in self.watch.pictures(self._taken(inlet), decoder):
                self.slot.leave()
                self._hand_over(seen, inlet)
                self.slot.enter(Doing.DECODING)
        finally:
            self.slot.leave()
            self._stream_s = max(self._stream_s, inlet.end_s + _STEP_S)
            inlet.close()
            reading.join(_ENDS_WITHIN_S)

    def _fill(self, inlet: Inlet, begin_s: float) -> None:
        """The reading thread."""
        slot = self._recorder.slot(stream_name(self.key.camera, self.key.stream))
        source = packets(self.stream, begin_s=begin_s, stop=lambda: self.is_stopped or inlet.closed)

        def at_hand() -> Iterator[Packet]:
            for packet in followed(source, slot):
                slot.leave()
                self.spent.reading_s = time.thread_time()
                yield packet

        try:
            inlet.fill(at_hand())
        finally:
            slot.close()

    def _taken(self, inlet: Inlet) -> Iterator[Packet]:
        """The packets for the watch, while the black box tells what it does with them."""
        dropped_s = 0.0
        frames = self.rates.decode.frames
        opened = None if is_recording(self.stream) else inlet.arrived
        for packet in inlet:
            if self.is_stopped:
                return
            if opened is not None and inlet.arrived.clock_set_s(opened) > _CLOCK_SET_S:
                # Its pictures would keep the times of the old clock for as long as it lasts.
                raise SourceError("this worker's clock was set: the camera is opened again")
            self._seen_s = inlet.arrived.now_s
            self.slot.enter(Doing.DECODING)
            yield packet
            self.slot.leave()
            self.spent.decoding_s = time.thread_time()
            if self.rates.decode.frames != frames or not self.watch.analyses:
                frames = self.rates.decode.frames
                self._pictured()
            if self.watch.given_up_s > self._accounted_s:
                self._unseen(self.watch.given_up_s - self._accounted_s)
                self._accounted_s = self.watch.given_up_s
            if inlet.dropped_s > dropped_s:
                self._unseen(inlet.dropped_s - dropped_s)
                dropped_s, self._catching_up = inlet.dropped_s, False
            with self._fault_lock:
                alive = self.state == "running"
                events = self._fault.picture(self._seen_s, inlet.arrived.wall_ms) if alive else []
                self._say(events)

    def _pictured(self) -> None:
        """A picture has come."""
        self._pictured_s = self._clock.monotonic_s()
        if self.state != "running":
            self._account_for_darkness(self._pictured_s)
            self._dark_since_s = None
            self.state, self.error = "running", ""

    def _account_for_darkness(self, now_s: float) -> None:
        """What was to be seen and was not, up to now, is said to have been missed (I10)."""
        since_s = self._dark_since_s
        if since_s is not None:
            self._dark_since_s = now_s
            self._unseen(now_s - since_s)

    def _inspect(self, frame: Frame) -> bool:
        """See whether the camera still shows what it should; if it is blind, rules see nothing.

        Whether they see again.
        """
        was_blind, was_doubtful = self._checkup.is_blind, self._checkup.may_be_blind
        with self._fault_lock:
            if self.is_stopped:  # its faults have ended, and none may begin any more
                return False
            self._say(self._checkup.inspect(frame, sorted(s.work.name for s in self._at_work())))
        if self._checkup.is_blind and not was_blind:
            log.warning(
                "stream %s/%s: %s", self.key.camera, self.key.stream, ", ".join(self.faults)
            )
            self._on_dark(self)
        return was_doubtful and not self._checkup.may_be_blind

    def _hand_over(self, seen: Seen, inlet: Inlet) -> None:
        while not seen.due and self._waiting:
            self._desk.errand(partial(self._waiting.popleft(), seen.frame))
        if self._checkup.may_be_blind:
            self._pass_over(seen)
            return
        if seen.quiet or seen.check:  # nothing changed for any of them, whoever is due
            for status in self._at_work():
                status.coverage.carried(seen.since_s)
        for status in () if seen.quiet or seen.check else self._statuses(seen):
            if seen.level == "KEY":
                status.coverage.unseen(max(0.0, seen.since_s - 1 / status.work.task.spec.fps))
            elif self.step.fps_factor < 1:
                status.coverage.missed(round(1 / self.step.fps_factor) - 1)
        if not seen.due:
            return
        self._catching_up = seen.late or (self._catching_up and inlet.behind_s > _LATE_S)
        look = Look(self, seen, inlet.arrived.now_s)
        patient = self._catching_up and inlet.behind_s < _GIVES_UP_S
        missed = self._desk.put(self.key, look, patient=patient)
        self._pictured_s = self._clock.monotonic_s()  # it may have waited long, and is not blind
        if missed is not None and missed.seen.check:
            self.watch.check_again()
        elif missed is not None and not missed.seen.quiet:
            self.spent.missed += len(missed.seen.due)
            for status in self._statuses(missed.seen):
                status.coverage.missed()

    def _pass_over(self, seen: Seen) -> None:
        """Of a blind camera: nothing is judged, it was wanted (I10), and the stream may rest."""
        for status in self._at_work():
            status.coverage.unseen(seen.since_s)
        if not seen.quiet:
            self.watch.looked(NOTHING, seen.frame.pts_s, restless=False)

    def _statuses(self, seen: Seen) -> list[TaskStatus]:
        return [status for status in list(self.tasks.values()) if status.analysis in seen.due]

    def _unseen(self, seconds: float) -> None:
        for status in self._at_work():
            status.coverage.unseen(seconds)

    def _may_catch_up(self, stream_s: float) -> bool:
        return self._allows(stream_s * self.spent.awake_cost)

    def _anchor(self, inlet: Inlet, pts_s: float) -> Anchor:
        """Tie a packet of a connection to the clocks."""
        wall_ms = inlet.arrived.wall_ms
        self.boot_offset_ms = self._clock.boot_ms() - self._clock.wall_ms()
        return Anchor(wall_ms, pts_s)

    # --- when nothing comes ---

    def _lost(self, error: str) -> None:
        if self.error != error:
            log.warning("stream %s/%s: %s", self.key.camera, self.key.stream, error)
        if self._dark_since_s is None:
            self._dark_since_s = self._pictured_s
        self.state, self.error = "lost", error

    def _wait(self, wait_s: float) -> None:
        """Until the next attempt; a short loss leaves incidents open, a longer one ends them."""
        until_s = self._clock.monotonic_s() + wait_s
        while not self.is_stopped:
            now_s = self._clock.monotonic_s()
            self._look_for_darkness(now_s)
            if now_s >= until_s:
                return
            self._stopping.wait(min(1.0, until_s - now_s))

    def _look_for_darkness(self, now_s: float) -> None:
        """Tell once that it is dark, and open the fault `lost` when that lasts."""
        if self.is_stopped:
            return
        if now_s - self._pictured_s >= SUSPEND_AFTER_S and self._dark_told_s < self._pictured_s:
            self._dark_told_s = self._pictured_s
            self._on_dark(self)
        with self._fault_lock:
            if self._stopping.is_set():  # meanwhile
                return
            events = self._fault.silence(now_s, sorted(self.tasks), self.error)
            if events:  # whatever ailed its pictures, there are none
                events += self._checkup.close("interrupted")
            self._say(events)

    def _say(self, events: list[Event]) -> None:
        if events:
            self._desk.errand(partial(self._tell, self, events))

    # --- how it fares ---

    def load(self) -> StreamLoad:
        """For the governor: since its last call."""
        cpu_s, missed = self.spent.cpu_s(), self.spent.missed
        self.spent.missed = 0
        awake = self.watch.awake and self.state == "running" and bool(self.watch.analyses)
        if awake:
            self.spent.awake_cost += 0.2 * (max(cpu_s, 0.02) - self.spent.awake_cost)
        return StreamLoad(
            key=self.key,
            priority=self._demand.priority,
            fps=self._demand.fps,
            awake=awake,
            cpu_s=cpu_s,
            behind_s=self.spent.behind_s if awake and not self._catching_up else 0.0,
            missed=missed,
        )

    def health(self) -> StreamHealth:
        """How the stream fares since the last beat; what hangs or shows nothing is found out."""
        now_s = self._clock.monotonic_s()
        silent_s, blind_s = now_s - self._seen_s, now_s - self._pictured_s
        gop_s = self.watch.traits.gop_s or 0.0
        if self.state == "running" and silent_s > _HANGS_AFTER_S:
            self._lost(f"no picture for {silent_s:.0f} s; the decoder may hang")
        elif self.state == "running" and blind_s > max(_BLIND_AFTER_S, 2 * gop_s):
            self._lost(f"none of the packets of the last {blind_s:.0f} s gives a picture")
        elif self.state == "opening" and silent_s < 1 and blind_s > _BLIND_AFTER_S:
            self._lost("packets come, and none of them gives a picture")
        if self.state in ("opening", "lost"):
            self._account_for_darkness(now_s)
            self._look_for_darkness(now_s)
        self._tell_why()
        decoded, analysed = self.rates.since(now_s)
        coverages = {
            name: status.coverage
            for name, status in list(self.tasks.items())
            if status.analysis is not None
        }
        return StreamHealth(
            camera=self.key.camera,
            stream=self.key.stream,
            state=self.state,
            level=self.watch.level if self.state == "running" else "OFF",
            step=self.step.name if self.state == "running" else "",
            decoded_fps=decoded,
            analysed_fps=analysed,
            wanted_fps=self._demand.fps if self.watch.analyses else 0.0,
            coverage=ratio_of(coverages.values()),
            tasks=below({name: coverage.ratio() for name, coverage in coverages.items()}),
            faults=list(self.faults) if self.state == "running" else [],
            error=self.error,
        )

    def _tell_why(self) -> None:
        """Once: why a stream is decoded whole while nothing changes."""
        why = "" if self.watch.awake or self.watch.level != "FULL" else self.watch.why
        if why and why != self._why_full:
            self._why_full = why
            name = f"{self.key.camera}/{self.key.stream}"
            log.info("stream %s is decoded whole though nothing changes: %s", name, why)


def _demand(works: Iterable[TaskWork]) -> demands.Demand:
    """What the tasks of a stream need together. Raises ValueError if there is none."""
    return demands.joined(demands.of_task(work.task) for work in works)
