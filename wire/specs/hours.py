"""When something is wanted: hours of the day and days of the week, in the station's time zone.

Here: how they are written, and what they say of a moment, pure: the time zone is passed in. Not
here: what follows from it (edge/vision/rules.py, edge/reader.py).

A span over midnight belongs to the day on which it begins: `22:00-06:00` on `fri` ends on Saturday
morning. Spans are of the clock on the wall: the night in which clocks go back has an hour more.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field

from wire.specs.values import Spec

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = get_args(Day)
_SPAN = r"([01]\d|2[0-3]):([0-5]\d)-(?:([01]\d|2[0-3]):([0-5]\d)|24:00)"
_DAY_MINUTES = 24 * 60
_LOOK_AHEAD_DAYS = 9
"""A week, the day before and the day after."""


def _span(value: str) -> str:
    if not re.fullmatch(_SPAN, value):
        raise ValueError("write hours as 06:00-22:00, quoted; 22:00-06:00 goes over midnight")
    begin, _, end = value.partition("-")
    if begin == end:
        raise ValueError("begin and end are the same; for the whole day write 00:00-24:00")
    return value


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


Span = Annotated[
    str, AfterValidator(_span), Field(max_length=11, json_schema_extra={"pattern": f"^{_SPAN}$"})
]


class Schedule(Spec):
    """Hours and days at which something is wanted; otherwise it is as if it were not there."""

    active: Annotated[
        tuple[Span, ...], BeforeValidator(_listed), Field(min_length=1, max_length=16)
    ] = ("00:00-24:00",)
    days: Annotated[
        tuple[Day, ...], BeforeValidator(_listed), Field(min_length=1, max_length=7)
    ] = DAYS


def is_active(schedule: Schedule | None, t_ms: int, zone: tzinfo) -> bool:
    """Whether a moment (UTC milliseconds) is within the schedule; without one it always is."""
    if schedule is None:
        return True
    here = _here(t_ms, zone)
    minute = here.hour * 60 + here.minute
    today, before = DAYS[here.weekday()], DAYS[here.weekday() - 1]
    for begin, end in _minutes(schedule):
        if begin < end:
            if today in schedule.days and begin <= minute < end:
                return True
        elif (today in schedule.days and minute >= begin) or (
            before in schedule.days and minute < end
        ):
            return True
    return False


def next_change_ms(schedule: Schedule | None, t_ms: int, zone: tzinfo) -> int | None:
    """When `is_active` says otherwise for the first time after a moment; None: never."""
    if schedule is None:
        return None
    now = is_active(schedule, t_ms, zone)
    for moment_ms in sorted(_edges(schedule, t_ms, zone)):
        if moment_ms > t_ms and is_active(schedule, moment_ms, zone) != now:
            return moment_ms
    return None


def _edges(schedule: Schedule, t_ms: int, zone: tzinfo) -> Iterator[int]:
    """All moments of the next days at which a span may begin or end, and each full hour."""
    first = _here(t_ms, zone).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    # A span that begins in an hour that clocks leave out begins at the next full hour.
    minutes = {*range(0, _DAY_MINUTES, 60), *(m for span in _minutes(schedule) for m in span)}
    for day in range(-1, _LOOK_AHEAD_DAYS):
        for minute in minutes:
            wall = first.replace(tzinfo=None) + timedelta(days=day, minutes=minute)
            for fold in (0, 1):  # an hour that comes twice has two edges
                moment = wall.replace(tzinfo=zone, fold=fold)
                yield round(moment.timestamp() * 1000)


def _minutes(schedule: Schedule) -> Iterator[tuple[int, int]]:
    """Begin and end of each span in minutes of the day; over midnight the end is not the larger."""
    for span in schedule.active:
        begin, _, end = span.partition("-")
        yield _minute(begin), _minute(end)


def _minute(clock: str) -> int:
    hours, _, minutes = clock.partition(":")
    return int(hours) * 60 + int(minutes)


def _here(t_ms: int, zone: tzinfo) -> datetime:
    return datetime.fromtimestamp(t_ms / 1000, UTC).astimezone(zone)
