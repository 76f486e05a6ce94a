"""How the shards learn what the inputs say: at once, as state, and whatever becomes of them."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from edge.clock import SystemClock
from edge.facts import Facts
from edge.pipe import Settings
from edge.reconcile import StreamKey, StreamWork
from edge.shards import Shards
from edge.store.outbox import Outbox
from tests.waiting import wait_for
from wire import specs
from wire.facts import Fact

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "tests.parts.small_shard")
Play = Callable[[Callable[[Shards, Facts], Awaitable[None]]], None]


def lifted(t_ms: int, name: str = "nozzle-1") -> Fact:
    """What an input says."""
    return Fact(input=name, value="lifted", t_ms=t_ms)


def work(camera: str) -> StreamWork:
    """A stream that no task watches."""
    return StreamWork(StreamKey(camera, "main"), specs.Stream(url="rtsp://h/1"), ())


def heard(folder: Path) -> list[list[tuple[str, int]]]:
    """The messages that processes got: of each fact its input and moment."""
    path = folder / "heard"
    lines = path.read_text().splitlines() if path.exists() else []
    return [[(name, t_ms) for name, _, t_ms in json.loads(line)] for line in lines]


def told(folder: Path) -> set[tuple[str, int]]:
    """All of them together."""
    return {fact for message in heard(folder) for fact in message}


async def until(condition: Callable[[], object], what: str) -> None:
    """Wait beside the loop until something is true."""
    await asyncio.to_thread(wait_for, condition, 20, what)


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    """Runs a scenario beside the life of one shard, and of the agent's table of facts."""
    monkeypatch.setenv("FORECOURT_TEST_FOLDER", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    async def both(scenario: Callable[[Shards, Facts], Awaitable[None]]) -> None:
        settings = Settings(models=(), boot="b", threads=1, log_level="info")
        outbox = Outbox(tmp_path / "outbox.db", SystemClock())
        facts = Facts()
        shards = Shards(
            1, settings, outbox, SystemClock(), lambda: None, facts=facts.newest, command=COMMAND
        )
        running = asyncio.create_task(shards.run())
        try:
            await until(shards.beats, "the shard lives")
            await scenario(shards, facts)
        finally:
            await shards.finish()
            await running
            outbox.close()

    return lambda scenario: asyncio.run(both(scenario))


def test_a_process_that_starts_knows_what_is_so(play: Play, tmp_path: Path) -> None:
    """Facts are told as they come; the process that follows one that died begins with the last."""

    async def scenario(shards: Shards, facts: Facts) -> None:
        shards.apply([work("good")])
        for t_ms in (1, 2):
            facts.put(lifted(t_ms))
            shards.inform([lifted(t_ms)])
        await until(lambda: ("nozzle-1", 2) in told(tmp_path), "told at once")
        [shard] = shards.shown()
        os.kill(shard["pid"], signal.SIGKILL)
        await until(lambda: shards.restarts["killed"], "it was killed")
        await until(lambda: heard(tmp_path)[-1] == [("nozzle-1", 2)], "the next one knows")

    play(scenario)


def test_a_process_that_does_not_listen_holds_nobody_up(play: Play, tmp_path: Path) -> None:
    """I8: what waits for it is one bounded message, and is there when it listens again."""

    async def scenario(shards: Shards, facts: Facts) -> None:
        shards.apply([work("deaf")])
        [before] = shards.shown()
        for t_ms in range(20_000):
            shards.inform([lifted(t_ms)])
        shards.inform([lifted(1, "nozzle-2")])
        (tmp_path / "deaf").touch()
        await until(lambda: ("nozzle-2", 1) in told(tmp_path), "it hears the last word")
        assert ("nozzle-1", 19_999) in told(tmp_path)
        assert all(len(message) <= 65 for message in heard(tmp_path))
        assert [shard["pid"] for shard in shards.shown()] == [before["pid"]]
        assert not shards.restarts

    play(scenario)
