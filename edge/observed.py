"""What was told of the items' states, and what is news: changes alone are said.

Not here: where the states come from (agent), messages (uplink). The center asks for everything when
the digests differ, so nothing here needs to know what arrived.
"""

from collections.abc import Iterable

import msgspec

from wire.messages import ItemObserved, observed_digest

MAX_REASON = 400


class Told:
    """The states that were told last, by kind and id."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, str], ItemObserved] = {}

    def news(self, items: Iterable[ItemObserved]) -> list[ItemObserved]:
        """The items whose state was not told yet."""
        return [item for item in sayable(items) if self._told.get((item.kind, item.id)) != item]

    def tell(self, items: Iterable[ItemObserved]) -> None:
        """All of these have been told, and there are no others."""
        self._told = {(item.kind, item.id): item for item in sayable(items)}

    def forget(self) -> None:
        """The other side asks for everything."""
        self._told.clear()


def sayable(items: Iterable[ItemObserved]) -> list[ItemObserved]:
    """Reasons cut to `MAX_REASON` characters, without NUL: as any database keeps them."""
    return [
        item
        if len(item.reason) <= MAX_REASON and "\0" not in item.reason
        else msgspec.structs.replace(item, reason=item.reason[:MAX_REASON].replace("\0", "?"))
        for item in items
    ]


def digest_of(items: Iterable[ItemObserved]) -> str:
    """The digest of what would be told."""
    return observed_digest(sayable(items))
