"""The demo's processes: started with a log each, watched, and ended in good order.

Belongs here: start, tail of a log, end with a deadline. Does not belong here: what they are
(command) and what they answer (api, smoke).
"""

import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from cli.errors import CommandError

END_WITHIN_S = 10.0
MAX_LOG_BYTES = 50 * 1024 * 1024
_TAIL_BYTES = 64 * 1024
_PR_SET_PDEATHSIG = 1

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Child:
    """A process that we started. One with `service` must live as long as the demo does."""

    name: str
    process: "subprocess.Popen[bytes]"
    log: Path
    service: bool

    def tail(self, lines: int = 15) -> str:
        """The end of its log, indented."""
        return tail(self.log, lines)


class Children:
    """All processes of a demo. Leaving the context ends them, the youngest first."""

    def __init__(self, logs: Path, lock: int) -> None:
        self._logs = logs
        self._lock = lock
        self._all: list[Child] = []

    def start(self, name: str, arguments: Sequence[str], *, service: bool = True) -> Child:
        """Run this Python with these arguments; its output goes to `<logs>/<name>.log`."""
        log = self._logs / f"{name}.log"
        log.unlink(missing_ok=True)
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=_environment(),
                start_new_session=True,  # Ctrl-C is ours; they are told in order
                pass_fds=(self._lock,),  # the folder is taken as long as any of them lives
                preexec_fn=_ends_with(os.getpid()) if sys.platform == "linux" else None,
            )
        child = Child(name, process, log, service)
        self._all.append(child)
        return child

    def require_alive(self) -> None:
        """Raises CommandError with the tail of its log if a service has ended by itself."""
        for child in self._all:
            status = child.process.poll()
            if status is not None and (child.service or status != 0):
                raise CommandError(
                    f"{child.name} ended with status {status}; its log {child.log} says:\n"
                    f"{child.tail()}"
                )

    def wait_for(self, condition: Callable[[], T | None], deadline_s: float, what: str) -> T:
        """The first value that is not None, while all services live. Raises CommandError.

        `deadline_s` is monotonic time.
        """
        while True:
            value = condition()
            if value is not None:
                return value
            self.require_alive()
            if time.monotonic() > deadline_s:
                tails = "\n".join(f"{child.log}:\n{child.tail(8)}" for child in self._all)
                raise CommandError(f"waited in vain for {what}\n{tails}")
            time.sleep(0.05)

    def trim_logs(self) -> None:
        """A demo may run for weeks: a log that has become too long begins anew."""
        for child in self._all:
            if child.log.stat().st_size > MAX_LOG_BYTES:
                os.truncate(child.log, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
        try:
            for child in reversed(self._all):
                _end(child.process)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def tail(log: Path, lines: int) -> str:
    """The last lines of a file, indented by two; without those that it does not have."""
    if not log.is_file():
        return "  (no log)"
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        text = file.read().decode(errors="replace")
    return "\n".join(f"  {line}" for line in text.splitlines()[-lines:]) or "  (empty)"


def _end(process: "subprocess.Popen[bytes]") -> None:
    """SIGTERM; after the deadline SIGKILL. Both go to the process itself, which ends its own."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(END_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _environment() -> dict[str, str]:
    """Ours, without tokens, the demo's video, and settings that would change what a demo is."""
    own = re.compile(r"FORECOURT_(TOKEN|URL|EDGE_|CENTER_|DEMO_)")
    kept = {key: value for key, value in os.environ.items() if not own.match(key)}
    return {**kept, "PYTHONUNBUFFERED": "1"}


def _ends_with(parent: int) -> Callable[[], None]:
    """Linux: SIGTERM for the child when the demo itself is killed, so that nothing is left over."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)  # the demo died before we could ask

    return ask
