"""Real brokers for tests: a Mosquitto process, and the embedded broker of the demo.

Both give a handle with `url`, `kill()` and `start()`; the URL stays the same over a restart.
"""

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from center.broker import EmbeddedBroker

READY_S = 10.0
PORT_ATTEMPTS = 5
_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"


@dataclass(frozen=True, slots=True)
class BrokerHandle:
    """A broker that a test may kill and start again, on the same port and with no memory."""

    url: str
    kill: Callable[[], None]
    start: Callable[[], None]
    log: Path | None = field(default=None)
    pid: Callable[[], int] | None = field(default=None)


@contextmanager
def mosquitto(
    tmp_path: Path, port: int | None = None, extra_config: str = ""
) -> Iterator[BrokerHandle]:
    """Mosquitto with its configuration and log in `tmp_path`; skips where it is not installed.

    `kill` is kill -9. On a port that another process takes first, the next free one is tried,
    unless the test names the port.
    """
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path=_SBIN)
    if program is None:
        pytest.skip("mosquitto is not installed (apt-get install mosquitto)")
    process = _Mosquitto(program, tmp_path, extra_config)
    for left in reversed(range(1 if port is not None else PORT_ATTEMPTS)):
        process.port = free_port() if port is None else port
        try:
            process.start()
            break
        except RuntimeError:
            if not left:
                raise
    try:
        yield BrokerHandle(
            f"mqtt://127.0.0.1:{process.port}",
            process.kill,
            process.start,
            process.log,
            lambda: process.pid,
        )
    finally:
        process.kill()


@contextmanager
def embedded() -> Iterator[BrokerHandle]:
    """The embedded broker, in this process."""
    broker = EmbeddedBroker()
    port = broker.start()
    try:
        yield BrokerHandle(
            f"mqtt://127.0.0.1:{port}", broker.stop, lambda: _start_again(broker, port)
        )
    finally:
        broker.stop()


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _start_again(broker: EmbeddedBroker, port: int) -> None:
    broker.start(port=port)


class _Mosquitto:
    """A Mosquitto process; `port` is set before the first start."""

    def __init__(self, program: str, folder: Path, extra_config: str) -> None:
        self.port = 0
        self.log = folder / "mosquitto.log"
        self._program = program
        self._config = folder / "mosquitto.conf"
        self._extra_config = extra_config
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return when it accepts. RuntimeError with the end of its log when it does not."""
        self._config.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence false\n"
            f"set_tcp_nodelay true\nlog_dest stderr\n{self._extra_config}\n"
        )
        earlier = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, "-c", str(self._config)], stdout=log, stderr=log
            )
        deadline = time.monotonic() + READY_S
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                time.sleep(0.01)
                continue
            # Another process may have taken the port, and ours be about to find out.
            if self._process.poll() is None and b" running" in self.log.read_bytes()[earlier:]:
                return
        self.kill()
        raise RuntimeError(f"mosquitto did not start: {self.log.read_text()[-500:]}")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
