"""The center's REST API as this command uses it: one method per kind of request.

Belongs here: base URL, token, errors turned into one clear sentence, caps on what is read, the
event stream. Does not belong here: what a command does with the answers, and retrying (events.py
alone does that, for --follow).
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import quote, urlsplit

import httpx

from cli.access import Access
from cli.errors import FAILED, CommandError
from wire import specs
from wire.models import Published
from wire.specs import Camera, Problem, Resource, Station, Worker

MAX_ANSWER_BYTES = 64 * 1024 * 1024
MAX_LINE_BYTES = 1024 * 1024
PAGE = 1000
BEAT_S = 15.0
"""The center sends a comment this often on an event stream that has nothing to tell."""

Document = dict[str, Any]
Params = Mapping[str, str | int]


class RefusedError(CommandError):
    """The center answered, and the answer is no. `problems` are the fields of a 422."""

    def __init__(self, status: int, sentence: str, problems: tuple[Problem, ...] = ()) -> None:
        super().__init__(sentence, FAILED)
        self.status = status
        self.problems = problems


class UnreachableError(CommandError):
    """No answer came, or none that a center gives."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What a PUT did, or would do. The documents are redacted; `before` of a new one is None."""

    result: Literal["created", "updated", "unchanged"]
    revision: int | None
    before: Document | None
    after: Document | None


def place(resource: Resource) -> str:
    """Where a resource lives below /api/v1."""
    name = resource.metadata.name
    if isinstance(resource, Station):
        return f"/stations/{name}"
    if isinstance(resource, Worker):
        return f"/workers/{name}"
    nouns = "cameras" if isinstance(resource, Camera) else "tasks"
    return f"/stations/{resource.metadata.station}/{nouns}/{name}"


