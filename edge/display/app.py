"""The station's display: a page with live events, and the worker's local HTTP.

Here: routes over what the agent hands in; they only tell. Not here: where events lie (store), who
is at work (shards), the page itself (page.html: no build step), what others tell the worker
(inputs). It needs no WAN and stays up without one.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from edge.metrics import Snapshot, exposition
from edge.store.outbox import Outbox, Stored
from wire.events import Lane

_PAGE = Path(__file__).with_name("page.html")
_BEAT_S = 15.0
_MAX_LISTENERS = 32
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'unsafe-inline';"
        " connect-src 'self'; img-src 'self' data:; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class Display:
    """The local HTTP application. `stored` wakes those who watch."""

    def __init__(
        self,
        outbox: Outbox,
        status: Callable[[], dict[str, Any]],
        snapshot: Callable[[], Snapshot],
        routes: Sequence[Route] = (),
    ) -> None:
        """`routes` are others' that are served beside these."""
        self._outbox = outbox
        self._status = status
        self._snapshot = snapshot
        self._news = asyncio.Event()
        self._closing = asyncio.Event()
        self._listeners = 0
        self.app = Starlette(
            routes=[
                Route("/", self._page),
                Route("/events", self._event_stream),
                Route("/api/events", self._events),
                Route("/api/status", self._status_json),
                Route("/healthz", self._healthz),
                Route("/metrics", self._metrics),
                *routes,
            ]
        )

    def wake(self) -> None:
        """New events are on disk."""
        self._news.set()
        self._news = asyncio.Event()

    def close(self) -> None:
        """End open event streams, so that the server can stop."""
        self._closing.set()
        self.wake()

    async def _page(self, request: Request) -> Response:
        return FileResponse(_PAGE, headers=_HEADERS)

    async def _events(self, request: Request) -> Response:
        limit = _number(request.query_params.get("limit"), 50, 1000)
        rows = self._outbox.recent(limit)
        marks = self._outbox.watermarks()
        items = [_shown(row, marks) for row in rows]
        return JSONResponse({"items": items[::-1]}, headers=_HEADERS)

    async def _status_json(self, request: Request) -> Response:
        return JSONResponse(self._status(), headers=_HEADERS)

    async def _healthz(self, request: Request) -> Response:
        """200 while this loop turns and the store answers; the WAN has no say in it."""
        pending = self._outbox.pending()
        return JSONResponse({"status": "ok", "pending": pending}, headers=_HEADERS)

    async def _metrics(self, request: Request) -> Response:
        text = exposition(self._snapshot())
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def _event_stream(self, request: Request) -> Response:
        if self._listeners >= _MAX_LISTENERS:
            return JSONResponse({"detail": "too many displays are open"}, status_code=503)
        last_id = request.headers.get("last-event-id")
        recent = _number(request.query_params.get("recent"), 0, 1000)
        first = self._outbox.recent(recent) if recent else self._outbox.recent(1)
        newest = first[-1].id if first else 0
        if last_id is not None and _number(last_id, newest + 1, 2**63) <= newest:
            position = int(last_id)
        elif recent:
            position = first[0].id - 1 if first else 0
        else:
            position = newest
        return StreamingResponse(
            self._follow(position), media_type="text/event-stream", headers=_HEADERS
        )

    async def _follow(self, position: int) -> AsyncIterator[bytes]:
        """Server-sent events from after `position`, for ever."""
        self._listeners += 1
        try:
            yield b"retry: 2000\n\n"
            while not self._closing.is_set():
                news = self._news
                rows = self._outbox.after(position, 200)
                marks = self._outbox.watermarks() if rows else {}
                for row in rows:
                    position = row.id
                    body = msgspec.json.encode(_shown(row, marks))
                    yield b"id: %d\nevent: event\ndata: %s\n\n" % (row.id, body)
                if not rows:
                    try:
                        async with asyncio.timeout(_BEAT_S):
                            await news.wait()
                    except TimeoutError:
                        yield b": beat\n\n"
        finally:
            self._listeners -= 1


def _shown(row: Stored, marks: dict[tuple[int, Lane], int]) -> dict[str, Any]:
    """An event with its identity, and whether the center has it by these watermarks."""
    event: dict[str, Any] = msgspec.json.decode(row.body)
    stored = row.seq <= marks.get((row.epoch, row.lane), 0)
    return {
        **event, "id": row.id, "epoch": row.epoch, "lane": row.lane, "seq": row.seq,
        "stored": stored,
    }  # fmt: skip


def _number(text: str | None, default: int, highest: int) -> int:
    """A number of a request; what is none, or has more than 18 digits, counts as the default."""
    if text is None or not (text.isascii() and text.isdecimal() and len(text) <= 18):
        return default
    return min(int(text), highest)


class Server(uvicorn.Server):
    """uvicorn under the agent's rule: signals and sockets are the agent's."""

    def __init__(self, app: Starlette) -> None:
        super().__init__(
            uvicorn.Config(
                app, log_config=None, access_log=False, lifespan="off", ws="none",
                timeout_graceful_shutdown=2,
            )
        )  # fmt: skip

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield
