"""Log lines: to stderr, and of one sort not more often than a reader can bear.

Not here: what is worth a line (those who write it), numbers (metrics).
"""

import logging
import sys
from collections import OrderedDict

from center.clock import Clock


def setup(level: str) -> None:
    """Send log lines of `level` and above to stderr."""
    logging.basicConfig(
        stream=sys.stderr,
        level=level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        force=True,
    )
    logging.getLogger("alembic").setLevel(logging.WARNING)


class Seldom:
    """Writes a line of one sort at most once per `every_s`, and then how many it left out.

    Remembers the newest `MAX_SORTS` sorts. Used by one thread only.
    """

    MAX_SORTS = 1000

    def __init__(self, logger: logging.Logger, clock: Clock, every_s: float = 60.0) -> None:
        self._logger = logger
        self._clock = clock
        self._every_s = every_s
        self._sorts: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def warn(self, sort: str, message: str) -> None:
        """Log `message`, unless a line of this `sort` was logged a moment ago."""
        now_s = self._clock.elapsed_s()
        last_s, left_out = self._sorts.pop(sort, (None, 0))
        if last_s is not None and now_s - last_s < self._every_s:
            self._sorts[sort] = (last_s, left_out + 1)
            return
        self._sorts[sort] = (now_s, 0)
        while len(self._sorts) > self.MAX_SORTS:
            self._sorts.popitem(last=False)
        self._logger.warning("%s%s", message, f" ({left_out} more like it)" if left_out else "")
