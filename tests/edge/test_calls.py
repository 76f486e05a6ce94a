"""Calls at a worker: in time, once per id, and never with a credential."""

import asyncio
import base64
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edge import calls as edge_calls
from edge.calls import Calls, Worker
from edge.clock import SystemClock
from edge.desk import Desk
from edge.logs import Ring, scrubbed
from edge.pipe import PictureError, Settings, Show, Shown
from edge.reader import Look, Reader
from edge.reconcile import StreamKey, StreamWork, TaskWork
from edge.shard import Shard
from edge.video.decode import Image, frames, starting_at
from edge.video.jpeg import JpegError, jpeg
from edge.video.source import packets
from tests.parts import clips, rtsp
from tests.parts.clock import SteppedClock
from tests.waiting import wait_for
from wire import specs
from wire.calls import MAX_PICTURE_BYTES
from wire.messages import Item, Rpc, Rsp

SECRET = "hunter2-of-the-camera"
NOW_MS = 1_900_000_000_000
"""The center's clock; the worker's own says something else."""


def camera_item(url: str, **stream: Any) -> Item:
    """Camera `yard` as it lies in the desired document."""
    document = {
        "kind": "Camera",
        "metadata": {"name": "yard", "station": "s1"},
        "spec": {"streams": {"main": {"url": url, **stream}}},
    }
    body = specs.canonical(specs.parse(document))
    return Item(kind="Camera", id="yard", revision=1, body=msgspec.Raw(body))


@dataclass
class Stage:
    """A worker's calls, with what they ask the rest of the worker for."""

    items: list[Item] = field(default_factory=list)
    problem: str | None = None
    shown: Callable[[], Awaitable[Shown]] | None = None
    asked: list[StreamKey] = field(default_factory=list)
    ring: Ring = field(default_factory=Ring)
    config: dict[str, Any] = field(default_factory=lambda: {"worker": "w1"})
    clock: SteppedClock | SystemClock = field(default_factory=SystemClock)

    async def _picture(self, key: StreamKey, width: int, max_bytes: int) -> Shown:
        self.asked.append(key)
        if self.shown is None:
            raise PictureError("no task watches this stream")
        return await self.shown()

    def calls(self) -> Calls:
        """Must be made on the loop that answers."""
        worker = Worker(
            items=lambda: self.items,
            stream_problem=lambda stream: self.problem,
            picture=self._picture,
            log=self.ring,
            config=lambda: self.config,
            secrets=lambda: ["broker-secret"],
        )
        return Calls(worker, self.clock, lambda: NOW_MS)

    def ask(self, method: str, within_s: float = 10.0, **args: Any) -> Rsp | None:
        """One call by itself."""

        async def asked() -> Rsp | None:
            return await self.calls().answer(rpc(method, within_s, **args))

        return asyncio.run(asked())

    def result(self, method: str, within_s: float = 10.0, **args: Any) -> dict[str, Any]:
        """The result of a call that must succeed."""
        answer = self.ask(method, within_s, **args)
        assert answer is not None
        assert answer.ok, answer.error
        return answer.result

    def error(self, method: str, within_s: float = 10.0, **args: Any) -> str:
        """The error of a call that must fail, and does not time out."""
        answer = self.ask(method, within_s, **args)
        assert answer is not None
        assert not answer.ok
        assert answer.result == {}
        return answer.error


def rpc(method: str, within_s: float = 10.0, *, name: str = "call-1", **args: Any) -> Rpc:
    """A call of session `session-1` with a deadline by the center's clock."""
    deadline_ms = NOW_MS + round(within_s * 1000)
    return Rpc(session="session-1", id=name, method=method, args=args, deadline_ms=deadline_ms)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3 s of 160 x 120 at 10 pictures a second with a key frame each second."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    return clips.write(path, clips.moving_square(30))


# --- probe -------------------------------------------------------------------------------------


