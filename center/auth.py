"""Who may in: API tokens, one-time login codes, sessions of the console, workers' tokens.

Here: making, finding and ending them, and slowing down guessing. Not here: HTTP (api, console).

A secret is 256 random bits, shown once; only its SHA-256 is kept. Secrets are found by that hash,
so the time a look-up takes says nothing of a secret.
"""

import hashlib
import os
import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sqlalchemy import Connection, delete, insert, or_, select

from center.clock import Clock
from center.tables import tokens, worker_tokens

Kind = Literal["api", "session", "code"]

COOKIE = "forecourt_session"
"""Set it HttpOnly, SameSite=Strict, Path=/, and Secure where the page came by https."""
SESSION_S = 12 * 3600
CODE_S = 300
MAX_WORKER_TOKENS = 2
"""Of each worker: the newest, and the one that it replaces."""


@dataclass(frozen=True, slots=True)
class Token:
    """What opened the door: an API token or a session."""

    kind: Kind
    role: str
    name: str
    expires_ms: int | None


Session = Token


def issue(
    connection: Connection, kind: Kind, name: str, now_ms: int, lifetime_s: int | None = None
) -> str:
    """A new secret; what has expired is swept out on the way."""
    connection.execute(delete(tokens).where(tokens.c.expires_ms <= now_ms))
    secret = f"fc-{kind}-{secrets.token_urlsafe(32)}"
    connection.execute(
        insert(tokens).values(
            sha256=_hash(secret),
            kind=kind,
            role="admin",
            name=name,
            created_ms=now_ms,
            expires_ms=None if lifetime_s is None else now_ms + lifetime_s * 1000,
        )
    )
    return secret


def find(connection: Connection, kind: Kind, secret: str, now_ms: int) -> Token | None:
    """The token of this kind that belongs to the secret, unless it has expired."""
    column = tokens.c
    row = connection.execute(
        select(tokens).where(
            column.sha256 == _hash(secret),
            column.kind == kind,
            or_(column.expires_ms.is_(None), column.expires_ms > now_ms),
        )
    ).first()
    if row is None:
        return None
    return Token(row.kind, row.role, row.name, row.expires_ms)


def bearer_of(connection: Connection, authorization: str | None, now_ms: int) -> Token | None:
    """The API token of an `Authorization: Bearer ...` header."""
    scheme, _, secret = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not secret.strip():
        return None
    return find(connection, "api", secret.strip(), now_ms)


def session_of(connection: Connection, cookie: str | None, now_ms: int) -> Session | None:
    """The console session of a cookie's value."""
    return find(connection, "session", cookie, now_ms) if cookie else None


def login(connection: Connection, secret: str, now_ms: int) -> str | None:
    """A new session's cookie value for an API token or a login code; a code is used up by it."""
    opened_by = find(connection, "api", secret, now_ms)
    if opened_by is None:
        opened_by = find(connection, "code", secret, now_ms)
        if opened_by is None or not _end(connection, secret):
            return None
    return issue(connection, "session", opened_by.name, now_ms, SESSION_S)


def login_code(connection: Connection, name: str, now_ms: int) -> str:
    """A one-time code with which a browser logs in, good for `CODE_S`."""
    return issue(connection, "code", name, now_ms, CODE_S)


def logout(connection: Connection, cookie: str) -> None:
    """End the session of a cookie's value, if there is one."""
    _end(connection, cookie)


def has_token(connection: Connection) -> bool:
    """Whether there is any API token."""
    return (
        connection.execute(select(tokens.c.name).where(tokens.c.kind == "api")).first() is not None
    )


def issue_worker(connection: Connection, worker: str, now_ms: int) -> str:
    """A new secret with which a worker fetches files; the caller has made sure that it exists.

    The one before stays good, so that a station can change to the new one; older ones end.
    """
    column = worker_tokens.c
    kept = select(column.sha256).where(column.worker == worker)
    newest = connection.execute(kept.order_by(column.created_ms.desc(), column.sha256)).scalars()
    ended = list(newest)[MAX_WORKER_TOKENS - 1 :]
    connection.execute(delete(worker_tokens).where(column.sha256.in_(ended)))
    secret = f"fc-worker-{secrets.token_urlsafe(32)}"
    connection.execute(
        insert(worker_tokens).values(sha256=_hash(secret), worker=worker, created_ms=now_ms)
    )
    return secret


def revoke_worker(connection: Connection, worker: str) -> int:
    """End every secret of a worker; how many there were."""
    ended = delete(worker_tokens).where(worker_tokens.c.worker == worker)
    return connection.execute(ended).rowcount


def worker_of(connection: Connection, secret: str) -> str | None:
    """The worker that a secret was given to."""
    statement = select(worker_tokens.c.worker).where(worker_tokens.c.sha256 == _hash(secret))
    return connection.execute(statement).scalar()


def write_secret(path: Path, secret: str) -> None:
    """Write a new private file. Raises FileExistsError: nothing is ever overwritten by a secret."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(secret + "\n")
        file.flush()
        os.fsync(file.fileno())


def _end(connection: Connection, secret: str) -> bool:
    gone = delete(tokens).where(tokens.c.sha256 == _hash(secret)).returning(tokens.c.name)
    return connection.execute(gone).first() is not None


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


class Throttle:
    """Slows guessing down: after `MAX_FAILURES` within `WINDOW_S`, an address must wait.

    Remembers the newest `MAX_ADDRESSES`. Any thread may call it.
    """

    MAX_FAILURES = 10
    WINDOW_S = 300.0
    MAX_ADDRESSES = 10_000

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failures: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def must_wait_s(self, address: str) -> float:
        """Seconds until this address may try again; 0 if it may now."""
        with self._lock:
            since_s, count = self._failures.get(address, (0.0, 0))
        left_s = since_s + self.WINDOW_S - self._clock.elapsed_s()
        return max(0.0, left_s) if count >= self.MAX_FAILURES else 0.0

    def failed(self, address: str) -> None:
        """A login from this address was refused."""
        now_s = self._clock.elapsed_s()
        with self._lock:
            since_s, count = self._failures.pop(address, (now_s, 0))
            if now_s - since_s > self.WINDOW_S:
                since_s, count = now_s, 0
            self._failures[address] = (since_s, count + 1)
            while len(self._failures) > self.MAX_ADDRESSES:
                self._failures.popitem(last=False)
