"""The center's models at a worker: fetched over a bad network, tried, put to work, or refused."""

import asyncio
import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from edge.clock import SystemClock
from edge.fetch import FetchError, Progress, Source, fetch
from edge.models import TRIALS, Models, PassingError, RefusedError, Trial, trial_apart
from edge.pipe import Supply
from edge.reconcile import ModelWork
from edge.store.models import Good, ModelFiles, rotten
from tests.parts.models import FILE, published, sha256_of
from tests.waiting import wait_for
from wire.manifest import parse
from wire.models import Published, canonical

TOKEN = "fc-worker-0123456789abcdef"
MODEL = published()
OTHER = published(FILE + b"!", version="2")
NANO = Path(__file__).parents[2] / "models" / "forecourt-nano"


@dataclass
class FarEnd:
    """A center's HTTP as a bad network shows it; a test says what goes wrong."""

    files: dict[str, bytes] = field(default_factory=dict)
    cut_after: int | None = None
    """Bytes of an answer after which the connection is cut; None: it is not."""
    status: int = 0
    """Answered instead, if it is not 0."""
    asked: list[str] = field(default_factory=list)
    """The Range of each request that showed the token."""
    hold: threading.Event = field(default_factory=threading.Event)
    """What is left after `cut_after` waits for this instead, if it is cleared."""
    url: str = ""

    def __post_init__(self) -> None:
        self.hold.set()


def _handler(far: FarEnd) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
            """Quiet."""

        def do_GET(self) -> None:
            if self.headers.get("authorization") != f"Bearer {TOKEN}":
                self.send_error(401)
                return
            far.asked.append(self.headers.get("range", ""))
            content = far.files.get(self.path.split("/")[-2], b"")
            if far.status or not content:
                self.send_response(far.status or 404)
                self.send_header("location", "http://127.0.0.1:9/elsewhere")
                self.end_headers()
                return
            first = int(far.asked[-1].removeprefix("bytes=").rstrip("-") or 0)
            self.send_response(206 if first else 200)
            if first:
                self.send_header(
                    "content-range", f"bytes {first}-{len(content) - 1}/{len(content)}"
                )
            self.send_header("content-length", str(len(content) - first))
            self.end_headers()
            body = content[first:]
            if far.cut_after is not None:
                self.wfile.write(body[: far.cut_after])
                self.wfile.flush()
                far.hold.wait(20)
                self.close_connection = True
                return
            self.wfile.write(body)

    return Handler


@pytest.fixture
def far() -> Iterator[FarEnd]:
    far = FarEnd(files={MODEL.sha256: FILE, OTHER.sha256: FILE + b"!"})
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(far))
    far.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield far
    server.shutdown()
    server.server_close()


@pytest.fixture
def source(far: FarEnd, tmp_path: Path) -> Source:
    token = tmp_path / "token"
    token.write_text(f"{TOKEN}\n")
    token.chmod(0o600)
    return Source(far.url, token)


@pytest.fixture
def files(tmp_path: Path) -> ModelFiles:
    return ModelFiles(tmp_path, 100_000_000)


async def knows_persons(path: Path, model: Published) -> tuple[str, ...]:
    assert path.suffix == ".onnx"
    return ("person",)


@dataclass
class Desk:
    """Models at work, and what they said."""

    models: Models
    supplies: list[Supply]
    told: list[tuple[str, str]]
    """State and reason of the first item, each time that something changed."""

    def state(self, name: str = "nano") -> tuple[str, str]:
        (one,) = (item for item in self.models.observed() if item.id == name)
        return one.state, one.reason

    def want(self, *models: Published, named: frozenset[str] = frozenset()) -> None:
        works = [ModelWork(model, number) for number, model in enumerate(models, 1)]
        self.models.want(works, {model.name: named for model in models})

    async def until(self, met: Callable[[], object], what: str) -> None:
        await asyncio.to_thread(wait_for, met, 10, what)

    async def comes_to(self, state: str, reason: str = "") -> None:
        """Wait until the item was told to be in that state, from now on."""
        begin = len(self.told)

        def came() -> bool:
            told = [self.state(), *self.told[begin:]]
            return any(one[0] == state and reason in one[1] for one in told)

        await self.until(came, f"{state} {reason}")


