"""`/api/inputs`: a forecourt controller, a till or a probe tells this worker what is so.

Here: HTTP, the token, what a post may look like. Not here: what becomes of a fact (edge/inputs.py).
"""

import asyncio
import hmac
import logging
import sqlite3
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from edge.clock import Clock
from edge.inputs import Inputs
from wire.facts import MAX_FACT_BYTES, Fact, InputName, Value

log = logging.getLogger("forecourt.inputs")

MAX_POST_BYTES = 256 * 1024
MAX_FACTS = 1000
BURST = 100
POSTS_A_S = 20.0
"""Posts that are answered: so many in a burst, and so many a second for ever."""
AT_ONCE = 32
"""Posts that may wait for each other, or for a slow disk."""
_READ_WITHIN_S = 10.0
_HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}


class Said(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fact as it is posted: of now, unless it says since when."""

    input: InputName
    value: Value
    t_ms: Annotated[int, msgspec.Meta(ge=0, le=2**53)] | None = None
    at: datetime | None = None


class _RefusedError(Exception):
    """A post that is not answered with what was taken: a status, and what to do."""

    def __init__(self, status: int, detail: str, **headers: str) -> None:
        super().__init__(detail)
        self.status = status
        self.headers = headers


class InputRoutes:
    """The routes over what the agent knows of inputs; without a token nobody may post."""

    def __init__(self, inputs: Inputs, token: str, clock: Clock) -> None:
        self._inputs = inputs
        self._token = token.encode()
        self._clock = clock
        self._left = float(BURST)
        self._counted_s = clock.monotonic_s()
        self._at_work = 0
        self.denied = 0
        """Posts without the token."""
        self.routes = (
            Route("/api/inputs", self._get),
            Route("/api/inputs", self._post, methods=["POST"]),
        )

    async def _get(self, request: Request) -> Response:
        return JSONResponse({"items": shown(self._inputs.newest())}, headers=_HEADERS)

    async def _post(self, request: Request) -> Response:
        """Take one fact or a list of them; 200 when all of them are on disk."""
        try:
            self._admit(request)
            self._at_work += 1
            try:
                return await self._take(await _body(request))
            finally:
                self._at_work -= 1
        except _RefusedError as refusal:
            return JSONResponse(
                {"detail": str(refusal)},
                status_code=refusal.status,
                headers={**_HEADERS, **refusal.headers},
            )
        except ClientDisconnect:
            return Response(status_code=400)

    def _admit(self, request: Request) -> None:
        if not self._token:
            raise _RefusedError(503, "this worker has no station token; its log says why")
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        shown = given.strip().encode("utf-8", "replace")
        if scheme.lower() != "bearer" or not hmac.compare_digest(shown, self._token):
            self.denied += 1
            raise _RefusedError(
                401,
                "send the station token as `Authorization: Bearer TOKEN`; it lies in the file"
                " `station.token` of the worker's data folder, or where its configuration says",
                **{"WWW-Authenticate": "Bearer"},
            )
        now_s = self._clock.monotonic_s()
        self._left = min(BURST, self._left + (now_s - self._counted_s) * POSTS_A_S)
        self._counted_s = now_s
        if self._left < 1:
            raise _RefusedError(
                429,
                f"more than {POSTS_A_S:g} posts a second; put several facts into one post",
                **{"Retry-After": "1"},
            )
        self._left -= 1
        if self._at_work >= AT_ONCE:
            raise _RefusedError(
                429, f"{AT_ONCE} posts wait for the disk already", **{"Retry-After": "1"}
            )
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise _RefusedError(415, "send JSON, with `Content-Type: application/json`")

    async def _take(self, body: bytes) -> Response:
        raws, one = _items(body)
        facts: list[Fact] = []
        refused: list[dict[str, Any]] = []
        places: list[int] = []
        for place, raw in enumerate(raws):
            try:
                facts.append(_fact(raw, self._clock.wall_ms()))
                places.append(place)
            except ValueError as error:
                refused.append({"item": place, "reason": str(error)})
        self._inputs.refused += len(refused)
        try:
            reasons = await self._inputs.take(facts)
        except (sqlite3.Error, OSError) as error:
            log.error("facts of inputs cannot be kept: %s", error)
            raise _RefusedError(
                503, f"the disk does not take it ({error}); post it again"
            ) from None
        for place, fact, reason in zip(places, facts, reasons, strict=True):
            if reason:
                refused.append({"item": place, "input": fact.input, "reason": reason})
        refused.sort(key=lambda one: one["item"])
        answer: dict[str, Any] = {"taken": len(raws) - len(refused), "refused": refused}
        if refused:
            answer["detail"] = refused[0]["reason"] if one else f"{len(refused)} were refused"
        return JSONResponse(answer, status_code=400 if refused else 200, headers=_HEADERS)


def shown(facts: Sequence[Fact]) -> list[dict[str, Any]]:
    """Facts for people and programs: input, value, t_ms."""
    return [msgspec.to_builtins(fact) for fact in facts]


async def _body(request: Request) -> bytes:
    """What was posted, no more than may be. Raises _RefusedError."""
    body = bytearray()
    try:
        async with asyncio.timeout(_READ_WITHIN_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_POST_BYTES:
                    raise _RefusedError(
                        413, f"a post has at most {MAX_POST_BYTES} bytes: make several"
                    )
    except TimeoutError:
        raise _RefusedError(408, f"the post did not come within {_READ_WITHIN_S:g} s") from None
    return bytes(body)


def _items(body: bytes) -> tuple[list[msgspec.Raw], bool]:
    """The facts of a post, each as its JSON, and whether it is a single one."""
    one = not body.lstrip().startswith(b"[")
    try:
        raws = [msgspec.Raw(body)] if one else msgspec.json.decode(body, type=list[msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _RefusedError(400, f"this is no JSON: {error}") from None
    if len(raws) > MAX_FACTS:
        raise _RefusedError(413, f"a post has at most {MAX_FACTS} facts: make several")
    return raws, one


def _fact(raw: msgspec.Raw, now_ms: int) -> Fact:
    """One fact. Raises ValueError with what is wrong with it."""
    if len(raw) > MAX_FACT_BYTES:
        raise ValueError(f"a fact has at most {MAX_FACT_BYTES} bytes")
    try:
        said = msgspec.json.decode(raw, type=Said)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(
            f'{error}; write {{"input": "nozzle-2", "value": "lifted"}}, with a `t_ms` or `at`'
        ) from None
    if said.t_ms is not None and said.at is not None:
        raise ValueError("it has both `t_ms` and `at`; write one of them, or none for now")
    if said.at is not None and said.at.tzinfo is None:
        raise ValueError("`at` has no time zone; write 2026-01-31T10:00:00Z or +01:00 at its end")
    t_ms = said.t_ms if said.at is None else _milliseconds(said.at)
    t_ms = now_ms if t_ms is None else t_ms
    if t_ms < 0:
        raise ValueError("`at` is before 1970")
    return Fact(input=said.input, value=said.value, t_ms=t_ms)


def _milliseconds(at: datetime) -> int:
    return round(at.timestamp() * 1000)
