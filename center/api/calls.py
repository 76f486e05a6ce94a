"""Routes of calls: what a worker is asked for now, and what it says."""

import base64
import binascii
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, HTTPException, Query, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field

from center import presence
from center.api.doors import Reader
from center.api.shapes import Document, PlaceName, Sentence
from center.calls import Answer
from center.desk import AtDesk, Desk
from center.presence import Presence
from center.resources import ConflictError, NotFoundError
from wire import calls, specs
from wire.calls import MAX_PICTURE_BYTES, MAX_TIMEOUT_S, PictureArgs
from wire.messages import Method

router = APIRouter(tags=["workers"])
pictures = APIRouter(tags=["workers"])
"""For pages: a browser shows a picture with its session's cookie."""

_LATE: dict[int | str, dict[str, Any]] = {
    504: {"model": Sentence, "description": "the worker did not answer in time"}
}
_JPEG: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/jpeg": {}}, "description": "the stream's next picture"},
    502: {"model": Sentence, "description": "what the worker said is no picture"},
}


class Call(BaseModel):
    """What a worker is asked for."""

    model_config = ConfigDict(extra="forbid")

    method: Method
    args: Document = Field(
        default_factory=dict,
        description="probe: camera and stream, or url; picture: camera, stream, width; log: lines",
    )
    timeout_s: Annotated[float, Field(gt=0, le=MAX_TIMEOUT_S, allow_inf_nan=False)] = 10.0
    id: Annotated[
        str | None,
        Field(
            pattern=r"^[A-Za-z0-9_-]{1,64}$",
            description="the same within ten minutes gets the same answer, and nothing is done "
            "twice; none: a new one",
        ),
    ] = None


class CallAnswer(BaseModel):
    """What the worker said: a result, or why there is none."""

    id: str
    ok: bool
    result: Document = Field(description="as the worker says it; a picture's `jpeg` is base64")
    error: str


@router.post("/workers/{name}/calls", response_model=CallAnswer, responses=_LATE)
async def call_worker(desk: AtDesk, name: PlaceName, call: Call) -> Response:
    """Ask a worker for something now; one that is not online is not waited for (409)."""
    answer = await _asked(desk, name, call)
    body = {
        "id": answer.id,
        "ok": answer.ok,
        "result": msgspec.Raw(answer.result),
        "error": answer.error,
    }
    return Response(msgspec.json.encode(body), media_type="application/json")


@pictures.get("/workers/{name}/picture", response_class=Response, responses={**_JPEG, **_LATE})
async def picture_of_worker(
    desk: AtDesk,
    _reader: Reader,
    name: PlaceName,
    camera: Annotated[specs.Name, Query()],
    stream: Annotated[specs.Name, Query()] = "main",
    width: Annotated[int, Query(ge=64, le=1920)] = 960,
) -> Response:
    """A live picture of a running stream; `X-Picture-Time-Ms` is its wall time."""
    args = calls.written(PictureArgs(camera=camera, stream=stream, width=width))
    answer = await _asked(desk, name, Call(method="picture", args=args))
    if not answer.ok:
        raise ConflictError(f"worker {name} gives no picture: {answer.error}")
    jpeg, t_ms = _picture(name, answer)
    headers = {
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "X-Picture-Time-Ms": str(t_ms),
    }
    return Response(jpeg, media_type="image/jpeg", headers=headers)


async def _asked(desk: Desk, name: str, call: Call) -> Answer:
    """Raises NotFoundError, SpecError for the arguments, and as `Calls.ask` does."""
    args = calls.written(calls.parse(call.method, call.args))
    held = await run_in_threadpool(_held, desk, name)
    return await desk.calls.ask(
        held, desk.heartbeat_s, call.method, args, call.timeout_s, name=call.id
    )


def _held(desk: Desk, name: str) -> Presence:
    with desk.database.reading() as connection:
        held = presence.of_worker(connection, name)
    if held is None:
        raise NotFoundError(f"no worker {name}")
    return held


class _Picture(msgspec.Struct, frozen=True):
    """What is read of a picture's result."""

    jpeg: str
    t_ms: int


def _picture(name: str, answer: Answer) -> tuple[bytes, int]:
    """The JPEG and its time; whatever else a worker sends is not passed on as a picture."""
    try:
        found = msgspec.json.decode(answer.result, type=_Picture)
        jpeg = base64.b64decode(found.jpeg, validate=True)
    except (msgspec.MsgspecError, binascii.Error, ValueError):
        jpeg = b""
    if not jpeg.startswith(b"\xff\xd8\xff") or len(jpeg) > MAX_PICTURE_BYTES:
        raise HTTPException(502, f"what worker {name} sent is no picture; upgrade it")
    return jpeg, found.t_ms
