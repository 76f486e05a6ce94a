"""Our own programs as real processes: a center and a worker, with what a test asks of them.

Each is started as a user starts it, ended by its own process id, and keeps a log that is shown when
something does not come to pass.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.waiting import wait_for

START_S = 30.0


class Process:
    """A program of ours that a test may stop, kill and start again."""

    def __init__(self, log: Path, arguments: Sequence[str]) -> None:
        self.log = log
        self._arguments = [sys.executable, "-m", *arguments]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; it must not be running."""
        assert self._process is None
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._arguments, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """kill -9, as a power cut would."""
        self._end(signal.SIGKILL)

    def stop(self, within_s: float = 15.0) -> int | None:
        """SIGTERM; its exit status. Killed if it does not leave in time, which fails the test."""
        return self._end(signal.SIGTERM, within_s)

    def _end(self, number: int, within_s: float = 10.0) -> int | None:
        process, self._process = self._process, None
        if process is None:
            return None
        process.send_signal(number)
        try:
            return process.wait(within_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"did not stop in {within_s:g} s\n{self.tail()}") from None

    def tail(self, lines: int = 40) -> str:
        """The end of its log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])


@dataclass
class Center:
    """A center and an administrator's access to it."""

    process: Process
    data: Path
    port: int = 0
    http: httpx.Client = field(default_factory=httpx.Client)

    def start(self) -> None:
        """Start and wait until it answers."""
        (self.data / "center.json").unlink(missing_ok=True)
        self.process.start()
        facts = wait_for(self._facts, START_S, f"the center answers\n{self.process.tail()}")
        token = (self.data.parent / "admin.token").read_text().strip()
        self.http.close()
        self.http = httpx.Client(
            base_url=facts["url"], headers={"Authorization": f"Bearer {token}"}, timeout=20
        )

    def _facts(self) -> dict[str, Any]:
        path = self.data / "center.json"
        facts: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        return facts

    @property
    def url(self) -> str:
        """Where it answers."""
        return str(self.http.base_url).rstrip("/")

    def put(self, document: dict[str, Any]) -> dict[str, Any]:
        """Apply a resource."""
        answer = self.http.put(place(document), json=document)
        assert answer.status_code == 200, answer.text
        result: dict[str, Any] = answer.json()
        return result

    def get(self, path: str, **query: object) -> Any:
        """What a route answers."""
        answer = self.http.get(f"/api/v1{path}", params={k: str(v) for k, v in query.items()})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def delete(self, kind: str, name: str, station: str) -> None:
        """Remove a resource of a station."""
        path = f"/api/v1/stations/{station}/{kind.lower()}s/{name}"
        answer = self.http.delete(path)
        assert answer.status_code == 200, answer.text

    def events(self, **query: object) -> list[dict[str, Any]]:
        """Stored events, oldest first, at most 1000."""
        answer = self.get("/events", order="asc", limit=1000, **query)
        items: list[dict[str, Any]] = answer["items"]
        return items

    def task(self, station: str, name: str) -> dict[str, Any]:
        """A task's status."""
        status: dict[str, Any] = self.get(f"/stations/{station}/tasks/{name}")["status"]
        return status


def place(document: dict[str, Any]) -> str:
    """The path of a resource."""
    kind, about = document["kind"], document["metadata"]
    if kind in ("Station", "Worker"):
        return f"/api/v1/{kind.lower()}s/{about['name']}"
    return f"/api/v1/stations/{about['station']}/{kind.lower()}s/{about['name']}"


@contextmanager
def center(folder: Path, broker: Sequence[str], port: int = 0) -> Iterator[Center]:
    """A running center with its data below `folder`; `broker` are its flags for the broker."""
    data = folder / "center"
    process = Process(
        folder / "center.log",
        ["center", "serve", "--data", str(data), "--listen", f"127.0.0.1:{port}", *broker,
         "--admin-token-file", str(folder / "admin.token"), "--heartbeat-s", "2"],
    )  # fmt: skip
    made = Center(process, data)
    try:
        made.start()
        yield made
    finally:
        made.http.close()
        process.kill()


@dataclass
class Worker:
    """A worker and its local HTTP."""

    process: Process
    data: Path

    def start(self) -> None:
        """Start and wait until its display answers."""
        (self.data / "display.url").unlink(missing_ok=True)
        self.process.start()
        wait_for(self._answers, START_S, "the worker's display answers", every_s=0.05)

    def _answers(self) -> bool:
        try:
            return (self.data / "display.url").exists() and bool(self.status())
        except httpx.TransportError:
            return False

    @property
    def url(self) -> str:
        """Where its display is."""
        return (self.data / "display.url").read_text().strip().rstrip("/")

    def status(self) -> dict[str, Any]:
        """What it says of itself."""
        status: dict[str, Any] = httpx.get(f"{self.url}/api/status", timeout=10).json()
        return status

    def events(self) -> list[dict[str, Any]]:
        """What its display shows, oldest first."""
        answer = httpx.get(f"{self.url}/api/events", params={"limit": 1000}, timeout=10).json()
        items: list[dict[str, Any]] = answer["items"]
        return items[::-1]

    def children(self) -> list[int]:
        """Process ids of its shards and of the spare one."""
        pid = self.process.pid
        threads = Path(f"/proc/{pid}/task").glob("*/children")
        return [int(child) for path in threads for child in path.read_text().split()]

    def shards(self) -> list[int]:
        """Process ids of the shards that are at work, as it says itself."""
        return [shard["pid"] for shard in self.status()["shards"] if shard["pid"] is not None]


@contextmanager
def worker(
    folder: Path,
    name: str,
    broker_url: str,
    models: Sequence[Path],
    recordings: Path,
    *flags: str,
) -> Iterator[Worker]:
    """A running worker with its data below `folder`."""
    data = folder / name
    process = Process(
        folder / f"{name}.log",
        ["edge", "run", "--worker", name, "--data", str(data), "--broker", broker_url,
         *(f"--models={one}" for one in models), "--recordings", str(recordings),
         "--display", "127.0.0.1:0", "--reconnect-max-s", "2", *flags],
    )  # fmt: skip
    made = Worker(process, data)
    try:
        made.start()
        yield made
    finally:
        process.kill()


def alive(pid: int) -> bool:
    """Whether a process with this id lives (a zombie does not)."""
    try:
        os.kill(pid, 0)
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False
