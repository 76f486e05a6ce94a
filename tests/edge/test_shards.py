"""What the agent does with its decode processes: rooms for quarantine, and ways out of it."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from edge.clock import SystemClock
from edge.pipe import Settings
from edge.reconcile import StreamKey, StreamWork
from edge.shards import Shards
from edge.store.outbox import Outbox
from tests.waiting import wait_for
from wire import specs

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "tests.parts.small_shard")


def work(camera: str, url: str = "rtsp://h/1") -> StreamWork:
    """A stream that no task watches."""
    return StreamWork(StreamKey(camera, "main"), specs.Stream(url=url), ())


@pytest.fixture
def play(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[[Shards], Coroutine[Any, Any, None]]], None]:
    """Runs a scenario beside the life of one shard; back-off is short, rooms are one."""
    monkeypatch.setenv("FORECOURT_TEST_FOLDER", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr("edge.shards._QUARANTINE_S", (0.01, 0.01))
    monkeypatch.setattr("edge.shards.MAX_APART", 1)

    async def both(scenario: Callable[[Shards], Coroutine[Any, Any, None]]) -> None:
        settings = Settings(models=(), boot="b", threads=1, log_level="info")
        outbox = Outbox(tmp_path / "outbox.db", SystemClock())
        shards = Shards(1, settings, outbox, SystemClock(), lambda: None, command=COMMAND)
        running = asyncio.create_task(shards.run())
        try:
            await scenario(shards)
        finally:
            await shards.finish()
            await running
            outbox.close()

    return lambda scenario: asyncio.run(both(scenario))


async def until(condition: Callable[[], object], what: str) -> None:
    """Wait beside the loop until something is true."""
    await asyncio.to_thread(wait_for, condition, 20, what)


def states(shards: Shards) -> dict[str, tuple[str, str]]:
    """State and error of every camera's stream."""
    return {stream.camera: (stream.state, stream.error) for stream in shards.streams()}


def kinds(shards: Shards) -> list[tuple[str, int]]:
    """Every shard's kind and number of streams."""
    return sorted((shard["kind"], shard["streams"]) for shard in shards.shown())


def waiting(shards: Shards) -> list[str]:
    """The cameras that are in quarantine and find no room there."""
    words = "when one of the 1 processes of quarantine is free"
    return [camera for camera, (_, error) in states(shards).items() if words in error]


Play = Callable[[Callable[[Shards], Coroutine[Any, Any, None]]], None]


def test_quarantine_has_so_many_rooms(play: Play) -> None:
    """Beyond them a stream waits, is lost and says why; it comes in when another goes (I8)."""

    async def scenario(shards: Shards) -> None:
        shards.apply([work("frail-1"), work("frail-2"), work("good")])
        await until(lambda: shards.quarantined == 2, "both in quarantine")
        await until(lambda: len(waiting(shards)) == 1, "one has the room, the other waits")
        (second,) = waiting(shards)
        (first,) = {"frail-1", "frail-2"} - {second}
        assert states(shards)[second][0] == "lost"
        assert states(shards)[first][1].startswith("quarantined: its decoder crashed")
        shards.apply([work(second), work("good")])
        await until(lambda: states(shards)[second][0] == "running", "the other has the room")
        assert shards.restarts == {"crash": 2}

    play(scenario)


def test_a_changed_source_is_a_new_chance(play: Play) -> None:
    """Stopped and started elsewhere a stream runs beside the others, and its process ends."""

    async def scenario(shards: Shards) -> None:
        shards.apply([work("frail-1"), work("good")])
        await until(lambda: states(shards)["frail-1"][1].startswith("quarantined"), "quarantine")
        await until(lambda: states(shards)["frail-1"][0] == "running", "it runs there")
        shards.apply([work("frail-1", "rtsp://h/2"), work("good")])
        await until(lambda: kinds(shards) == [("common", 2)], "no process of its own is left")
        await until(lambda: states(shards)["frail-1"] == ("running", ""), "it runs in common")

    play(scenario)


def test_calm_brings_a_stream_back(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """After its term without a death it returns to the common shards."""
    monkeypatch.setattr("edge.quarantine.TERM_S", (1.0, 1.0))

    async def scenario(shards: Shards) -> None:
        shards.apply([work("frail-1"), work("good")])
        await until(lambda: shards.restarts["crash"] == 1, "the crash")
        await until(lambda: kinds(shards) == [("common", 2)], "it is back")
        await until(lambda: states(shards)["frail-1"] == ("running", ""), "it runs in common")

    play(scenario)
