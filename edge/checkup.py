"""A camera's pictures, examined about once a second: what ails them, and since when.

Here: the way from a decoded picture to the events of its faults. Not here: the signs
(vision/health.py), how long they must last (ailments.py), what is suspended then (reader.py).
"""

from collections.abc import Sequence

from edge.ailments import Ailments
from edge.video.decode import Frame
from edge.vision.health import LUMA_WIDTH, Doctor, Limits
from wire import specs
from wire.events import Event


class Checkup:
    """Of one stream. `inspect` is for the thread that decodes; the rest may be asked from any."""

    def __init__(self, camera: str, stream: str, scope: str, health: specs.Health) -> None:
        """`scope` begins the ids of its incidents; no other run of the stream may have the same."""
        self._doctor = Doctor(_limits(health))
        self._ailments = Ailments(camera, stream, scope, health)
        self._any = bool(health.watched())
        self.is_blind = False
        """Whether a fault stands with which nothing that is seen may be believed."""
        self.may_be_blind = False
        """The same, or there is the first sign of one."""
        self.faults: tuple[str, ...] = ()
        """Those that stand, sorted."""

    def inspect(self, frame: Frame, tasks: Sequence[str]) -> list[Event]:
        """The events of faults that begin or end with a picture; most pictures are passed over."""
        if not self._any or not self._doctor.due(frame.pts_s):
            return []
        luma = frame.luma(LUMA_WIDTH)
        signs = self._doctor.look(luma, frame.pts_s, is_key=bool(frame.picture.key_frame))
        events = self._ailments.look(signs, frame.pts_s, frame.t_ms, tasks)
        self._note()
        return events

    def close(self, reason: str) -> list[Event]:
        """The ends of all faults that stand."""
        events = self._ailments.close(reason)
        self._note()
        return events

    def _note(self) -> None:
        self.is_blind = self._ailments.is_blind
        self.may_be_blind = self._ailments.may_be_blind
        self.faults = tuple(sorted(self._ailments.open))


def _limits(health: specs.Health) -> Limits:
    """What is watched for is judged as the camera's spec says; the rest is told to nobody."""
    usual = Limits()
    return Limits(
        dark=health.black.darker_than if health.black else usual.dark,
        white=health.over_exposed.share if health.over_exposed else usual.white,
        sharp=health.blurred.sharpness if health.blurred else usual.sharp,
        lost=health.covered.share if health.covered else usual.lost,
        kept=health.moved.left if health.moved else usual.kept,
    )
