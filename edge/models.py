"""The center's models at this worker: fetched, tried, put to work; and what became of each.

Here: one at a time, from being wanted to being at work or refused with the reason, while the one
before goes on. Not here: bytes (fetch), files (store.models), networks (model_trial, detectors).

A network is loaded and tried in a process of its own first. Only one that has proven itself there
is given to the shards; it is remembered on disk, so that a start needs no network.
"""

import asyncio
import errno
import json
import logging
import random
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import msgspec

from edge.clock import Clock
from edge.config import inherited
from edge.fetch import FetchError, Progress, Source, fetch
from edge.pipe import Given, Supply, Withheld
from edge.reconcile import ModelWork, shortened
from edge.store.models import Good, ModelFiles
from edge.vision import manifest
from edge.vision.manifest import ModelError
from wire.backoff import full_jitter
from wire.messages import ItemObserved, ItemState
from wire.models import KIND, Published, canonical

log = logging.getLogger("forecourt.models")

TRIALS = 3
"""So many trials may come to no result, for want of time or memory."""
TRIAL_S = 120.0
"""A network that takes longer to be loaded and tried is none for this machine."""
_BACKOFF_S = (2.0, 300.0)
_NOTE_S = 2.0
_STEPS = 10
"""Parts of a file after which its progress is told."""
_MAX_ANSWER_BYTES = 1024 * 1024
_NO_SOURCE = (
    "this worker was given no center to fetch files from; set center and center_token_file, or put "
    "the model into its folder"
)


class PassingError(Exception):
    """Why a trial came to no result; it may be otherwise when the machine has more to give."""


class RefusedError(Exception):
    """Why a network is no good."""


Trial = Callable[[Path, Published], Awaitable[tuple[str, ...]]]
"""Load and try a network; the classes that it knows. Raises RefusedError,
PassingError."""


@dataclass(eq=False)
class _One:
    """A model that is wanted, and how far it has come."""

    work: ModelWork
    state: ItemState = "Starting"
    reason: str = "it waits for its turn"
    refused: str = ""
    """Why it is no good; it is not tried again as it is."""
    attempt: int = 0
    trials: int = 0
    """Trials that came to no result."""
    not_before_s: float = 0.0
    progress: Progress = field(default_factory=Progress)
    noted_s: float = 0.0
    tried: Good | None = None


