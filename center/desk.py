"""The desk: where operators' wishes are taken in, from the API and from the console alike.

Here: one edit = one transaction: the resource, the documents that follow from it, and then waking
the downlink. Not here: HTTP, pages, and what single resources require (the nouns).
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy import Connection

from center import auth, cameras, db, dispatch, models, stations, tasks, workers
from center.auth import Throttle
from center.calls import Calls
from center.clock import Clock
from center.db import Database
from center.live import Bell
from center.metrics import Metrics
from center.resources import Change, ConflictError
from wire import specs
from wire.models import Published

MODEL_BYTES = 512 * 2**20
MAX_FETCHES = 64
"""Files that one center sends at the same time; who comes then is asked to come again."""
TELLING_S = 10.0
"""How long one push tells stations of a model before it answers."""
_STATIONS_AT_ONCE = 20
"""In one transaction, where a model changes the documents of many."""


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
    model_bytes: int = MODEL_BYTES
    """A model's file may have so many."""
    fetching: threading.BoundedSemaphore = field(
        default_factory=lambda: threading.BoundedSemaphore(MAX_FETCHES)
    )
    """Files that are being sent; each holds a part of its file in memory."""

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

    def put_part(self, sha256: str, number: int, content: bytes) -> bool:
        """Store a part of a model's file; False: it is whole already. Raises ConflictError."""
        with self.database.transaction() as connection:
            now_ms = self.clock.now_ms()
            return models.put_part(connection, sha256, number, content, now_ms, self.model_bytes)

    def put_model(self, model: Published, *, dry_run: bool = False) -> tuple[Change, int]:
        """Create or update a model, whose file was stored before, and tell the workers that use it.

        Raises ConflictError with nothing changed; with `dry_run` its file need not be here yet.
        Stations are told for `TELLING_S`. The number is that of the stations which are to be told
        yet: the same again goes on with them.
        """
        models.require_size(model.size_bytes, self.model_bytes)
        if not dry_run:
            self._verify(model)
        with self._edit(dry_run) as connection:
            change = models.put(connection, model, self.clock.now_ms(), has_file=not dry_run)
        return change, 0 if dry_run else self._tell_stations(model.name)

    def _verify(self, model: Published) -> None:
        try:
            with self.database.reading() as connection:
                models.verify(connection, model)
        except models.SpoiledError:
            with self._edit() as connection:
                models.throw_away(connection, model.sha256)
            raise

    def _tell_stations(self, model: str) -> int:
        """Bring the documents of stations whose tasks name the model up to date; how many are not.

        Raises ConflictError if all others are.
        """
        with self.database.reading() as connection:
            untold = models.untold(connection, model)
        until_s = self.clock.elapsed_s() + TELLING_S
        refused: ConflictError | None = None
        for some in db.chunks(untold, _STATIONS_AT_ONCE):
            if self.clock.elapsed_s() > until_s:
                break
            woken: list[str] = []
            with self._edit() as connection:
                for station in some:
                    try:
                        woken += dispatch.refresh(connection, station, self.clock.now_ms())
                    except ConflictError as error:  # one station must not keep it from the others
                        refused = refused or error
            if woken:
                self.wake(woken)
            untold = untold[len(some) :]
        if refused is not None and not untold:
            raise refused
        return len(untold)

    def delete_model(self, name: str, *, dry_run: bool = False) -> None:
        """No document changes: a model that no task names is in none. Raises as `models.remove`."""
        with self._edit(dry_run) as connection:
            models.remove(connection, name, self.clock.now_ms())

    def issue_worker_token(self, name: str) -> str:
        """A new secret with which the worker fetches files. Raises NotFoundError."""
        with self._edit() as connection:
            workers.require(connection, name)
            return auth.issue_worker(connection, name, self.clock.now_ms())

    def revoke_worker_tokens(self, name: str) -> int:
        """End the worker's secrets; how many there were. Raises NotFoundError."""
        with self._edit() as connection:
            workers.require(connection, name)
            return auth.revoke_worker(connection, name)

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
