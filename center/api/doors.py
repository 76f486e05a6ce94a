"""The API's doors: who is let in, and how large a body may be.

Not here: tokens themselves (auth).
"""

from typing import Annotated

from fastapi import Depends, HTTPException, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from center import auth
from center.auth import Token
from center.desk import AtDesk

MAX_BODY_BYTES = 1024 * 1024

_bearer = HTTPBearer(auto_error=False, description="a token of the center")


def bearer(
    desk: AtDesk,
    given: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
) -> Token:
    """The caller's token, or 401."""
    if given is not None:
        with desk.database.reading() as connection:
            found = auth.find(connection, "api", given.credentials, desk.clock.now_ms())
        if found is not None:
            return found
    raise _unauthorized()


def bearer_or_session(request: Request, desk: AtDesk) -> Token:
    """The caller's token or console session, or 401: for pages about the API."""
    now_ms = desk.clock.now_ms()
    with desk.database.reading() as connection:
        found = auth.bearer_of(connection, request.headers.get("authorization"), now_ms)
        found = found or auth.session_of(connection, request.cookies.get(auth.COOKIE), now_ms)
    if found is None:
        raise _unauthorized()
    return found


def bearer_or_worker(
    desk: AtDesk,
    given: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
) -> str | None:
    """The worker whose token the caller has, None for an operator's token; or 401."""
    if given is not None:
        with desk.database.reading() as connection:
            if auth.find(connection, "api", given.credentials, desk.clock.now_ms()) is not None:
                return None
            worker = auth.worker_of(connection, given.credentials)
        if worker is not None:
            return worker
    raise _unauthorized()


Caller = Annotated[Token, Depends(bearer)]
Reader = Annotated[Token, Depends(bearer_or_session)]
Fetcher = Annotated[str | None, Depends(bearer_or_worker)]
"""A worker's name, or None: an operator."""


def _unauthorized() -> HTTPException:
    return HTTPException(
        401,
        "a token of the center is needed: Authorization: Bearer <token>",
        {"WWW-Authenticate": "Bearer"},
    )


class BodyLimit:
    """ASGI middleware: a request body above `MAX_BODY_BYTES` is answered by 413 and not read on."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, counting its body."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if not declared.isdigit() or int(declared) > MAX_BODY_BYTES:
            await _too_large(send)
            return
        body_bytes = 0
        refused = False

        async def counted() -> Message:
            nonlocal body_bytes
            message = await receive()
            body_bytes += len(message.get("body", b""))
            if body_bytes > MAX_BODY_BYTES:
                raise _TooLargeError("the body is larger than it may be")
            return message

        async def watched(message: Message) -> None:
            # Whoever reads the body makes an answer of its own of the error: ours goes instead.
            nonlocal refused
            if body_bytes <= MAX_BODY_BYTES:
                await send(message)
            elif not refused:
                refused = True
                await _too_large(send)

        await self._app(scope, counted, watched)


class _TooLargeError(ValueError):
    """The body went past the limit while it was read."""


async def _too_large(send: Send) -> None:
    body = b'{"detail":"the body is larger than 1 MiB"}'
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": body})
