"""The agent's side of its decode processes: which runs what, and that each of them lives.

Here: starting and restarting shards, dividing streams among them, storing what they saw. Not here:
decoding or inference (shard), what is wanted (reconcile), the network (uplink).

Shards are spawned, never forked, each with a socket pair of its own. A shard that dies or stops
beating is ended and started again with the same streams; nothing else of the worker notices.
"""

import asyncio
import itertools
import logging
import queue
import random
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

import msgspec

from edge.clock import Clock
from edge.config import inherited
from edge.pipe import (
    Apply,
    Beat,
    Finish,
    Finished,
    Happened,
    PictureError,
    Pipe,
    Settings,
    Show,
    Shown,
    Stored,
    ToAgent,
    ToShard,
)
from edge.reconcile import Start, Stop, StreamKey, StreamWork, Update, plan
from edge.store.outbox import Outbox
from wire.backoff import full_jitter
from wire.events import Event, decode_event
from wire.messages import ItemObserved, StreamHealth

log = logging.getLogger("forecourt.shards")

_SILENT_AFTER_S = 20.0
_RESTART_S = (0.2, 30.0)
_STEADY_AFTER_S = 60.0
_STORE_AGAIN_AFTER_S = 1.0
_FINISH_WITHIN_S = 6.0
_PICTURE_WITHIN_S = 8.0
"""A stream that is decoded seldom may have its next picture only so much later."""
_INBOX = 256
_OUTGOING = 1000


class _Process:
    """A running decode process: its pipe, and the threads that read and write it.

    Both have bounds: a full inbox holds the process back, a full outgoing queue means that it
    does not listen, and ends it.
    """

    def __init__(self, name: str, threads: int) -> None:
        """Spawn it. Must be called on the loop that reads `inbox`."""
        ours, theirs = socket.socketpair()
        with theirs:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "edge.shard", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={**inherited(), "OMP_NUM_THREADS": str(threads)},
            )
        self._pipe: Pipe = Connection(ours.detach())
        self._loop = asyncio.get_running_loop()
        self._outgoing: queue.Queue[ToShard | None] = queue.Queue(_OUTGOING)
        self.inbox: asyncio.Queue[ToAgent | None] = asyncio.Queue(_INBOX)
        self._writer = threading.Thread(target=self._write, name=f"{name}-out", daemon=True)
        self._writer.start()
        threading.Thread(target=self._receive, name=f"{name}-in", daemon=True).start()

    def send(self, message: ToShard) -> None:
        """Say something, without waiting; the end of a process is told by its inbox."""
        try:
            self._outgoing.put_nowait(message)
        except queue.Full:
            log.error("a shard does not listen; ending it")
            self._child.kill()

    def _write(self) -> None:
        """Write what is to be said, until the process is gone or `None` comes."""
        with suppress(OSError):
            while (message := self._outgoing.get()) is not None:
                self._pipe.send(message)

    def _receive(self) -> None:
        """Read the pipe to its end, which is the end of the process."""
        try:
            while True:
                self._hand_over(self._pipe.recv())
        except (EOFError, OSError):
            self._child.kill()
            while self._writer.is_alive():  # it may hold the pipe until its queue has room
                with suppress(queue.Full):
                    self._outgoing.put(None, timeout=0.1)
                self._writer.join(0.1)
            self._pipe.close()
            self._hand_over(None)

    def _hand_over(self, message: ToAgent | None) -> None:
        with suppress(RuntimeError, CancelledError):  # the agent's loop has ended
            asyncio.run_coroutine_threadsafe(self.inbox.put(message), self._loop).result()

    def kill(self) -> None:
        """Make an end of it at once."""
        self._child.kill()

    def end(self) -> None:
        """Make an end of it and reap it; whatever mattered has been said before."""
        self._child.kill()
        self._child.wait()


@dataclass
class _Shard:
    """What one decode process runs, whether it lives just now or not."""

    number: int
    running: dict[StreamKey, StreamWork] = field(default_factory=dict)
    process: _Process | None = None
    beat: Beat | None = None

    def send(self, message: ToShard) -> None:
        """Say something to the process, if there is one."""
        if self.process is not None:
            self.process.send(message)


