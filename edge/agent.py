"""The worker's main process: start order, what is joined to what, and a clean end.

Here: a table of contents. Not here: decoding (shards), the network (uplink), disk (store).

A start needs no network: tasks come from this worker's own disk, and the broker is one more thing
that may answer later.
"""

import asyncio
import logging
import os
import platform
import secrets
import signal
import socket
import sqlite3
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec

from edge import calls, cpus
from edge.calls import Calls
from edge.clock import Clock, boot_name
from edge.config import Config, ConfigError
from edge.display import token
from edge.display.app import Display, Server
from edge.display.inputs import InputRoutes, shown
from edge.fetch import FetchError, Source
from edge.inputs import Inputs
from edge.logs import Ring
from edge.metrics import Snapshot
from edge.models import Models, trial_apart
from edge.pipe import Settings
from edge.reconcile import Resolved, named_classes, resolve, shortened
from edge.shards import Shards
from edge.store import instance
from edge.store.desired import DesiredStore
from edge.store.models import ModelFiles
from edge.store.outbox import Outbox, Stored
from edge.uplink import Identity, Report, Uplink
from edge.vision import manifest
from wire import specs
from wire.messages import ItemObserved

log = logging.getLogger("forecourt.agent")

_PLATES_KEY = "plates_key"


