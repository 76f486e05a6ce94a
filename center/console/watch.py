"""What every open page looks at, read once for all of them: new events and how stations fare.

Here: one reader per process, which runs while a page is open, and what it tells pages. Not here:
how a page shows it.

The bell only says "look again": the reader looks every `POLL_S` anyhow, and always at the newest
events of the database, so that what another replica stored, late or out of order, appears too.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from center import db, events, stations, tasks
from center.desk import Desk
from center.live import TooManyListenersError

KEPT_EVENTS = 100
POLL_S = 1.0
PAUSE_S = 0.2
"""Between two looks, so that a backlog of thousands of events costs a few looks, not thousands."""
OVERVIEW_S = 2.0
OVERVIEW_SHARE = 20
"""Reading all stations and tasks takes at most one part in so many of the time."""
MAX_TEXT = 300
UNREADABLE = (
    "The center's database cannot be read now. What you see may be old; this page goes on trying, "
    "and the center's log says more."
)

View = Mapping[str, Any]

# fmt: off
_SHOWN = (
    "id", "incident", "severity", "t_ms", "station", "camera", "task", "rule", "kind", "phase",
    "reason", "label", "plate", "zone", "line", "direction", "count", "message", "backfill",
)
# fmt: on

_log = logging.getLogger("forecourt.console")


@dataclass(frozen=True, slots=True)
class News:
    """What is known now. `problem` is a sentence for operators while the database is not read."""

    events: tuple[View, ...] = ()
    """At most `KEPT_EVENTS`, newest first."""
    stations: tuple[View, ...] = ()
    tasks: tuple[View, ...] = ()
    read_ms: int = 0
    problem: str = ""


Listener = Callable[[News], None]


@dataclass(slots=True)
class Watch:
    """The reader. `first` for a page that is being made; `join` and `leave` once it lives.

    Used on the event loop only.
    """

    desk: Desk
    _listeners: list[Listener] = field(default_factory=list)
    _news: News = field(default_factory=News)
    _reader: asyncio.Task[None] | None = None
    _heard: asyncio.Event = field(default_factory=asyncio.Event)
    _overview_due: bool = True

    async def first(self) -> News:
        """The news for a page's first picture: read now, so that it misses nothing."""
        return await self._look(News(), with_overview=True)

    def join(self, listener: Listener) -> None:
        """Tell the listener all news from now on; joining twice is joining once."""
        if listener not in self._listeners:
            self._listeners.append(listener)
        self.look_again()
        if self._reader is None or self._reader.done():
            self._reader = asyncio.create_task(self._run(), name="console-watch")

    def leave(self, listener: Listener) -> None:
        """Tell it no more; the reader ends with its last listener."""
        if listener in self._listeners:
            self._listeners.remove(listener)
        if not self._listeners and self._reader is not None:
            self._reader.cancel()
            self._reader = None

    def look_again(self) -> None:
        """Something was changed here: show it without waiting."""
        self._overview_due = True
        self._heard.set()

    async def _run(self) -> None:
        try:
            with self.desk.bell.listening() as self._heard:
                await self._follow()
        except TooManyListenersError:
            await self._follow()  # nobody rings, so it looks every POLL_S

    async def _follow(self) -> None:
        elapsed_s = self.desk.clock.elapsed_s
        next_overview_s = elapsed_s()
        while not self.desk.bell.closed:
            self._heard.clear()
            began_s = elapsed_s()
            due = self._overview_due or began_s >= next_overview_s
            self._overview_due = False
            self._news = await self._look(self._news, with_overview=due)
            if due:
                took_s = elapsed_s() - began_s
                next_overview_s = began_s + max(OVERVIEW_S, took_s * OVERVIEW_SHARE)
            for listener in tuple(self._listeners):
                _tell(listener, self._news)
            await asyncio.sleep(PAUSE_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._heard.wait()

    async def _look(self, known: News, *, with_overview: bool) -> News:
        """The news now; what was known and a problem, where they cannot be read."""
        try:
            return await asyncio.to_thread(self._read, known, with_overview=with_overview)
        except db.UNAVAILABLE as error:
            _log.warning("the console cannot read now: %s", str(error).partition("\n")[0])
            return replace(known, problem=UNREADABLE)
        except Exception:  # whatever it is, the next look may do better, and pages must say so
            _log.exception("the console cannot read")
            return replace(known, problem=UNREADABLE)

    def _read(self, known: News, *, with_overview: bool) -> News:
        now_ms = self.desk.clock.now_ms()
        with self.desk.database.reading() as connection:
            newest = events.search(connection, events.Filter(), "desc", KEPT_EVENTS)
            found_stations, found_tasks = known.stations, known.tasks
            if with_overview:
                heartbeat_s = self.desk.heartbeat_s
                found_stations = tuple(stations.views(connection, now_ms, heartbeat_s))
                found_tasks = tuple(tasks.views(connection, now_ms, heartbeat_s))
        return News(tuple(map(_shortened, newest)), found_stations, found_tasks, now_ms)


def _tell(listener: Listener, news: News) -> None:
    """One page's failure is logged and stops neither the reader nor other pages."""
    try:
        listener(news)
    except Exception:
        _log.exception("a page could not show the news")


def _shortened(event: View) -> View:
    """What a row shows of an event, no text longer than `MAX_TEXT`."""
    shown = {name: event[name] for name in _SHOWN if event.get(name) not in (None, "")}
    return {k: v[:MAX_TEXT] if isinstance(v, str) else v for k, v in shown.items()}
