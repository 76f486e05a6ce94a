"""The agent divides the worker's cores among its decode processes, anew when streams change."""

import asyncio
import sys
from pathlib import Path

import pytest

from edge.clock import SystemClock
from edge.pipe import Settings
from edge.reconcile import StreamKey, StreamWork, TaskWork
from edge.shards import Shards
from edge.store.outbox import Outbox
from tests.waiting import wait_for
from wire import specs
from wire.specs import Priority

LISTENS = """
import sys
from multiprocessing.connection import Connection
from edge.pipe import Beat, Budget, Finish, Finished
pipe = Connection(int(sys.argv[1]))
while True:
    match pipe.recv():
        case Budget(cores):
            pipe.send(Beat((), (), 0, coverage={"cores": cores}))
        case Finish():
            pipe.send(Finished())
"""
"""A decode process that decodes nothing, and says what it was given."""


def work(name: str, priority: Priority) -> StreamWork:
    """A stream with one task."""
    rules = [{"name": "r", "when": {"class": "car"}}]
    spec = {"camera": name, "priority": priority, "model": {"name": "m"}, "rules": rules}
    metadata = {"name": name, "station": "s"}
    task = specs.parse({"kind": "Task", "metadata": metadata, "spec": spec})
    assert isinstance(task, specs.Task)
    stream = specs.Stream(url="rtsp://h/1")
    return StreamWork(StreamKey(name, "main"), stream, (TaskWork(task, 1),))


async def told(shards: Shards, *cores: float) -> None:
    """Wait until the processes have been told these cores."""
    expected = pytest.approx(sorted(cores))

    def divided() -> bool:
        return sorted(beat.coverage["cores"] for beat in shards.beats()) == expected

    await asyncio.to_thread(wait_for, divided, 20, f"shards with {cores} cores")


async def act(folder: Path) -> None:
    """Three processes with half a core: 0.4 of it are divided."""
    outbox = Outbox(folder / "outbox.db", SystemClock())
    settings = Settings(models=(), boot="b", threads=1, log_level="info")
    shards = Shards(
        3, settings, outbox, SystemClock(), lambda: None,
        cores=0.5, command=(sys.executable, "-c", LISTENS),
    )  # fmt: skip
    shards.apply([work("a", "normal")])
    running = asyncio.create_task(shards.run())
    await told(shards, 0.4, 0, 0)
    shards.apply([work("a", "normal"), work("b", "low")])
    await told(shards, 0.8 / 3, 0.4 / 3, 0)
    shards.apply([work("a", "normal"), work("b", "high"), work("c", "high"), work("d", "normal")])
    await told(shards, 0.4 / 3, 0.4 / 3, 0.4 / 3)
    shards.apply([])
    await told(shards, 0, 0, 0)
    await shards.finish()
    await running
    outbox.close()


def test_cores_follow_the_streams(tmp_path: Path) -> None:
    """By weight of priority; the agent keeps a tenth of a core; an empty process has none."""
    asyncio.run(asyncio.wait_for(act(tmp_path), 50))