class Agent:
    """One worker at work. Everything here runs on one asyncio loop."""

    def __init__(self, config: Config, name: str, clock: Clock, log_ring: Ring) -> None:
        self._config = config
        self._clock = clock
        self._started_boot_ms = process_start_boot_ms()
        self._started_wall_ms = clock.wall_ms()
        self._loop = asyncio.get_running_loop()
        self.identity = Identity(config.worker, name, boot_name())
        self.desired = DesiredStore(config.data / "desired.db", clock)
        self.outbox = Outbox(
            config.data / "outbox.db",
            clock,
            quota_bytes=config.quota_mb * 1_000_000,
            keep_acked_s=config.keep_acked_h * 3600,
            on_stored=self._on_stored,
        )
        self.inputs = Inputs(
            config.data / "facts.db", clock, lambda facts: self.shards.inform(facts)
        )
        self._station_token = _station_token(config)
        self._input_routes = InputRoutes(self.inputs, self._station_token, clock)
        self._resolved = Resolved((), (), ())
        self._cores = cpus.cores(config.cpus)
        threads = config.threads or cpus.threads(self._cores, config.shards)
        self.shards = Shards(
            config.shards,
            Settings(
                models=tuple(str(folder) for folder in config.models),
                boot=self.identity.boot,
                threads=threads,
                log_level=config.log_level,
                inference=config.inference,
                plates_key=self._plates_key(),
            ),
            self.outbox,
            clock,
            on_change=self._on_observed,
            facts=self.inputs.newest,
            on_refused=lambda name, document, why: self.models.refused_by_shard(
                name, document, why
            ),
            cores=self._cores,
        )
        self._source = _source(config)
        self.models = Models(
            ModelFiles(config.data, config.models_mb * 1_000_000),
            self._source,
            config.models,
            clock,
            trial_apart(threads, config.inference),
            supply=self.shards.supply,
            on_change=self._on_observed,
        )
        self.calls = Calls(
            calls.Worker(
                items=self.desired.items,
                stream_problem=self._stream_problem,
                picture=self.shards.picture,
                log=log_ring,
                config=self._described,
                secrets=self._secrets,
            ),
            clock,
            lambda: self.uplink.center_now_ms(),
        )
        self.uplink = Uplink(
            self.identity,
            config.brokers,
            self.outbox,
            self.desired,
            clock,
            reconnect_max_s=config.reconnect_max_s,
            on_desired=self._reconcile,
            report=self._report,
            answer=self.calls.answer,
        )
        self.display = Display(self.outbox, self._status, self._snapshot, self._input_routes.routes)

    async def run(self) -> None:
        """Work until SIGTERM or SIGINT, then leave in good order."""
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, stop.set)
        server = Server(self.display.app)
        listening = _listen(self._config)
        self._reconcile()
        async with asyncio.TaskGroup() as group:
            shards = group.create_task(self.shards.run(), name="shards")
            models = group.create_task(self.models.run(), name="models")
            display = group.create_task(server.serve([listening]), name="display")
            uplink = group.create_task(self.uplink.run(), name="uplink")
            await stop.wait()
            log.info("stopping")
            models.cancel()
            await self.shards.finish()
            await shards
            await self.uplink.finish()
            uplink.cancel()
            self.display.close()
            server.should_exit = True
            await display
        self.outbox.close()
        self.desired.close()
        self.inputs.close()

    # --- what is joined to what ---

    def _plates_key(self) -> bytes:
        """What makes pseudonyms of number plates. It never leaves this worker's disk."""
        key = self.desired.fact(_PLATES_KEY)
        if key is None:
            key = secrets.token_hex(32)
            try:
                self.desired.remember(_PLATES_KEY, key)
            except sqlite3.Error as error:
                log.error("the key of plates' pseudonyms cannot be remembered: %s", error)
        return bytes.fromhex(key)

    def _reconcile(self) -> None:
        """Make the shards run what lies on disk."""
        self._resolved = resolve(self.desired.items(), self._stream_problem)
        self.models.want(self._resolved.models, named_classes(self._resolved.works))
        self.shards.apply(self._resolved.works)
        for item in self._resolved.rejected:
            log.warning("%s %s rejected: %s", item.kind, item.id, item.reason)

    def _stream_problem(self, stream: specs.Stream) -> str | None:
        """Recordings are read below the folder that this worker was given, and nowhere else."""
        parts = urlsplit(stream.url)
        if parts.scheme != "file":
            return None
        if self._config.recordings is None:
            return "this worker reads no recordings; start it with --recordings FOLDER"
        try:
            path = Path(unquote(parts.path)).resolve()
        except (ValueError, OSError, RuntimeError):
            return "the recording's path is none"
        if not path.is_relative_to(self._config.recordings.resolve()):
            return "the recording does not lie in this worker's --recordings folder"
        return None

    def _on_stored(self, stored: list[Stored]) -> None:
        """On the outbox's thread: new events are on disk."""
        self.uplink.wake(stored)
        self._loop.call_soon_threadsafe(self.display.wake)

    def _secrets(self) -> list[str]:
        """What must not leave this machine, wherever it turns up."""
        passwords = [b.password for b in self._config.brokers if b.password is not None]
        with suppress(FetchError):
            if self._source is not None:
                passwords.append(self._source.token())
        return [*passwords, self._station_token] if self._station_token else passwords

    def _on_observed(self) -> None:
        self.uplink.observed_changed()

    def _items(self) -> list[ItemObserved]:
        """Every item of the desired document; a camera is as well as its streams are."""
        lost = {s.camera: s.error for s in self.shards.streams() if s.state in ("lost", "ended")}
        cameras = [
            msgspec.structs.replace(item, state="Degraded", reason=shortened(lost[item.id]))
            if item.id in lost
            else item
            for item in self._resolved.accepted
        ]
        models = self.models.observed()
        return [*cameras, *models, *self._resolved.rejected, *self.shards.tasks()]

    def _report(self) -> Report:
        return Report(self._items(), self.shards.streams())

    def _status(self) -> dict[str, Any]:
        first = self.shards.first_look_boot_ms
        return {
            "worker": self.identity.worker,
            "boot": self.identity.boot,
            "session": "online" if self.uplink.online else "offline",
            "denied": self.uplink.denied,
            "started_ms": self._started_wall_ms,
            "now_ms": self._clock.wall_ms(),
            "ready": all(task.state != "Starting" for task in self.shards.tasks()),
            "pending": self.outbox.pending(),
            "shed": self.outbox.shed,
            "desired": msgspec.to_builtins(self.desired.known()),
            "open": [msgspec.to_builtins(event) for event in self.outbox.open_incidents()],
            "items": [msgspec.to_builtins(item) for item in self._items()],
            "streams": [msgspec.to_builtins(stream) for stream in self.shards.streams()],
            "inputs": shown(self.inputs.newest()),
            "shards": self.shards.shown(),
            "first_look_s": None if first is None else (first - self._started_boot_ms) / 1000,
        }

    def _described(self) -> dict[str, Any]:
        """How this worker is set up, for a call; may be called from any thread."""
        return {
            "worker": self.identity.worker,
            "instance": self.identity.instance,
            "boot": self.identity.boot,
            "software": f"forecourt {version('forecourt')}",
            "python": platform.python_version(),
            "machine": f"{platform.system()} {platform.release()} {platform.machine()}",
            "cpus": os.cpu_count(),
            "cores": round(self._cores, 2),
            "uptime_s": round((self._clock.boot_ms() - self._started_boot_ms) / 1000, 1),
            "desired": msgspec.to_builtins(self.desired.known()),
            "config": self._config.shown(),
            "models": [
                {"name": one.name, "version": one.version, "sha256": one.sha256}
                for one in manifest.listed(self._config.models)
            ],
            "center_models": [
                {"name": name, "version": good.version, "sha256": good.sha256}
                for name, good in self.models.good().items()
            ],
        }

    def _snapshot(self) -> Snapshot:
        beats = self.shards.beats()
        return Snapshot(
            online=self.uplink.online,
            pending=self.outbox.pending(),
            shed=self.outbox.shed,
            unstored=self.shards.unstored,
            ignored_messages=self.uplink.ignored,
            shard_restarts=self.shards.restarts,
            quarantined=self.shards.quarantined,
            cores=self._cores,
            catch_ups_dropped=sum(beat.catch_ups_dropped for beat in beats),
            plates_shed=sum(beat.plates_shed for beat in beats),
            facts_taken=self.inputs.taken,
            facts_refused=self.inputs.refused,
            posts_denied=self._input_routes.denied,
            coverage={task: ratio for beat in beats for task, ratio in beat.coverage.items()},
            streams=tuple(self.shards.streams()),
            items=tuple(self._items()),
        )


