"""Which center a command speaks to, and with which token.

Belongs here: options, environment, configuration file and a running demo, in that order. Does not
belong here: HTTP (api). A token comes from a file or the environment, never from an argument.
"""

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from cli.errors import BAD_INPUT, CommandError
from cli.terminal import say

MAX_FILE_BYTES = 64 * 1024
DEMO_CENTER = Path(".demo/center.json")
DEMO_TOKEN = Path(".demo/admin.token")

Url = Annotated[
    str | None,
    typer.Option(
        "--url", envvar="FORECOURT_URL", help="Address of the center.", show_default=False
    ),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        envvar="FORECOURT_TOKEN_FILE",
        help="File that holds the token (or the token itself in FORECOURT_TOKEN).",
        show_default=False,
    ),
]


@dataclass(frozen=True, slots=True)
class Access:
    """A center's base URL without a trailing slash, and the token for it."""

    url: str
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Configured:
    """What ~/.config/forecourt/config.toml says."""

    url: str | None = None
    token_file: Path | None = None


def find(
    url: str | None, token_file: Path | None, environ: Mapping[str, str] | None = None
) -> Access:
    """The center to speak to. Raises CommandError where none, or no token for it, is known.

    A token of the configuration file or of a demo goes to no other address than the one it is
    written beside: giving `--url` must not send it elsewhere.
    """
    environ = os.environ if environ is None else environ
    configured = _configured(environ)
    if url is None and configured.url is None and DEMO_CENTER.is_file():
        return _of_demo(environ, token_file)
    address = _checked_url(url or configured.url)
    token = _given_token(environ, token_file)
    if token is None and configured.token_file and address == _checked_url(configured.url):
        token = read_token(configured.token_file)
    if token is None:
        raise CommandError(
            f"no token for {address}: give --token-file FILE, or set FORECOURT_TOKEN_FILE or "
            "FORECOURT_TOKEN",
            BAD_INPUT,
        )
    return Access(address, token)


def read_token(path: Path) -> str:
    """The token in a file: one printable line. Raises CommandError, never showing any of it."""
    return _checked_token(_read(path, "token file"), f"token file {path}")


def _given_token(environ: Mapping[str, str], token_file: Path | None) -> str | None:
    in_environment = environ.get("FORECOURT_TOKEN")
    if token_file is None and in_environment:
        return _checked_token(in_environment, "FORECOURT_TOKEN")
    return read_token(token_file) if token_file is not None else None


def _checked_token(text: str, where: str) -> str:
    token = text.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise CommandError(
            f"{where} holds no token: one line of printable text is wanted", BAD_INPUT
        )
    return token


def _of_demo(environ: Mapping[str, str], token_file: Path | None) -> Access:
    try:
        url = _checked_url(str(json.loads(_read(DEMO_CENTER, "demo's address"))["url"]))
    except (ValueError, KeyError, TypeError):
        raise CommandError(
            f"{DEMO_CENTER} cannot be read; start `forecourt demo` again or give --url", BAD_INPUT
        ) from None
    say(f"using the demo's center at {url} ({DEMO_CENTER})", "dim")
    return Access(url, _given_token(environ, token_file) or read_token(DEMO_TOKEN))


def _checked_url(url: str | None) -> str:
    if url is None:
        raise CommandError(
            "no center is known: give --url https://center.example, set FORECOURT_URL, write "
            "[center] url to ~/.config/forecourt/config.toml, or start `forecourt demo` here",
            BAD_INPUT,
        )
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname)
        credentials = "@" in parts.netloc
    except ValueError:
        sound, credentials = False, False
    if credentials:
        raise CommandError("the center's URL must hold no user name or password", BAD_INPUT)
    if not sound:
        raise CommandError(f"{url!r} is no http:// or https:// address of a center", BAD_INPUT)
    return url.rstrip("/")


def _configured(environ: Mapping[str, str]) -> Configured:
    base = environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME", "~")).expanduser() / ".config"
    path = Path(base) / "forecourt" / "config.toml"
    if not path.is_file():
        return Configured()
    try:
        content = tomllib.loads(_read(path, "configuration"))
    except tomllib.TOMLDecodeError as error:
        raise CommandError(f"{path}: {error}", BAD_INPUT) from None
    center = content.get("center", {})
    unknown = [key for key in content if key != "center"]
    if not isinstance(center, dict):
        raise CommandError(f"{path}: center is a table: write [center]", BAD_INPUT)
    unknown += [f"center.{key}" for key in center if key not in ("url", "token_file")]
    if unknown:
        raise CommandError(
            f"{path}: unknown key {', '.join(unknown)}; known are center.url, center.token_file",
            BAD_INPUT,
        )
    if not all(isinstance(value, str) for value in center.values()):
        raise CommandError(f"{path}: center.url and center.token_file are texts", BAD_INPUT)
    token_file = center.get("token_file")
    return Configured(
        url=center.get("url"),
        token_file=path.parent / Path(token_file).expanduser() if token_file else None,
    )


def _read(path: Path, what: str) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise CommandError(
            f"the {what} {path} cannot be read: {error.strerror}", BAD_INPUT
        ) from None
    if len(content) > MAX_FILE_BYTES:
        raise CommandError(f"the {what} {path} is above {MAX_FILE_BYTES} bytes", BAD_INPUT)
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise CommandError(f"the {what} {path} is no UTF-8 text", BAD_INPUT) from None
