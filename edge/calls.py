"""What the center asks this worker for now: probe, picture, log, config.

Here: an answer in time, the same answer to the same id, and what each method gives. Not here: the
messages' way (uplink), decoding (shard, probe), the arguments' shapes (wire.calls).

No answer holds a credential: a camera's come from the desired document and go to the probe alone.
"""

import asyncio
import base64
import logging
import sys
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec
from pydantic import ValidationError

from edge.clock import Clock
from edge.config import inherited
from edge.logs import Ring, scrubbed
from edge.pipe import PictureError, Shown
from edge.reconcile import StreamKey
from wire import calls, specs
from wire.calls import LogArgs, PictureArgs, ProbeArgs
from wire.messages import Item, Rpc, Rsp
from wire.specs import SpecError

log = logging.getLogger("forecourt.calls")

AT_ONCE = 2
KEPT_S = 600.0
KEPT_ANSWERS = 64
KEPT_BYTES = 4 * 1024 * 1024
MAX_ID = 128
"""Characters."""
MAX_ANSWER_BYTES = 192 * 1024
"""Of a result as JSON; a message holds 256 KiB."""
MAX_ERROR = 1000
MAX_WAIT_S = 120.0
"""However late a deadline is."""
MAX_PROBED_BYTES = 64 * 1024
_PROBE_SPARE_S = 1.0
"""For the way of a probe's answer."""


class CallError(Exception):
    """Why a call gives no result, in words that say what to do. Never a credential."""


@dataclass
class _Kept:
    """A call that was asked for: at work, or done."""

    since_s: float
    work: "asyncio.Task[Rsp | None]"
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Worker:
    """What calls need of the worker around them."""

    items: Callable[[], list[Item]]
    """Those of the desired document."""
    stream_problem: Callable[[specs.Stream], str | None]
    """Why this worker may not open a stream, if it may not."""
    picture: Callable[[StreamKey, int, int], Awaitable[Shown]]
    """A running stream's next picture, at most so wide and so many bytes. Raises PictureError."""
    log: Ring
    config: Callable[[], dict[str, Any]]
    """How the worker is set up, without credentials; it may read files, on a thread."""
    secrets: Callable[[], list[str]] = field(default=list)
    """Passwords besides those of the cameras."""


class Calls:
    """Answers calls. Everything here runs on the agent's loop."""

    def __init__(self, worker: Worker, clock: Clock, center_now_ms: Callable[[], int]) -> None:
        self._worker = worker
        self._clock = clock
        self._center_now_ms = center_now_ms
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    async def answer(self, rpc: Rpc) -> Rsp | None:
        """The answer to a call; None where its deadline has passed, and nobody waits any more.

        The same id within ten minutes gets the same answer, though it be still at work.
        """
        left_s = self._left_s(rpc)
        if left_s <= 0 or len(rpc.id) > MAX_ID:
            log.debug("a call came too late, or without a proper id")
            return None
        self._forget()
        kept = self._kept.get(rpc.id)
        if kept is None:
            if sum(not one.work.done() for one in self._kept.values()) >= AT_ONCE:
                return _refused(rpc, "the worker is busy with other calls; try again in a moment")
            work = asyncio.create_task(self._done_by(rpc, left_s), name=f"call-{rpc.method[:20]}")
            kept = self._kept[rpc.id] = _Kept(self._clock.monotonic_s(), work)
            work.add_done_callback(lambda done: self._settle(rpc.id, done))
        # Shielded: whoever stops waiting, as a session that ends, takes no work from others.
        found = await asyncio.shield(kept.work)
        return None if found is None else msgspec.structs.replace(found, session=rpc.session)

    def _left_s(self, rpc: Rpc) -> float:
        return min(MAX_WAIT_S, (rpc.deadline_ms - self._center_now_ms()) / 1000)

    # --- answers that are kept ---

    def _settle(self, name: str, work: "asyncio.Task[Rsp | None]") -> None:
        """Keep an answer; what came to none may be tried again under the same id."""
        kept = self._kept.get(name)
        if kept is None or kept.work is not work:
            return
        answer = None if work.cancelled() or work.exception() else work.result()
        if answer is None:
            del self._kept[name]
        else:
            kept.size_bytes = len(msgspec.json.encode(answer))
            self._forget()

    def _forget(self) -> None:
        """What is too old or too much goes, oldest first; what is at work stays."""
        done = [(name, kept) for name, kept in self._kept.items() if kept.work.done()]
        count, size_bytes = len(done), sum(kept.size_bytes for _, kept in done)
        for name, kept in done:
            fresh = self._clock.monotonic_s() - kept.since_s < KEPT_S
            if fresh and count <= KEPT_ANSWERS and size_bytes <= KEPT_BYTES:
                break
            del self._kept[name]
            count, size_bytes = count - 1, size_bytes - kept.size_bytes

    # --- the work ---

    async def _done_by(self, rpc: Rpc, within_s: float) -> Rsp | None:
        """The answer, or None at the deadline; whatever goes wrong is told, and nothing secret."""
        secrets = self._secrets()
        try:
            async with asyncio.timeout(within_s):
                result = await self._work(rpc, secrets, within_s)
            if len(msgspec.json.encode(result)) > MAX_ANSWER_BYTES:
                raise CallError("the answer does not fit into a message; ask for less")
            return Rsp(session=rpc.session, id=rpc.id, ok=True, result=result)
        except TimeoutError:
            log.info("call %s was not done in time", rpc.method[:20])
            return None
        except (CallError, PictureError, SpecError) as error:
            return _refused(rpc, scrubbed(str(error), secrets))
        except Exception:
            log.exception("call %s", rpc.method[:20])
            return _refused(rpc, "an unexpected error; the worker's log has it")

    async def _work(self, rpc: Rpc, secrets: list[str], within_s: float) -> dict[str, Any]:
        match calls.parse(rpc.method, rpc.args):
            case ProbeArgs() as args:
                by_boot_ms = self._clock.boot_ms() + round((within_s - _PROBE_SPARE_S) * 1000)
                return await _probed(self._stream(args), by_boot_ms)
            case PictureArgs() as args:
                return await self._picture(args)
            case LogArgs() as args:
                return self._log(args, secrets)
            case calls.ConfigArgs():
                return await asyncio.to_thread(self._worker.config)

    def _stream(self, args: ProbeArgs) -> specs.Stream:
        """What is to be opened: a camera's stream with its credentials, or an address without."""
        if args.url is not None:
            stream = _addressed(args.url)
        else:
            camera = next((c for c in self._cameras() if c.metadata.name == args.camera), None)
            if camera is None:
                raise CallError(f"no camera {args.camera!r} in this worker's document")
            found = camera.spec.streams.get(args.stream)
            if found is None:
                raise CallError(f"camera {args.camera!r} has no stream {args.stream!r}")
            stream = found
        problem = self._worker.stream_problem(stream)
        if problem is not None:
            raise CallError(problem)
        return stream

    async def _picture(self, args: PictureArgs) -> dict[str, Any]:
        key = StreamKey(args.camera, args.stream)
        shown = await self._worker.picture(key, args.width, calls.MAX_PICTURE_BYTES)
        return {
            "jpeg": base64.b64encode(shown.jpeg).decode(),
            "width": shown.width,
            "height": shown.height,
            "t_ms": shown.t_ms,
        }

    def _log(self, args: LogArgs, secrets: list[str]) -> dict[str, Any]:
        """The latest lines that fit, oldest first; `omitted` of those asked for did not."""
        lines = [scrubbed(line, secrets) for line in self._worker.log.last(args.lines)]
        room_bytes = MAX_ANSWER_BYTES - 1024
        fitting: list[str] = []
        for line in reversed(lines):
            room_bytes -= len(msgspec.json.encode(line)) + 1
            if room_bytes < 0:
                break
            fitting.append(line)
        return {"lines": fitting[::-1], "omitted": len(lines) - len(fitting)}

    def _cameras(self) -> Iterator[specs.Camera]:
        for item in self._worker.items():
            if item.kind == "Camera":
                with suppress(ValueError):  # it is reported as rejected
                    camera = specs.parse(msgspec.json.decode(item.body))
                    if isinstance(camera, specs.Camera):
                        yield camera

    def _secrets(self) -> list[str]:
        """Every password that this worker knows."""
        streams = (s for camera in self._cameras() for s in camera.spec.streams.values())
        found = [s.password.get_secret_value() for s in streams if s.password is not None]
        return [*found, *self._worker.secrets()]


