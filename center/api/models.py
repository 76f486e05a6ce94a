"""Routes of models: what workers are told of, and the files of it in parts.

A file is pushed first, part by part, then the manifest that names it. Workers and operators read
whole files, from any byte on.
"""

import re
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from pydantic import ValidationError

from center import models, resources
from center.api.doors import Fetcher
from center.api.places import DryRun
from center.api.shapes import (
    DeleteAnswer,
    Document,
    Listing,
    ModelDetail,
    ModelPut,
    ModelView,
    Parts,
    PartStored,
    PlaceName,
    PutAnswer,
    Sentence,
)
from center.desk import AtDesk, Desk
from center.resources import NotFoundError
from wire import specs
from wire.models import MAX_PARTS, PART_BYTES, SHA256_PATTERN, Published

router = APIRouter(tags=["models"])
files = APIRouter(tags=["models"])
"""For workers, which have tokens that open nothing else."""

Sha256 = Annotated[str, Path(pattern=SHA256_PATTERN)]
PartNumber = Annotated[int, Path(ge=0, lt=MAX_PARTS)]
_BYTES = {
    "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
}
_FILE: dict[int | str, dict[str, Any]] = {
    200: {**_BYTES, "description": "the whole file"},
    206: {**_BYTES, "description": "the bytes that `Range` asks for"},
    416: {"model": Sentence, "description": "the file has no such bytes"},
}


@router.get("/models", response_model=Listing[ModelView])
def list_models(desk: AtDesk) -> Any:
    """All models by name, who uses them, and how they fare at the workers."""
    with desk.database.reading() as connection:
        return {"items": models.views(connection)}


@router.get("/models/{name}", response_model=ModelDetail)
def get_model(desk: AtDesk, name: PlaceName) -> Any:
    """One model with its manifest."""
    with desk.database.reading() as connection:
        return models.view(connection, name)


@router.put("/models/{name}")
def put_model(
    desk: AtDesk, name: PlaceName, manifest: Document, dry_run: DryRun = False
) -> ModelPut:
    """Publish a model whose file's parts are here: its manifest with `sha256` and `size_bytes`.

    Workers whose tasks name it fetch it, try it, and go on with the one before if it is no good.
    Many stations are not told in one request: repeat it until `untold` is 0.
    """
    try:
        model = Published.model_validate(manifest)
    except ValidationError as error:
        raise specs.SpecError(specs.problems_of(error)) from None
    if model.name != name:
        message = f"the path says {name}, the manifest {model.name}"
        raise resources.problem("name", message=message)
    change, untold = desk.put_model(model, dry_run=dry_run)
    answer = PutAnswer.of(change, dry_run)
    return ModelPut(**answer.model_dump(), untold=untold)


@router.delete("/models/{name}")
def delete_model(desk: AtDesk, name: PlaceName, dry_run: DryRun = False) -> DeleteAnswer:
    """Delete a model that no task names any more."""
    desk.delete_model(name, dry_run=dry_run)
    return DeleteAnswer(dry_run=dry_run)


@router.get("/models/{sha256}/file/parts", response_model=Parts)
def get_parts(desk: AtDesk, sha256: Sha256) -> Any:
    """Which parts of a file are here, so that a push that broke off can go on."""
    with desk.database.reading() as connection:
        try:
            models.size_bytes_of(connection, sha256)
        except NotFoundError:
            return {"whole": False, "numbers": models.parts_of(connection, sha256)}
        return {"whole": True, "numbers": models.parts_of(connection, sha256)}


@router.put(
    "/models/{sha256}/file/parts/{number}",
    openapi_extra={"requestBody": {**_BYTES, "required": True}},
)
async def put_part(
    desk: AtDesk, sha256: Sha256, number: PartNumber, request: Request
) -> PartStored:
    """Store a part of a file: 1 MiB from byte number x 1 MiB on, the last part may be shorter."""
    content = await request.body()
    stored = await run_in_threadpool(desk.put_part, sha256, number, content)
    return PartStored(result="stored" if stored else "unchanged")


@files.get("/models/{sha256}/file", response_class=Response, responses=_FILE)
def get_file(desk: AtDesk, fetcher: Fetcher, sha256: Sha256, request: Request) -> Response:
    """A model's file, or the bytes of it that one `Range: bytes=...` asks for.

    A worker's token opens the files that its own document names.
    """
    with desk.database.reading() as connection:
        if fetcher is not None and not models.is_for(connection, fetcher, sha256):
            raise NotFoundError(f"nothing in the document of worker {fetcher} has this file")
        size_bytes = models.size_bytes_of(connection, sha256)
    span = _span(request.headers.get("range"), size_bytes)
    if not desk.fetching.acquire(blocking=False):
        sentence = "so many files are being sent that no more can be; try again in a moment"
        raise HTTPException(503, sentence, {"Retry-After": "5"})
    first, last = span or (0, size_bytes - 1)
    headers = {
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, max-age=31536000, immutable",
        "Content-Length": str(last - first + 1),
        "ETag": f'"{sha256}"',
        "X-Content-Type-Options": "nosniff",
    }
    if span is not None:
        headers["Content-Range"] = f"bytes {first}-{last}/{size_bytes}"
    return _Sent(
        desk,
        _pieces(desk, sha256, first, last),
        status_code=200 if span is None else 206,
        headers=headers,
        media_type="application/octet-stream",
    )


class _Sent(StreamingResponse):
    """A file on its way; whatever becomes of it, its place is free for another one afterwards."""

    def __init__(self, desk: Desk, pieces: Iterator[bytes], **about: Any) -> None:
        super().__init__(pieces, **about)
        self._desk = desk

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._desk.fetching.release()


def _pieces(desk: Desk, sha256: str, first: int, last: int) -> Iterator[bytes]:
    """The bytes first..last, a part at a time; no transaction lasts while the other side reads."""
    for number in range(first // PART_BYTES, last // PART_BYTES + 1):
        with desk.database.reading() as connection:
            content = models.part(connection, sha256, number)
        if content is None:
            raise RuntimeError(f"part {number} of the file {sha256[:12]}... went while it was sent")
        begin = number * PART_BYTES
        yield content[max(0, first - begin) : last - begin + 1]


def _span(asked: str | None, size_bytes: int) -> tuple[int, int] | None:
    """The first and last byte of a `Range` header (RFC 9110, 14.1.2); None: the whole file.

    What is no single range of bytes is ignored, as the standard says. Raises HTTPException 416.
    """
    match = re.fullmatch(r"bytes=(\d{0,15})-(\d{0,15})", (asked or "").replace(" ", ""))
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        span = max(0, size_bytes - int(last)), size_bytes - 1
    else:
        span = int(first), min(int(last), size_bytes - 1) if last else size_bytes - 1
    if last and first and int(last) < int(first):
        return None
    if span[0] > span[1]:
        sentence = f"the file has {size_bytes} bytes"
        raise HTTPException(416, sentence, {"Content-Range": f"bytes */{size_bytes}"})
    return span