def test_a_probe_says_what_a_recording_is(clip: Path) -> None:
    """Container, codec, size, rate, distance of key frames and sound, from a process of its own."""
    found = Stage(items=[camera_item(clip.as_uri())]).result("probe", camera="yard")
    assert found["opened_ms"] >= 0
    assert "mp4" in found["container"]
    assert (found["codec"], found["width"], found["height"]) == ("h264", 160, 120)
    assert (found["fps"], found["key_interval_s"], found["audio"]) == (10.0, 1.0, False)


def test_a_probe_takes_a_cameras_password_from_the_document() -> None:
    """I11: a camera that wants a password is opened with the document's, which nobody is told."""
    with rtsp.serving(user="admin", password=SECRET) as camera:
        stage = Stage(items=[camera_item(camera.url, username="admin", password=SECRET)])
        found = stage.result("probe", within_s=20, camera="yard")
        assert (found["codec"], found["audio"]) == ("h264", False)
        stage.items = [camera_item(camera.url, username="admin", password=f"wrong-{SECRET}")]
        error = stage.error("probe", within_s=20, camera="yard")
    assert "refuses the user name or password" in error
    assert SECRET not in repr(found) + error


def test_an_address_is_probed_without_credentials(clip: Path) -> None:
    """An explicit address is opened as a task's would be, and must hold no user or password."""
    stage = Stage()
    assert stage.result("probe", url=clip.as_uri())["codec"] == "h264"
    error = stage.error("probe", url=f"rtsp://admin:{SECRET}@10.0.0.5/main")
    assert "holds no user name or password" in error
    assert SECRET not in error
    assert "args.url" in stage.error("probe", url="gopher://10.0.0.5/")
    stage.problem = "the recording does not lie in this worker's --recordings folder"
    assert "--recordings folder" in stage.error("probe", url="file:///etc/passwd")


