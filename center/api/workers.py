"""Routes of workers."""

from typing import Annotated, Any

from fastapi import APIRouter, Query

from center import workers
from center.api import places
from center.api.places import DryRun
from center.api.shapes import DeleteAnswer, PlaceName, PutAnswer, Workers, WorkerToken, WorkerView
from center.desk import AtDesk
from wire import specs

router = APIRouter(tags=["workers"])


@router.get("/workers", response_model=Workers)
def list_workers(desk: AtDesk, station: Annotated[specs.Name | None, Query()] = None) -> Any:
    """Workers of a station, or all, by station and name; and who else has spoken."""
    with desk.database.reading() as connection:
        items = workers.views(connection, desk.clock.now_ms(), desk.heartbeat_s, station)
    strangers = [{"name": name, "last_heard_ms": ms} for name, ms in desk.strangers().items()]
    return {"items": items, "strangers": strangers}


@router.get("/workers/{name}", response_model=WorkerView)
def get_worker(desk: AtDesk, name: PlaceName) -> Any:
    """One worker."""
    with desk.database.reading() as connection:
        return workers.view(connection, name, desk.clock.now_ms(), desk.heartbeat_s)


@router.put("/workers/{name}")
def put_worker(
    desk: AtDesk, name: PlaceName, worker: specs.Worker, dry_run: DryRun = False
) -> PutAnswer:
    """Register or update a worker; it cannot move to another station."""
    return places.put(desk, worker, dry_run, name=name)


@router.post("/workers/{name}/replace", response_model=WorkerView)
def replace_worker(desk: AtDesk, name: PlaceName) -> Any:
    """Let in the next device or process that would be denied this name; the present one is banned
    if it still lives. Needed where a disk was cloned, or a device broke and must not be waited
    for."""
    desk.replace_worker(name)
    with desk.database.reading() as connection:
        return workers.view(connection, name, desk.clock.now_ms(), desk.heartbeat_s)


@router.post("/workers/{name}/token")
def make_worker_token(desk: AtDesk, name: PlaceName) -> WorkerToken:
    """A secret with which this worker fetches the files that its document names, and nothing else.

    It is told this one time. The one before stays good until there is another.
    """
    return WorkerToken(worker=name, token=desk.issue_worker_token(name))


@router.delete("/workers/{name}/token")
def revoke_worker_tokens(desk: AtDesk, name: PlaceName) -> DeleteAnswer:
    """End all secrets of this worker."""
    desk.revoke_worker_tokens(name)
    return DeleteAnswer(dry_run=False)


@router.delete("/workers/{name}")
def delete_worker(desk: AtDesk, name: PlaceName, dry_run: DryRun = False) -> DeleteAnswer:
    """Take a worker's registration away; its tasks go to the station's other workers."""
    desk.delete_worker(name, dry_run=dry_run)
    return DeleteAnswer(dry_run=dry_run)
