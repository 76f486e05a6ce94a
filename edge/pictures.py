"""Live pictures that somebody has asked a decode process for.

Here: who waits for which answer, and how long. Not here: how a picture is made (shard), who may ask
(calls).
"""

import asyncio
import itertools

from edge.pipe import PictureError, Show, Shown
from edge.process import Process
from edge.reconcile import StreamKey

_WITHIN_S = 8.0
"""A stream that is decoded seldom may have its next picture only so much later."""


class Pictures:
    """Questions that are open. Everything here runs on the agent's loop."""

    def __init__(self) -> None:
        self._asked: dict[int, asyncio.Future[Shown]] = {}
        self._numbers = itertools.count(1)

    async def ask(self, process: Process, key: StreamKey, width: int, max_bytes: int) -> Shown:
        """The stream's next picture. Raises PictureError; who asks bounds how many wait."""
        number = next(self._numbers)
        answered: asyncio.Future[Shown] = asyncio.get_running_loop().create_future()
        self._asked[number] = answered
        try:
            process.send(Show(number, key, width, max_bytes))
            shown = await asyncio.wait_for(answered, _WITHIN_S)
        except TimeoutError:
            within = f"{_WITHIN_S:g} s"
            raise PictureError(f"the stream gave no picture within {within}; try again") from None
        finally:
            del self._asked[number]
        if shown.error:
            raise PictureError(shown.error)
        return shown

    def answered(self, shown: Shown) -> None:
        """A process has answered; nobody may wait for it any more."""
        asked = self._asked.get(shown.number)
        if asked is not None and not asked.done():
            asked.set_result(shown)
