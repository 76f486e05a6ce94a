"""`forecourt-edge input`: posts one fact to a worker, for scripts and for trying a rule.

Here: what is posted where, and what the answer means. Not here: the other side (inputs.py).
"""

import sys
from datetime import datetime
from math import isfinite
from pathlib import Path

import httpx

from edge.config import ConfigError
from edge.display import token
from wire.facts import Value

_WITHIN_S = 15.0


def command(
    *,
    name: str,
    value: str,
    text: bool,
    at: str | None,
    data: Path | None,
    url: str | None,
    token_file: Path | None,
) -> int:
    """Post it, and say on stderr why it was not taken; the exit code: 0, 1 refused, 2 bad input."""
    try:
        body: dict[str, object] = {"input": name, "value": value if text else value_of(value)}
        if at is not None:
            body["at"] = _moment(at)
        where = url or _display(data)
        secret = token.read(_token_file(data, token_file))
    except ConfigError as error:
        return _say(str(error), 2)
    try:
        # Not by way of a proxy: the worker is near, and the token is for it alone.
        with httpx.Client(trust_env=False, timeout=_WITHIN_S) as http:
            answer = http.post(
                f"{where.rstrip('/')}/api/inputs",
                json=body,
                headers={"Authorization": f"Bearer {secret}"},
            )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return _say(f"no worker answers at {where}: {error}; is it running?", 1)
    if answer.status_code == 200:
        return 0
    return _say(f"{where} refused it ({answer.status_code}): {_detail(answer)}", 1)


def value_of(word: str) -> Value:
    """true and false, a number, else text."""
    if word in ("true", "false"):
        return word == "true"
    try:
        number = float(word)
    except ValueError:
        return word
    # Python also reads "nan", "1_000" and, as inf, "1e999", which others call text.
    return number if isfinite(number) and set(word) <= set("0123456789+-.eE") else word


def _moment(word: str) -> str:
    """Raises ConfigError."""
    try:
        moment = datetime.fromisoformat(word)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ConfigError(f"--at {word}: write a time with its zone, as 2026-01-31T10:00:00Z")
    return moment.isoformat()


def _display(data: Path | None) -> str:
    """Where the worker of a data folder answers, as it has written there. Raises ConfigError."""
    if data is None:
        raise ConfigError("where is the worker? give --data FOLDER, or --url and --token-file")
    try:
        return (data / "display.url").read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"no worker has written its address into {data / 'display.url'} ({error}); give --url"
        ) from None


def _token_file(data: Path | None, given: Path | None) -> Path:
    if given is not None:
        return given
    if data is None:
        raise ConfigError("where is the station token? give --token-file FILE or --data FOLDER")
    return data / token.FILE


def _detail(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["detail"])[:500]
    except (ValueError, KeyError, TypeError):
        return "it is no worker that answers there"


def _say(what: str, code: int) -> int:
    sys.stderr.write(f"forecourt-edge: {what}\n")
    return code
