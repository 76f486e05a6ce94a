"""A decode process has threads by its streams, whatever the machine's cores."""

import asyncio
from collections import Counter
from pathlib import Path

from edge.pipe import Apply, Beat, Finish, Finished, Settings
from edge.process import Process
from edge.reconcile import Start, StreamKey, StreamWork, TaskWork
from edge.shards import SHARD
from tests.parts import clips
from wire import specs

MODELS = str(Path(__file__).parents[2] / "models")
OF_A_STREAM = 2
"""One reads packets, the other decodes, with the codec's one thread."""
OF_A_SHARD = 6
"""Main, analyst, beat and what else serves all streams."""


def work(name: str, recording: Path) -> StreamWork:
    """A stream that loops, and a task that looks at it."""
    task = specs.parse(
        {
            "kind": "Task",
            "metadata": {"name": name, "station": "s"},
            "spec": {
                "camera": name,
                "model": {"name": "forecourt-nano"},
                "decode": "full",
                "rules": [{"name": "r", "when": {"class": "person"}}],
            },
        }
    )
    assert isinstance(task, specs.Task)
    stream = specs.Stream(url=f"file://{recording}", loop=True)
    return StreamWork(StreamKey(name, "main"), stream, (TaskWork(task, 1),))


async def threads(works: list[StreamWork]) -> Counter[str]:
    """The threads, by name, of a shard that looks at all of these."""
    process = Process("test", SHARD, threads=1)
    try:
        process.send(Settings(models=(MODELS,), boot="b", threads=1, log_level="warning"))
        process.send(Apply(tuple(Start(each) for each in works)))
        while True:
            message = await process.inbox.get()
            assert message is not None, "the shard ended"
            if isinstance(message, Beat) and _all_run(message, works):
                break
        found = _threads_of(process.pid)
        process.send(Finish())
        while not isinstance(message, Finished):
            message = await process.inbox.get()
        return found
    finally:
        await asyncio.to_thread(process.end)


def _threads_of(pid: int) -> Counter[str]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return Counter((task / "comm").read_text().strip() for task in tasks)


def _all_run(beat: Beat, works: list[StreamWork]) -> bool:
    """Whether every stream gives pictures and every task has looked at one."""
    running = [stream for stream in beat.streams if stream.state == "running"]
    looked = [task for task in beat.tasks if task.state == "Running"]
    return len(running) == len(looked) == len(works)


def test_threads_grow_with_streams_and_not_with_cores(tmp_path: Path) -> None:
    """I8: two threads a stream and a few for all; no library makes one for each core and camera."""
    recording = clips.write(tmp_path / "loop.mp4", clips.moving_square(20))
    works = [work(f"c{number}", recording) for number in range(8)]
    found = asyncio.run(asyncio.wait_for(threads(works), 50))
    assert found.total() <= OF_A_STREAM * len(works) + OF_A_SHARD, found
