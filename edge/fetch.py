"""One file of the center over HTTP, from where the last attempt ended.

Here: a request with this worker's own credential, the bytes, why it failed. Not here: when to try
again (models), what the file must be (store.models).

The token goes to the configured address alone: redirects are not followed. `httpx` is loaded when
a file is first fetched, as most agents never need it.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

log = logging.getLogger("forecourt.models")

MAX_TOKEN_BYTES = 1024
_TIMEOUT_S, _CONNECT_S = 30.0, 10.0
_CHUNK_BYTES = 128 * 1024
_WHY = {
    401: "the center does not accept the token in center_token_file; make another one: "
    "forecourt workers token NAME",
    404: "the center does not give this file to this worker; is the token that of another one?",
    503: "the center is busy",
}


class FetchError(Exception):
    """Why a file could not be fetched, and what to do; what came of it is kept."""


@dataclass(frozen=True, slots=True)
class Source:
    """The center, and where the token for it lies; it is read anew for each attempt."""

    url: str
    token_file: Path

    def token(self) -> str:
        """The worker's token. Raises FetchError, never showing any of it."""
        what = f"center_token_file {self.token_file}"
        try:
            mode = self.token_file.stat().st_mode
            with self.token_file.open("rb") as file:
                raw = file.read(MAX_TOKEN_BYTES + 1)
        except OSError as error:
            raise FetchError(f"{what} cannot be read: {error.strerror}") from None
        if mode & 0o022:
            raise FetchError(f"{what} can be written by others: chmod go-w it; make a new token")
        if mode & 0o004:
            log.warning("%s can be read by every user of this machine: chmod o-r it", what)
        text = raw.decode("ascii", "replace").strip()
        if not 16 <= len(text) <= MAX_TOKEN_BYTES or not text.isprintable() or " " in text:
            raise FetchError(f"{what} holds no token: one line of printable text is wanted")
        return text


@dataclass(slots=True)
class Progress:
    """How far a fetch is; one thread writes, another reads."""

    have_bytes: int = 0
    stopped: bool = field(default=False)
    """Set it to have the fetch end at its next piece."""


def fetch(
    source: Source,
    path: str,
    size_bytes: int,
    partial: Path,
    progress: Progress,
    note: Callable[[], None] = lambda: None,
) -> None:
    """Let `partial` grow to `size_bytes` of the file at `path` below the center's API.

    Blocks; `note` is called as it grows. Raises FetchError and OSError.
    """
    import httpx

    logging.getLogger("httpx").setLevel(logging.WARNING)  # it would log each request
    have_bytes = partial.stat().st_size if partial.exists() else 0
    if have_bytes > size_bytes:
        partial.unlink()
        have_bytes = 0
    progress.have_bytes = have_bytes
    if have_bytes == size_bytes:
        return
    headers = {"Authorization": f"Bearer {source.token()}", "Accept-Encoding": "identity"}
    if have_bytes:
        headers["Range"] = f"bytes={have_bytes}-"
    host = urlsplit(source.url).hostname or ""
    try:
        with (
            httpx.Client(
                timeout=httpx.Timeout(_TIMEOUT_S, connect=_CONNECT_S),
                trust_env=host not in ("127.0.0.1", "localhost", "::1"),
            ) as client,
            client.stream("GET", f"{source.url}/api/v1{path}", headers=headers) as answer,
        ):
            if answer.status_code == 416:
                partial.unlink(missing_ok=True)
            if answer.status_code not in (200, 206):
                raise FetchError(_refusal(source.url, answer.status_code))
            goes_on = answer.status_code == 206 and answer.headers.get(
                "content-range", ""
            ).startswith(f"bytes {have_bytes}-")
            if answer.status_code == 206 and not goes_on:
                raise FetchError(f"{source.url} sent other bytes of the file than were asked for")
            progress.have_bytes = have_bytes if goes_on else 0
            with partial.open("ab" if goes_on else "wb") as file:
                for piece in answer.iter_raw(_CHUNK_BYTES):
                    if progress.stopped:
                        raise FetchError("it is not wanted any more")
                    if progress.have_bytes + len(piece) > size_bytes:
                        raise FetchError(f"{source.url} sent more than the file has")
                    file.write(piece)
                    file.flush()
                    progress.have_bytes += len(piece)
                    note()
    except httpx.HTTPError as error:
        said = str(error).partition("\n")[0] or type(error).__name__
        raise FetchError(f"the center at {source.url} cannot be reached: {said}") from None
    if progress.have_bytes < size_bytes:
        raise FetchError(f"the connection to {source.url} ended amid the file")


def _refusal(url: str, status: int) -> str:
    if 300 <= status < 400:
        return f"{url} redirects elsewhere, where the token must not go; correct `center`"
    return _WHY.get(status, f"{url} answered with status {status}; is that the center?")