class Models:
    """What the document says of models, made true. Everything here runs on the agent's loop."""

    def __init__(
        self,
        files: ModelFiles,
        source: Source | None,
        folders: Sequence[Path],
        clock: Clock,
        trial: Trial,
        *,
        supply: Callable[[Supply], None],
        on_change: Callable[[], None],
        backoff_s: tuple[float, float] = _BACKOFF_S,
    ) -> None:
        """`folders` are the worker's own, in which a file may lie already.

        `supply` gives the shards what they may use, `on_change` tells that a state is another one.
        """
        self._files = files
        self._source = source
        self._folders = folders
        self._clock = clock
        self._trial = trial
        self._supply = supply
        self._on_change = on_change
        self._backoff_s = backoff_s
        self._loop = asyncio.get_running_loop()
        self._random = random.Random()
        self._wake = asyncio.Event()
        self._ones: dict[str, _One] = {}
        self._named: Mapping[str, frozenset[str]] = {}
        self._good = {name: one for name, one in files.good().items() if self._is_here(one.model)}
        self._before: dict[str, Good] = {}
        """What each good one took the place of, should a shard not be able to load it."""

    # --- what others ask for ---

    def want(self, works: Iterable[ModelWork], named: Mapping[str, frozenset[str]]) -> None:
        """These are the models now; `named` are the classes that tasks name, by their model."""
        before, self._ones = self._ones, {}
        for work in works:
            one = before.pop(work.model.name, None)
            if one is not None and one.work.model == work.model:
                one.work = work
            else:
                if one is not None:
                    one.progress.stopped = True
                one = _One(work)
            self._ones[work.model.name] = one
        for one in before.values():
            one.progress.stopped = True
        self._named = named
        self._good = {name: good for name, good in self._good.items() if name in self._ones}
        self._before = {name: good for name, good in self._before.items() if name in self._ones}
        for name, one in self._ones.items():
            if one.tried is not None and not one.refused and not self._at_work(name):
                self._settle(name, one, one.tried)
        self._tell()
        self._wake.set()

    def supply(self) -> Supply:
        """What shards may use: the good ones, and why there is none of the others."""
        given, withheld = [], []
        for name, one in self._ones.items():
            good = self._good.get(name)
            if good is not None:
                given.append(Given(name, str(self._files.path(good.model)), canonical(good.model)))
            else:
                withheld.append(Withheld(name, one.refused or one.reason, bool(one.refused)))
        return Supply(tuple(given), tuple(withheld))

    def observed(self) -> list[ItemObserved]:
        """What became of each item."""
        return [self._observed(name, one) for name, one in self._ones.items()]

    def good(self) -> dict[str, Published]:
        """The models that are at work, by name; may be called from any thread."""
        return {name: one.model for name, one in self._good.items()}

    def refused_by_shard(self, name: str, document: bytes, reason: str) -> None:
        """A decode process could not load what had proven itself: the one before goes on."""
        one, good = self._ones.get(name), self._good.get(name)
        if one is None or good is None or canonical(good.model) != document:
            return
        log.error("model %s: refused by a decode process: %s", name, reason)
        before = self._before.pop(name, None)
        if before is not None:
            self._good[name] = before
        else:
            del self._good[name]
        if one.work.model == good.model:
            one.refused = reason
        self._remember()
        self._tell()

    def _is_here(self, model: Published) -> bool:
        """Whether its file is whole. One that cannot be read keeps no worker from its cameras."""
        try:
            return self._files.has(model)
        except OSError as error:
            log.error("model %s: its file cannot be read: %s", model.name, error.strerror)
            return False

    def _at_work(self, name: str) -> bool:
        one, good = self._ones[name], self._good.get(name)
        return good is not None and good.model == one.work.model

    def _observed(self, name: str, one: _One) -> ItemObserved:
        good = self._good.get(name)
        state: ItemState
        if self._at_work(name):
            state, reason = "Running", ""
        else:
            state, reason = ("Rejected", one.refused) if one.refused else (one.state, one.reason)
            if good is not None:
                reason = f"{reason}; {_version(good.model)} goes on"
        return ItemObserved(
            kind=KIND, id=name, revision=one.work.revision, state=state, reason=shortened(reason)
        )

    # --- life ---

    async def run(self) -> None:
        """Bring one after the other to work, until cancelled."""
        while True:
            now_s = self._clock.monotonic_s()
            due = {
                name: one
                for name, one in self._ones.items()
                if not (one.refused or one.tried or self._at_work(name))
            }
            ready = next((n for n, one in due.items() if one.not_before_s <= now_s), None)
            if ready is not None:
                await self._advance(ready, due[ready])
                continue
            self._wake.clear()
            soonest_s = min((one.not_before_s for one in due.values()), default=None)
            with suppress(TimeoutError):
                async with asyncio.timeout(None if soonest_s is None else soonest_s - now_s):
                    await self._wake.wait()

    async def _advance(self, name: str, one: _One) -> None:
        """Fetch and try one; whatever comes of it, it is noted, and later tried again or not."""
        model = one.work.model
        try:
            await self._have(name, one)
            self._note(one, "Starting", "it is being loaded and tried")
            labels = await self._trial(self._files.path(model), model)
        except RefusedError as error:
            log.error("model %s (%s): refused: %s", name, model.sha256[:12], error)
            one.refused = str(error)
        except PassingError as error:
            one.trials += 1
            if one.trials >= TRIALS:
                log.error("model %s (%s): refused: %s", name, model.sha256[:12], error)
                one.refused = f"{error}, {TRIALS} times"
            else:
                self._failed(one, FetchError(str(error)))
        except (FetchError, OSError) as error:
            self._failed(one, error)
        except Exception:
            log.exception("model %s", name)
            self._failed(one, FetchError("an unexpected error; the worker's log has it"))
        else:
            one.tried = Good(model, labels)
        if self._ones.get(name) is one:
            if one.tried is not None:
                self._settle(name, one, one.tried)
            self._tell()

    async def _have(self, name: str, one: _One) -> None:
        """See that the file is here. Raises FetchError, OSError."""
        model, files = one.work.model, self._files
        if await asyncio.to_thread(files.has, model):
            return
        used = {each.work.model.sha256 for each in self._ones.values()}
        used |= {good.model.sha256 for good in self._good.values()}
        problem = await asyncio.to_thread(files.make_room, model, used)
        if problem:
            raise FetchError(problem)
        if await asyncio.to_thread(self._take_own, name, model):
            log.info("model %s: its file lay in this worker's own folder", name)
            return
        if self._source is None:
            raise FetchError(_NO_SOURCE)
        self._note(one, "Starting", f"fetching {_size(model)}")
        log.info("model %s: fetching %s", name, model.sha256[:12])
        await _on_daemon(
            partial(
                fetch,
                self._source,
                f"/models/{model.sha256}/file",
                model.size_bytes,
                files.partial(model),
                one.progress,
                lambda: self._grew(one),
            )
        )
        if not await asyncio.to_thread(files.finish, model):
            raise FetchError("what came is not the file that the center means; it was thrown away")

    def _take_own(self, name: str, model: Published) -> bool:
        """Take the file from the worker's own folders, if it is the same. Raises OSError."""
        try:
            own = manifest.find(self._folders, name)
        except ModelError:
            return False
        return self._files.take(model, own.path)

    def _grew(self, one: _One) -> None:
        """On the fetching thread: tell now and then how far it is."""
        model, now_s = one.work.model, self._clock.monotonic_s()
        if now_s - one.noted_s >= _NOTE_S:
            one.noted_s = now_s
            share = one.progress.have_bytes * _STEPS // model.size_bytes * (100 // _STEPS)
            text = f"fetching {_size(model)}: {share} %"
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._note, one, "Starting", text)

    def _failed(self, one: _One, error: Exception) -> None:
        reason = str(error)
        if isinstance(error, OSError):
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            why = "the disk is full" if full else error.strerror or type(error).__name__
            reason = f"its file cannot be read or written: {why}"
        wait_s = full_jitter(one.attempt, *self._backoff_s, self._random)
        one.attempt += 1
        one.not_before_s = self._clock.monotonic_s() + wait_s
        log.warning("model %s: %s; next try in %.0f s", one.work.model.name, reason, wait_s)
        self._note(one, "Degraded", reason)

    def _settle(self, name: str, one: _One, tried: Good) -> None:
        """Put a model to work that has proven itself, unless tasks would lose a class by it."""
        before = self._good.get(name)
        known = before.labels if before is not None else ()
        lost = sorted((self._named.get(name, frozenset()) & set(known)) - set(tried.labels))
        if lost:
            words = ", ".join(map(repr, lost))
            self._note(one, "Rejected", f"it knows no {words}, which tasks name")
            return
        log.info("model %s: %s is put to work", name, _version(tried.model))
        if before is not None:
            self._before[name] = before
        self._good[name] = tried
        self._remember()

    def _remember(self) -> None:
        try:
            self._files.remember(self._good)
        except OSError as error:
            log.error("which models are good cannot be written down: %s", error.strerror)

    def _note(self, one: _One, state: ItemState, reason: str) -> None:
        if (one.state, one.reason) != (state, reason):
            one.state, one.reason = state, reason
            if self._ones.get(one.work.model.name) is one:
                self._tell()

    def _tell(self) -> None:
        self._supply(self.supply())
        self._on_change()


