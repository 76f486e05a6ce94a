"""The agent's side of its decode processes: which runs what, and that each of them lives.

Here: starting and restarting shards, dividing streams among them, storing what they saw. Not here:
decoding or inference (shard), what is wanted (reconcile), the process itself (process), who is to
blame for its death (quarantine), the network (uplink).

A shard that dies, hangs or grows without end is ended and started again with the same streams, but
for those that are to blame: each goes into quarantine, a process of its own that is started ever
more seldom. Nothing else of the worker notices.
"""

import asyncio
import itertools
import logging
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Literal

from edge import budget, cpus, diagnosis, quarantine
from edge.allotment import Allotment
from edge.clock import Clock
from edge.journal import Journal
from edge.pictures import Pictures
from edge.pipe import (
    Apply,
    Beat,
    Budget,
    Finish,
    Finished,
    Happened,
    PictureError,
    Settings,
    Shown,
    Stored,
    Supply,
    ToAgent,
)
from edge.process import Process
from edge.quarantine import Trouble
from edge.reconcile import Start, Stop, StreamKey, StreamWork, Update, plan
from edge.store.outbox import Outbox
from wire.backoff import full_jitter
from wire.facts import Fact
from wire.messages import ItemObserved, StreamHealth

log = logging.getLogger("forecourt.shards")

_Ending = Trouble | Literal["finished", "closed"]
"""Why a process is not listened to any more: it must end, it has finished, or it is gone."""
SHARD = (sys.executable, "-m", "edge.shard")
"""The command that starts a decode process; it is given its descriptors."""
_LISTEN_S = 1.0
"""Silence is counted in such steps: when the whole machine stands still, that is one."""
_RESTART_S = (0.2, 30.0)
_STEADY_AFTER_S = 60.0
_QUARANTINE_S = (5.0, 600.0)
MAX_APART = 8
"""Processes for streams in quarantine and for suspects, beyond the worker's shards."""
_ROOM_AGAIN_S = 1.0
_SPARE_AFTER_S = 5.0
"""So long after its start a shard has settled, and leaves the CPU to the start of a spare one."""
_FINISH_WITHIN_S = 6.0