def _source(config: Config) -> Source | None:
    """The center's HTTP, if this worker was given a token for it."""
    if config.center is None or config.center_token_file is None:
        return None
    return Source(config.center, config.center_token_file)


def run(config: Config, clock: Clock) -> None:
    """Hold the data folder and work until told to stop.

    Raises InstanceLockedError, ConfigError.
    """
    ring = Ring()
    logging.getLogger().addHandler(ring)
    try:
        with instance.locked(config.data) as name:
            asyncio.run(_run(config, name, clock, ring))
    finally:
        logging.getLogger().removeHandler(ring)


async def _run(config: Config, name: str, clock: Clock, ring: Ring) -> None:
    await Agent(config, name, clock, ring).run()


def _station_token(config: Config) -> str:
    """Raises ConfigError for a file that was named; without one of its own it works, and says so.

    A full disk, for one, must not keep a worker from its cameras.
    """
    if config.station_token_file is not None:
        return token.read(config.station_token_file)
    try:
        return token.made(config.data / token.FILE)
    except (ConfigError, OSError) as error:
        log.error("no station token, so nobody can tell of inputs: %s", error)
        return ""


def _listen(config: Config) -> socket.socket:
    """The display's socket; its address goes to the log and to `display.url` in the data folder."""
    host, port = config.display_address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named TCP: only then asyncio sends a small answer at once (TCP_NODELAY), not 40 ms later.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        raise ConfigError(f"display: cannot listen on {config.display}: {error.strerror}") from None
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{listening.getsockname()[1]}/"
    log.info("display: %s", url)
    fresh = config.data / "display.url.new"
    fresh.write_text(f"{url}\n")
    fresh.replace(config.data / "display.url")
    return listening


def process_start_boot_ms() -> int:
    """When this process began, in milliseconds since the machine booted (proc(5), field 22)."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    return int(fields[19]) * 1000 // os.sysconf("SC_CLK_TCK")