@asynccontextmanager
async def at_work(
    files: ModelFiles,
    source: Source | None,
    trial: Trial = knows_persons,
    folders: tuple[Path, ...] = (),
) -> AsyncIterator[Desk]:
    supplies: list[Supply] = []
    told: list[tuple[str, str]] = []

    def note() -> None:
        told.extend((item.state, item.reason) for item in models.observed()[:1])

    models = Models(
        files,
        source,
        folders,
        SystemClock(),
        trial,
        supply=supplies.append,
        on_change=note,
        backoff_s=(0.05, 0.1),
    )
    running = asyncio.create_task(models.run())
    try:
        yield Desk(models, supplies, told)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def run(test: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 30))


def test_a_model_is_fetched_tried_and_put_to_work(source: Source, files: ModelFiles) -> None:
    """It is given to the shards when it has proven itself, and not before."""

    async def test() -> None:
        async with at_work(files, source) as desk:
            desk.want(MODEL)
            assert desk.state()[0] == "Starting"
            await desk.comes_to("Running")
            assert all(not supply.given for supply in desk.supplies[:-1])
            (given,) = desk.supplies[-1].given
            assert given.path == str(files.path(MODEL))
            assert files.has(MODEL)
            assert (given.name, given.document) == ("nano", canonical(MODEL))

    run(test)


def test_a_fetch_goes_on_where_it_was_cut(far: FarEnd, source: Source, files: ModelFiles) -> None:
    """Each attempt asks for the rest; meanwhile the item says what is wrong."""
    far.cut_after = 900_000

    async def test() -> None:
        async with at_work(files, source) as desk:
            desk.want(MODEL)
            await desk.comes_to("Degraded", "cannot be reached")
            await desk.comes_to("Running")

    run(test)
    begun = [int(asked.removeprefix("bytes=").rstrip("-") or 0) for asked in far.asked]
    assert len(begun) >= 3
    assert begun == sorted(set(begun))
    assert begun[1] >= 700_000


def test_a_killed_worker_goes_on_where_it_was(
    far: FarEnd, source: Source, files: ModelFiles
) -> None:
    """kill -9 amid a fetch leaves no file with a name, and the next process asks for the rest."""
    far.cut_after = 1_500_000
    far.hold.clear()
    partial = files.partial(MODEL)
    script = (
        "from pathlib import Path; from edge.fetch import *; import sys; "
        "fetch(Source(sys.argv[1], Path(sys.argv[2])), sys.argv[3], int(sys.argv[4]), "
        "Path(sys.argv[5]), Progress())"
    )
    path = f"/models/{MODEL.sha256}/file"
    words = [source.url, str(source.token_file), path, str(MODEL.size_bytes), str(partial)]
    child = subprocess.Popen([sys.executable, "-c", script, *words])
    try:
        wait_for(lambda: partial.exists() and partial.stat().st_size >= 1_000_000, 20, "a part")
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
        far.hold.set()
    assert not files.has(MODEL)
    far.cut_after = None
    fetch(source, path, MODEL.size_bytes, partial, Progress())
    assert files.finish(MODEL)
    assert files.path(MODEL).read_bytes() == FILE
    assert int(far.asked[-1].removeprefix("bytes=").rstrip("-")) >= 1_000_000


def test_wrong_bytes_are_thrown_away(far: FarEnd, source: Source, files: ModelFiles) -> None:
    """A file that is not what the center means is never put to work, and fetched from the start."""
    far.files[MODEL.sha256] = FILE[:-1] + b"X"

    async def test() -> None:
        async with at_work(files, source) as desk:
            desk.want(MODEL)
            await desk.comes_to("Degraded", "thrown away")
            assert not files.partial(MODEL).exists()
            far.files[MODEL.sha256] = FILE
            await desk.comes_to("Running")

    run(test)


@pytest.mark.parametrize(
    ("status", "told"),
    [(302, "redirects"), (404, "does not give"), (500, "status 500"), (503, "busy")],
)
def test_why_a_fetch_fails_is_told(
    far: FarEnd, source: Source, files: ModelFiles, status: int, told: str
) -> None:
    """The reason says what to do; a redirect is not followed with the token (I11)."""
    far.status = status
    with pytest.raises(FetchError, match=told) as refused:
        fetch(source, "/models/x/file", 10, files.partial(MODEL), Progress())
    assert TOKEN not in str(refused.value)
    assert len(far.asked) == 1


