"""Routes of stations."""

from typing import Any

from fastapi import APIRouter

from center import stations
from center.api import places
from center.api.places import DryRun
from center.api.shapes import DeleteAnswer, Listing, PlaceName, PutAnswer, StationView
from center.desk import AtDesk
from wire import specs

router = APIRouter(tags=["stations"])


@router.get("/stations", response_model=Listing[StationView])
def list_stations(desk: AtDesk) -> Any:
    """All stations, by name."""
    with desk.database.reading() as connection:
        return {"items": stations.views(connection, desk.clock.now_ms(), desk.heartbeat_s)}


@router.get("/stations/{name}", response_model=StationView)
def get_station(desk: AtDesk, name: PlaceName) -> Any:
    """One station."""
    with desk.database.reading() as connection:
        return stations.view(connection, name, desk.clock.now_ms(), desk.heartbeat_s)


@router.put("/stations/{name}")
def put_station(
    desk: AtDesk, name: PlaceName, station: specs.Station, dry_run: DryRun = False
) -> PutAnswer:
    """Create or update a station."""
    return places.put(desk, station, dry_run, name=name)


@router.delete("/stations/{name}")
def delete_station(desk: AtDesk, name: PlaceName, dry_run: DryRun = False) -> DeleteAnswer:
    """Delete a station that nothing belongs to any more."""
    desk.delete_station(name, dry_run=dry_run)
    return DeleteAnswer(dry_run=dry_run)
