"""A worker without cameras, as a process: `python -m tests.parts.station --config FILE.json`.

Its outbox, desired state, uplink and lock are the real ones, put together as edge/agent.py does; a
generator of events stands where the shards are. Each event whose append was confirmed is written to
a ledger of our own, in another folder, and synced there: the promise that a judge holds us to.

The file is read again whenever it changes, so that a test can turn the clock, start and stop the
generator while the worker runs. SIGTERM ends it in good order.
"""

import argparse
import asyncio
import functools
import hashlib
import json
import logging
import os
import random
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import msgspec

import edge.uplink
from edge.clock import SystemClock, boot_name
from edge.store import instance
from edge.store.desired import DesiredStore
from edge.store.outbox import Outbox, Stored
from edge.uplink import Identity, Report, Uplink
from wire.events import Event
from wire.link import Broker, Link
from wire.messages import ItemObserved

LOOK_S = 0.05
STATUS_S = 0.1
TRY_AGAIN_S = 0.2

log = logging.getLogger("station")


class Plan(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """What a station is and does. From `rate` on it may be changed while the station runs."""

    worker: str
    data: str
    brokers: list[str]
    ledger: str = ""
    """The file of confirmed events; none: they are not written down."""
    status: str = ""
    """A small JSON file about itself, ten times a second; none: it is silent."""
    seed: int = 0
    quota_bytes: int = 256_000_000
    reconnect_max_s: float = 0.5
    ack_within_s: float = 2.0
    keepalive_s: int = 60
    prefill: int = 0
    """Events to append before the link is made."""
    prefill_lane: str = "mixed"
    rate: float = 0.0
    """Appends a second, each of `burst` events."""
    burst: int = 1
    lane: str = "mixed"
    """alarm, bulk, mixed, or start: every event is the start of an alarm."""
    limit: int = 0
    """Events of this process, prefill apart; 0: no limit."""
    clock_offset_ms: int = 0
    """How far the wall clock is off."""


class Desk:
    """The plan as it stands, read anew when its file has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = (0, 0)
        self.plan = self.read()

    def read(self) -> Plan:
        """The plan now. Raises OSError, msgspec.MsgspecError."""
        found = self._path.stat()
        stamp = (found.st_mtime_ns, found.st_ino)
        if stamp != self._stamp:
            self.plan = msgspec.json.decode(self._path.read_bytes(), type=Plan)
            self._stamp = stamp
        return self.plan


class OffsetClock(SystemClock):
    """The machine's clocks with a wall clock that is as wrong as the plan says."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def wall_ms(self) -> int:
        """UTC as this machine believes, milliseconds since 1970."""
        return super().wall_ms() + self._desk.plan.clock_offset_ms


class Ledger:
    """Confirmed events on a disk of ours; what is not here was never promised."""

    def __init__(self, path: str) -> None:
        self._file: IO[str] | None = open(path, "a", encoding="ascii") if path else None  # noqa: SIM115 - for life
        self.count = 0
        self.last_ms = 0

    def write(self, rows: list[Stored], append_ms: float) -> None:
        """Write down and sync what an append has confirmed. Raises OSError."""
        self.count += len(rows)
        if self._file is None:
            return
        for row in rows:
            entry = {
                "epoch": row.epoch,
                "lane": row.lane,
                "seq": row.seq,
                "sha256": hashlib.sha256(row.body).hexdigest(),
                "append_ms": round(append_ms, 2),
            }
            self._file.write(f"{json.dumps(entry)}\n")
        self._file.flush()
        os.fsync(self._file.fileno())


class Scenes:
    """Events as a forecourt has them: incidents that begin, go on and end, and moments between.

    No two of them are alike, whichever process they come from.
    """

    def __init__(self, boot: str, clock: OffsetClock, seed: int) -> None:
        self._boot = boot
        self._clock = clock
        self._random = random.Random(f"{seed} {boot}" if seed == 0 else seed)
        self._number = 0
        self._open: dict[str, list[Event]] = {"alarm": [], "bulk": []}

    def next(self, lane: str) -> Event:
        """The next event; `lane` is one of `Plan.lane`."""
        self._number += 1
        if lane == "start":
            return self._start("alarm")
        if lane == "mixed":
            lane = "alarm" if self._random.random() < 0.3 else "bulk"
        going = self._open[lane]
        dice = self._random.random()
        if going and dice < 0.6:
            last = going.pop(self._random.randrange(len(going)))
            phase = "end" if dice < 0.3 or len(going) > 20 else "update"
            return self._told(last, lane, phase)
        if lane == "bulk" and dice > 0.8:
            return self._event(lane, kind="crossing", line="exit", direction="left-to-right")
        return self._start(lane)

    def _start(self, lane: str) -> Event:
        name = f"{self._boot}-{self._number}"
        fresh = self._event(lane, kind="presence", zone="unload", phase="start", incident=name)
        self._open[lane] = [*self._open[lane], fresh][-50:]
        return fresh

    def _told(self, last: Event, lane: str, phase: str) -> Event:
        reason = "cleared" if phase == "end" else ""
        event = self._event(
            lane, kind=last.kind, zone=last.zone, phase=phase, incident=last.incident, reason=reason
        )
        if phase == "update":
            self._open[lane].append(event)
        return event

    def _event(self, lane: str, **facts: object) -> Event:
        severity = self._random.choice(["warning", "critical"]) if lane == "alarm" else "info"
        left, top = self._random.uniform(0, 0.5), self._random.uniform(0, 0.5)
        whole: dict[str, object] = {
            "t_ms": self._clock.wall_ms(),
            "boot_ms": self._clock.boot_ms(),
            "boot": self._boot,
            "camera": f"bay-{self._random.randrange(8)}",
            "task": "watch",
            "task_revision": 7,
            "rule": "person-at-unloading" if lane == "alarm" else "vehicles",
            "severity": severity,
            "label": self._random.choice(["person", "car", "truck"]),
            "track": self._number,
            "score": round(self._random.uniform(0.35, 0.99), 3),
            "box": tuple(round(edge, 4) for edge in (left, top, left + 0.2, top + 0.4)),
            "coverage": 1.0,
            **facts,
        }
        return Event(**whole)  # type: ignore[arg-type]  # the fields' types differ


class Station:
    """One worker at work. `run` is on an asyncio loop, the generator on a thread of its own."""

    def __init__(self, desk: Desk, name: str) -> None:
        plan = desk.plan
        self._desk = desk
        self._clock = OffsetClock(desk)
        self._boot = boot_name()
        data = Path(plan.data)
        self._uplink: Uplink | None = None
        self._desired = DesiredStore(data / "desired.db", self._clock)
        self._outbox = Outbox(
            data / "outbox.db", self._clock, quota_bytes=plan.quota_bytes, on_stored=self._stored
        )
        self._ledger = Ledger(plan.ledger)
        self._scenes = Scenes(self._boot, self._clock, plan.seed)
        self._identity = Identity(plan.worker, name, self._boot)
        self._stopping = threading.Event()
        self.generated = 0
        self.failed = 0
        self.idle = False

    async def run(self) -> None:
        """Work until SIGTERM or SIGINT."""
        plan = self._desk.plan
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await asyncio.to_thread(self._prefill, plan)
        vars(edge.uplink)["Link"] = functools.partial(Link, keepalive_s=plan.keepalive_s)
        self._uplink = Uplink(
            self._identity,
            [Broker.parse(url) for url in plan.brokers],
            self._outbox,
            self._desired,
            self._clock,
            reconnect_max_s=plan.reconnect_max_s,
            ack_within_s=plan.ack_within_s,
            on_desired=self._desire,
            report=self._report,
        )
        generator = threading.Thread(target=self._generate, name="generator", daemon=True)
        generator.start()
        async with asyncio.TaskGroup() as group:
            running = group.create_task(self._uplink.run())
            telling = group.create_task(self._tell())
            await stop.wait()
            self._stopping.set()
            await asyncio.to_thread(generator.join)
            await self._uplink.finish()
            running.cancel()
            telling.cancel()
        self._outbox.close()
        self._desired.close()

    # --- what happens ---

    def _stored(self, rows: list[Stored]) -> None:
        if self._uplink is not None:
            self._uplink.wake(rows)

    def _desire(self) -> None:
        if self._uplink is not None:
            self._uplink.observed_changed()

    def _prefill(self, plan: Plan) -> None:
        for first in range(0, plan.prefill, 200):
            count = min(200, plan.prefill - first)
            self._append([self._scenes.next(plan.prefill_lane) for _ in range(count)])

    def _generate(self) -> None:
        due_s = time.monotonic()
        while not self._stopping.is_set():
            plan = self._read_plan()
            left = plan.limit - self.generated if plan.limit else plan.burst
            self.idle = plan.rate <= 0 or left <= 0
            if self.idle:
                due_s = time.monotonic()
                self._stopping.wait(LOOK_S)
                continue
            count = min(plan.burst, left)
            if self._append([self._scenes.next(plan.lane) for _ in range(count)]):
                self.generated += count
            else:
                self._stopping.wait(TRY_AGAIN_S)
            due_s += 1 / plan.rate
            self._stopping.wait(max(0.0, due_s - time.monotonic()))

    def _append(self, events: list[Event]) -> bool:
        """Append and, once that is confirmed, write it down. False: the disk did not take it."""
        began_s = time.monotonic()
        try:
            rows = self._outbox.append(events).result()
        except (sqlite3.Error, OSError) as error:
            self.failed += len(events)
            log.warning("not appended: %s", error)
            return False
        self._ledger.write(rows, (time.monotonic() - began_s) * 1000)
        return True

    def _read_plan(self) -> Plan:
        try:
            return self._desk.read()
        except (OSError, msgspec.MsgspecError) as error:
            log.warning("the plan cannot be read, going on with the last one: %s", error)
            return self._desk.plan

    # --- what is told ---

    def _report(self) -> Report:
        """Every item of the desired document runs, whatever it is."""
        items = [
            ItemObserved(kind=item.kind, id=item.id, revision=item.revision, state="Running")
            for item in self._desired.items()
        ]
        return Report(items=items, streams=[])

    async def _tell(self) -> None:
        while self._desk.plan.status:
            self._write_status(Path(self._desk.plan.status))
            await asyncio.sleep(STATUS_S)

    def _write_status(self, path: Path) -> None:
        assert self._uplink is not None
        status = {
            "pid": os.getpid(),
            "boot": self._boot,
            "instance": self._identity.instance,
            "idle": self.idle,  # before what waits: nothing was appended since
            "rate": self._desk.plan.rate,
            "online": self._uplink.online,
            "denied": self._uplink.denied,
            "pending": self._outbox.pending(),
            "shed": self._outbox.shed,
            "generated": self.generated,
            "confirmed": self._ledger.count,
            "failed": self.failed,
            "desired": msgspec.to_builtins(self._desired.known()),
        }
        fresh = path.with_name(f"{path.name}.new")
        fresh.write_text(json.dumps(status))
        fresh.replace(path)


async def _run(desk: Desk, name: str) -> None:
    await Station(desk, name).run()


def main(arguments: Iterator[str] | None = None) -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--log-level", default="info")
    given = parser.parse_args(None if arguments is None else list(arguments))
    logging.basicConfig(
        stream=sys.stderr,
        level=given.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    desk = Desk(given.config)
    with instance.locked(Path(desk.plan.data)) as name:
        asyncio.run(_run(desk, name))


if __name__ == "__main__":
    main()
