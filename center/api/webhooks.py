"""Routes of webhooks: who is told of alarms. No answer shows a secret that was given."""

from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from center import webhooks
from center.api.places import DryRun
from center.api.shapes import DeleteAnswer, Listing, PlaceName
from center.desk import AtDesk
from center.webhooks import WebhookSpec

router = APIRouter(tags=["webhooks"])


class WebhookView(BaseModel):
    """A webhook without its secrets."""

    name: str
    url: str = Field(description="without its query; put as it is, it stays what it was")
    secret: Literal["set"]
    min_severity: Literal["warning", "critical"]
    station: str | None
    created_ms: int
    updated_ms: int


class WebhookPut(BaseModel):
    """What a put came to."""

    result: Literal["created", "updated", "unchanged"]
    dry_run: bool
    secret: str | None = Field(description="only if it was made here, and only this one time")
    webhook: WebhookView


@router.get("/webhooks", response_model=Listing[WebhookView])
def list_webhooks(desk: AtDesk) -> Any:
    """All webhooks, by name."""
    with desk.database.reading() as connection:
        return {"items": list(webhooks.views(connection))}


@router.get("/webhooks/{name}", response_model=WebhookView)
def get_webhook(desk: AtDesk, name: PlaceName) -> Any:
    """One webhook."""
    with desk.database.reading() as connection:
        return webhooks.view(connection, name)


@router.put("/webhooks/{name}", response_model=WebhookPut)
def put_webhook(
    desk: AtDesk, name: PlaceName, webhook: WebhookSpec, dry_run: DryRun = False
) -> Any:
    """Create or update a webhook; a secret that is left out stays, or is made and told once."""
    with desk.database.transaction(dry_run=dry_run) as connection:
        put = webhooks.put(connection, name, webhook, desk.clock.now_ms())
    secret = None if dry_run else put.secret
    return {"result": put.result, "dry_run": dry_run, "secret": secret, "webhook": put.view}


@router.delete("/webhooks/{name}")
def delete_webhook(desk: AtDesk, name: PlaceName, dry_run: DryRun = False) -> DeleteAnswer:
    """Delete a webhook, and with it what waits for it."""
    with desk.database.transaction(dry_run=dry_run) as connection:
        webhooks.remove(connection, name)
    return DeleteAnswer(dry_run=dry_run)