class Shards:
    """All decode processes of this worker. Everything here runs on the agent's loop."""

    def __init__(
        self,
        count: int,
        settings: Settings,
        outbox: Outbox,
        clock: Clock,
        on_change: Callable[[], None],
        *,
        facts: Callable[[], Sequence[Fact]] = tuple,
        on_refused: Callable[[str, bytes, str], None] = lambda _name, _document, _why: None,
        cores: float | None = None,
        command: Sequence[str] = SHARD,
        memory_bound_bytes: Callable[[int], int] | None = None,
    ) -> None:
        """`facts` are what the station's inputs say now, for a process that starts.

        `on_refused` is told which model of the center a process could not load, and why.

        `cores` are the worker's, by default what the machine allows it; the agent keeps a share.
        `memory_bound_bytes` gives, for a number of streams, what their process may hold.
        """
        self._cores = cpus.cores(cores)
        self._settings = settings
        self._clock = clock
        self._on_change = on_change
        self._facts = facts
        self._on_refused = on_refused
        self._supply = Supply()
        self._command = command
        limit_bytes = cpus.memory_bytes()
        self._memory_bound_bytes = memory_bound_bytes or (
            lambda streams: quarantine.memory_bound_bytes(streams, limit_bytes)
        )
        self._common = [Allotment(number) for number in range(count)]
        self._shards = list(self._common)
        self._shard_numbers = itertools.count(count)
        self._records: quarantine.Records = {}
        self._rooms = asyncio.Semaphore(MAX_APART)
        self._group: asyncio.TaskGroup | None = None
        self._spare: Process | None = None
        """Has loaded its libraries and waits: most of the time of a start is that."""
        self._pictures = Pictures()
        self._finishing = asyncio.Event()
        self._journal = Journal(outbox, self._finishing)
        self._finish_by_s = 0.0
        self._random = random.Random()
        self.restarts: Counter[str] = Counter()
        """Ends of decode processes that nobody wished, by cause."""
        self.first_look_boot_ms: int | None = None

    # --- what others ask for ---

    @property
    def unstored(self) -> int:
        """Events that wait for the disk."""
        return self._journal.unstored

    @property
    def quarantined(self) -> int:
        """Streams in quarantine, whether they run just now or wait for their next try."""
        return sum(len(shard.running) for shard in self._shards if shard.kind == "quarantine")

    def apply(self, works: Iterable[StreamWork]) -> None:
        """Make `works` run: each stream stays on its shard, new ones go to the least loaded.

        A stream that was stopped has a clean record when it comes back: its source is another one.
        """
        wanted = list(works)
        running = {key: work for shard in self._shards for key, work in shard.running.items()}
        for action in plan(wanted, running):
            match action:
                case Stop(key):
                    shard = next(s for s in self._shards if key in s.running)
                    del shard.running[key]
                    shard.dark_since_s.pop(key, None)
                    self._records = {k: kept for k, kept in self._records.items() if k != key}
                case Update(work):
                    shard = next(s for s in self._shards if work.key in s.running)
                    shard.running[work.key] = work
                case Start(work):
                    shard = self._least_loaded()
                    shard.running[work.key] = work
            shard.send(Apply((action,)))
            if not shard.running and shard.kind != "common":
                shard.send(Finish())
        self._share_out()

    def _share_out(self) -> None:
        """Tell every process its cores; one that waits for its next try leaves them to others."""
        sharing = [s for s in self._shards if s.kind == "common" or s.process is not None]
        weights = [budget.weight(shard.running.values()) for shard in sharing]
        for shard, cores in zip(sharing, budget.divided(self._cores, weights), strict=True):
            shard.send(Budget(cores))

    def inform(self, facts: Sequence[Fact]) -> None:
        """Tell every process what inputs say; one that starts later is told what is so then."""
        for shard in self._shards:
            if shard.process is not None:
                shard.process.inform(facts)

    def supply(self, supply: Supply) -> None:
        """Tell every process how it stands with the center's models, if that is new."""
        if supply != self._supply:
            self._supply = supply
            for shard in self._shards:
                shard.send(supply)

    def _least_loaded(self) -> Allotment:
        return min(self._common, key=lambda s: len(s.running))

    def streams(self) -> list[StreamHealth]:
        """How every stream fares, as its shard last said."""
        return [health for shard in self._shards for health in shard.streams()]

    async def picture(self, key: StreamKey, width: int, max_bytes: int) -> Shown:
        """A running stream's next picture. Raises PictureError; who asks bounds how many wait."""
        shard = next((s for s in self._shards if key in s.running), None)
        if shard is None:
            raise PictureError("no task watches this stream, so nothing decodes it; probe opens it")
        health = next(s for s in self.streams() if (s.camera, s.stream) == (key.camera, key.stream))
        if health.state != "running" or shard.process is None:
            reason = health.error or "it is being opened; try again in a moment"
            raise PictureError(f"the stream does not run: {reason}")
        return await self._pictures.ask(shard.process, key, width, max_bytes)

    def shown(self) -> list[dict[str, Any]]:
        """Every shard, for people: number, kind, streams, pid, memory_mb."""
        return [shard.shown() for shard in self._shards]

    def beats(self) -> list[Beat]:
        """What the processes that live last said."""
        return [shard.beat for shard in self._shards if shard.beat is not None]

    def tasks(self) -> list[ItemObserved]:
        """The state of every task that a shard was given."""
        return [task for shard in self._shards for task in shard.tasks()]

    # --- life ---

    async def run(self) -> None:
        """Keep every shard alive until `finish`, having ended what an earlier life left open."""
        async with asyncio.TaskGroup() as self._group:
            self._group.create_task(self._journal.interrupt(), name="interrupt")
            for shard in self._common:
                self._live(shard)
        if self._spare is not None:
            await asyncio.to_thread(self._spare.end)

    def _live(self, shard: Allotment) -> None:
        assert self._group is not None
        self._group.create_task(self._keep_alive(shard), name=f"shard-{shard.number}")

    async def finish(self) -> None:
        """Let open incidents end as interrupted and be stored; then the processes end."""
        self._finish_by_s = self._clock.monotonic_s() + _FINISH_WITHIN_S
        self._finishing.set()
        for shard in self._shards:
            self._finish_one(shard)

    def _finish_one(self, shard: Allotment) -> None:
        """Have a process end in good order; one that is silent is not waited for at length."""
        shard.send(Finish())
        if shard.process is not None:
            late = "it did not finish in time"
            loop = asyncio.get_running_loop()
            loop.call_later(_FINISH_WITHIN_S, shard.process.kill, late)

    async def _keep_alive(self, shard: Allotment) -> None:
        """One process after the other, as long as there is anything for them to do."""
        attempt = 0
        while not self._finishing.is_set() and (shard in self._common or shard.running):
            if shard.kind == "quarantine" and not await self._may_try(shard, attempt):
                continue
            trouble: Trouble | None = None
            try:
                trouble = await self._serve(shard)
            except Exception:
                log.exception("shard %d", shard.number)
                trouble = Trouble("exit", "the agent could not serve its decode process")
            finally:
                if shard.kind == "quarantine":
                    self._rooms.release()
            if self._finishing.is_set():
                return
            steady = self._clock.monotonic_s() - shard.began_s > _STEADY_AFTER_S
            attempt = 0 if steady else attempt + 1
            if trouble is not None and not shard.released and shard.running:
                attempt = await self._after(shard, trouble, attempt)
            elif shard.released:
                self._return(shard)
        if shard.kind == "apart":
            self._rooms.release()
        if shard not in self._common:
            self._shards.remove(shard)
            self._on_change()

    async def _after(self, shard: Allotment, trouble: Trouble, attempt: int) -> int:
        """Draw the consequences of a process's end; how often it has failed, as it now stands."""
        self.restarts[trouble.cause] += 1
        streams = len(shard.running)
        if shard.kind == "quarantine":
            shard.reason = self._dated(trouble.what)
            log.error("shard %d (quarantine) ended: %s", shard.number, trouble.what)
            return attempt
        await self._judge(shard, trouble)
        if len(shard.running) < streams:
            attempt = 0
        wait_s = full_jitter(attempt, *_RESTART_S, self._random) if shard.running else 0.0
        log.error(
            "shard %d ended (%s): %s; starting it again in %.1f s",
            *(shard.number, trouble.cause, trouble.what, wait_s),
        )
        await self._pause(wait_s)
        return attempt

    async def _judge(self, shard: Allotment, trouble: Trouble) -> None:
        """Put whoever is to blame into quarantine, or divide those who may be."""
        now_s = self._clock.monotonic_s()
        records, verdict = quarantine.judge(self._records, trouble, now_s)
        known = {key for one in self._shards for key in one.running}
        self._records = {key: record for key, record in records.items() if key in known}
        for key in verdict.confine:
            if key in shard.running:
                apart = self._apart(shard, "quarantine", (key,))
                apart.reason = self._dated(trouble.what)
                apart.calm_after_s = self._records[key].term_s
                log.error("stream %s/%s goes to quarantine: %s", *_parts(key), trouble.what)
        if verdict.divide and self._rooms.locked():
            log.error("shard %d is not divided: %d others are apart", shard.number, MAX_APART)
        elif verdict.divide:
            await self._rooms.acquire()
            self._apart(shard, "apart", verdict.divide).calm_after_s = quarantine.APART_S
            log.error("shard %d: %d streams go apart", shard.number, len(verdict.divide))
        self._on_change()

    def _apart(
        self, shard: Allotment, kind: Literal["apart", "quarantine"], keys: Iterable[StreamKey]
    ) -> Allotment:
        """Give some of a shard's streams to a new one."""
        apart = Allotment(next(self._shard_numbers), kind)
        for key in keys:
            apart.running[key] = shard.running.pop(key)
            dark_since_s = shard.dark_since_s.pop(key, None)
            if dark_since_s is not None:
                apart.dark_since_s[key] = dark_since_s
        self._shards.append(apart)
        self._live(apart)
        return apart

    async def _may_try(self, shard: Allotment, attempt: int) -> bool:
        """Wait until a stream in quarantine has its next try; False: it is not wanted any more."""
        wait_s = full_jitter(attempt, *_QUARANTINE_S, self._random)
        at_ms = self._clock.wall_ms() + round(wait_s * 1000)
        shard.next_try = f"at {_clock_time(at_ms)}"
        self._on_change()
        await self._pause(wait_s)
        while self._rooms.locked() and shard.running and not self._finishing.is_set():
            shard.next_try = f"when one of the {MAX_APART} processes of quarantine is free"
            await self._pause(_ROOM_AGAIN_S)
        if self._finishing.is_set() or not shard.running:
            return False
        await self._rooms.acquire()
        shard.next_try = ""
        return True

    def _return(self, shard: Allotment) -> None:
        """Streams that have been calm for long go back to the common shards."""
        for key, work in list(shard.running.items()):
            log.info("stream %s/%s returns from its quarantine", *_parts(key))
            del shard.running[key]
            common = self._least_loaded()
            common.running[key] = work
            dark_since_s = shard.dark_since_s.pop(key, self._clock.monotonic_s())
            common.dark_since_s[key] = dark_since_s
            common.send(Apply((Start(work, dark_since_s),)))

    def _dated(self, what: str) -> str:
        return f"{what} at {_clock_time(self._clock.wall_ms())}"

    async def _pause(self, wait_s: float) -> None:
        """Wait, but not beyond the wish to finish."""
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._finishing.wait()

    def _process(self, shard: Allotment) -> Process:
        """A process for a shard: the spare one, but for streams in quarantine. Raises OSError."""
        spare = self._spare
        if spare is None or shard.kind == "quarantine":
            return self._spawned()
        self._spare = None
        if spare.lives:
            return spare
        spare.end()
        return self._spawned()

    def _keep_a_spare(self) -> None:
        if self._spare is None and not self._finishing.is_set():
            try:
                self._spare = self._spawned()
            except OSError as error:
                log.warning("no spare decode process could be started: %s", error.strerror)

    def _spawned(self) -> Process:
        return Process("shard", self._command, self._settings.threads)

    async def _next_message(self, shard: Allotment, process: Process) -> ToAgent | None:
        """What a process says next. Raises TimeoutError if it is silent, or late in finishing."""
        silent_s = 0.0
        while not self._finishing.is_set():
            with suppress(TimeoutError):
                return await asyncio.wait_for(process.inbox.get(), _LISTEN_S)
            silent_s += _LISTEN_S
            if diagnosis.silent_too_long(shard, process, silent_s, self._clock.monotonic_s()):
                raise TimeoutError
        left_s = self._finish_by_s - self._clock.monotonic_s()
        return await asyncio.wait_for(process.inbox.get(), max(0.0, left_s))

    async def _serve(self, shard: Allotment) -> Trouble | None:
        """One process, from its start with all its streams to its end; its trouble, if any."""
        process = self._process(shard)
        try:
            shard.process, shard.beat, shard.given_up = process, None, {}
            shard.began_s = self._clock.monotonic_s()
            process.send(self._settings)
            process.inform(self._facts())
            process.send(self._supply)
            starts = (Start(w, shard.dark_since_s.get(k)) for k, w in shard.running.items())
            process.send(Apply(tuple(starts)))
            self._share_out()
            ending = await self._listen(shard, process)
        finally:
            shard.process = shard.beat = None
            remains = await asyncio.to_thread(process.end)
        self._share_out()
        silent = isinstance(ending, Trouble) and ending.cause == "silent"
        shard.darken(shard.heard_s if silent else self._clock.monotonic_s())
        closed = ending == "closed"
        while not closed:
            left = await process.inbox.get()
            closed = left is None
            if isinstance(left, Happened):
                await self._journal.store(left.events)
        await self._journal.interrupt(self._followed(shard))
        if ending == "closed":
            return diagnosis.of_remains(shard, remains)
        return ending if isinstance(ending, Trouble) else None

    async def _listen(self, shard: Allotment, process: Process) -> _Ending:
        """Store what the process sees, until it ends or an end must be made of it."""
        while True:
            try:
                message = await self._next_message(shard, process)
            except TimeoutError:
                return diagnosis.of_silence(process, self._clock.monotonic_s())
            match message:
                case Happened(number, events):
                    await self._journal.store(events)
                    process.send(Stored(number))
                case Beat() as beat:
                    self._note(shard, beat)
                    trouble = await self._examined(shard, process)
                    if trouble is not None:
                        return trouble
                case Shown() as shown:
                    self._pictures.answered(shown)
                case Finished():
                    return "finished"
                case None:
                    return "closed"

    def _note(self, shard: Allotment, beat: Beat) -> None:
        now_s = self._clock.monotonic_s()
        news = shard.note(beat, now_s)
        if beat.looks and self.first_look_boot_ms is None:
            self.first_look_boot_ms = self._clock.boot_ms()
        for refused in beat.refused:
            self._on_refused(*refused)
        if news:
            self._on_change()
        lived_s = now_s - shard.began_s
        if beat.looks and lived_s > _SPARE_AFTER_S:
            self._keep_a_spare()
        calm = lived_s > shard.calm_after_s
        if shard.kind != "common" and calm and not shard.released:
            shard.released = True
            self._finish_one(shard)

    async def _examined(self, shard: Allotment, process: Process) -> Trouble | None:
        """Look at a process that lives: give up threads that hang; why it must end, if it must."""
        now_s = self._clock.monotonic_s()
        bound_bytes = self._memory_bound_bytes(len(shard.running))
        trouble = diagnosis.fatal(shard, process, bound_bytes, now_s)
        if trouble is None:
            for hung, slot in diagnosis.give_up(shard, process, now_s):
                if hung.culprit in shard.running:
                    shard.send(Apply((Stop(hung.culprit, "interrupted"),)))
                    shard.dark_since_s.setdefault(hung.culprit, slot.since_ms / 1000)
                    await self._judge(shard, hung)
        return trouble

    def _followed(self, gone: Allotment) -> set[str]:
        """The tasks that other living shards run."""
        return {
            task.name
            for shard in self._shards
            if shard is not gone and shard.process is not None
            for work in shard.running.values()
            for task in work.tasks
        }


def _parts(key: StreamKey) -> tuple[str, str]:
    return key.camera, key.stream


def _clock_time(wall_ms: int) -> str:
    return f"{datetime.fromtimestamp(wall_ms / 1000, UTC):%H:%M:%S} UTC"
