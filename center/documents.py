"""Desired documents on their way: who is due one, and what each is sent.

Here: the line of workers, delta or whole, not more whole ones at once than the center can bear.
Not here: what a document holds (dispatch), who needs one (downlink, healing).

Whether a worker still needs its document, and from where it starts, is read when it is sent:
several edits are one message, and what could not be sent is not out of date when it can.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping

from sqlalchemy import Connection

from center import dispatch, presence
from center.admission import Sluice
from center.clock import Clock
from center.db import Database
from center.metrics import Metrics
from center.replies import LinkLike, Reply, send

MAX_TURN = 200
"""Workers that are looked at in one turn, so that messages are not kept waiting."""
LATE_S = 10.0
"""A worker that does not have what it was sent so lately may not have got it yet."""
MAX_TOLD = 20_000


class Documents:
    """The workers that are due a document; each is in the line once.

    Any thread may call `due`; everything else is the downlink's.
    """

    def __init__(
        self, database: Database, link: LinkLike, clock: Clock, metrics: Metrics, sluice: Sluice
    ) -> None:
        self._database = database
        self._link = link
        self._clock = clock
        self._metrics = metrics
        self._sluice = sluice
        self._due: OrderedDict[str, bool] = OrderedDict()
        self._held_back: OrderedDict[str, bool] = OrderedDict()
        """Who needs a whole document and waits for the sluice."""
        self._repaired: dict[str, tuple[str, str]] = {}
        self._told: OrderedDict[str, tuple[str, str, float]] = OrderedDict()
        """Session, digest and time of what each worker was sent last, of the latest `MAX_TOLD`."""
        self._lock = threading.Lock()

    @property
    def waiting(self) -> int:
        """How many workers are due a document."""
        return len(self._due) + len(self._held_back)

    def due(self, workers: Iterable[str], *, repair: bool = False) -> None:
        """These workers need what they are to have; for a `repair` the whole of it."""
        with self._lock:
            for worker in workers:
                self._due[worker] = repair or self._due.get(worker, False)

    def repaired(self) -> Mapping[str, tuple[str, str]]:
        """Workers that were sent a whole document for a repair: session and digest."""
        return dict(self._repaired)

    def noted(self, repaired: Mapping[str, tuple[str, str]]) -> None:
        """These repairs are stored."""
        for worker, repair in repaired.items():
            if self._repaired.get(worker) == repair:
                del self._repaired[worker]

    def arrived(self, worker: str) -> None:
        """The worker says that it has what it is to have."""
        self._told.pop(worker, None)

    def send(self, connection_number: int) -> bool:
        """Send what can be sent now, in order; whether there is more that could be.

        Ends at the first that the link does not take, which stays in the line. Raises one of
        `db.UNAVAILABLE` with nobody forgotten.
        """
        now_s = self._clock.elapsed_s()
        if not self._has_next(now_s):
            return False
        with self._database.reading() as connection:
            for _ in range(MAX_TURN):
                found = self._next(now_s)
                if found is None:
                    return False
                sent = False
                try:
                    sent = self._tell(connection, connection_number, *found, now_s)
                finally:
                    if not sent:
                        self._put_back(*found)
                if not sent:
                    return False
        return self._has_next(now_s)

    def _has_next(self, now_s: float) -> bool:
        return bool(self._due) or (bool(self._held_back) and self._sluice.is_open(now_s))

    def _next(self, now_s: float) -> tuple[str, bool] | None:
        """The worker that is next, and whether it needs a repair; who was held back comes first."""
        if self._held_back and self._sluice.is_open(now_s):
            return self._held_back.popitem(last=False)
        with self._lock:
            return self._due.popitem(last=False) if self._due else None

    def _put_back(self, worker: str, repair: bool) -> None:
        with self._lock:
            self._due[worker] = repair or self._due.get(worker, False)
            self._due.move_to_end(worker, last=False)

    def _tell(
        self, connection: Connection, number: int, worker: str, repair: bool, now_s: float
    ) -> bool:
        """Send a worker its document, unless it is away or has it; false if the link refused."""
        held = presence.of_worker(connection, worker)
        if held is None or not held.session or held.gone:
            return True
        current = dispatch.known(connection, worker)
        if held.known == current:
            return True
        what = (held.session, current.digest)
        if repair and self._is_on_its_way(worker, what, now_s):
            return True
        if not repair:
            delta = dispatch.delta(connection, worker, held.session, held.known)
            if delta is not None:
                self._metrics.count("deltas_sent_total")
                sent = send(self._link, number, Reply(worker, delta))
                return self._note(worker, what, now_s, sent)
        if not self._sluice.is_open(now_s):
            self._held_back[worker] = repair or self._held_back.get(worker, False)
            return True
        parts = dispatch.whole(connection, worker, held.session)
        self._sluice.passed(sum(len(bytes(item.body)) for part in parts for item in part.items))
        self._metrics.count("desired_sent_total")
        sent = all(send(self._link, number, Reply(worker, part)) for part in parts)
        if not self._note(worker, what, now_s, sent):
            return False
        if repair:
            self._repaired[worker] = (held.session, current.digest)
        return True

    def _note(self, worker: str, what: tuple[str, str], now_s: float, sent: bool) -> bool:
        if sent:
            self._told[worker] = (*what, now_s)
            self._told.move_to_end(worker)
            while len(self._told) > MAX_TOLD:
                self._told.popitem(last=False)
        return sent

    def _is_on_its_way(self, worker: str, what: tuple[str, str], now_s: float) -> bool:
        session, digest, at_s = self._told.get(worker, ("", "", 0.0))
        return (session, digest) == what and now_s - at_s < LATE_S
