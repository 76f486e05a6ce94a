"""Outboxes in one file, and what is asked of them again and again."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge.store.check import findings
from edge.store.outbox import Outbox, Stored
from edge.store.writer import Save
from tests.parts.clock import SteppedClock
from wire.events import Event, Lane

Make = Callable[..., Outbox]


def event(number: int = 0, severity: str = "info", message: str = "") -> Event:
    """A small event that can be told from others."""
    return Event(kind="test", t_ms=number, camera="c", severity=severity, message=message)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Outboxes in one file, closed at the end."""
    made: list[Outbox] = []

    def outbox(quota_bytes: int = 10_000_000, clock: SteppedClock | None = None) -> Outbox:
        path = tmp_path / "outbox.db"
        made.append(Outbox(path, clock or SteppedClock(), quota_bytes=quota_bytes))
        return made[-1]

    yield outbox
    for outbox_made in made:
        outbox_made.close()


def stored(outbox: Outbox, *events: Event) -> list[Stored]:
    """Append and wait for the commit."""
    return outbox.append(events).result(5)


def settled(outbox: Outbox) -> None:
    """Wait until the writer has done all that it was told."""
    outbox.append([]).result(5)


def saved(outbox: Outbox) -> None:
    """Wait until watermarks are on disk, and what is forgotten with them is."""
    outbox._writer.do(Save())
    settled(outbox)


def everything(outbox: Outbox, lane: Lane, after: int = 0) -> list[int]:
    """The numbers that would be sent of the newest epoch, gaps included."""
    numbers: list[int] = []
    ((epoch, _, _), *_) = outbox.undrained(lane)
    while (part := outbox.slice(epoch, lane, after, 10_000)) is not None:
        for gap in part.gaps:
            numbers += range(gap.first, gap.last + 1)
        numbers += range(part.first, part.last + 1)
        after = part.last
    return numbers


def findings_of_outbox(data: Path) -> Iterator[str]:
    """What `check` says of the outbox."""
    (data / "instance").touch()
    return (f.problem for f in findings(data) if f.file == "outbox.db")