async def _on_daemon(act: Callable[[], None]) -> None:
    """Do something that may block for long; a worker that ends does not wait for it.

    Raises what it raises.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def settle(error: Exception | None) -> None:
        if not done.done():
            done.set_exception(error) if error is not None else done.set_result(None)

    def work() -> None:
        error: Exception | None = None
        try:
            act()
        except Exception as raised:
            error = raised
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, error)

    threading.Thread(target=work, name="fetch", daemon=True).start()
    await done


def _version(model: Published) -> str:
    return f"version {model.version}" if model.version else f"the file {model.sha256[:12]}"


def _size(model: Published) -> str:
    return f"{model.size_bytes / 1e6:.1f} MB"


class _Answer(msgspec.Struct, frozen=True):
    """What the trial writes."""

    labels: list[str] = []
    told: str = ""
    error: str = ""


def trial_apart(threads: int, inference: Sequence[str] = ("cpu",)) -> Trial:
    """A trial in a process of its own, which is killed when it takes too long."""

    async def trial(path: Path, model: Published) -> tuple[str, ...]:
        question = {
            "path": str(path),
            "model": json.loads(canonical(model)),
            "threads": threads,
            "inference": list(inference),
        }
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "edge.model_trial"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=inherited(),
        )
        try:
            async with asyncio.timeout(TRIAL_S):
                said, _ = await child.communicate(msgspec.json.encode(question))
        except TimeoutError:
            raise PassingError(f"it was not loaded and tried within {TRIAL_S:.0f} s") from None
        finally:
            with suppress(ProcessLookupError):
                child.kill()
            await child.wait()
        try:
            answer = msgspec.json.decode(said[:_MAX_ANSWER_BYTES], type=_Answer)
        except msgspec.MsgspecError:
            ended = _ended(child.returncode)
            killed = child.returncode == -signal.SIGKILL  # out of memory, most likely
            raise (PassingError(ended) if killed else RefusedError(ended)) from None
        if answer.error:
            raise RefusedError(answer.error)
        log.info("model %s is good: %s", model.name, answer.told)
        return tuple(answer.labels)

    return trial


def _ended(returncode: int | None) -> str:
    how = f"signal {-returncode}" if returncode is not None and returncode < 0 else "no answer"
    return f"the process that loaded and tried it ended with {how}; the runtime may have crashed"
