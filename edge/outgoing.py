"""What a decode process says to the agent, in order and no more than is answered.

Here: the sending side of the pipe. Not here: the messages themselves (pipe), receiving (shard).
"""

import threading
from collections.abc import Iterable

from edge.pipe import Beat, Finished, Happened, Pipe, Shown
from wire.events import Event, encode_event

_MAX_UNANSWERED = 64


class Outgoing:
    """The sending side of the pipe: bounded by what the agent has answered."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._sending = threading.Lock()
        self._answered = threading.Condition()
        self._number = 0
        self._unanswered: set[int] = set()

    def events(self, events: Iterable[Event]) -> None:
        """Hand events to the agent; waits while too many are unanswered."""
        encoded = tuple(encode_event(event) for event in events)
        if not encoded:
            return
        with self._answered:
            self._answered.wait_for(lambda: len(self._unanswered) < _MAX_UNANSWERED)
            self._number += 1
            number = self._number
            self._unanswered.add(number)
        self.send(Happened(number, encoded))

    def stored(self, number: int) -> None:
        """The agent has answered."""
        with self._answered:
            self._unanswered.discard(number)
            self._answered.notify_all()

    def wait_empty(self, timeout_s: float) -> bool:
        """Wait until everything is answered."""
        with self._answered:
            return self._answered.wait_for(lambda: not self._unanswered, timeout_s)

    def send(self, message: Happened | Beat | Shown | Finished) -> None:
        """Send one message whole."""
        with self._sending:
            self._pipe.send(message)
