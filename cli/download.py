"""A file from elsewhere, in pieces: over https, or from this machine.

Belongs here: which addresses may be asked, redirects, the cap on size. Does not belong here: what
the file is for, checksums and where it ends up (models).
"""

import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import httpx

from cli.errors import BAD_INPUT, CommandError

MAX_REDIRECTS = 5
_CHUNK_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Incoming:
    """Pieces of a file, and its size where that is known beforehand."""

    pieces: Iterator[bytes]
    size_bytes: int | None


@contextmanager
def from_url(url: str) -> Iterator[Incoming]:
    """A file over https; http only from this machine. Raises CommandError."""
    with httpx.Client(timeout=httpx.Timeout(30.0, connect=10.0)) as client:
        for _ in range(MAX_REDIRECTS + 1):
            _require_safe(url)
            with _reaching(url), client.stream("GET", url) as response:
                if response.has_redirect_location:
                    url = redirected(url, response.headers["location"])
                    continue
                if response.status_code != httpx.codes.OK:
                    raise CommandError(f"{url} answered with status {response.status_code}")
                length = response.headers.get("content-length", "")
                encoded = "content-encoding" in response.headers
                size_bytes = int(length) if length.isdigit() and not encoded else None
                yield Incoming(response.iter_bytes(_CHUNK_BYTES), size_bytes)
                return
    raise CommandError(f"{url}: more than {MAX_REDIRECTS} redirects")


@contextmanager
def from_file(path: Path) -> Iterator[Incoming]:
    """A file of this machine. Raises CommandError."""
    try:
        with path.open("rb") as file:
            pieces = iter(lambda: file.read(_CHUNK_BYTES), b"")
            yield Incoming(pieces, path.stat().st_size)
    except OSError as error:
        raise CommandError(f"{path} cannot be copied: {error.strerror}", BAD_INPUT) from None


def redirected(url: str, location: str) -> str:
    target = urljoin(url, location)
    if urlsplit(url).scheme == "https" and urlsplit(target).scheme != "https":
        raise CommandError(f"{url} redirects to an address without https; refused")
    return target


def _require_safe(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme == "https" and parts.hostname:
        return
    if parts.scheme != "http" or not _is_loopback(parts.hostname or ""):
        raise CommandError(
            f"{url}: only https:// is fetched (http:// from this machine)", BAD_INPUT
        )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@contextmanager
def _reaching(url: str) -> Iterator[None]:
    try:
        yield
    except httpx.ConnectError as error:
        raise CommandError(
            f"{urlsplit(url).hostname} cannot be reached ({error}): offline? Get {url} elsewhere "
            "and give it with --from FILE"
        ) from None
    except httpx.HTTPError as error:
        raise CommandError(f"fetching {url} broke off: {error or type(error).__name__}") from None
