"""Credit: whose turn it is to send backlog, so that ten thousand who return together drown nobody.

Here: leases, who waits for one, and the brake. Not here: telling workers (downlink, ingest).

It is kept in memory: after a restart everybody asks again within a heartbeat. Each replica guards
itself with leases of its own. Any thread may call it.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from center.clock import Clock
from center.metrics import Metrics

MAX_WAITING = 20_000
UNKNOWN = 2**53
"""How much waits where the worker has not said: its next heartbeat will tell."""
TURN_LEASES = 2
"""Who has held a lease for so many times its length lets others go first, if any wait."""

SLOW_S = 0.5
"""Turns of ingest that take longer are too long."""
SMOOTHING = 4
"""Over how many turns the average goes."""


@dataclass(slots=True)
class _Lease:
    session: str
    left: int
    """Events of the backlog that have not come yet."""
    since_s: float
    until_s: float


@dataclass(slots=True)
class _Wish:
    session: str
    backlog: int


@dataclass(slots=True)
class Brake:
    """When backlog is to wait: turns of ingest take long on average, or too much waits for it."""

    on: bool = False
    average_s: float = 0.0

    def felt(self, turn_s: float, full: float) -> bool:
        """Whether the brake is on after a turn of `turn_s`, with the queue `full` (0..1).

        It is lifted only when there is plenty of room again, so that it does not flutter.
        """
        self.average_s += (turn_s - self.average_s) / SMOOTHING
        if self.average_s > SLOW_S or full > 0.5:
            self.on = True
        elif self.average_s < SLOW_S / 2 and full < 0.25:
            self.on = False
        return self.on


class Credit:
    """At most `leases` workers send backlog at a time, each for `lease_s` unless it is renewed.

    A lease ends when the backlog that was asked for has come, when it is not renewed, or after
    some time if others wait; then the one that has waited longest is next.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        leases: int = 64,
        lease_s: float = 30.0,
        metrics: Metrics | None = None,
    ) -> None:
        self._clock = clock
        self._leases = leases
        self._lease_s = lease_s
        self._held: dict[str, _Lease] = {}
        self._wishes: OrderedDict[str, _Wish] = OrderedDict()
        self._granted: dict[str, str] = {}
        self._braked_until_s = clock.elapsed_s()
        self._metrics = metrics or Metrics()
        self._lock = threading.Lock()

    @property
    def held(self) -> int:
        """How many leases are out."""
        return len(self._held)

    @property
    def waiting(self) -> int:
        """How many workers wait for one."""
        return len(self._wishes)

    def ask(self, worker: str, session: str, backlog: int) -> float:
        """Seconds for which a worker with so many events of backlog may send them; 0: it waits.

        Who holds a lease has it restated. Without backlog it is given back.
        """
        with self._turn() as now_s:
            if backlog <= 0:
                self._drop(worker)
                return 0.0
            lease = self._held.get(worker)
            if lease is None:
                return self._enter(worker, _Wish(session, backlog), now_s)
            lease.session, lease.left = session, backlog
            return self._restate(worker, lease, now_s)

    def renew(self, worker: str, session: str, came: int = 0) -> float:
        """Seconds for which it may go on after so many events have come; 0: it may not.

        Who sends backlog without a lease (it ended, or was given before a restart) gets one if
        there is one, or waits.
        """
        with self._turn() as now_s:
            lease = self._held.get(worker)
            if lease is None:
                return self._enter(worker, _Wish(session, UNKNOWN), now_s)
            lease.session = session
            lease.left -= came
            if lease.left <= 0:
                self._drop(worker)
                return 0.0
            return self._restate(worker, lease, now_s)

    def restate(self, worker: str, session: str) -> float:
        """Seconds for which one may go on that says nothing of its backlog; 0: it has no lease."""
        with self._turn() as now_s:
            lease = self._held.get(worker)
            if lease is None:
                return 0.0
            lease.session = session
            return self._restate(worker, lease, now_s)

    def release(self, worker: str) -> None:
        """It sends no more, and waits no more."""
        with self._turn():
            self._drop(worker)

    def take_granted(self) -> list[tuple[str, str, float]]:
        """Who waited and may send now: worker, session and seconds; each is told once."""
        with self._turn():
            pass  # leases that have ended make room
        with self._lock:
            granted, self._granted = self._granted, {}
        return [(worker, session, self._lease_s) for worker, session in granted.items()]

    def brake(self, on: bool) -> None:
        """Give no leases, and renew none, until it is lifted.

        It lifts by itself a lease's length after it was last said: who braked may have nothing
        more to do, and so nothing more to say.
        """
        with self._turn() as now_s:
            self._braked_until_s = now_s + self._lease_s if on else now_s

    # --- under the lock ------------------------------------------------------------------------

    @contextmanager
    def _turn(self) -> Iterator[float]:
        """Leases that have ended are gone before, free ones are given out after."""
        with self._lock:
            now_s = self._clock.elapsed_s()
            for worker in [w for w, lease in self._held.items() if lease.until_s <= now_s]:
                del self._held[worker]
            yield now_s
            while self._wishes and self._is_room(now_s):
                worker, wish = self._wishes.popitem(last=False)
                self._grant(worker, wish, now_s)
                self._granted[worker] = wish.session

    def _is_room(self, now_s: float) -> bool:
        return now_s >= self._braked_until_s and len(self._held) < self._leases

    def _enter(self, worker: str, wish: _Wish, now_s: float) -> float:
        """A lease at once if nobody is before it, else a place among those who wait."""
        if worker in self._wishes:
            self._wishes[worker] = wish  # it keeps its place
        elif not self._wishes and self._is_room(now_s):
            self._grant(worker, wish, now_s)
            return self._lease_s
        elif len(self._wishes) < MAX_WAITING:
            self._wishes[worker] = wish
        else:
            self._metrics.count("credit_turned_away_total")
        return 0.0

    def _grant(self, worker: str, wish: _Wish, now_s: float) -> None:
        self._held[worker] = _Lease(wish.session, wish.backlog, now_s, now_s + self._lease_s)

    def _restate(self, worker: str, lease: _Lease, now_s: float) -> float:
        had_its_turn = now_s - lease.since_s >= TURN_LEASES * self._lease_s and self._wishes
        if now_s < self._braked_until_s or had_its_turn:
            self._drop(worker)
            return self._enter(worker, _Wish(lease.session, lease.left), now_s)
        lease.until_s = now_s + self._lease_s
        return self._lease_s

    def _drop(self, worker: str) -> None:
        self._held.pop(worker, None)
        self._wishes.pop(worker, None)
        self._granted.pop(worker, None)
