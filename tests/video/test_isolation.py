"""What fails natively in one stream costs its neighbours one restart at most, and then only itself.

Real decode processes under the agent's own `Shards`; tests/parts/faulty_shard.py sets the traps.
"""

import asyncio
import itertools
import shutil
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from edge.clock import SystemClock
from edge.pipe import Settings
from edge.reconcile import StreamKey, StreamWork, TaskWork
from edge.shards import Shards
from edge.store.outbox import Outbox
from tests.parts.clips import moving_square, write
from wire import specs
from wire.messages import StreamHealth

pytestmark = pytest.mark.timeout(120)

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "tests.parts.faulty_shard")
LOSS_MS = 3000
"""From death to the first look of the new process; and nothing else may cost as much."""


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten seconds at ten pictures a second, a key frame every second; something moves in it."""
    return write(tmp_path_factory.mktemp("clips") / "ok.mp4", moving_square(100))


@dataclass(frozen=True)
class Look:
    """One analysed picture."""

    pid: int
    camera: str
    t_ms: int


class Station:
    """Decode processes with their cameras, and what they looked at."""

    def __init__(self, folder: Path, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        self._clip = clip
        self._looks = folder / "looks.txt"
        monkeypatch.setenv("FORECOURT_TEST_LOOKS", str(self._looks))
        monkeypatch.setenv("PYTHONPATH", str(ROOT))

    @asynccontextmanager
    async def shards(
        self, works: list[StreamWork], count: int = 1, memory_bytes: int = 10**10
    ) -> AsyncIterator[Shards]:
        """Shards at work on all of these, which they take in turn."""
        outbox = Outbox(self._folder / "outbox.db", SystemClock())
        shards = Shards(
            count,
            Settings(models=(str(ROOT / "models"),), boot="b", threads=1, log_level="info"),
            outbox,
            SystemClock(),
            on_change=lambda: None,
            command=COMMAND,
            memory_bound_bytes=lambda streams: memory_bytes,
        )
        shards.apply(works)
        running = asyncio.create_task(shards.run())
        try:
            yield shards
        finally:
            await shards.finish()
            await running
            outbox.close()

    def work(self, camera: str, recording: str = "ok.mp4", pace: str = "live") -> StreamWork:
        """A camera that shows a recording for ever, watched five times a second."""
        path = self._folder / recording
        if not path.exists():
            shutil.copy(self._clip, path)
        stream = {"url": path.as_uri(), "loop": True, "pace": pace}
        task = {
            "kind": "Task",
            "metadata": {"name": f"watch-{camera}", "station": "s"},
            "spec": {
                "camera": camera,
                "fps": 5,
                "model": {"name": "forecourt-nano"},
                "rules": [{"name": "any", "when": {"class": "car"}}],
            },
        }
        parsed = specs.parse(task)
        assert isinstance(parsed, specs.Task)
        key = StreamKey(camera, "main")
        return StreamWork(key, specs.Stream.model_validate(stream), (TaskWork(parsed, 1),))

    def looks(self) -> dict[str, list[Look]]:
        """What was looked at until now, by camera."""
        found: dict[str, list[Look]] = defaultdict(list)
        lines = self._looks.read_text().splitlines() if self._looks.exists() else []
        for pid, camera, t_ms in (line.split() for line in lines):
            found[camera].append(Look(int(pid), camera, int(t_ms)))
        return found

    def seen(self, camera: str, since_ms: float = 0.0) -> int:
        """How often a camera was looked at since then (monotonic time)."""
        return sum(look.t_ms > since_ms for look in self.looks()[camera])


@pytest.fixture
def station(tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch) -> Station:
    """A station without cameras yet."""
    return Station(tmp_path, clip, monkeypatch)


async def until(condition: Callable[[], object], timeout_s: float, what: str) -> None:
    """Wait on the loop until something is true. Raises AssertionError naming `what`."""
    try:
        async with asyncio.timeout(timeout_s):
            while not condition():  # noqa: ASYNC110 - what other processes do has no event
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"not within {timeout_s:g} s: {what}") from None


def longest_gap_ms(looks: list[Look]) -> int:
    """How long a camera was not looked at, at most."""
    return max(after.t_ms - before.t_ms for before, after in itertools.pairwise(looks))


def health(shards: Shards, camera: str) -> StreamHealth:
    """How a camera's stream fares."""
    return next(stream for stream in shards.streams() if stream.camera == camera)


def task_state(shards: Shards, camera: str) -> tuple[str, str]:
    """A camera's task: state and reason."""
    task = next(task for task in shards.tasks() if task.id == f"watch-{camera}")
    return task.state, task.reason