class Shards:
    """All decode processes of this worker. Everything here runs on the agent's loop."""

    def __init__(
        self,
        count: int,
        settings: Settings,
        outbox: Outbox,
        clock: Clock,
        on_change: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._outbox = outbox
        self._clock = clock
        self._on_change = on_change
        self._shards = [_Shard(number) for number in range(count)]
        self._asked: dict[int, asyncio.Future[Shown]] = {}
        self._numbers = itertools.count(1)
        self._finishing = asyncio.Event()
        self._finish_by_s = 0.0
        self._random = random.Random()
        self.restarts = 0
        self.unstored = 0
        self.first_look_boot_ms: int | None = None

    # --- what others ask for ---

    def apply(self, works: Iterable[StreamWork]) -> None:
        """Make `works` run: each stream stays on its shard, new ones go to the least loaded."""
        wanted = list(works)
        running = {key: work for shard in self._shards for key, work in shard.running.items()}
        for action in plan(wanted, running):
            match action:
                case Stop(key):
                    shard = next(s for s in self._shards if key in s.running)
                    del shard.running[key]
                case Update(work):
                    shard = next(s for s in self._shards if work.key in s.running)
                    shard.running[work.key] = work
                case Start(work):
                    shard = min(self._shards, key=lambda s: len(s.running))
                    shard.running[work.key] = work
            shard.send(Apply((action,)))

    def streams(self) -> list[StreamHealth]:
        """How every stream fares, as its shard last said."""
        found = []
        for shard in self._shards:
            said = {(s.camera, s.stream): s for s in shard.beat.streams} if shard.beat else {}
            for key in shard.running:
                health = said.get((key.camera, key.stream))
                found.append(
                    health or StreamHealth(camera=key.camera, stream=key.stream, state="opening")
                )
        return found

    async def picture(self, key: StreamKey, width: int, max_bytes: int) -> Shown:
        """A running stream's next picture. Raises PictureError; who asks bounds how many wait."""
        shard = next((s for s in self._shards if key in s.running), None)
        if shard is None:
            raise PictureError("no task watches this stream, so nothing decodes it; probe opens it")
        health = next(s for s in self.streams() if (s.camera, s.stream) == (key.camera, key.stream))
        if health.state != "running" or shard.process is None:
            reason = health.error or "it is being opened; try again in a moment"
            raise PictureError(f"the stream does not run: {reason}")
        number = next(self._numbers)
        answered: asyncio.Future[Shown] = asyncio.get_running_loop().create_future()
        self._asked[number] = answered
        try:
            shard.send(Show(number, key, width, max_bytes))
            shown = await asyncio.wait_for(answered, _PICTURE_WITHIN_S)
        except TimeoutError:
            within = f"{_PICTURE_WITHIN_S:g} s"
            raise PictureError(f"the stream gave no picture within {within}; try again") from None
        finally:
            del self._asked[number]
        if shown.error:
            raise PictureError(shown.error)
        return shown

    def tasks(self) -> list[ItemObserved]:
        """The state of every task that a shard was given."""
        found = []
        for shard in self._shards:
            said = {(t.id, t.revision): t for t in shard.beat.tasks} if shard.beat else {}
            for work in shard.running.values():
                for task in work.tasks:
                    starting = ItemObserved(
                        kind="Task", id=task.name, revision=task.revision, state="Starting"
                    )
                    found.append(said.get((task.name, task.revision), starting))
        return found

    # --- life ---

    async def run(self) -> None:
        """Keep every shard alive until `finish`, having ended what an earlier life left open."""
        left_open = self._outbox.open_incidents()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._interrupt(left_open), name="interrupt")
            for shard in self._shards:
                group.create_task(self._keep_alive(shard), name=f"shard-{shard.number}")

    async def finish(self) -> None:
        """Let open incidents end as interrupted and be stored; then the processes end."""
        self._finish_by_s = self._clock.monotonic_s() + _FINISH_WITHIN_S
        self._finishing.set()
        for shard in self._shards:
            shard.send(Finish())
            if shard.process is not None:  # one that is silent already is not waited for at length
                asyncio.get_running_loop().call_later(_FINISH_WITHIN_S, shard.process.kill)

    async def _keep_alive(self, shard: _Shard) -> None:
        attempt = 0
        while not self._finishing.is_set():
            began_s = self._clock.monotonic_s()
            try:
                await self._serve(shard)
            except Exception:
                log.exception("shard %d", shard.number)
            if self._finishing.is_set():
                return
            steady = self._clock.monotonic_s() - began_s > _STEADY_AFTER_S
            attempt = 0 if steady else attempt + 1
            wait_s = full_jitter(attempt, *_RESTART_S, self._random)
            self.restarts += 1
            log.error("shard %d ended; starting it again in %.1f s", shard.number, wait_s)
            await self._pause(wait_s)

    async def _next_message(self, process: _Process) -> ToAgent | None:
        """What a process says next. Raises TimeoutError if it is silent, or late in finishing."""
        within_s = _SILENT_AFTER_S
        if self._finishing.is_set():
            within_s = max(0.0, self._finish_by_s - self._clock.monotonic_s())
        return await asyncio.wait_for(process.inbox.get(), within_s)

    async def _pause(self, wait_s: float) -> None:
        """Wait, but not beyond the wish to finish."""
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._finishing.wait()

    async def _serve(self, shard: _Shard) -> None:
        """One process, from its start with all its streams until it ends or falls silent."""
        process = _Process(f"shard-{shard.number}", self._settings.threads)
        try:
            shard.process, shard.beat = process, None
            process.send(self._settings)
            process.send(Apply(tuple(Start(work) for work in shard.running.values())))
            closed = await self._listen(shard, process)
        finally:
            shard.process = None
            process.end()
        while not closed:
            left = await process.inbox.get()
            closed = left is None
            if isinstance(left, Happened):
                await self._store([decode_event(body) for body in left.events])
        await self._interrupt(self._orphans(shard))

    async def _listen(self, shard: _Shard, process: _Process) -> bool:
        """Store what the process sees, until it ends; whether its inbox is empty for good."""
        while True:
            try:
                message = await self._next_message(process)
            except TimeoutError:
                log.error("shard %d is silent", shard.number)
                return False
            match message:
                case Happened(number, events):
                    await self._store([decode_event(body) for body in events])
                    process.send(Stored(number))
                case Beat() as beat:
                    self._note(shard, beat)
                case Shown() as shown:
                    asked = self._asked.get(shown.number)
                    if asked is not None and not asked.done():
                        asked.set_result(shown)
                case Finished():
                    return False
                case None:
                    return True

    def _note(self, shard: _Shard, beat: Beat) -> None:
        changed = shard.beat is None or (
            shard.beat.tasks != beat.tasks
            or [(s.camera, s.state) for s in shard.beat.streams]
            != [(s.camera, s.state) for s in beat.streams]
        )
        shard.beat = beat
        if beat.looks and self.first_look_boot_ms is None:
            self.first_look_boot_ms = self._clock.boot_ms()
        if changed:
            self._on_change()

    def _orphans(self, gone: _Shard) -> list[Event]:
        """Open incidents of tasks that no other living shard runs."""
        followed = {
            task.name
            for shard in self._shards
            if shard is not gone and shard.process is not None
            for work in shard.running.values()
            for task in work.tasks
        }
        return [event for event in self._outbox.open_incidents() if event.task not in followed]

    async def _interrupt(self, open_incidents: list[Event]) -> None:
        """End what a process left open, each incident at the last moment that is known of it."""
        await self._store(
            [
                msgspec.structs.replace(event, phase="end", reason="interrupted")
                for event in open_incidents
            ]
        )

    async def _store(self, decoded: list[Event]) -> None:
        """Append until it is on disk: meanwhile the shard waits, and its coverage tells."""
        if not decoded:
            return
        self.unstored += len(decoded)
        try:
            while True:
                try:
                    await asyncio.wrap_future(self._outbox.append(decoded))
                    return
                except (sqlite3.Error, OSError) as error:
                    log.error("events are not on disk yet (%s); trying again", error)
                    if self._finishing.is_set():
                        log.error("%d events could not be stored before the end", len(decoded))
                        return
                    await self._pause(_STORE_AGAIN_AFTER_S)
        finally:
            self.unstored -= len(decoded)
