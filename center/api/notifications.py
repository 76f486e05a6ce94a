"""Routes of notifications: which alarms were told, to whom, and which could not be."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from center import deliveries, notify
from center.desk import AtDesk
from wire import specs

router = APIRouter(tags=["notifications"])

MAX_ID = 2**63 - 1


class DeliveryView(BaseModel):
    """A notification on its way to a webhook."""

    webhook: str
    state: deliveries.State
    attempts: int
    next_ms: int | None = Field(description="when it is tried next; null: it is settled")
    settled_ms: int | None
    error: str = Field(description="why the last attempt failed; empty: it did not")


class NotificationView(BaseModel):
    """A new alarm."""

    id: int
    delivery: str = Field(description="its name at every receiver, in X-Forecourt-Delivery")
    state: notify.State
    station: str
    worker: str
    epoch: int
    lane: Literal["alarm", "bulk"]
    seq: int
    incident: str | None
    severity: str
    at_ms: int
    received_ms: int
    deliveries: list[DeliveryView]


class Notifications(BaseModel):
    """A page of them."""

    items: list[NotificationView]
    next: int | None = Field(description="give it as `before`; null: that was all")


@router.get("/notifications", response_model=Notifications)
def list_notifications(
    desk: AtDesk,
    state: Annotated[notify.State | None, Query()] = None,
    station: Annotated[specs.Name | None, Query()] = None,
    before: Annotated[int | None, Query(ge=0, le=MAX_ID)] = None,
    limit: Annotated[int, Query(ge=1, le=notify.MAX_LISTED)] = 100,
) -> Any:
    """Notifications, the newest first."""
    with desk.database.reading() as connection:
        found = notify.search(connection, state, station, before, limit)
    return {"items": found, "next": found[-1]["id"] if len(found) == limit else None}