def test_a_token_that_cannot_be_used_is_told_without_it(
    source: Source, files: ModelFiles, tmp_path: Path
) -> None:
    """A file that is missing, writable by others, or holds something else; never its content."""
    for content, mode, told in (
        (None, 0, "cannot be read"),
        (TOKEN, 0o666, "by others"),
        ("two words here", 0o600, "holds no token"),
        ("x" * 5000, 0o600, "holds no token"),
    ):
        path = tmp_path / "another"
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_text(content)
            path.chmod(mode)
        with pytest.raises(FetchError, match=told) as refused:
            Source(source.url, path).token()
        assert content is None or content not in str(refused.value)


def test_a_broken_version_leaves_the_old_one_at_work(
    source: Source, files: ModelFiles, far: FarEnd
) -> None:
    """Refused with its reason, not fetched again; another file of that name is tried anew."""

    async def trial(path: Path, model: Published) -> tuple[str, ...]:
        if model.version == "2":
            raise RefusedError("it finds nothing")
        return ("person",)

    third = published(b"a third one", version="3")
    far.files[third.sha256] = b"a third one"

    async def test() -> None:
        async with at_work(files, source, trial) as desk:
            desk.want(MODEL)
            await desk.comes_to("Running")
            desk.want(OTHER)
            await desk.comes_to("Rejected", "it finds nothing; version 1 goes on")
            (given,) = desk.supplies[-1].given
            assert given.document == canonical(MODEL)
            requests = len(far.asked)
            desk.want(OTHER)
            desk.want(third)
            await desk.comes_to("Running")
            assert len(far.asked) == requests + 1
            assert desk.supplies[-1].given[0].document == canonical(third)

    run(test)


def test_a_trial_without_a_result_is_repeated_and_given_up(
    source: Source, files: ModelFiles
) -> None:
    """Too little time or memory may pass; what never comes to a result is refused at last."""
    tried: list[str] = []

    async def trial(path: Path, model: Published) -> tuple[str, ...]:
        tried.append(model.version)
        if model.version == "2" or len(tried) < TRIALS:
            raise PassingError("it took too long")
        return ("person",)

    async def test() -> None:
        async with at_work(files, source, trial) as desk:
            desk.want(MODEL)
            await desk.comes_to("Degraded", "it took too long")
            await desk.comes_to("Running")
            tried.clear()
            desk.want(OTHER)
            await desk.comes_to("Rejected", f"it took too long, {TRIALS} times; version 1 goes on")
            assert len(tried) == TRIALS

    run(test)


def test_tasks_lose_no_class_by_a_new_version(source: Source, files: ModelFiles) -> None:
    """A version without a class that tasks name is refused until none of them does."""

    async def trial(path: Path, model: Published) -> tuple[str, ...]:
        return ("person", "van") if model.version == "1" else ("person",)

    async def test() -> None:
        async with at_work(files, source, trial) as desk:
            desk.want(MODEL, named=frozenset({"van"}))
            await desk.comes_to("Running")
            desk.want(OTHER, named=frozenset({"van"}))
            await desk.comes_to("Rejected", "'van'")
            desk.want(OTHER, named=frozenset({"person"}))
            await desk.comes_to("Running")

    run(test)


def test_a_start_needs_no_network(source: Source, files: ModelFiles, tmp_path: Path) -> None:
    """I7: what has proven itself is at work again at once, tried or not, with the center away."""

    async def never(path: Path, model: Published) -> tuple[str, ...]:
        raise RefusedError("it was tried before")

    async def test() -> None:
        async with at_work(files, source) as desk:
            desk.want(MODEL)
            await desk.comes_to("Running")
        away = Source("http://127.0.0.1:9", source.token_file)
        async with at_work(ModelFiles(tmp_path, 100_000_000), away, never) as desk:
            desk.want(MODEL)
            assert desk.state() == ("Running", "")
            assert len(desk.supplies[-1].given) == 1
            desk.want(OTHER)
            await desk.comes_to("Degraded", "version 1 goes on")

    run(test)


def test_a_rotten_file_is_fetched_again(source: Source, files: ModelFiles, tmp_path: Path) -> None:
    """What is no more what it was is not put to work at a start."""

    async def test() -> None:
        async with at_work(files, source) as desk:
            desk.want(MODEL)
            await desk.comes_to("Running")
        assert list(rotten(tmp_path)) == []
        with files.path(MODEL).open("r+b") as file:
            file.write(b"rotten")
        assert list(rotten(tmp_path)) == [files.path(MODEL)]
        async with at_work(ModelFiles(tmp_path, 100_000_000), source) as desk:
            desk.want(MODEL)
            assert desk.state()[0] == "Starting"
            await desk.comes_to("Running")
            assert files.path(MODEL).read_bytes() == FILE

    run(test)