class Api:
    """A center, spoken to with one token. Use it as a context manager."""

    def __init__(self, access: Access, timeout_s: float = 30.0) -> None:
        self.url = access.url
        loopback = urlsplit(access.url).hostname in ("127.0.0.1", "localhost", "::1")
        self._http = httpx.Client(
            base_url=f"{access.url}/api/v1",
            headers={"Authorization": f"Bearer {access.token}"},
            timeout=timeout_s,
            trust_env=not loopback,  # a proxy of the environment cannot reach this machine's own
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()

    def put(self, resource: Resource, *, dry_run: bool) -> Applied:
        """Create or change a resource, or ask what that would do. Raises CommandError."""
        answer = self._request(
            "PUT", place(resource), _dry(dry_run), json_body=specs.document(resource)
        )
        return self._applied(answer)

    def _applied(self, answer: Document) -> Applied:
        try:
            return Applied(answer["result"], answer["revision"], answer["before"], answer["after"])
        except KeyError as missing:
            raise self._strange(f"its answer lacks {missing}") from None

    def delete(self, path: str, *, dry_run: bool) -> None:
        """Delete what is at a path below /api/v1. Raises RefusedError with status 404 or 409."""
        self._request("DELETE", path, _dry(dry_run))

    def get(self, path: str, params: Params | None = None) -> Document:
        """The answer to a GET below /api/v1. Raises RefusedError, UnreachableError."""
        return self._request("GET", path, params or {})

    def items(self, path: str, params: Params | None = None) -> list[Document]:
        """The `items` of a list."""
        return self.items_of(self.get(path, params))

    def items_of(self, answer: Document) -> list[Document]:
        """The `items` of an answer."""
        found = answer.get("items")
        if not isinstance(found, list):
            raise self._strange("its list has no items")
        return found

    def events(self, params: Params, limit: int) -> Iterator[Document]:
        """At most `limit` stored events in the order asked for, a page at a time."""
        cursor = "before" if params.get("order") == "desc" else "after"
        return self._paged("/events", cursor, params, limit)

    def notifications(self, params: Params, limit: int) -> Iterator[Document]:
        """At most `limit` notifications, the newest first, a page at a time."""
        return self._paged("/notifications", "before", params, limit)

    def _paged(self, path: str, cursor: str, params: Params, limit: int) -> Iterator[Document]:
        asked = dict(params)
        while limit > 0:
            page = self.get(path, {**asked, "limit": min(limit, PAGE)})
            items, following = page.get("items", []), page.get("next")
            yield from items[:limit]
            limit -= len(items)
            if not items or following is None:
                return
            asked[cursor] = following

    def call(self, worker: str, asked: Document) -> Document:
        """What a worker says when it is asked for something now. Raises RefusedError."""
        answer = self._request("POST", f"/workers/{worker}/calls", {}, asked)
        if not isinstance(answer.get("ok"), bool) or not isinstance(answer.get("result"), dict):
            raise self._strange("its answer lacks ok or result")
        return answer

    def replace(self, worker: str) -> None:
        """Let in the next one that would be denied this worker's name. Raises RefusedError."""
        self._request("POST", f"/workers/{worker}/replace", {})

    def put_model(self, model: Published, *, dry_run: bool) -> tuple[Applied, int]:
        """Publish a model whose file was sent, and how many stations are to be told yet.

        Raises RefusedError.
        """
        document = model.model_dump(mode="json", exclude_defaults=True)
        answer = self._request("PUT", f"/models/{model.name}", _dry(dry_run), document)
        return self._applied(answer), int(answer.get("untold", 0))

    def model_parts(self, sha256: str) -> set[int] | None:
        """The parts of a file that are there already; None: it is whole."""
        answer = self.get(f"/models/{sha256}/file/parts")
        return None if answer.get("whole") else {int(one) for one in answer.get("numbers", [])}

    def put_model_part(self, sha256: str, number: int, content: bytes) -> None:
        """Send a part of a model's file. Raises RefusedError."""
        self._request("PUT", f"/models/{sha256}/file/parts/{number}", {}, content=content)

    def worker_token(self, worker: str) -> str:
        """A new secret for a worker. Raises RefusedError."""
        answer = self._request("POST", f"/workers/{worker}/token", {})
        secret = answer.get("token")
        if not isinstance(secret, str):
            raise self._strange("its answer lacks the token")
        return secret

    def revoke_worker_tokens(self, worker: str) -> None:
        """End a worker's secrets. Raises RefusedError."""
        self._request("DELETE", f"/workers/{worker}/token", {})

    def login_code(self) -> str:
        """A one-time code that logs a browser in at /login?code=..."""
        return str(self._request("POST", "/login-codes", {}).get("code", ""))

    def stream(self, after: int | None, params: Params) -> Iterator[Document]:
        """Events as they are stored, until the center closes the stream.

        Raises UnreachableError when it is lost: broken, or without three beats.
        """
        headers = {"Accept": "text/event-stream"}
        if after is not None:
            headers["Last-Event-ID"] = str(after)
        with (
            self._reaching(),
            self._http.stream(
                "GET",
                "/events/stream",
                params=dict(params),
                headers=headers,
                timeout=httpx.Timeout(10.0, read=3 * BEAT_S),
            ) as response,
        ):
            if response.status_code != httpx.codes.OK:
                raise self._refusal(response.status_code, _bounded(response))
            for data in _sse_data(response.iter_bytes()):
                yield self._decoded(data)

    def _request(
        self,
        method: str,
        path: str,
        params: Params,
        json_body: Document | None = None,
        content: bytes | None = None,
    ) -> Document:
        asked = self._http.build_request(
            method, quote(path), params=dict(params), json=json_body, content=content
        )
        with self._reaching(), closing(self._http.send(asked, stream=True)) as response:
            status, body = response.status_code, _bounded(response)
        if status != httpx.codes.OK:
            raise self._refusal(status, body)
        return self._decoded(body)

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except httpx.ConnectError as error:
            raise UnreachableError(
                f"no center answers at {self.url} ({_reason(error)}); check --url or "
                "FORECOURT_URL, and that the center runs"
            ) from None
        except httpx.TimeoutException:
            raise UnreachableError(f"the center at {self.url} did not answer in time") from None
        except httpx.HTTPError as error:
            raise UnreachableError(
                f"the connection to the center at {self.url} broke: {_reason(error)}"
            ) from None
        except _TooLargeError as error:
            raise self._strange(str(error)) from None

    def _decoded(self, body: bytes | str) -> Document:
        try:
            answer = json.loads(body)
        except ValueError:
            raise self._strange("it did not answer with JSON") from None
        if not isinstance(answer, dict):
            raise self._strange("it did not answer with a JSON object")
        return answer

    def _strange(self, why: str) -> UnreachableError:
        return UnreachableError(f"{self.url} does not behave like a center: {why}; check --url")

    def _refusal(self, status: int, body: bytes) -> CommandError:
        if 300 <= status < 400:
            return self._strange("it redirects elsewhere")
        try:
            detail = json.loads(body)["detail"]
        except (ValueError, KeyError, TypeError):
            detail = None
        if status == httpx.codes.UNAUTHORIZED:
            return CommandError(
                f"the center at {self.url} does not accept the token; check --token-file, "
                "FORECOURT_TOKEN_FILE or FORECOURT_TOKEN",
            )
        if isinstance(detail, list):
            problems = tuple(map(_problem, detail))
            return RefusedError(status, "; ".join(map(str, problems)), problems)
        sentence = detail if isinstance(detail, str) else f"it answered with status {status}"
        return RefusedError(status, f"the center at {self.url} refused: {sentence}")


class _TooLargeError(Exception):
    pass


def _dry(dry_run: bool) -> Params:
    return {"dry_run": "true"} if dry_run else {}


def _problem(found: object) -> Problem:
    """A finding of a 422: its path as the operator wrote it, without `body`."""
    if not isinstance(found, dict):
        return Problem((), str(found))
    loc = found.get("loc")
    path = tuple(part for part in loc if isinstance(part, str | int)) if loc else ()
    return Problem(path[1:] if path[:1] == ("body",) else path, str(found.get("msg", "")))


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _bounded(response: httpx.Response) -> bytes:
    body = bytearray()
    for chunk in response.iter_bytes():
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise _TooLargeError(f"its answer is above {MAX_ANSWER_BYTES} bytes")
    return bytes(body)


def _sse_data(chunks: Iterator[bytes]) -> Iterator[str]:
    """The `data` of each server-sent event, joined as the standard says."""
    data: list[str] = []
    for line in _lines(chunks):
        field, _, value = line.partition(":")
        if not line:
            if data:
                yield "\n".join(data)
            data = []
        elif field == "data":
            data.append(value.removeprefix(" "))


def _lines(chunks: Iterator[bytes]) -> Iterator[str]:
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        if len(rest) > MAX_LINE_BYTES:
            raise _TooLargeError(f"an event is above {MAX_LINE_BYTES} bytes")
        for line in whole:
            yield line.removesuffix(b"\r").decode(errors="replace")
