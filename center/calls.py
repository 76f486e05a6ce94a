"""Calls: asking a worker for something now, and waiting for what it says.

Here: sending a call, and bringing its answer to whoever waits in this process. Every replica hears
every answer; who did not ask lets it pass. Not here: routes, what a worker does about a call, and
what the methods' arguments are (wire.calls).

Nothing of a call is kept: a worker that is away is not waited for.
"""

import asyncio
import logging
import secrets
import threading
from dataclasses import dataclass
from typing import Any

import msgspec

from center.clock import Clock
from center.logs import Seldom
from center.metrics import Metrics
from center.presence import Presence
from center.replies import LinkLike, Reply, send
from center.resources import ConflictError
from wire import codec, topics
from wire.codec import WireError
from wire.link import Received
from wire.messages import Method, Rpc, Rsp
from wire.topics import UpTopic

MAX_WAITING = 100
"""Calls at once in this process."""
MAX_ERROR = 1000
"""Characters of a worker's sentence."""


_log = logging.getLogger("forecourt.calls")


class BusyError(RuntimeError):
    """The center cannot send a call just now; the text says what to do."""


class NoAnswerError(RuntimeError):
    """The worker did not answer in time."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a worker said, untrusted: `result` is sound JSON and no more than that."""

    id: str
    ok: bool
    result: bytes
    error: str


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    """Somebody who waits on a loop for the answer of one worker's session."""

    worker: str
    session: str
    id: str
    loop: asyncio.AbstractEventLoop
    answered: "asyncio.Future[Answer]"


class Calls:
    """The calls of this process that are under way."""

    def __init__(self, link: LinkLike, clock: Clock, metrics: Metrics) -> None:
        self._link = link
        self._clock = clock
        self._metrics = metrics
        self._seldom = Seldom(_log, clock)
        self._lock = threading.Lock()
        self._waiting: set[_Waiting] = set()

    async def ask(
        self,
        held: Presence,
        heartbeat_s: float,
        method: Method,
        args: dict[str, Any],
        timeout_s: float,
        name: str | None = None,
    ) -> Answer:
        """Call a worker and wait for its answer, at most `timeout_s`.

        The same `name` (the call's id) within ten minutes gets the same answer, and nothing is done
        twice. Raises ConflictError at once if the worker is not online, BusyError, NoAnswerError.
        """
        now_ms = self._clock.now_ms()
        state = held.state(now_ms, heartbeat_s)
        if state != "Online":
            raise ConflictError(
                f"worker {held.worker} is not online ({state}), and a call waits for nobody; try "
                "again when it is"
            )
        loop = asyncio.get_running_loop()
        call = Rpc(
            session=held.session,
            id=name or secrets.token_hex(8),
            method=method,
            args=args,
            deadline_ms=now_ms + round(timeout_s * 1000),
        )
        waiting = _Waiting(held.worker, held.session, call.id, loop, loop.create_future())
        with self._lock:
            if len(self._waiting) >= MAX_WAITING:
                raise BusyError(f"{MAX_WAITING} calls are under way already; try again in a moment")
            self._waiting.add(waiting)
        try:
            number = self._link.connection
            if number is None or not send(self._link, number, Reply(held.worker, call)):
                raise BusyError("the broker does not take the call just now; try again in a moment")
            self._metrics.count("calls_total")
            return await asyncio.wait_for(waiting.answered, timeout_s)
        except TimeoutError:
            self._metrics.count("calls_unanswered_total")
            raise NoAnswerError(
                f"worker {held.worker} did not answer within {timeout_s:g} s; look whether it is "
                "still online, or allow more time"
            ) from None
        finally:
            with self._lock:
                self._waiting.discard(waiting)

    def offer(self, message: Received) -> None:
        """On a link's thread: an answer came. One that nobody here waits for is let pass."""
        self._link.ack(message)
        try:
            topic = topics.parse(message.topic)
            if not isinstance(topic, UpTopic):
                raise WireError("not a topic on which workers speak")
            with self._lock:
                asked = [one for one in self._waiting if one.worker == topic.worker]
            # Not even unpacked unless that worker was asked: replicas hear each other's answers.
            said = codec.decode_up(topic, message.payload) if asked else None
            if isinstance(said, Rsp):
                asked = [w for w in asked if (w.session, w.id) == (said.session, said.id)]
                answer = Answer(
                    said.id, said.ok, msgspec.json.encode(said.result), said.error[:MAX_ERROR]
                )
            else:
                asked = []
        except (ValueError, RecursionError) as error:
            self._metrics.count("unreadable_messages_total")
            shown = repr(message.topic[:200])
            with self._lock:
                self._seldom.warn(f"unreadable {shown}", f"unreadable on {shown}: {error}")
            return
        if not asked:
            self._metrics.count("calls_foreign_total")
        for one in asked:
            one.loop.call_soon_threadsafe(_settle, one.answered, answer)


def _settle(answered: "asyncio.Future[Answer]", answer: Answer) -> None:
    if not answered.done():
        answered.set_result(answer)
