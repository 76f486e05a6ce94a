"""The station token: who shows it may tell this worker what its inputs say.

Here: its file. Not here: who asks for it (inputs.py), who sends it (post.py). It is never told
anywhere, only where it lies.
"""

import logging
import os
import secrets
from pathlib import Path

from edge.config import ConfigError

log = logging.getLogger("forecourt.token")

FILE = "station.token"
"""In the worker's data folder, unless the worker was given another one."""
MAX_FILE_BYTES = 1024
_LEAST = 16
_RANDOM_BYTES = 32


def made(path: Path) -> str:
    """The token of a file; a file that is not there is made, for its owner only.

    Raises ConfigError and OSError.
    """
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = path.with_name(f"{path.name}.new")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as opened:
            opened.write(f"{secrets.token_urlsafe(_RANDOM_BYTES)}\n")
            opened.flush()
            os.fsync(opened.fileno())
        fresh.replace(path)
        log.info("a station token was made, for those who tell of inputs: %s", path)
    return read(path)


def read(path: Path) -> str:
    """The token of a file. Raises ConfigError."""
    try:
        with path.open("rb") as opened:
            raw = opened.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read the station token {path}: {error.strerror}") from None
    text = raw.decode("ascii", "replace").strip()
    if len(raw) > MAX_FILE_BYTES or len(text) < _LEAST or not text.isascii() or " " in text:
        raise ConfigError(
            f"{path} holds no station token: one line of {_LEAST} characters or more, in ASCII and"
            " without blanks; `openssl rand -base64 32` makes one"
        )
    if not text.isprintable():
        raise ConfigError(f"{path} holds more than one line; a station token is one")
    return text