def _refused(rpc: Rpc, error: str) -> Rsp:
    return Rsp(session=rpc.session, id=rpc.id, ok=False, error=error[:MAX_ERROR])


def _addressed(url: str) -> specs.Stream:
    """The stream of an address. Raises CallError; credentials would be in the caller's words."""
    try:
        stream = specs.Stream(url=url)
    except ValidationError as error:
        found = "; ".join(problem.message for problem in specs.problems_of(error))
        raise CallError(f"args.url: {found}") from None
    if stream.username is not None or stream.password is not None:
        raise CallError(
            "args.url: an address in a call holds no user name or password; make a camera of it, "
            "and probe that"
        )
    return stream


async def _probed(stream: specs.Stream, by_boot_ms: int) -> dict[str, Any]:
    """What `edge.probe` says of a stream; it is killed when nobody waits any more."""
    question = {"stream": stream.model_dump(mode="json"), "by_boot_ms": by_boot_ms}
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "edge.probe"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=inherited(),
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        with suppress(ConnectionError):  # it ended early, and its output tells no more
            child.stdin.write(msgspec.json.encode(question))
            child.stdin.write_eof()
            await child.stdin.drain()
        said = await _capped(child.stdout)
    finally:
        with suppress(ProcessLookupError):
            child.kill()
        await asyncio.shield(_reaped(child))
    try:
        answer = msgspec.json.decode(said, type=_Probed)
    except msgspec.MsgspecError:
        raise CallError("the probe ended without an answer; the decoder may have crashed") from None
    if answer.error:
        raise CallError(answer.error)
    return answer.result


class _Probed(msgspec.Struct, frozen=True):
    """What the probe writes."""

    result: dict[str, Any] = {}
    error: str = ""


async def _reaped(child: asyncio.subprocess.Process) -> None:
    """Wait for the end of a killed process, and of what it had written, so that nothing leaks."""
    assert child.stdout is not None
    while await child.stdout.read(16 * 1024):
        pass
    await child.wait()


async def _capped(reader: asyncio.StreamReader) -> bytes:
    """All that comes, up to `MAX_PROBED_BYTES`."""
    said = b""
    while len(said) <= MAX_PROBED_BYTES and (part := await reader.read(16 * 1024)):
        said += part
    return said[:MAX_PROBED_BYTES]
