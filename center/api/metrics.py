"""The /metrics route: this process's counters, and gauges read from the database."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import get_args

from fastapi import APIRouter, Depends
from fastapi.responses import PlainTextResponse

from center import events, notify, presence
from center.api.doors import bearer
from center.desk import AtDesk, Desk
from center.metrics import HELP, LINK_COUNTERS, LINK_GAUGES, exposition

router = APIRouter(tags=["metrics"])


@router.get("/metrics", dependencies=[Depends(bearer)], response_class=PlainTextResponse)
def metrics(desk: AtDesk) -> str:
    """Prometheus text."""
    link = desk.link_stats()
    return exposition(_counters(desk, link), _gauges(desk, link))


def _counters(desk: Desk, link: Mapping[str, float]) -> Iterator[tuple[str, str, float]]:
    for name, value in desk.metrics.counts().items():
        yield name, HELP[name], value
    for name, text in LINK_COUNTERS.items():
        yield f"link_{name}_total", text, link[name]


def _gauges(desk: Desk, link: Mapping[str, float]) -> Iterator[tuple[str, str, float]]:
    now_ms = desk.clock.now_ms()
    with desk.database.reading() as connection:
        heard = list(presence.of_workers(connection))
        last_id = events.last_id(connection)
        told, oldest_ms = notify.waiting(connection)
    states = Counter(one.state(now_ms, desk.heartbeat_s) for one in heard)
    for state in get_args(presence.State):
        yield f'workers{{state="{state}"}}', "registered workers by state", states[state]
    for lane in ("alarm", "bulk"):
        pending = sum(getattr(one, f"pending_{lane}") for one in heard)
        yield f'workers_pending_events{{lane="{lane}"}}', "events waiting at workers", pending
    yield "last_event_id", "id of the event that was stored last", last_id
    yield "notifications_waiting", "alarms that somebody is still to be told of", told
    age_s = 0.0 if oldest_ms is None else max(0, now_ms - oldest_ms) / 1000
    yield "notifications_oldest_waiting_s", "seconds since the oldest of them came", age_s
    for name, waiting in desk.waiting().items():
        yield f'waiting_messages{{queue="{name}"}}', "messages waiting in this process", waiting
    for name, text in LINK_GAUGES.items():
        yield f"link_{name}", text, link[name]
