"""The desk on which readers put pictures, and from which the one analyst takes them.

Here: a slot for each stream, taken in turn. Not here: what is laid on it (reader), what is seen in
a picture (shard, analysis).
"""

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from edge.reconcile import StreamKey

PATIENCE_S = 4.0
"""A late picture waits no longer for the one before it: then the analyst does not keep up."""

LookT = TypeVar("LookT")


class Desk(Generic[LookT]):
    """One slot per stream. A newer look takes the place of one that nobody has taken yet.

    Slow inference so never stalls a camera. Pictures that were decoded after the fact are not live,
    and wait for each other instead.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._slots: dict[StreamKey, LookT] = {}
        self._errands: deque[Callable[[], None]] = deque()

    def put(self, key: StreamKey, look: LookT, *, patient: bool = False) -> LookT | None:
        """Lay a look into its stream's slot; the one that it replaces was never taken."""
        with self._changed:
            if patient:
                self._changed.wait_for(lambda: key not in self._slots, PATIENCE_S)
            replaced = self._slots.get(key)
            self._slots[key] = look  # in the place of the old one, or it would starve
            self._changed.notify_all()
        return replaced

    def errand(self, do: Callable[[], None]) -> None:
        """Have the analyst do something between two looks."""
        with self._changed:
            self._errands.append(do)
            self._changed.notify_all()

    def forget(self, key: StreamKey) -> None:
        """Empty a slot."""
        with self._changed:
            self._slots.pop(key, None)
            self._changed.notify_all()

    def take(self) -> LookT | Callable[[], None]:
        """The next errand, or else the look that lies longest. Waits for one."""
        with self._changed:
            self._changed.wait_for(lambda: self._slots or self._errands)
            if self._errands:
                return self._errands.popleft()
            look = self._slots.pop(next(iter(self._slots)))
            self._changed.notify_all()
            return look
