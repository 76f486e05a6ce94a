"""Faults of a camera's pictures: one incident each, from the first sign to recovery; pure.

Here: for how long a sign must last to be a fault, and to be none again, and the events that say so.
Not here: the signs (vision/health.py), a stream that gives no picture at all (faults.py).

    ailments = Ailments("bay-2", "main", scope, camera.spec.health)
    events = ailments.look(signs, pts_s, t_ms, tasks)   # with each picture that is judged
    ailments.open                                       # the faults that stand now
    ailments.is_blind                                   # whether what is seen may be believed
    events = ailments.close("interrupted")              # when the stream is watched no more

    fine --sign--> doubted --for `after`, in two looks--> open (start) --none for so long--> end
            ^         |                                     ^   |
            +--none---+                                     +---+ sign

A fault must be gone for `STEADY_S`; one that comes back soon after its end for twice as long, and
so on, so that what flaps is one incident. What is judged is judged again `STEADY_S` after the last
sign, though.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from wire import specs
from wire.events import Event

STEADY_S = 5.0
LONGEST_STEADY_S = 960.0
BLIND: frozenset[str] = frozenset({"frozen", "black", "covered"})
"""Faults with which nothing that is seen may be believed: no rule is applied."""
_LIKE_COVERED = frozenset({"moved", "blurred"})
"""What noise before a cover may look like in one picture between two: not all are coded alike."""
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
    incident: str = ""
    steady_s: float = STEADY_S
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
        self._ended: dict[str, tuple[float, float]] = {}
        """When each fault ended last, and how long it had to be gone for that."""
        self._number = 0
        self._now_s = 0.0

    @property
    def open(self) -> frozenset[str]:
        """The faults that stand."""
        return frozenset(fault for fault, course in self._courses.items() if course.incident)

    @property
    def is_blind(self) -> bool:
        """Whether a fault stands with which nothing that is seen may be believed."""
        return any(course.incident for course in self._blinding())

    @property
    def may_be_blind(self) -> bool:
        """The same, or there is the first sign of one."""
        return any(True for _ in self._blinding())

    def _blinding(self) -> Iterator[_Course]:
        for fault, course in self._courses.items():
            fine = course.fine
            if fault in BLIND and (fine is None or self._now_s - fine.pts_s < STEADY_S):
                yield course

    def look(
        self, signs: Mapping[str, float], pts_s: float, t_ms: int, tasks: Sequence[str] = ()
    ) -> list[Event]:
        """The events of a picture with these signs, each with the stream time since it shows.

        `tasks` are those that suffer.
        """
        self._now_s = pts_s
        now = _Moment(pts_s, t_ms)
        events: list[Event] = []
        for fault, wanted in self._watched.items():
            course = self._courses.get(fault)
            if fault in signs:
                course = self._signed(course, fault, signs[fault], now)
                if not course.incident and pts_s - course.since.pts_s >= wanted.after - 1e-6:
                    self._number += 1
                    name = f"{self._scope}-{self._camera}-{self._stream}-{fault}-{self._number}"
                    course = replace(course, incident=name)
                    events.append(self._start(fault, course, now, wanted.severity, tasks))
                self._courses[fault] = course
            elif course is not None and not course.incident:
                if fault == "covered" and course.fine is None and _LIKE_COVERED & signs.keys():
                    self._courses[fault] = replace(course, fine=now)
                else:
                    del self._courses[fault]
            elif course is not None:
                fine = course.fine or now
                self._courses[fault] = replace(course, fine=fine)
                if pts_s - fine.pts_s >= course.steady_s:
                    events.append(self._end(fault, course, fine.t_ms, wanted.severity, "cleared"))
                    self._ended[fault] = (pts_s, course.steady_s)
                    del self._courses[fault]
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

    def _signed(self, course: _Course | None, fault: str, since_s: float, now: _Moment) -> _Course:
        if course is not None:
            return replace(course, last=now, fine=None)
        since = _Moment(since_s, now.t_ms - round((now.pts_s - since_s) * 1000))
        ended_s, steady_s = self._ended.get(fault, (-LONGEST_STEADY_S, STEADY_S))
        soon = now.pts_s - ended_s < LONGEST_STEADY_S
        return _Course(
            since, now, steady_s=min(2 * steady_s, LONGEST_STEADY_S) if soon else STEADY_S
        )

    def _start(
        self, fault: str, course: _Course, now: _Moment, severity: str, tasks: Sequence[str]
    ) -> Event:
        shown = ", ".join(tasks[:_SHOWN_TASKS])
        more = f" and {len(tasks) - _SHOWN_TASKS} more" if len(tasks) > _SHOWN_TASKS else ""
        suffer = "suspended" if fault in BLIND else "they go on, and may miss things"
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
