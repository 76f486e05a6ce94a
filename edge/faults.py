"""The fault `lost` of a camera's stream: one incident, however often the stream flaps; pure.

Here: when a stream counts as lost and as found again, and the events that say so. Not here: opening
it again (reader.py), what becomes of its rules (shard.py), faults of pictures (ailments.py).

    fault = Lost("bay-2", "main", scope, now_s, t_ms)
    events = fault.picture(now_s, t_ms)                   # with each picture
    events = fault.silence(now_s, tasks, "opening …: …")  # every second or so, and while retrying
    events = fault.close("interrupted")                   # when the stream is watched no more

`now_s` is monotonic time, `t_ms` wall time; neither is ever compared with the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from wire.events import Event

GRACE_S = 10.0
"""Without a picture for so long, a stream is lost."""
STEADY_S = 30.0
"""With pictures for so long, and no loss, it is found again."""
LONGEST_STEADY_S = 960.0
"""A stream that is lost again soon after must be steady for twice as long, up to this."""
_SHOWN_TASKS = 10
_SHOWN_ERROR = 300


@dataclass(frozen=True, slots=True)
class _Seen:
    """A picture, by both clocks."""

    now_s: float
    t_ms: int


class Lost:
    """Whether one stream of a camera is lost. Calls come in the order of `now_s`.

    `scope` begins the ids of its incidents; no other run of the stream may have the same. A stream
    that never gives a picture counts as seen when this began.
    """

    def __init__(
        self,
        camera: str,
        stream: str,
        scope: str,
        now_s: float,
        t_ms: int,
        *,
        grace_s: float = GRACE_S,
        steady_s: float = STEADY_S,
        severity: str = "warning",
    ) -> None:
        self._camera = camera
        self._stream = stream
        self._scope = scope
        self._severity = severity
        self._grace_s = grace_s
        self._least_steady_s = self._steady_s = steady_s
        self._last = _Seen(now_s, t_ms)
        self._steady: _Seen | None = None
        """The first picture since the last loss, while the incident is open."""
        self._before: _Seen | None = None
        """The last picture before the open incident; None if none is open."""
        self._ended_s: float | None = None
        self._number = 0

    @property
    def is_open(self) -> bool:
        """Whether the stream is lost, or was and is not steady yet."""
        return self._before is not None

    def picture(self, now_s: float, t_ms: int) -> list[Event]:
        """A picture came. The end, where it was lost and has been steady since."""
        gap_s = now_s - self._last.now_s
        self._last = _Seen(now_s, t_ms)
        if self._before is None:
            return []
        if self._steady is None or gap_s >= self._grace_s:
            self._steady = self._last
        if now_s - self._steady.now_s < self._steady_s:
            return []
        ended = self._event("end", self._before, self._steady.t_ms, reason="cleared")
        self._before = self._steady = None
        self._ended_s = now_s
        return [ended]

    def silence(self, now_s: float, tasks: Sequence[str], error: str) -> list[Event]:
        """No picture came until now. The start, where that is too long.

        `tasks` are those that see nothing; `error` is what is known of the reason, without any
        credential.
        """
        if now_s - self._last.now_s < self._grace_s:
            return []
        self._steady = None
        if self._before is not None:
            return []
        self._before = self._last
        self._number += 1
        self._lengthen(now_s)
        start_ms = self._last.t_ms + round(self._grace_s * 1000)
        return [self._event("start", self._last, start_ms, message=self._told(tasks, error))]

    def close(self, reason: str) -> list[Event]:
        """End an open incident at the last picture, or where the loss was noticed if none came."""
        if self._before is None:
            return []
        noticed_ms = self._before.t_ms + round(self._grace_s * 1000)
        ended = self._event("end", self._before, max(self._last.t_ms, noticed_ms), reason=reason)
        self._before = self._steady = None
        return [ended]

    def _lengthen(self, now_s: float) -> None:
        """Ask for more steadiness from a stream that is lost again soon after it was found."""
        soon = self._ended_s is not None and now_s - self._ended_s < LONGEST_STEADY_S
        doubled_s = min(2 * self._steady_s, LONGEST_STEADY_S)
        self._steady_s = doubled_s if soon else self._least_steady_s

    def _told(self, tasks: Sequence[str], error: str) -> str:
        """One sentence for people."""
        shown = ", ".join(tasks[:_SHOWN_TASKS])
        more = f" and {len(tasks) - _SHOWN_TASKS} more" if len(tasks) > _SHOWN_TASKS else ""
        blind = f"; tasks: {shown}{more}" if tasks else ""
        why = f"; {error[:_SHOWN_ERROR]}" if error else ""
        return f"stream {self._stream} gives no picture{blind}{why}"

    def _event(
        self,
        phase: Literal["start", "end"],
        since: _Seen,
        t_ms: int,
        *,
        reason: str = "",
        message: str = "",
    ) -> Event:
        return Event(
            kind="camera",
            t_ms=t_ms,
            camera=self._camera,
            severity=self._severity,
            rule="lost",
            phase=phase,
            incident=f"{self._scope}-{self._camera}-{self._stream}-lost-{self._number}",
            since_ms=since.t_ms,
            reason=reason,
            message=message,
            level="OFF",
        )
