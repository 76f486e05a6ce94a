"""Webhooks: who is told of alarms, and how a receiver knows that it was us.

Here: their rows, what is refused, the signature. Not here: which alarms are told (notify), what
became of each post (deliveries), posting (notifier).

A secret is shown once, if it was made here, and never again. A URL's query may hold a token too.
"""

import hashlib
import hmac
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx
from pydantic import Field, SecretStr, field_validator
from sqlalchemy import Connection, Row, delete, func, insert, select, update

from center import deliveries, resources
from center.resources import ConflictError, NotFoundError, Result
from center.tables import webhooks
from wire import specs

MAX_WEBHOOKS = 16
MAX_URL = 2000
MIN_SECRET, MAX_SECRET = 16, 200


class WebhookSpec(specs.Spec):
    """What an operator writes of a webhook."""

    url: str = Field(max_length=MAX_URL, description="http or https; redirects are not followed")
    secret: SecretStr | None = Field(
        default=None, description="left out: as it was, or a new one that is told this one time"
    )
    min_severity: Literal["warning", "critical"] = "warning"
    station: specs.Name | None = Field(default=None, description="alarms of this station only")

    @field_validator("url")
    @classmethod
    def _url_can_be_posted_to(cls, url: str) -> str:
        if not url.isascii() or not url.isprintable() or " " in url:
            raise ValueError("a URL is made of printable ASCII characters without spaces")
        try:
            parts, _ = urlsplit(url), httpx.URL(url)
            has_host, _ = bool(parts.hostname), parts.port
        except (ValueError, httpx.InvalidURL):
            raise ValueError("this is no URL; write https://HOST[:PORT]/PATH") from None
        if parts.scheme not in ("http", "https") or not has_host:
            raise ValueError("write http:// or https:// and a host")
        if parts.username is not None or parts.password is not None or parts.fragment:
            raise ValueError("a webhook's URL has no user, no password and no fragment")
        return url

    @field_validator("secret")
    @classmethod
    def _secret_is_a_key(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is None:
            return None
        key = secret.get_secret_value()
        if not (MIN_SECRET <= len(key) <= MAX_SECRET and key.isascii() and key.isprintable()):
            raise ValueError(
                f"a secret has {MIN_SECRET} to {MAX_SECRET} printable ASCII characters"
            )
        return secret


@dataclass(frozen=True, slots=True)
class Webhook:
    """Somebody who is told of alarms."""

    name: str
    url: str = field(repr=False)
    secret: str = field(repr=False)
    min_severity: str
    station: str | None

    def wants(self, station: str, severity: str) -> bool:
        """Whether an alarm of this station and severity is for it."""
        severe = self.min_severity == "warning" or severity == "critical"
        return severe and self.station in (None, station)


@dataclass(frozen=True, slots=True)
class Put:
    """What a put came to; `secret` only if it was made by it."""

    result: Result
    secret: str | None = field(repr=False)
    view: dict[str, Any]


def put(connection: Connection, name: str, wish: WebhookSpec, now_ms: int) -> Put:
    """Create or update a webhook. Raises ConflictError if there are too many."""
    row = _find(connection, name)
    if row is None:
        count = connection.execute(select(func.count()).select_from(webhooks)).scalar_one()
        if count >= MAX_WEBHOOKS:
            raise ConflictError(f"there are {count} webhooks, and no more are taken; delete one")
    given = None if wish.secret is None else wish.secret.get_secret_value()
    made = f"fc-hook-{secrets.token_urlsafe(32)}" if row is None and given is None else None
    values = {
        "url": row.url if row is not None and wish.url == specs.shown_url(row.url) else wish.url,
        "secret": given or made or (row.secret if row is not None else None),
        "min_severity": wish.min_severity,
        "station": wish.station,
    }
    result: Result = "created" if row is None else "updated"
    if row is None:
        new = {"name": name, **values, "created_ms": now_ms, "updated_ms": now_ms}
        connection.execute(insert(webhooks).values(**new))
    elif all(getattr(row, column) == value for column, value in values.items()):
        result = "unchanged"
    else:
        changed = update(webhooks).where(webhooks.c.name == name)
        connection.execute(changed.values(**values, updated_ms=now_ms))
    return Put(result, made, view(connection, name))


def remove(connection: Connection, name: str) -> None:
    """Delete a webhook, and with it what waits for it. Raises NotFoundError."""
    if not connection.execute(delete(webhooks).where(webhooks.c.name == name)).rowcount:
        raise _missing(name)
    deliveries.close(connection)


def every(connection: Connection) -> list[Webhook]:
    """All webhooks, by name."""
    found = connection.execute(select(webhooks).order_by(webhooks.c.name))
    return [Webhook(row.name, row.url, row.secret, row.min_severity, row.station) for row in found]


def view(connection: Connection, name: str) -> dict[str, Any]:
    """One webhook without its secrets. Raises NotFoundError."""
    row = _find(connection, name)
    if row is None:
        raise _missing(name)
    return _shown(row)


def views(connection: Connection) -> Iterator[dict[str, Any]]:
    """All webhooks by name, without their secrets."""
    return map(_shown, connection.execute(select(webhooks).order_by(webhooks.c.name)))


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """What a receiver computes as well: `sha256=` and the HMAC of timestamp, a dot and the body."""
    key, signed = secret.encode(), timestamp.encode() + b"." + body
    return "sha256=" + hmac.new(key, signed, hashlib.sha256).hexdigest()


def _find(connection: Connection, name: str) -> Row[Any] | None:
    return resources.find(connection, webhooks, {"name": name})


def _missing(name: str) -> NotFoundError:
    return NotFoundError(f"no webhook {name}")


def _shown(row: Row[Any]) -> dict[str, Any]:
    return {
        "name": row.name,
        "url": specs.shown_url(row.url),
        "secret": "set",
        "min_severity": row.min_severity,
        "station": row.station,
        "created_ms": row.created_ms,
        "updated_ms": row.updated_ms,
    }
