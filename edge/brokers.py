"""Which brokers a worker tries, and in which order: pure.

Here: the configured ones, those that the center announced, and the one that served last. Not here:
connecting (wire.link), remembering (store).
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace

from wire.link import Broker, spread

MAX_ANNOUNCED = 16
_MAX_URL = 300


def in_order(
    configured: Sequence[Broker], announced: Iterable[str], last_good: str | None, worker: str
) -> list[Broker]:
    """The brokers to try: the last good one first, then a rotation that is each worker's own.

    An announced broker is used with the credentials of the first configured one; where that one
    has TLS, an announced one without is left out. What cannot be read is left out too.
    """
    known = {address(broker): broker for broker in configured}
    for url in announced:
        broker = _with_credentials(url, configured[0])
        if broker is not None:
            known.setdefault(address(broker), broker)
    order = spread(list(known.values()), worker)
    return sorted(order, key=lambda broker: address(broker) != last_good)


def address(broker: Broker) -> str:
    """What tells brokers apart, without credentials."""
    return f"{broker.host}:{broker.port}"


def readable(urls: Iterable[str]) -> list[str]:
    """The announced URLs that are worth remembering: at most `MAX_ANNOUNCED`, each a broker's."""
    return [url for url in urls if _parsed(url) is not None][:MAX_ANNOUNCED]


def remembered(text: str | None) -> list[str]:
    """URLs as `written` had them; none where that cannot be read."""
    try:
        urls = json.loads(text or "[]")
    except ValueError:
        return []
    return [url for url in urls if isinstance(url, str)] if isinstance(urls, list) else []


def written(urls: Iterable[str]) -> str:
    """URLs as one word for the store."""
    return json.dumps(list(urls))


def _with_credentials(url: str, of: Broker) -> Broker | None:
    broker = _parsed(url)
    if broker is None or (of.tls and not broker.tls):
        return None
    return replace(broker, username=of.username, password=of.password)


def _parsed(url: str) -> Broker | None:
    if len(url) > _MAX_URL:
        return None
    try:
        return Broker.parse(url)
    except ValueError:
        return None