def test_a_file_that_cannot_be_read_keeps_no_worker_from_starting(
    source: Source, files: ModelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bad sector under a model is told and tried again; cameras do not wait for it (I7)."""

    async def test() -> None:
        async with at_work(files, source) as desk:
            desk.want(MODEL)
            await desk.comes_to("Running")
        with monkeypatch.context() as disk:
            disk.setattr("edge.store.models.is_file", _bad_sector)
            async with at_work(ModelFiles(files.path(MODEL).parents[1], 10**8), source) as desk:
                desk.want(MODEL)
                await desk.comes_to("Degraded", "Input/output error")
                disk.undo()
                await desk.comes_to("Running")

    run(test)


def _bad_sector(path: Path, model: Published) -> bool:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_a_file_of_the_workers_own_is_taken(files: ModelFiles, tmp_path: Path) -> None:
    """The same file in the worker's folder needs no center; another one there is none of it."""
    own = tmp_path / "own"
    own.mkdir()
    (own / "nano.onnx").write_bytes(FILE)

    async def test() -> None:
        async with at_work(files, None, folders=(own,)) as desk:
            desk.want(MODEL)
            await desk.comes_to("Running")
            desk.want(OTHER)
            await desk.comes_to("Degraded", "center_token_file")

    run(test)


def test_a_shard_that_cannot_load_it_gets_the_old_one(source: Source, files: ModelFiles) -> None:
    """What proved itself apart and fails in a decode process is refused as well."""

    async def test() -> None:
        async with at_work(files, source) as desk:
            for model in (MODEL, OTHER):
                desk.want(model)
                await desk.comes_to("Running")
            desk.models.refused_by_shard("nano", canonical(MODEL), "late news")
            assert desk.state()[0] == "Running"
            desk.models.refused_by_shard("nano", canonical(OTHER), "no memory")
            assert desk.state() == ("Rejected", "no memory; version 1 goes on")
            assert desk.supplies[-1].given[0].document == canonical(MODEL)
            assert files.good()["nano"] == Good(MODEL, ("person",))
            desk.models.refused_by_shard("nano", canonical(MODEL), "no memory either")
            assert desk.supplies[-1].withheld[0].hopeless

    run(test)


def test_room_is_made_of_what_nobody_uses(source: Source, tmp_path: Path, far: FarEnd) -> None:
    """I8: the oldest unused file goes first; where all are used, the item says so."""
    files = ModelFiles(tmp_path, 2 * len(FILE) + 100)
    big = published(FILE + FILE, name="big")
    far.files[big.sha256] = FILE + FILE

    async def test() -> None:
        async with at_work(files, source) as desk:
            for model in (MODEL, OTHER):
                desk.want(model)
                await desk.comes_to("Running")
            assert files.has(MODEL)
            third = published(FILE + b"??", version="3")
            far.files[third.sha256] = FILE + b"??"
            desk.want(third)
            await desk.comes_to("Running")
            assert not files.path(MODEL).exists()
            desk.want(third, big)
            await desk.until(lambda: "models_mb" in desk.state("big")[1], "no room for it")

    run(test)


def test_a_full_disk_is_told(source: Source, files: ModelFiles) -> None:
    """A partial file that cannot grow is a reason, and what runs goes on."""
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full on this machine")
    files.partial(MODEL).symlink_to("/dev/full")

    async def test() -> None:
        async with at_work(files, source) as desk:
            desk.want(MODEL)
            await desk.comes_to("Degraded", "the disk is full")

    run(test)


def test_the_real_trial_tells_good_from_bad(tmp_path: Path) -> None:
    """A network of ours passes with its classes; bytes that are none are refused with a reason."""
    told = parse((NANO / "model.toml").read_bytes())
    good = Published.model_validate(told.model_dump(exclude_defaults=True))
    junk = tmp_path / "junk.onnx"
    junk.write_bytes(FILE)

    async def test() -> None:
        assert await trial_apart(1)(NANO / "model.onnx", good) == told.labels
        with pytest.raises(RefusedError, match="junk"):
            await trial_apart(1)(junk, MODEL)

    run(test)
    assert good.sha256 == sha256_of((NANO / "model.onnx").read_bytes())
