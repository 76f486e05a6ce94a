"""The list of live events on a page: an element whose rows the browser makes (feed.js).

Here: which events the browser already has. Not here: reading them (watch).
"""

from collections.abc import Iterable

from nicegui.element import Element

from center.console.watch import View


class Feed(Element, component="feed.js"):
    """At most the events that the watch keeps, newest first; the page's HTML holds them at once."""

    def __init__(self, events: Iterable[View]) -> None:
        super().__init__()
        first = [dict(event) for event in events]
        self._props["events"] = first
        self._told = {event["id"] for event in first}

    def tell(self, events: Iterable[View]) -> None:
        """Send the browser those that it does not have."""
        known = list(events)
        fresh = [dict(event) for event in known if event["id"] not in self._told]
        self._told = {event["id"] for event in known}
        if fresh:
            self.run_method("take", fresh)
