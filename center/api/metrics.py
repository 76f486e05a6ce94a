"""The /metrics route: this process's counters, and gauges read from the database."""

from collections import Counter
from collections.abc import Iterator
from typing import get_args

from fastapi import APIRouter, Depends
from fastapi.responses import PlainTextResponse

from center import events, presence
from center.api.doors import AtDesk, bearer
from center.desk import Desk
from center.metrics import exposition

router = APIRouter(tags=["metrics"])


@router.get("/metrics", dependencies=[Depends(bearer)], response_class=PlainTextResponse)
def metrics(desk: AtDesk) -> str:
    """Prometheus text."""
    return exposition(desk.metrics.counts(), _gauges(desk))


def _gauges(desk: Desk) -> Iterator[tuple[str, str, float]]:
    now_ms = desk.clock.now_ms()
    with desk.database.reading() as connection:
        heard = list(presence.of_workers(connection))
        last_id = events.last_id(connection)
    states = Counter(one.state(now_ms, desk.heartbeat_s) for one in heard)
    for state in get_args(presence.State):
        yield f'workers{{state="{state}"}}', "registered workers by state", states[state]
    for lane in ("alarm", "bulk"):
        pending = sum(getattr(one, f"pending_{lane}") for one in heard)
        yield f'workers_pending_events{{lane="{lane}"}}', "events waiting at workers", pending
    yield "last_event_id", "id of the event that was stored last", last_id
    for name, waiting in desk.waiting().items():
        yield f'waiting_messages{{queue="{name}"}}', "messages waiting in this process", waiting