@pytest.mark.parametrize(
    ("method", "args", "told"),
    [
        ("probe", {}, "either camera or url"),
        ("probe", {"camera": "yard", "url": "rtsp://h/1"}, "either camera or url"),
        ("probe", {"camera": "gate"}, "no camera 'gate'"),
        ("probe", {"camera": "yard", "stream": "sub"}, "no stream 'sub'"),
        ("picture", {}, "args.camera: is missing"),
        ("picture", {"camera": "yard", "width": 100_000}, "args.width"),
        ("picture", {"camera": "yard"}, "no task watches this stream"),
        ("log", {"lines": 1001}, "args.lines"),
        ("log", {"lines": []}, "args.lines"),
        ("config", {"secret": SECRET}, "args.secret: unknown key"),
        ("reboot", {}, "there are probe, picture, log, config"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_told(method: str, args: dict[str, Any], told: str) -> None:
    """Unknown methods, wrong arguments and cameras that are not in the document give a sentence."""
    error = Stage(items=[camera_item("rtsp://10.0.0.5/main")]).error(method, **args)
    assert told in error
    assert SECRET not in error


@contextmanager
def silent_camera() -> Iterator[str]:
    """Accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"rtsp://127.0.0.1:{server.getsockname()[1]}/main"


def test_a_silent_camera_is_told_before_the_deadline() -> None:
    """Opening ends in time for its own error to be answered."""
    with silent_camera() as url:
        error = Stage(items=[camera_item(url)]).error("probe", within_s=5.0, camera="yard")
    assert "nothing came for" in error


def test_a_probe_ends_with_its_deadline() -> None:
    """A process that hangs is killed at the deadline, and nobody is answered."""
    with silent_camera() as url:
        stage = Stage(items=[camera_item(url)])
        assert stage.ask("probe", within_s=0.3, camera="yard") is None
    wait_for(lambda: not _children(), 5, "the probe's process is gone")


def _children() -> list[str]:
    """Processes of this one that run the probe."""
    found = []
    for task in Path(f"/proc/{os.getpid()}/task").glob("*/children"):
        for child in task.read_text().split():
            try:
                found.append(Path(f"/proc/{child}/cmdline").read_bytes().decode())
            except OSError:
                continue
    return [line for line in found if "edge.probe" in line]


# --- pictures ----------------------------------------------------------------------------------


async def _a_picture() -> Shown:
    return Shown(1, b"\xff\xd8\xff picture", 960, 540, 1_800_000_000_123)


def test_a_picture_comes_with_its_time() -> None:
    """The stream's picture as base64, its size and its wall time."""
    stage = Stage(shown=_a_picture)
    found = stage.result("picture", camera="yard", stream="sub")
    assert base64.b64decode(found.pop("jpeg")) == b"\xff\xd8\xff picture"
    assert found == {"width": 960, "height": 540, "t_ms": 1_800_000_000_123}
    assert stage.asked == [StreamKey("yard", "sub")]


def as_it_is(image: Image) -> Image:
    """Nothing is hidden in it."""
    return image


@pytest.mark.parametrize("noisy", [False, True])
def test_a_jpeg_fits(tmp_path: Path, noisy: bool) -> None:
    """I8: it keeps its shape and the asked width, and gets coarser and smaller where it must."""
    noise = np.random.default_rng(7).integers(0, 255, (1080, 1920, 3), np.uint8)
    picture = noise if noisy else clips.grey(90, 1920, 1080)
    path = clips.write(tmp_path / "one.mp4", [picture], qp="1")
    stream = specs.Stream(url=path.as_uri(), pace="fast")
    frame = next(frames(packets(stream), anchor=starting_at(0)))
    made = jpeg(frame, 1280, MAX_PICTURE_BYTES, as_it_is)
    assert made.data.startswith(b"\xff\xd8\xff")
    assert len(made.data) <= MAX_PICTURE_BYTES
    assert abs(made.width / made.height - 16 / 9) < 0.02
    assert (made.width == 1280) != noisy
    assert jpeg(frame, 100_000, 10**9, as_it_is).width == 1920
    with pytest.raises(JpegError, match="does not fit"):
        jpeg(frame, 1280, 10, as_it_is)


# --- log and config ----------------------------------------------------------------------------


def test_the_log_is_the_latest_lines_without_credentials() -> None:
    """I11: passwords in addresses, in settings, and those of the document's cameras are hidden."""
    stage = Stage(items=[camera_item("rtsp://10.0.0.5/", username="admin", password=SECRET)])
    logger = logging.getLogger("forecourt.test-calls")
    logger.addHandler(stage.ring)
    try:
        logger.warning("first")
        logger.warning("opening rtsp://admin:p@ss/word@10.0.0.5/main?password=topsecret&x=1")
        logger.warning("the camera said %s, the broker broker-secret", SECRET)
    finally:
        logger.removeHandler(stage.ring)
    lines = stage.result("log", lines=2)["lines"]
    assert len(lines) == 2
    assert lines[0].endswith(
        "WARNING forecourt.test-calls: opening rtsp://admin:***@10.0.0.5/main?password=***&x=1"
    )
    assert lines[1].endswith("the camera said ***, the broker ***")


@pytest.mark.parametrize("text", ["rtsp://10.0.0.5:554/main", "mqtt://center:1883", "a@b: c://d"])
def test_what_is_no_credential_stays(text: str) -> None:
    """Ports and addresses are shown as they are."""
    assert scrubbed(text) == text


def test_a_long_log_fits_into_a_message() -> None:
    """I8: the ring is bounded, and the answer has the latest lines that fit."""
    stage = Stage()
    for number in range(1500):
        record = logging.LogRecord("n", 20, "f", 1, "%d " + "\x01" * 500, (number,), None)
        stage.ring.handle(record)
    found = stage.result("log", lines=1000)
    assert found["omitted"] + len(found["lines"]) == 1000
    assert "1499" in found["lines"][-1]
    assert len(msgspec.json.encode(found)) <= edge_calls.MAX_ANSWER_BYTES


def test_config_is_what_the_worker_describes() -> None:
    """The description is passed on; one that would not fit is an error."""
    assert Stage().result("config") == {"worker": "w1"}
    assert "does not fit" in Stage(config={"huge": "x" * 300_000}).error("config")


# --- once, in time, and not too many -----------------------------------------------------------


class Slow:
    """A picture that comes when the test says so."""

    def __init__(self) -> None:
        self.began = 0
        self.cancelled = 0
        self.go = asyncio.Event()

    async def __call__(self) -> Shown:
        self.began += 1
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return await _a_picture()


def test_the_same_id_is_done_once() -> None:
    """A call that is said again shares the work under way, and later gets the kept answer."""

    async def scene() -> None:
        slow = Slow()
        calls = Stage(shown=slow).calls()
        first = asyncio.create_task(calls.answer(rpc("picture", camera="yard")))
        again = asyncio.create_task(
            calls.answer(msgspec.structs.replace(rpc("picture", camera="yard"), session="s-2"))
        )
        await asyncio.sleep(0)
        slow.go.set()
        one, two = await first, await again
        assert one is not None
        assert two is not None
        assert (one.ok, one.session, two.session) == (True, "session-1", "s-2")
        three = await calls.answer(rpc("picture", camera="yard"))
        assert three == one
        assert slow.began == 1
        await calls.answer(rpc("picture", name="call-2", camera="yard"))
        assert slow.began == 2

    asyncio.run(scene())


def test_who_stops_waiting_takes_no_work_from_others() -> None:
    """A session that ends cancels its wait; the same id on the next session gets that work."""

    async def scene() -> None:
        slow = Slow()
        calls = Stage(shown=slow).calls()
        first = asyncio.create_task(calls.answer(rpc("picture", camera="yard")))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        slow.go.set()
        answer = await calls.answer(rpc("picture", camera="yard"))
        assert answer is not None
        assert answer.ok
        assert (slow.began, slow.cancelled) == (1, 0)

    asyncio.run(scene())


def test_an_answer_is_forgotten_after_ten_minutes_and_beyond_its_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """I8: answers are kept by age, number and size; after that the work is done anew."""
    monkeypatch.setattr(edge_calls, "KEPT_ANSWERS", 2)
    clock = SteppedClock()
    stage = Stage(shown=_a_picture, clock=clock)

    async def scene() -> None:
        calls = stage.calls()

        async def asked(name: str) -> int:
            await calls.answer(rpc("picture", name=name, camera="yard"))
            return len(stage.asked)

        assert [await asked("a"), await asked("b"), await asked("a")] == [1, 2, 2]
        clock.step(599)
        assert await asked("a") == 2
        clock.step(2)
        assert [await asked("a"), await asked("b"), await asked("c"), await asked("a")] == [
            3, 4, 5, 6,
        ]  # fmt: skip
        assert await asked("c") == 6
        monkeypatch.setattr(edge_calls, "KEPT_BYTES", 10)
        assert [await asked("d"), await asked("d")] == [7, 8]

    asyncio.run(scene())


def test_two_calls_at_once() -> None:
    """I8: a third is refused at once, and may be tried again under the same id."""

    async def scene() -> None:
        slow = Slow()
        calls = Stage(shown=slow).calls()
        two = [
            asyncio.create_task(calls.answer(rpc("picture", name=name, camera="yard")))
            for name in ("a", "b")
        ]
        await asyncio.sleep(0)
        third = await calls.answer(rpc("picture", name="c", camera="yard"))
        assert third is not None
        assert "busy with other calls; try again" in third.error
        slow.go.set()
        await asyncio.gather(*two)
        third = await calls.answer(rpc("picture", name="c", camera="yard"))
        assert third is not None
        assert third.ok

    asyncio.run(scene())


def test_after_the_deadline_nothing_is_said() -> None:
    """By the center's clock: a late call is not begun, and one under way is cancelled."""

    async def scene() -> None:
        slow = Slow()
        calls = Stage(shown=slow).calls()
        assert await calls.answer(rpc("picture", within_s=0.0, camera="yard")) is None
        assert await calls.answer(rpc("picture", within_s=-1.0, camera="yard")) is None
        assert slow.began == 0
        assert await calls.answer(rpc("picture", within_s=0.05, camera="yard")) is None
        assert (slow.began, slow.cancelled) == (1, 1)
        slow.go.set()
        again = await calls.answer(rpc("picture", camera="yard"))
        assert again is not None
        assert again.ok

    asyncio.run(scene())


def test_a_fault_is_no_answer_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    """An unexpected error is logged, and told without what it holds."""

    async def fails() -> Shown:
        raise RuntimeError(f"about {SECRET}")

    error = Stage(shown=fails).error("picture", camera="yard")
    assert error == "an unexpected error; the worker's log has it"


# --- a shard's part ----------------------------------------------------------------------------


@contextmanager
def shard_with(*readers: Reader) -> Iterator[tuple[Shard, Connection]]:
    """A shard that runs these streams, and the agent's end of its pipe."""
    ours, theirs = socket.socketpair()
    settings = Settings(models=(), boot="b", threads=1, log_level="info")
    agent, pipe = Connection(ours.detach()), Connection(theirs.detach())
    shard = Shard(pipe, settings, SteppedClock())
    shard._readers.update({reader.key: reader for reader in readers})
    yield shard, agent
    agent.close()
    pipe.close()


def watched(stream: specs.Stream) -> StreamWork:
    """A stream with a task."""
    parsed = specs.parse(
        {
            "kind": "Task",
            "metadata": {"name": "t", "station": "s"},
            "spec": {
                "camera": "yard",
                "model": {"name": "m"},
                "rules": [{"name": "r", "when": {"class": "car"}}],
            },
        }
    )
    assert isinstance(parsed, specs.Task)
    return StreamWork(StreamKey("yard", "main"), stream, (TaskWork(parsed, 1),))


def test_a_shard_shows_the_next_picture(clip: Path) -> None:
    """Whoever waits gets the next picture, encoded between two looks; it is not kept after that."""
    stream = specs.Stream(url=clip.as_uri(), pace="fast")
    desk: Desk[Look] = Desk()
    reader = Reader(watched(stream), desk, SteppedClock(), lambda reader: None)
    with shard_with(reader) as (shard, agent):
        shard._show(Show(7, reader.key, 80, MAX_PICTURE_BYTES))
        shard._show(Show(8, reader.key, 80, 10))
        reader.run()
        for _ in range(2):
            job = desk.take()
            assert not isinstance(job, Look)
            job()
        shown, unfit = agent.recv(), agent.recv()
    assert (shown.number, shown.width, shown.height, shown.error) == (7, 80, 60, "")
    assert shown.jpeg.startswith(b"\xff\xd8\xff")
    assert (unfit.number, unfit.jpeg, unfit.error) == (
        8, b"", "the picture does not fit into 10 bytes",
    )  # fmt: skip
    assert not reader._waiting


def test_a_stream_that_stops_before_its_picture_is_made_shows_none(clip: Path) -> None:
    """What its tasks hide is known no more; a picture that shows it must not leave."""
    stream = specs.Stream(url=clip.as_uri(), pace="fast")
    desk: Desk[Look] = Desk()
    reader = Reader(watched(stream), desk, SteppedClock(), lambda reader: None)
    with shard_with(reader) as (shard, agent):
        shard._show(Show(7, reader.key, 80, MAX_PICTURE_BYTES))
        reader.run()
        shard._readers.clear()
        job = desk.take()
        assert not isinstance(job, Look)
        job()
        shown = agent.recv()
    assert (shown.jpeg, shown.error) == (b"", "the stream has just been stopped")


def test_a_shard_without_the_stream_says_so() -> None:
    """A stream that was stopped meanwhile is an error, not a silence."""
    with shard_with() as (shard, agent):
        shard._show(Show(7, StreamKey("yard", "main"), 80, MAX_PICTURE_BYTES))
        assert agent.recv().error == "the stream has just been stopped"


def test_who_waits_for_a_dark_stream_is_bounded() -> None:
    """I8: of those who wait for a picture that does not come, the latest four stay."""
    reader = Reader(
        watched(specs.Stream(url="rtsp://10.0.0.5/")), Desk(), SteppedClock(), lambda reader: None
    )
    for _ in range(100):
        reader.show(lambda frame: None)
    assert len(reader._waiting) == 4
