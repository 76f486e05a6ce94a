"""Calls of the center that are being answered.

Here: one task for each, how many there may be, and an answer whatever happens. Not here: what a
call does (calls), the connection (uplink).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from wire import codec
from wire.messages import Rpc, Rsp

log = logging.getLogger("forecourt.uplink")

MAX_CALLS = 16

Answer = Callable[[Rpc], Awaitable[Rsp | None]]
"""Does what a call asks for; None where it came too late."""


async def no_calls(call: Rpc) -> Rsp | None:
    """The answer of a worker that takes no calls."""
    return _failed(call, "this worker takes no calls")


class Replies:
    """The calls of one uplink; lives on the agent's loop. `say` raises codec.TooLargeError."""

    def __init__(self, answer: Answer, say: Callable[[Rsp], object]) -> None:
        self._answer = answer
        self._say = say
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, call: Rpc) -> None:
        """Begin to answer a call."""
        if len(self._tasks) >= MAX_CALLS:
            self._say(_failed(call, "busy, try again"))
            return
        task = asyncio.get_running_loop().create_task(self._reply(call))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def cancel(self) -> None:
        """Answer nobody any more."""
        for task in self._tasks:
            task.cancel()

    async def _reply(self, call: Rpc) -> None:
        try:
            answer = await self._answer(call)
        except Exception:
            log.exception("call %s", call.method[:20])
            answer = _failed(call, "the worker failed; its log tells more")
        if answer is None:
            return
        try:
            self._say(answer)
        except codec.TooLargeError as error:
            self._say(_failed(call, str(error)))


def _failed(call: Rpc, why: str) -> Rsp:
    return Rsp(session=call.session, id=call.id, ok=False, error=why)
