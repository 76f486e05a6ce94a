"""The `serve` process: its lock, the first token, the web server, and telling where it answers.

Not here: what is served (app).
"""

import fcntl
import json
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import uvicorn

from center import auth, db
from center.app import Center, running
from center.clock import Clock, SystemClock
from center.config import Address, ConfigError, ServeConfig
from center.desk import Desk

GRACE_S = 1
FACTS = "center.json"


def serve(config: ServeConfig) -> None:
    """Serve until SIGINT, or a SIGTERM that interrupts as SIGINT does.

    Raises ConfigError if an address or the data folder cannot be used.
    """
    clock = SystemClock()
    try:
        with (
            _locked(config.data, fcntl.LOCK_EX if config.database is None else fcntl.LOCK_SH),
            _bound(config.listen) as listener,
            _running(config, clock) as center,
        ):
            _first_token(center.desk, config.admin_token_file)
            _web(config, center, listener)
    except KeyboardInterrupt:
        return


def _web(config: ServeConfig, center: Center, listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    url = f"http://{Address(host=host, port=port)}"
    facts = {"url": url, "broker_url": center.broker_url, "pid": os.getpid()}

    def answering() -> None:
        write_facts(config.data / FACTS, facts)
        print(f"console: {url}/console\napi: {url}/api/v1", file=sys.stderr)  # noqa: T201 - said to people

    settings = uvicorn.Config(
        center.app,
        log_level=config.log_level,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=GRACE_S,
        server_header=False,
    )
    _Server(settings, answering, center.desk.bell.close).run(sockets=[listener])


class _Server(uvicorn.Server):
    """Says when it answers, and ends the live streams before it waits for them."""

    def __init__(
        self, config: uvicorn.Config, answering: Callable[[], None], ending: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._answering = answering
        self._ending = ending

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._answering()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._ending()
        await super().shutdown(sockets)


@contextmanager
def _running(config: ServeConfig, clock: Clock) -> Iterator[Center]:
    """The running center. Raises ConfigError if it cannot start."""
    with ExitStack() as parts:
        try:
            center = parts.enter_context(running(config, clock))
        except (OSError, ValueError) as error:
            raise ConfigError(f"cannot start: {error}") from None
        except db.UNAVAILABLE as error:
            cause = str(error).partition("\n")[0]
            name = db.name_of(config.data, config.database_url)
            raise ConfigError(f"cannot use the database {name}: {cause}") from None
        yield center


@contextmanager
def _locked(folder: Path, mode: int) -> Iterator[None]:
    """One process serves a file of SQLite (`LOCK_EX`); several, a database at a server (`LOCK_SH`).

    Raises ConfigError if the lock cannot be had, or it is no folder.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder / "center.lock", os.O_CREAT | os.O_RDWR, 0o600)
    except OSError as error:
        raise ConfigError(f"cannot use the data folder {folder}: {error.strerror}") from None
    try:
        try:
            fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"another center serves {folder}; stop it first") from None
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _bound(address: Address) -> Iterator[socket.socket]:
    """A listening socket. Raises ConfigError if the address cannot be had."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    # Named TCP: only then asyncio sends a small answer at once (TCP_NODELAY), not 40 ms later.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((address.host, address.port))
        except OSError as error:
            raise ConfigError(f"cannot listen on {address}: {error.strerror}") from None
        yield listener


def _first_token(desk: Desk, file: Path | None) -> None:
    """Make the admin token if there is none, and show it this one time.

    Raises ConfigError if it was to be written to a file that exists.
    """
    with desk.database.transaction() as connection:
        db.take_turns(connection)
        if auth.has_token(connection):
            return
        secret = auth.issue(connection, "api", "admin", desk.clock.now_ms())
        if file is not None:
            try:
                auth.write_secret(file, secret)
            except FileExistsError:
                raise ConfigError(
                    f"the admin token cannot be written to {file}: it exists; name a new file"
                ) from None
            except OSError as error:
                raise ConfigError(f"cannot write {file}: {error.strerror}") from None
    if file is None:
        print(f"admin token (shown only this once): {secret}", flush=True)  # noqa: T201 - its one showing


def write_facts(path: Path, facts: dict[str, object]) -> None:
    """Write a JSON file at once: a reader finds the old content or the new."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(facts, file)
    fresh.replace(path)
