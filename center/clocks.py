"""The clocks of workers: when each boot of a machine was, by the center's clock.

Here: readings of a worker's two clocks, what is kept of them, and the time of an event that follows
from it. Not here: who tells the readings (downlink), who stores the events (ingest).

A reading is a message's arrival less its boot time. Delay only makes it too late, so the earliest
reading is the best; two crystals may drift apart by `DRIFT` meanwhile. A reading far later than the
kept one is a message that waited long, or the machine's memory was set back (a resumed image): it
is doubted, and believed when the next one says the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from sqlalchemy import Connection, bindparam, delete, select

from center import db
from center.tables import clocks
from wire.events import MAX_NUMBER, Event, machine_of
from wire.messages import Clock

ClockWord = Literal["", "corrected", "uncertain"]

DRIFT = 100e-6
"""How fast two clocks of quartz may part."""
DOUBT_MS = 30_000
AGREE_MS = 5_000
TOLERANCE_MS = 2_000
"""A wall clock that is off by no more is sound."""
SLACK_MS = 100
"""Readings later by no more say nothing new, for `STALE_MS`: they cost no write."""
STALE_MS = 600_000
MAX_MACHINES = 64


@dataclass(frozen=True, slots=True)
class Kept:
    """What is known of one boot: `booted_ms` by the center's clock, read at `heard_ms`."""

    booted_ms: int
    doubted_ms: int | None
    heard_ms: int


def weighed(kept: Kept | None, booted_ms: int, now_ms: int) -> Kept:
    """What is known after a reading."""
    if kept is None or booted_ms <= kept.booted_ms:
        return Kept(booted_ms, None, now_ms)
    latest = kept.booted_ms + round(max(0, now_ms - kept.heard_ms) * DRIFT)
    if booted_ms - latest <= DOUBT_MS:
        return Kept(min(booted_ms, latest), None, now_ms)
    if kept.doubted_ms is not None and abs(booted_ms - kept.doubted_ms) <= AGREE_MS:
        return Kept(min(booted_ms, kept.doubted_ms), None, now_ms)
    return Kept(kept.booted_ms, booted_ms, kept.heard_ms)


def note(connection: Connection, worker: str, boot: str, clock: Clock, now_ms: int) -> None:
    """Take a reading from a hello or heartbeat; the oldest machines of a worker make room.

    A boot that names no machine, or a clock beyond all reason, says nothing.
    """
    machine = _machine(boot)
    if not machine or not 0 <= clock.boot_ms <= now_ms:
        return
    column = clocks.c
    row = connection.execute(
        select(column.booted_ms, column.doubted_ms, column.heard_ms).where(
            column.worker == worker, column.machine == machine
        )
    ).first()
    kept = None if row is None else Kept(*row)
    booted_ms = now_ms - clock.boot_ms
    if kept is not None and _says_nothing_new(kept, booted_ms, now_ms):
        return
    now = weighed(kept, booted_ms, now_ms)
    values = {
        "worker": worker,
        "machine": machine,
        "booted_ms": now.booted_ms,
        "doubted_ms": now.doubted_ms,
        "heard_ms": now.heard_ms,
    }
    db.upsert(connection, clocks, [values], ("worker", "machine"))
    if kept is None:
        newest = (
            select(column.machine)
            .where(column.worker == worker)
            .order_by(column.heard_ms.desc(), column.machine)
            .limit(MAX_MACHINES)
        )
        connection.execute(
            delete(clocks).where(column.worker == worker, column.machine.not_in(newest))
        )


def _says_nothing_new(kept: Kept, booted_ms: int, now_ms: int) -> bool:
    return (
        kept.doubted_ms is None
        and 0 <= booted_ms - kept.booted_ms <= SLACK_MS
        and now_ms - kept.heard_ms <= STALE_MS
    )


def _machine(boot: str) -> str:
    """The machine that a boot names; '' if it names none."""
    return machine_of(boot) if "-" in boot else ""


# --- the time of an event ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads the times of one worker's events."""

    booted: Mapping[str, int]
    """When each of its machines booted, in UTC ms by the center's clock."""
    _by_boot: dict[str, int | None] = field(default_factory=dict)

    def read(self, event: Event) -> tuple[int, ClockWord]:
        """When it became true, in UTC ms, and how well that is known.

        An event that names no boot comes from a source without a boot clock: its word is taken.
        """
        boot = event.boot
        if not boot:
            return event.t_ms, ""
        if boot in self._by_boot:
            booted_ms = self._by_boot[boot]
        else:
            booted_ms = self._by_boot[boot] = self.booted.get(_machine(boot))
        if booted_ms is None or event.boot_ms is None:
            return event.t_ms, "uncertain"
        corrected = booted_ms + event.boot_ms
        if abs(corrected - event.t_ms) <= TOLERANCE_MS:
            return event.t_ms, ""
        if not -MAX_NUMBER <= corrected <= MAX_NUMBER:
            return event.t_ms, "uncertain"
        return corrected, "corrected"


_BOOTED = select(clocks.c.machine, clocks.c.booted_ms).where(
    clocks.c.worker == bindparam("of_worker")
)


def reader(connection: Connection, worker: str) -> Reader:
    """A reader of the worker's times, by what is known now."""
    found = connection.execute(_BOOTED, {"of_worker": worker})
    return Reader({row.machine: row.booted_ms for row in found})
