"""The console's guard: nothing of NiceGUI answers without a session.

Here: HTTP and WebSocket requests stopped before they reach a page, a script or a live connection.
Not here: sessions themselves (auth), getting one (login).
"""

import logging
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from center import auth, db
from center.desk import Desk

RECHECK_S = 1.0
"""How long a live connection may outlast its session; something is said on it every few seconds."""

_POLICY_VIOLATION = 1008
_HEADERS = {
    # Vue compiles templates in the browser, hence unsafe-eval; everything comes from this host.
    "content-security-policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
        "style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; "
        "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
}

_log = logging.getLogger("forecourt.console")


class Guard:
    """ASGI middleware: a session's cookie and, where the browser names one, the same origin."""

    def __init__(self, app: ASGIApp, desk: Desk) -> None:
        self._app = app
        self._desk = desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what may pass."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = await self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, send)
            return

        left = False

        async def noting_receive() -> Message:
            nonlocal left
            message = await receive()
            left = left or message["type"] == "http.disconnect"
            return message

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        try:
            await self._app(scope, noting_receive, with_headers)
        except RuntimeError as error:
            if not left:
                raise
            # A browser that turns to another page; NiceGUI's middleware makes an error of it.
            _log.debug("the browser left %s: %s", scope["path"], error)

    async def _refusal(self, scope: Scope) -> Response | None:
        """The answer to a request that may not pass; None if it may."""
        headers = Headers(scope=scope)
        if not same_origin(headers, needed=False):
            return PlainTextResponse("a page of another site asked for this", 403)
        try:
            if await self._has_session(scope):
                return None
        except db.UNAVAILABLE as error:
            _log.warning("cannot look sessions up: %s", str(error).partition("\n")[0])
            sentence = "the database cannot be read now; try again in a moment"
            return PlainTextResponse(sentence, 503, {"Retry-After": "1"})
        if scope["method"] == "GET" and "text/html" in headers.get("accept", ""):
            return RedirectResponse("/login", 303)
        return PlainTextResponse("log in at /login first", 401)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        welcome = same_origin(Headers(scope=scope), needed=True)
        if not welcome or not await self._may_talk(scope, if_unknown=False):
            await receive()  # the request to connect
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
            return
        checked_s = self._desk.clock.elapsed_s()
        closed = False

        async def checked_receive() -> Message:
            nonlocal checked_s, closed
            message = await receive()
            now_s = self._desk.clock.elapsed_s()
            if message["type"] == "websocket.receive" and now_s - checked_s > RECHECK_S:
                checked_s = now_s
                if not await self._may_talk(scope, if_unknown=True):
                    closed = True
                    await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
                    return {"type": "websocket.disconnect", "code": _POLICY_VIOLATION}
            return message

        async def open_send(message: Message) -> None:
            if not closed:
                await send(message)

        await self._app(scope, checked_receive, open_send)

    async def _may_talk(self, scope: Scope, *, if_unknown: bool) -> bool:
        """Whether the session counts; `if_unknown` is the answer while the database gives none."""
        try:
            return await self._has_session(scope)
        except db.UNAVAILABLE as error:
            _log.warning("cannot look a session up: %s", str(error).partition("\n")[0])
            return if_unknown

    async def _has_session(self, scope: Scope) -> bool:
        cookie = HTTPConnection(scope).cookies.get(auth.COOKIE)
        return cookie is not None and await run_in_threadpool(self._is_session, cookie)

    def _is_session(self, cookie: str) -> bool:
        with self._desk.database.reading() as connection:
            now_ms = self._desk.clock.now_ms()
            return auth.session_of(connection, cookie, now_ms) is not None


def same_origin(headers: Headers, *, needed: bool) -> bool:
    """Whether a request comes from a page of the host that it asks; browsers do not lie in this."""
    origin, host = headers.get("origin"), headers.get("host", "")
    if origin is None:
        return not needed
    return bool(host) and urlsplit(origin).netloc.lower() == host.lower()
