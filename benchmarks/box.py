"""A box at a station: a whole worker whose cameras are recordings, played live.

Its tasks lie on its disk, as after a restart without a network; nothing answers where its broker
should be. Here: starting it, and what it uses and sees. Not here: how many cameras it is given
(replay.py), what a bar is (decode.py).
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec

from benchmarks import stage, streams
from edge.clock import SystemClock
from edge.store.desired import DesiredStore
from tests.waiting import wait_for
from wire.messages import Desired, Item, digest, item_hash

NO_BROKER = "mqtt://127.0.0.1:9"
START_WITHIN_S = 60.0
MEMORY_S = 10.0
"""Rings are full and pictures flow long before."""
_MEMORY_STREAMS = 5
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Sample:
    """What a worker said and used at a moment."""

    at_s: float
    streams: list[dict[str, Any]]
    cpu_s: dict[int, float]
    """By process, since its start."""
    rss_mb: dict[int, float]


@dataclass
class Box:
    """A running worker."""

    agent: int
    """Its main process."""
    url: str

    def streams(self) -> list[dict[str, Any]]:
        """How every stream fares, by its own account."""
        said = httpx.get(f"{self.url}api/status", timeout=20.0)
        found: list[dict[str, Any]] = said.raise_for_status().json()["streams"]
        return found

    def sample(self) -> Sample:
        """What it says and uses now."""
        pids = [self.agent, *_below(self.agent)]
        return Sample(
            time.monotonic(),
            self.streams(),
            {pid: _cpu_s(pid) for pid in pids},
            {pid: _rss_mb(pid) for pid in pids},
        )

    def started(self, count: int) -> None:
        """Wait until all streams give pictures."""
        wait_for(lambda: self._running(count), START_WITHIN_S, f"{count} streams running", 0.5)

    def _running(self, count: int) -> bool:
        return [stream["state"] for stream in self.streams()] == ["running"] * count


@contextmanager
def box(recordings: Sequence[Path], *, shards: int) -> Iterator[Box]:
    """A worker with one camera for each recording; it is stopped at the end."""
    folder = Path(tempfile.mkdtemp(prefix="box-", dir=recordings[0].parents[1]))
    _wish(folder / "desired.db", recordings)
    log = (folder / "log").open("wb")
    command = [sys.executable, "-m", "edge", "run", "--worker", "box", "--data", str(folder)]
    command += ["--broker", NO_BROKER, "--display", "127.0.0.1:0", "--shards", str(shards)]
    command += ["--recordings", str(recordings[0].parent), "--log-level", "warning"]
    command += ["--models", str(streams.models_folder())]
    with log, subprocess.Popen(command, stderr=log, cwd=stage.ROOT) as process:
        try:
            address = folder / "display.url"
            wait_for(address.exists, START_WITHIN_S, f"the worker's display, see {log.name}")
            yield Box(process.pid, address.read_text().strip())
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()


def _wish(file: Path, recordings: Sequence[Path]) -> None:
    """Put the desired document where the uplink would have put it."""
    items = []
    for number, recording in enumerate(recordings):
        name = f"camera-{number}"
        played = {"url": f"file://{recording.resolve()}", "pace": "live", "loop": True}
        camera = {
            "kind": "Camera",
            "metadata": {"name": name, "station": "bench"},
            "spec": {"streams": {"main": played}},
        }
        task = streams.task(name).model_dump(mode="json", by_alias=True, exclude_none=True)
        for body in (camera, task):
            raw = msgspec.Raw(msgspec.json.encode(body))
            items.append(Item(kind=str(body["kind"]), id=name, revision=1, body=raw))
    document = digest((i.kind, i.id, i.revision, item_hash(i.body)) for i in items)
    store = DesiredStore(file, SystemClock())
    try:
        store.take(Desired(session="", generation=1, revision=1, digest=document, items=items))
    finally:
        store.close()


def turned(folder: Path, activity: str, count: int, encoder: str = "reference") -> list[Path]:
    """Recordings for so many cameras: the same stream, no two in step before there are ten."""
    gops = round(streams.PART_S * streams.FPS / streams.GOP)
    files = [
        streams.stream(folder, streams.recipe(activity, encoder, turned=(3 * turn) % gops))
        for turn in range(min(count, gops))
    ]
    return [files[number % gops] for number in range(count)]


def memory(folder: Path, encoder: str) -> dict[str, Any]:
    """What one more live stream of a kind costs a decode process, in MB of a million bytes."""
    rss_mb = {}
    for count in (1, _MEMORY_STREAMS):
        with box(turned(folder, "mixed", count, encoder), shards=1) as worker:
            worker.started(count)
            stage.let_run(MEMORY_S)
            used = worker.sample().rss_mb
            rss_mb[count] = sum(mb for pid, mb in used.items() if pid != worker.agent)
    extra_mb = (rss_mb[_MEMORY_STREAMS] - rss_mb[1]) / (_MEMORY_STREAMS - 1)
    return {
        "per_stream_mb": round(extra_mb, 1),
        "with_1_mb": round(rss_mb[1], 1),
        f"with_{_MEMORY_STREAMS}_mb": round(rss_mb[_MEMORY_STREAMS], 1),
    }


# --- /proc -------------------------------------------------------------------------------------


def _below(pid: int) -> list[int]:
    """All living processes that a process has started, and those that these have."""
    found: list[int] = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, children.read_text().split()):
            found += [child, *_below(child)]
    return found


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def _rss_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0
