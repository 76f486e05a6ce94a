"""Number plates of one task: the best pictures of vehicles that stand, and what is told of them.

Here: cutting the pictures, hiding what must not be seen in them, the events. Not here: who stands
and what readings say (vision/plates.py), reading (ocr.py), when there is time for it
(edge/scribe.py).

    plates.look(tracks, frame)                    # with each look
    for ask in plates.asks():                     # what is to be read now
        events = plates.answer(ask, ocr.read(ask.image, ask.detector))
"""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import msgspec
import numpy as np
import numpy.typing as npt

from edge.video.decode import Frame
from edge.vision.blur import Hidden, hidden_by, hide
from edge.vision.detect import Detector
from edge.vision.geometry import foot_point, inside
from edge.vision.plates import Plate, Reading, Standing, plain
from edge.vision.track import LIKE, Track
from wire import specs
from wire.events import Event

Image = npt.NDArray[np.uint8]

LEAST_WIDTH = 96
"""Pixels: nobody can read the plate of a vehicle that is smaller."""
MOST_SIDE = 1280
"""Pixels: larger pictures of a vehicle are made smaller."""
LOWER = 0.4
"""Without a detector of plates they are looked for below this part of a vehicle's height."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A picture in which a plate is to be read."""

    standing: Standing
    track: Track
    pts_s: float
    t_ms: int
    image: Image
    detector: Detector | None


@dataclass(frozen=True, slots=True)
class _Shot:
    """The best picture of a vehicle since its window of looks began."""

    worth: float
    track: Track
    pts_s: float
    t_ms: int
    image: Image


def classes_of(task: specs.Task, labels: Sequence[str]) -> frozenset[str]:
    """The classes whose plates a task wants read: those that it names, or the model's vehicles."""
    if task.spec.plates is None:
        return frozenset()
    named = task.spec.plates.classes
    if named is not None:
        return frozenset(named)
    taken = task.spec.model.classes or labels
    return frozenset(name for name in labels if LIKE.get(name) == "vehicle" and name in taken)


class Plates:
    """The plates of a task at work on a stream. `detector` finds plates in a vehicle's picture.

    `key` makes the pseudonyms: the same plate has the same one under the same key.
    """

    def __init__(
        self,
        task: specs.Task,
        task_revision: int,
        labels: Sequence[str],
        key: bytes,
        detector: Detector | None = None,
    ) -> None:
        assert task.spec.plates is not None
        self.hidden: Hidden = hidden_by((task,))
        """What the stream's tasks hide; it is not read."""
        self._task = task
        self._task_revision = task_revision
        self._wish = task.spec.plates
        self._classes = classes_of(task, labels)
        self._zone = task.spec.zones[self._wish.zone] if self._wish.zone is not None else None
        self._key = key
        self._detector = detector
        self._standing = self._new()
        self._shots: dict[int, _Shot] = {}
        self._now_s = 0.0

    def _new(self) -> Standing:
        return Standing(self._wish.pattern, self._wish.min_score)

    def look(self, tracks: Sequence[Track], frame: Frame) -> list[Event]:
        """Keep the best pictures of those who stand; what is said of those who have gone."""
        self._now_s = frame.pts_s
        candidates = [track for track in tracks if self._matters(track)]
        gone = self._standing.left(candidates)
        self._shots = {
            track: shot
            for track, shot in self._shots.items()
            if any(track == each.id for each in candidates)
        }
        for track in self._standing.wanted(candidates, frame.pts_s):
            self._shoot(track, frame)
        return [self._event(plate, track, frame.t_ms) for track, plate in gone]

    def _matters(self, track: Track) -> bool:
        return track.label in self._classes and (
            self._zone is None or inside(foot_point(track.box), self._zone)
        )

    def _shoot(self, track: Track, frame: Frame) -> None:
        """Keep the picture of a vehicle if it is better than the one that is kept: larger, sharper.

        It is cut at full size; the rest of the frame is not converted.
        """
        width, height = frame.size
        x1, y1, x2, y2 = track.box
        if self._detector is None:
            y1 += (y2 - y1) * LOWER
        left, right = int(x1 * width), min(width, round(x2 * width))
        top, bottom = int(y1 * height), min(height, round(y2 * height))
        if right - left < LEAST_WIDTH or bottom - top < LEAST_WIDTH / 4:
            return
        window = (left / width, top / height, right / width, bottom / height)
        image = hide(frame.cut(left, top, right, bottom), self.hidden, window)
        grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        worth = float(cv2.Laplacian(grey, cv2.CV_32F).var()) * grey.size
        kept = self._shots.get(track.id)
        if kept is None or worth > kept.worth:
            small = _smaller(image)
            self._shots[track.id] = _Shot(worth, track, frame.pts_s, frame.t_ms, small)

    def asks(self) -> list[Ask]:
        """What is to be read now; each must be answered."""
        found = []
        for track in self._standing.due(self._now_s):
            shot = self._shots.pop(track, None)
            if shot is None:  # too small to be read, or not seen in all the time
                self._standing.read(track, (), self._now_s)
                continue
            found.append(
                Ask(self._standing, shot.track, shot.pts_s, shot.t_ms, shot.image, self._detector)
            )
        return found

    def answer(self, ask: Ask, readings: Sequence[Reading] | None) -> list[Event]:
        """What has been read; None: nobody had time. The event, once a plate is certain."""
        if ask.standing is not self._standing:
            return []  # of a connection that has ended
        if readings is None:
            self._standing.unread(ask.track.id, self._now_s)
            return []
        plate = self._standing.read(ask.track.id, readings, self._now_s)
        return [] if plate is None else [self._event(plate, ask.track, ask.t_ms)]

    def told(self, event: Event) -> Event:
        """An event of the task with the plate of its vehicle, where that is known."""
        plate = self._standing.known(event.track)
        if plate is None:
            return event
        return msgspec.structs.replace(event, plate=self._kept(plate))

    def close(self, t_ms: int) -> list[Event]:
        """Forget all vehicles; what is said of those that were still being read."""
        gone = self._standing.left(())
        self._standing = self._new()
        self._shots = {}
        return [self._event(plate, track, t_ms) for track, plate in gone]

    def _event(self, plate: Plate, track: Track, t_ms: int) -> Event:
        x1, y1, x2, y2 = (round(edge, 4) for edge in track.box)
        return Event(
            kind="plate",
            t_ms=t_ms,
            camera=self._task.spec.camera,
            severity="info",
            task=self._task.metadata.name,
            task_revision=self._task_revision,
            label=track.label,
            track=track.id,
            score=plate.score,
            box=(x1, y1, x2, y2),
            plate=self._kept(plate),
            zone=self._wish.zone or "",
        )

    def _kept(self, plate: Plate) -> str:
        """As the task wants it: the text, or a pseudonym that only the key's owner can make."""
        if self._wish.keep == "text":
            return plate.text
        digest = hmac.new(self._key, plain(plate.text).encode(), hashlib.sha256)
        return f"#{digest.hexdigest()[:16]}"


def _smaller(image: Image) -> Image:
    """A picture no larger than it may be; a copy, so that no frame is kept for it."""
    height, width = image.shape[:2]
    ratio = MOST_SIDE / max(height, width)
    if ratio >= 1:
        return image.copy()
    size = max(1, round(width * ratio)), max(1, round(height * ratio))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
