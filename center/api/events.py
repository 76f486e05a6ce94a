"""Routes of events: search, and the live stream."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Header, Query, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from center import events
from center.api.shapes import event_schema
from center.desk import AtDesk, Desk
from center.events import MAX_LISTED, Filter
from center.live import MAX_LISTENERS, TooManyListenersError
from wire import specs
from wire.events import MAX_NUMBER

POLL_S = 1.0
BEAT_S = 15.0
MAX_ID = 2**63 - 1

router = APIRouter(tags=["events"])

Id = Annotated[int | None, Query(ge=0, le=MAX_ID)]
Time = Annotated[
    int | None,
    Query(ge=-MAX_NUMBER, le=MAX_NUMBER, description="UTC milliseconds, compared with at_ms"),
]
Word = Annotated[str | None, Query(max_length=200, pattern=r"^[^\x00]*$")]
Station = Annotated[specs.Name | None, Query()]

_LISTING = {
    "type": "object",
    "required": ["items", "next"],
    "properties": {
        "items": {"type": "array", "items": event_schema()},
        "next": {
            "anyOf": [{"type": "integer"}, {"type": "null"}],
            "description": "give it as `after` (asc) or `before` (desc); null: that was all",
        },
    },
}


@router.get(
    "/events",
    response_class=Response,
    responses={200: {"content": {"application/json": {"schema": _LISTING}}}},
)
def list_events(
    desk: AtDesk,
    station: Station = None,
    camera: Word = None,
    task: Word = None,
    rule: Word = None,
    severity: Annotated[specs.Severity | None, Query()] = None,
    since_ms: Time = None,
    until_ms: Time = None,
    after: Id = None,
    before: Id = None,
    order: Literal["asc", "desc"] = "desc",
    limit: Annotated[int, Query(ge=1, le=MAX_LISTED)] = 100,
    open: Annotated[  # noqa: A002 - the query's name
        bool, Query(description="only starts of incidents whose end has not come")
    ] = False,
) -> Response:
    """Events in the order of storing, or against it."""
    wanted = Filter(
        station=station,
        camera=camera,
        task=task,
        rule=rule,
        severity=severity,
        since_ms=since_ms,
        until_ms=until_ms,
        after=after,
        before=before,
        open=open,
    )
    with desk.database.reading() as connection:
        found = events.search(connection, wanted, order, limit)
    following = found[-1]["id"] if len(found) == limit else None
    body = msgspec.json.encode({"items": found, "next": following})
    return Response(body, media_type="application/json")


@router.get(
    "/events/stream",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def stream_events(
    desk: AtDesk,
    after: Id = None,
    station: Station = None,
    last_event_id: Annotated[str | None, Header(max_length=20)] = None,
) -> StreamingResponse:
    """Server-Sent Events: every event after `Last-Event-ID` or `after`, or from now on."""
    if desk.bell.full:
        raise TooManyListenersError(f"{MAX_LISTENERS} listeners already; try again later")
    if last_event_id is not None and last_event_id.isdecimal():
        after = min(int(last_event_id), MAX_ID)
    if after is None:
        after = await run_in_threadpool(_last_id, desk)
    return StreamingResponse(
        _frames(desk, Filter(after=after, station=station)),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


async def _frames(desk: Desk, wanted: Filter) -> AsyncIterator[bytes]:
    """The stream's frames. The bell only saves waiting: what counts is in the database."""
    beat = b": beat\n\n"
    yield beat
    said_s = desk.clock.elapsed_s()
    with desk.bell.listening() as heard:
        while not desk.bell.closed:
            heard.clear()
            found = await run_in_threadpool(_read, desk, wanted)
            for event in found:
                yield b"id: %d\nevent: event\ndata: %s\n\n" % (
                    event["id"],
                    msgspec.json.encode(event),
                )
            if found:
                wanted = Filter(after=found[-1]["id"], station=wanted.station)
                said_s = desk.clock.elapsed_s()
            elif desk.clock.elapsed_s() - said_s >= BEAT_S:
                yield beat
                said_s = desk.clock.elapsed_s()
            if len(found) < MAX_LISTED:
                await _wait(heard)


async def _wait(heard: asyncio.Event) -> None:
    """Until the bell rings, or it is time to look for what other replicas have stored."""
    try:
        await asyncio.wait_for(heard.wait(), POLL_S)
    except TimeoutError:
        return


def _read(desk: Desk, wanted: Filter) -> list[dict[str, Any]]:
    with desk.database.reading() as connection:
        return events.search(connection, wanted, "asc", MAX_LISTED)


def _last_id(desk: Desk) -> int:
    with desk.database.reading() as connection:
        return events.last_id(connection)
