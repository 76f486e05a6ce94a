"""One decode process as the agent holds it: its pipe, its black box, its memory and CPU.

Here: starting it, talking to it, looking at it, ending it. Not here: what it runs, what follows
from its death (shards, quarantine). It is spawned, never forked.
"""

import asyncio
import os
import queue
import socket
import subprocess
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from edge.blackbox import BlackBox, Crash, SlotState
from edge.config import inherited
from edge.facts import Facts
from edge.pipe import Inputs, Pipe, ToAgent, ToShard
from wire.facts import Fact

_INBOX = 256
_OUTGOING = 1000
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OPENCV_FOR_THREADS_NUM": "1"}
"""Unless told otherwise, these libraries make a thread for each core of the machine."""
_MEMORY = {
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": "262144",
    "MALLOC_TRIM_THRESHOLD_": "262144",
}
"""For glibc (mallopt(3)), which would keep a heap for each thread and thus a fourth more memory.
A picture goes back to the system when it is freed."""
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Remains:
    """What can be told of a process after its end."""

    returncode: int
    """As the kernel says it: a negative one is the signal that ended it."""
    crash: Crash | None
    slots: tuple[SlotState, ...]
    ended_for: str
    """Why we ended it, or "": it ended by itself."""


class Process:
    """A running decode process, and the threads that read and write its pipe.

    Both have bounds: a full inbox holds the process back, a full outgoing queue means that it
    does not listen, and ends it.
    """

    def __init__(self, name: str, command: Sequence[str], threads: int) -> None:
        """Spawn it; `command` gets three descriptors: pipe, black box, dump.

        Must be called on the loop that reads `inbox`. Raises OSError.
        """
        self._box = BlackBox()
        ours, theirs = socket.socketpair()
        passed = (theirs.fileno(), self._box.descriptor, self._box.dump_descriptor)
        with theirs:
            self._child = subprocess.Popen(
                [*command, *map(str, passed)],
                pass_fds=passed,
                stdin=subprocess.DEVNULL,
                env={**inherited(), **_ONE_THREAD, **_MEMORY, "OMP_NUM_THREADS": str(threads)},
            )
        self._pipe: Pipe = Connection(ours.detach())
        self._ended_for = ""
        self._loop = asyncio.get_running_loop()
        self._outgoing: queue.Queue[ToShard | None] = queue.Queue(_OUTGOING)
        self.inbox: asyncio.Queue[ToAgent | None] = asyncio.Queue(_INBOX)
        self._untold: Facts | None = None
        self._telling = threading.Lock()
        self._writer = threading.Thread(target=self._write, name=f"{name}-out", daemon=True)
        self._writer.start()
        threading.Thread(target=self._receive, name=f"{name}-in", daemon=True).start()

    # --- its pipe ---

    def send(self, message: ToShard) -> None:
        """Say something, without waiting; the end of a process is told by its inbox."""
        try:
            self._outgoing.put_nowait(message)
        except queue.Full:
            self.kill("it does not listen")

    def inform(self, facts: Iterable[Fact]) -> None:
        """Tell what inputs say. What waits to be written is one message, and bounded."""
        with self._telling:
            waits = self._untold is not None
            untold = self._untold if self._untold is not None else Facts()
            for fact in facts:
                untold.put(fact)
            self._untold = untold
        if not waits:
            self.send(Inputs(()))

    def _write(self) -> None:
        """Write what is to be said, until the process is gone or `None` comes."""
        with suppress(OSError):
            while (message := self._outgoing.get()) is not None:
                self._pipe.send(self._told() if isinstance(message, Inputs) else message)

    def _told(self) -> Inputs:
        """All that has gathered since the message was announced."""
        with self._telling:
            untold, self._untold = self._untold, None
        return Inputs(() if untold is None else tuple(untold.kept()))

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
        putting = self.inbox.put(message)
        try:
            asyncio.run_coroutine_threadsafe(putting, self._loop).result()
        except (RuntimeError, CancelledError):  # the agent's loop has ended
            putting.close()

    # --- how it is ---

    @property
    def lives(self) -> bool:
        """Whether it has not ended yet."""
        return self._child.poll() is None

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._child.pid

    def slots(self) -> tuple[SlotState, ...]:
        """What its threads do just now."""
        return self._box.slots()

    def memory_bytes(self) -> int:
        """What it holds in memory (proc(5), statm field 2); 0: it has just ended."""
        try:
            return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * _PAGE_BYTES
        except (OSError, IndexError):
            return 0

    def is_stopped(self) -> bool:
        """Whether somebody holds the whole process still, with SIGSTOP or a debugger."""
        fields = _stat(Path(f"/proc/{self.pid}/stat"))
        return bool(fields) and fields[0] in "Tt"

    def cpu_s(self, native_id: int) -> float | None:
        """CPU seconds that one of its threads has used; None: the thread has ended."""
        fields = _stat(Path(f"/proc/{self.pid}/task/{native_id}/stat"))
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S if fields else None

    # --- its end ---

    def kill(self, why: str) -> None:
        """Make an end of it at once; its inbox tells when it is gone."""
        self._ended_for = self._ended_for or why
        self._child.kill()

    def end(self) -> Remains:
        """Make an end of it and reap it; whatever mattered has been said before. May take time."""
        self._child.kill()
        returncode = self._child.wait()
        remains = Remains(returncode, self._box.crash(), self._box.slots(), self._ended_for)
        self._box.close()
        return remains


def _stat(path: Path) -> list[str]:
    """The fields after the command's name, from field 3 on (proc(5)); none if it has ended."""
    try:
        return path.read_text().rpartition(")")[2].split()
    except OSError:
        return []