def test_sixteen_cameras_of_which_four_are_bad(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One crashes, one hangs, one floods, one is corrupt; twelve lose one restart of 3 s, once."""
    monkeypatch.setattr("edge.shards._SPARE_AFTER_S", 1.0)
    good = [f"good-{number}" for number in range(12)]
    works = [station.work(camera) for camera in good]
    works += [station.work("crash", "crash-50.mp4"), station.work("hang", "hang-15.mp4")]
    works += [station.work("flood", "flood.mp4", pace="fast"), station.work("bad", "bad.mp4")]
    spoil(station, "bad.mp4")

    async def scenario() -> float:
        async with station.shards(works) as shards:
            await until(lambda: shards.restarts["crash"], 15, "the crash")
            await until(lambda: shards.quarantined == 2, 25, "both in quarantine")
            quiet_ms = SystemClock().monotonic_s() * 1000
            crashed = shards.restarts["crash"]
            await until(lambda: shards.restarts["crash"] > crashed, 20, "a crash in quarantine")
            await until(lambda: station.seen("good-0", quiet_ms) > 20, 10, "more looks")
            for camera in good:
                assert (health(shards, camera).coverage or 1) < 1, "the restart is told (I10)"
            assert "quarantined: its decoder crashed (Segmentation" in health(shards, "crash").error
            return quiet_ms

    quiet_ms = asyncio.run(scenario())
    looks = station.looks()
    for camera in good:
        assert len({look.pid for look in looks[camera]}) == 2, f"{camera} lost one restart"
        assert longest_gap_ms(looks[camera]) <= LOSS_MS, camera
        assert len({look.pid for look in looks[camera] if look.t_ms > quiet_ms}) == 1, camera
    assert looks["flood"]


def test_hangs_and_exits_cost_the_neighbour_one_restart(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python's lock held for ever, a thread that burns CPU; an exit, known by its second time."""
    monkeypatch.setattr("edge.shards._QUARANTINE_S", (600.0, 600.0))
    faults = {
        "hold": "its decoder held up its whole decode process",
        "leave": "its decode process ended (status 3)",
        "spin": "its decoder did not come back within",
    }
    works = [station.work(camera, f"{camera}-10.mp4") for camera in faults]
    works += [station.work(f"beside-{camera}") for camera in faults]

    async def scenario() -> None:
        async with station.shards(works, len(faults)) as shards:
            await until(lambda: shards.quarantined == 3, 30, "each of them in quarantine")
            await until(lambda: shards.restarts["spin"], 10, "the end of the thread that burns CPU")
            now_ms = SystemClock().monotonic_s() * 1000
            for camera, why in faults.items():
                stream = health(shards, camera)
                assert stream.error.startswith(f"quarantined: {why}")
                assert (stream.state, stream.coverage, stream.wanted_fps) == ("lost", 0.0, 5)
                assert task_state(shards, camera) == ("Degraded", stream.error)
            for camera in faults:
                beside = f"beside-{camera}"
                await until(partial(station.seen, beside, now_ms), 10, f"looks at {beside}")
            assert shards.restarts == {"silent": 1, "exit": 2, "spin": 1}

    asyncio.run(scenario())


def test_a_leak_ends_alone_and_who_behaves_returns(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who leaks is found by dividing; who crashed once is back after its term."""
    monkeypatch.setattr("edge.shards._QUARANTINE_S", (1.0, 1.0))
    monkeypatch.setattr("edge.quarantine.TERM_S", (5.0, 600.0))
    names = {"once": "once-10.mp4", "leak": "leak-10.mp4", "b0": "ok.mp4", "b1": "ok.mp4"}
    works = [station.work(camera, name) for camera, name in names.items()]

    async def scenario() -> None:
        async with station.shards(works, 2, memory_bytes=400_000_000) as shards:
            await until(lambda: shards.restarts["crash"], 15, "the crash")
            await until(lambda: "grew to" in health(shards, "leak").error, 20, "the leak is alone")
            await until(lambda: not health(shards, "once").error, 20, "the other one returns")
            assert shards.restarts["leak"] >= 2
            now_ms = SystemClock().monotonic_s() * 1000
            for camera in ("once", "b0", "b1"):
                await until(partial(station.seen, camera, now_ms), 10, f"looks at {camera}")

    asyncio.run(scenario())
    looks = station.looks()
    assert {look.pid for look in looks["once"]} & {look.pid for look in looks["b0"][-3:]}


def spoil(station: Station, recording: str) -> None:
    """Overwrite every second kilobyte of a recording's pictures."""
    path = station.work("x", recording).stream.url.removeprefix("file://")
    data = bytearray(Path(path).read_bytes())
    for at in range(4096, len(data) - 4096, 2048):
        data[at : at + 1024] = bytes(1024)
    Path(path).write_bytes(data)
