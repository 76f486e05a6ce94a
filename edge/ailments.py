"""Faults of a camera's pictures: one incident each, from the first sign to recovery; pure.

Here: for how long a sign must last to be a fault, and to be none again, and the events that say so.
Not here: the signs (vision/health.py), a stream that gives no picture at all (faults.py).

    ailments = Ailments("bay-2", "main", scope, camera.spec.health)
    events = ailments.look(signs, pts_s, t_ms, tasks)     # with each picture that is judged
    ailments.open                                # the faults that stand now
    events = ailments.close("interrupted")       # when the stream is watched no more

    fine --sign--> doubted --for `after`, in two looks--> open (start) --none for STEADY_S--> end
            ^         |                                     ^   |
            +--none---+                                     +---+ sign
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from wire import specs
from wire.events import Event

STEADY_S = 10.0
LEAST_LOOKS = 2
BLIND: frozenset[str] = frozenset({"frozen", "black", "covered"})
"""Faults with which nothing that is seen may be believed: rules are suspended."""
_SHOWN_TASKS = 10

_SAID: Mapping[str, str] = {
    "frozen": "the picture stands still",
    "black": "the picture is black",
    "over-exposed": "the picture is over-exposed",
    "blurred": "the picture is blurred",
    "covered": "something covers the camera",
    "moved": "the camera looks elsewhere",
}


@dataclass(frozen=True, slots=True)
class _Moment:
    pts_s: float
    t_ms: int


@dataclass(frozen=True, slots=True)
class _Course:
    """A fault that is doubted or stands."""

    since: _Moment
    last: _Moment
    looks: int = 1
    incident: str = ""
    fine: _Moment | None = None
    """The first look without the sign since the last one with it."""


class Ailments:
    """What ails the pictures of one stream. Calls come in the order of stream time."""

    def __init__(self, camera: str, stream: str, scope: str, health: specs.Health) -> None:
        """`scope` begins the ids of its incidents; no other run of the stream may have the same."""
        self._camera = camera
        self._stream = stream
        self._scope = scope
        self._watched = health.watched()
        self._courses: dict[str, _Course] = {}
        self._number = 0

    @property
    def open(self) -> frozenset[str]:
        """The faults that stand."""
        return frozenset(fault for fault, course in self._courses.items() if course.incident)

    @property
    def is_blind(self) -> bool:
        """Whether nothing that is seen may be believed."""
        return bool(self.open & BLIND)

    def look(
        self,
        signs: Collection[str],
        pts_s: float,
        t_ms: int,
        tasks: Sequence[str] = (),
        same_since_s: float | None = None,
    ) -> list[Event]:
        """The events of a picture with these signs. `tasks` are those that suffer.

        `same_since_s` is since when the picture has been the same, where it is frozen.
        """
        now = _Moment(pts_s, t_ms)
        events: list[Event] = []
        for fault, wanted in self._watched.items():
            course = self._courses.get(fault)
            if fault in signs:
                since = now
                if fault == "frozen" and same_since_s is not None:
                    since = _Moment(same_since_s, t_ms - round((pts_s - same_since_s) * 1000))
                course = self._signed(course, since, now)
                lasts = now.pts_s - course.since.pts_s >= wanted.after - 1e-6
                if not course.incident and course.looks >= LEAST_LOOKS and lasts:
                    self._number += 1
                    name = f"{self._scope}-{self._camera}-{self._stream}-{fault}-{self._number}"
                    course = replace(course, incident=name)
                    events.append(self._start(fault, course, now, wanted.severity, tasks))
                self._courses[fault] = course
            elif course is not None:
                course = replace(course, fine=course.fine or now)
                assert course.fine is not None
                if not course.incident:
                    del self._courses[fault]
                elif now.pts_s - course.fine.pts_s >= STEADY_S:
                    ended_ms = course.fine.t_ms
                    events.append(self._end(fault, course, ended_ms, wanted.severity, "cleared"))
                    del self._courses[fault]
                else:
                    self._courses[fault] = course
        return events

    def close(self, reason: str) -> list[Event]:
        """The ends of all that stands, each at its last sign."""
        events = [
            self._end(fault, course, course.last.t_ms, self._watched[fault].severity, reason)
            for fault, course in self._courses.items()
            if course.incident
        ]
        self._courses.clear()
        return events

    def _signed(self, course: _Course | None, since: _Moment, now: _Moment) -> _Course:
        if course is None:
            return _Course(since, now)
        return replace(course, last=now, looks=course.looks + 1, fine=None)

    def _start(
        self, fault: str, course: _Course, now: _Moment, severity: str, tasks: Sequence[str]
    ) -> Event:
        shown = ", ".join(tasks[:_SHOWN_TASKS])
        more = f" and {len(tasks) - _SHOWN_TASKS} more" if len(tasks) > _SHOWN_TASKS else ""
        suffer = "suspended" if fault in BLIND else "their coverage is in doubt"
        whose = f"; tasks: {shown}{more} ({suffer})" if tasks else ""
        message = f"stream {self._stream}: {_SAID[fault]}{whose}"
        return self._event(fault, course, now.t_ms, severity, "start", message=message)

    def _end(self, fault: str, course: _Course, t_ms: int, severity: str, reason: str) -> Event:
        return self._event(fault, course, t_ms, severity, "end", reason=reason)

    def _event(
        self,
        fault: str,
        course: _Course,
        t_ms: int,
        severity: str,
        phase: Literal["start", "end"],
        *,
        reason: str = "",
        message: str = "",
    ) -> Event:
        return Event(
            kind="camera",
            t_ms=t_ms,
            camera=self._camera,
            severity=severity,
            rule=fault,
            phase=phase,
            incident=course.incident,
            since_ms=course.since.t_ms,
            reason=reason,
            message=message,
        )
