"""Routes of tasks."""

from typing import Annotated, Any

from fastapi import APIRouter, Query

from center import tasks
from center.api import places
from center.api.places import DryRun
from center.api.shapes import DeleteAnswer, Listing, PlaceName, PutAnswer, TaskView
from center.desk import AtDesk
from wire import specs

router = APIRouter(tags=["tasks"])


@router.get("/tasks", response_model=Listing[TaskView])
def list_tasks(desk: AtDesk, station: Annotated[specs.Name | None, Query()] = None) -> Any:
    """Tasks of a station, or all, by station and name."""
    with desk.database.reading() as connection:
        return {"items": tasks.views(connection, desk.clock.now_ms(), desk.heartbeat_s, station)}


@router.get("/stations/{station}/tasks/{name}", response_model=TaskView)
def get_task(desk: AtDesk, station: PlaceName, name: PlaceName) -> Any:
    """One task."""
    with desk.database.reading() as connection:
        return tasks.view(connection, station, name, desk.clock.now_ms(), desk.heartbeat_s)


@router.put("/stations/{station}/tasks/{name}")
def put_task(
    desk: AtDesk, station: PlaceName, name: PlaceName, task: specs.Task, dry_run: DryRun = False
) -> PutAnswer:
    """Create or update a task; its camera must exist."""
    return places.put(desk, task, dry_run, station=station, name=name)


@router.delete("/stations/{station}/tasks/{name}")
def delete_task(
    desk: AtDesk, station: PlaceName, name: PlaceName, dry_run: DryRun = False
) -> DeleteAnswer:
    """Delete a task."""
    desk.delete_task(station, name, dry_run=dry_run)
    return DeleteAnswer(dry_run=dry_run)
