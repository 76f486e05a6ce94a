"""The desk: where operators' wishes are taken in, from the API and from the console alike.

Here: one edit = one transaction: the resource, the documents that follow from it, and then waking
the downlink. Not here: HTTP, pages, and what single resources require (the nouns).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy import Connection

from center import cameras, db, dispatch, stations, tasks, workers
from center.auth import Throttle
from center.calls import Calls
from center.clock import Clock
from center.db import Database
from center.live import Bell
from center.metrics import Metrics
from center.resources import Change
from wire import specs


@dataclass(frozen=True, slots=True)
class Desk:
    """What a request needs of the center."""

    database: Database
    clock: Clock
    heartbeat_s: float
    wake: Callable[[Iterable[str]], None]
    """Called after the commit with the workers whose document has changed."""
    bell: Bell
    throttle: Throttle
    metrics: Metrics
    waiting: Callable[[], dict[str, int]]
    """How many messages wait, by queue."""
    strangers: Callable[[], dict[str, int]]
    """Names that spoke without being registered, with the time of the last word in UTC ms."""
    link_stats: Callable[[], Mapping[str, float]]
    """Counters and sizes of the link to the broker, as `wire.link.Link.stats` has them."""
    calls: Calls

    def put(self, resource: specs.Resource, *, dry_run: bool = False) -> Change:
        """Create or update a resource.

        Raises specs.SpecError or resources.ConflictError with nothing changed; with `dry_run`
        nothing is changed either, and the answer is what would have been.
        """
        specs.check(resource)
        now_ms = self.clock.now_ms()
        woken: list[str] = []
        with self._edit(dry_run) as connection:
            match resource:
                case specs.Station():
                    change = stations.put(connection, resource, now_ms)
                case specs.Worker():
                    change = workers.put(connection, resource, now_ms)
                case specs.Camera():
                    change = cameras.put(connection, resource, now_ms)
                case specs.Task():
                    change = tasks.put(connection, resource, now_ms)
            if change.result != "unchanged":
                woken = dispatch.refresh(connection, _station_of(resource), now_ms)
        if woken and not dry_run:
            self.wake(woken)
        return change

    def delete_station(self, name: str, *, dry_run: bool = False) -> None:
        """Raises NotFoundError or ConflictError."""
        with self._edit(dry_run) as connection:
            stations.delete(connection, name)

    def delete_worker(self, name: str, *, dry_run: bool = False) -> None:
        """Its tasks go to the station's other workers. Raises NotFoundError."""
        with self._edit(dry_run) as connection:
            station = workers.delete(connection, name)
            woken = dispatch.refresh(connection, station, self.clock.now_ms())
        if not dry_run:
            self.wake(woken)

    def replace_worker(self, name: str) -> None:
        """Let in the next one that would be denied this worker's name. Raises NotFoundError."""
        with self._edit() as connection:
            workers.replace(connection, name)

    def delete_camera(self, station: str, name: str, *, dry_run: bool = False) -> None:
        """No document changes: a camera without tasks is in none. Raises as `cameras.delete`."""
        with self._edit(dry_run) as connection:
            cameras.delete(connection, station, name)

    def delete_task(self, station: str, name: str, *, dry_run: bool = False) -> None:
        """Raises NotFoundError."""
        with self._edit(dry_run) as connection:
            tasks.delete(connection, station, name)
            woken = dispatch.refresh(connection, station, self.clock.now_ms())
        if not dry_run:
            self.wake(woken)

    @contextmanager
    def _edit(self, dry_run: bool = False) -> Iterator[Connection]:
        """A transaction that overlaps no other edit, of whichever center: it reads, then writes."""
        with self.database.transaction(dry_run=dry_run) as connection:
            db.take_turns(connection)
            yield connection


def _station_of(resource: specs.Resource) -> str:
    if isinstance(resource, specs.Station):
        return resource.metadata.name
    return resource.metadata.station


def desk_of(request: Request) -> Desk:
    """The desk that `app.build` put in place."""
    desk: Desk = request.app.state.desk
    return desk


AtDesk = Annotated[Desk, Depends(desk_of)]
"""How a route, of the API or the console, comes by the desk."""
