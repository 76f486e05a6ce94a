"""Routes of cameras."""

from typing import Annotated, Any

from fastapi import APIRouter, Query

from center import cameras
from center.api import places
from center.api.places import DryRun
from center.api.shapes import CameraView, DeleteAnswer, Listing, PlaceName, PutAnswer
from center.desk import AtDesk
from wire import specs

router = APIRouter(tags=["cameras"])


@router.get("/cameras", response_model=Listing[CameraView])
def list_cameras(desk: AtDesk, station: Annotated[specs.Name | None, Query()] = None) -> Any:
    """Cameras of a station, or all, by station and name; without passwords."""
    with desk.database.reading() as connection:
        return {"items": cameras.views(connection, station)}


@router.get("/stations/{station}/cameras/{name}", response_model=CameraView)
def get_camera(desk: AtDesk, station: PlaceName, name: PlaceName) -> Any:
    """One camera, without passwords."""
    with desk.database.reading() as connection:
        return cameras.view(connection, station, name)


@router.put("/stations/{station}/cameras/{name}")
def put_camera(
    desk: AtDesk,
    station: PlaceName,
    name: PlaceName,
    camera: specs.Camera,
    dry_run: DryRun = False,
) -> PutAnswer:
    """Create or update a camera; passwords left out are kept with the same url and user name."""
    return places.put(desk, camera, dry_run, station=station, name=name)


@router.delete("/stations/{station}/cameras/{name}")
def delete_camera(
    desk: AtDesk, station: PlaceName, name: PlaceName, dry_run: DryRun = False
) -> DeleteAnswer:
    """Delete a camera that no task uses any more."""
    desk.delete_camera(station, name, dry_run=dry_run)
    return DeleteAnswer(dry_run=dry_run)
