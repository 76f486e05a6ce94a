"""One task on one stream: frames in, events out.

Here: which frames are due, and the way of a frame through detector, tracker and rules. Not here:
where frames come from (edge/video), threads, processes, and the clock.

    for frame in frames:
        if analysis.due(frame.pts_s):
            events = analysis.look(frame, detector.detect_frame(frame))
    events = analysis.close("removed")

Where nothing has changed since the last look, `carry` stands for a look. Tasks with the same model
on one stream share a detection. `due` and `look` share no state, so one thread may choose frames
while another looks at them.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

import msgspec

from edge.facts import Facts
from edge.plates import Ask, Plates, classes_of
from edge.video.decode import Frame
from edge.vision import program, rules
from edge.vision.area import area_of, touches
from edge.vision.detect import Detections, Detector
from edge.vision.geometry import Box
from edge.vision.plates import Reading
from edge.vision.track import LIKE, Track, Tracker
from wire import specs
from wire.events import Event
from wire.facts import Fact

LEAST_PATIENCE_S = 2.0
LONGEST_PATIENCE_S = 60.0
"""How long the tracker keeps an unseen object, whatever grace a rule gives."""


def unknown_classes(task: specs.Task, labels: Sequence[str]) -> Iterator[specs.Problem]:
    """The classes that a task names and its model does not have, each with its path."""
    for number, name in enumerate(task.spec.model.classes or ()):
        if name not in labels:
            yield _unknown(("spec", "model", "classes", number), name, task)
    for name in task.spec.model.scores:
        if name not in labels:
            yield _unknown(("spec", "model", "scores", name), name, task)
    if task.spec.plates is not None:
        for name in task.spec.plates.classes or ():
            if name not in labels:
                yield _unknown(("spec", "plates", "classes"), name, task)
        if not classes_of(task, labels):
            yield specs.Problem(
                ("spec", "plates", "classes"),
                f"model {task.spec.model.name!r} knows no vehicle; name classes that have plates",
            )
    for index, rule in enumerate(task.spec.rules):
        for path, leaf in specs.leaves(rule):
            for name in leaf.classes:
                if name not in labels:
                    yield _unknown(("spec", "rules", index, *path, "class"), name, task)


def _unknown(path: tuple[str | int, ...], name: str, task: specs.Task) -> specs.Problem:
    return specs.Problem(path, f"model {task.spec.model.name!r} knows no class {name!r}")


@dataclass(frozen=True, slots=True)
class _Before:
    """The last look: what was there, and what the inputs were known to say."""

    tracks: Sequence[Track]
    inputs: Mapping[str, Fact]
    pts_s: float
    t_ms: int


class Analysis:
    """A task at work on a stream.

    `scope` begins the ids of its incidents; no other run of the task may have the same. Raises
    wire.specs.SpecError if the task names a class that the model does not have.
    """

    def __init__(
        self,
        task: specs.Task,
        task_revision: int,
        detector: Detector,
        scope: str,
        *,
        zone: tzinfo = UTC,
        facts: Facts | None = None,
        plates: Plates | None = None,
    ) -> None:
        """`zone` is the station's time zone; `facts` are what its inputs say.

        `plates` are the task's, where it wants any.
        """
        problems = tuple(unknown_classes(task, detector.labels))
        if problems:
            raise specs.SpecError(problems)
        self.detector = detector
        self.fps = task.spec.fps
        self._program = program.compile_task(task, task_revision, scope, zone)
        self._hours = task.spec.schedule
        self._zone = zone
        self._facts = facts or Facts()
        self._inputs = sorted(
            {part.input for rule in task.spec.rules for _, part in specs.inputs(rule)}
        )
        self.plates = plates
        wanted = _named(task.spec) | classes_of(task, detector.labels)
        self._like = {LIKE.get(name, name) for name in wanted}
        self._schedule = _Schedule(self.fps)
        self._area = area_of(task)
        self._state = rules.START
        self._told: tuple[float | None, str] = None, "FULL"
        """Coverage and level of the last look."""
        self._model = task.spec.model
        self._tracker = self._new_tracker()
        self._looked_s: float | None = None
        self._before: _Before | None = None
        self._rest_ms = self._wakes_ms = 0
        """The rest that `rests_until` has told of: it is asked every second."""

    def is_active(self, t_ms: int) -> bool:
        """Whether the task is at work at a moment, by its schedule."""
        return specs.is_active(self._hours, t_ms, self._zone)

    def rests_until(self, t_ms: int) -> str:
        """When its schedule begins again after a moment of rest, in the station's time."""
        if not self._rest_ms <= t_ms < self._wakes_ms:
            change_ms = specs.next_change_ms(self._hours, t_ms, self._zone)
            self._rest_ms, self._wakes_ms = t_ms, change_ms or t_ms
        wakes = datetime.fromtimestamp(self._wakes_ms / 1000, self._zone)
        return wakes.strftime("%a %H:%M").lower()

    @property
    def tracks_shed(self) -> int:
        """Objects of this connection that were not followed because there were too many."""
        return self._tracker.shed

    def due(self, pts_s: float, *, follows: bool = True) -> bool:
        """Whether the frame of this time is to be looked at. Ask once for each, in their order.

        `follows`: no frame of the stream was left out since the one that was asked for last.
        """
        return self._schedule.due(pts_s, follows)

    def expects(self, pts_s: float) -> bool:
        """Whether `due` would say so of a frame before which others are left out."""
        return self._schedule.turn(pts_s, False) is not None

    def slow_down(self, factor: float) -> None:
        """Want only that share of the looks from now on, 0..1: the budget is short."""
        self._schedule.fps = self.fps * factor

    def look(
        self,
        frame: Frame,
        detections: Detections,
        coverage: float | None = None,
        level: str = "FULL",
    ) -> list[Event]:
        """What became true with this frame.

        `coverage` is the share of wanted looks, 0..1; `level` how much of the stream was decoded.

        A frame that is not later than the last one looked at is of a new connection: what was open
        ends as `interrupted`, and everything is seen anew. Outside of the task's schedule nothing
        is judged, and what was open ends as `inactive`.
        """
        if not self.is_active(frame.t_ms):
            return self.close("inactive")
        events: list[Event] = []
        if self._looked_s is not None and frame.pts_s <= self._looked_s:
            events = self.close("interrupted")
        self._looked_s = frame.pts_s
        tracks = self._tracker.update(_of_classes(detections, self._like), frame.pts_s)
        return events + self._judged(tracks, frame, coverage, level)

    def carry(self, frame: Frame, coverage: float | None = None, level: str = "KEY") -> list[Event]:
        """As `look`, of a frame in which nothing has changed: what was there still is."""
        if not self.is_active(frame.t_ms):
            return self.close("inactive")
        if self._looked_s is None or frame.pts_s <= self._looked_s:
            return []
        self._looked_s = frame.pts_s
        return self._judged(self._tracker.hold(frame.pts_s), frame, coverage, level)

    def differs(self, detections: Detections) -> bool:
        """Whether a detector sees other objects than `carry` would carry, where they matter."""
        return self._tracker.differs(_of_classes(detections, self._like), self._matters)

    @property
    def restless(self) -> bool:
        """Whether an object moves that is followed, where that matters."""
        return any(map(self._matters, self._tracker.moving()))

    def _matters(self, box: Box) -> bool:
        """Whether a box reaches into what the rules look at; its neighbourhood counts."""
        return self._area is None or any(touches(box, polygon) for polygon in self._area)

    def _judged(
        self, tracks: Sequence[Track], frame: Frame, coverage: float | None, level: str
    ) -> list[Event]:
        found = self._meanwhile(frame)
        inputs = self._facts.at(frame.t_ms, self._inputs)
        self._state, now = rules.step(
            self._program, self._state, tracks, frame.pts_s, frame.t_ms, inputs
        )
        found += now
        self._before = _Before(tracks, inputs, frame.pts_s, frame.t_ms)
        self._told = None if coverage is None else round(coverage, 3), level
        if self.plates is not None:
            found += self.plates.look(tracks, frame)
        return self._complete(found)

    def asks(self) -> list[Ask]:
        """The pictures in which a plate is to be read now; each must be answered."""
        return [] if self.plates is None else self.plates.asks()

    def answer(self, ask: Ask, readings: Sequence[Reading] | None) -> list[Event]:
        """What follows from what was read in a picture; None: nobody had time for it."""
        assert self.plates is not None
        return self._complete(self.plates.answer(ask, readings))

    def _complete(self, events: Iterable[Event]) -> list[Event]:
        """Events with what is known besides: how the stream was seen, and whose plate it is."""
        coverage, level = self._told
        found = (msgspec.structs.replace(each, coverage=coverage, level=level) for each in events)
        return [self.plates.told(each) if self.plates is not None else each for each in found]

    def _meanwhile(self, frame: Frame) -> list[Event]:
        """What inputs said since the look before, also what they no longer say, with its tracks."""
        before = self._before
        if before is None or not self._inputs:
            return []
        moments = self._facts.changes(before.t_ms, frame.t_ms, self._inputs)
        if self._facts.at(before.t_ms, self._inputs) != before.inputs:
            moments = [before.t_ms + 1, *moments]  # came too late for that look, but came
        found: list[Event] = []
        judged_s = before.pts_s
        for t_ms in moments:
            pts_s = frame.pts_s - (frame.t_ms - t_ms) / 1000
            if judged_s < pts_s < frame.pts_s:
                judged_s = pts_s
                inputs = self._facts.at(t_ms, self._inputs)
                self._state, now = rules.step(
                    self._program, self._state, before.tracks, pts_s, t_ms, inputs
                )
                found += now
        return found

    def close(self, reason: str) -> list[Event]:
        """End what is open, each at its last moment: `interrupted`, `removed` or `inactive`.

        Objects are forgotten; looks may go on, and incidents get new numbers.
        """
        events = self._complete(rules.close(self._program, self._state, reason))
        if self.plates is not None and self._before is not None:
            events += self._complete(self.plates.close(self._before.t_ms))
        self._state = rules.State(self._state.incidents)
        self._tracker = self._new_tracker()
        self._looked_s = self._before = None
        return events

    def _new_tracker(self) -> Tracker:
        longest_s = min(LONGEST_PATIENCE_S, program.longest_absence_s(self._program))
        patience_s = max(LEAST_PATIENCE_S, 3 / self.fps, longest_s)
        model = self._model
        return Tracker(
            min_score=model.min_score, scores=model.scores, fps=self.fps, patience_s=patience_s
        )


class _Schedule:
    """Which frames are nearest to the moments at which looks are wanted.

    Those are the multiples of 1 / fps after the first frame; so irregular or uneven frame rates
    neither drift nor exceed fps.
    """

    def __init__(self, fps: float) -> None:
        self._fps = fps
        self._first_s = 0.0
        self._previous_s = math.inf
        self._interval_s = 0.0
        self._turn = -1

    @property
    def fps(self) -> float:
        """Looks wanted a second; another number starts anew with the next frame."""
        return self._fps

    @fps.setter
    def fps(self, fps: float) -> None:
        if fps != self._fps:
            self._fps = fps
            if math.isfinite(self._previous_s):
                self._first_s, self._turn = self._previous_s, 0

    def due(self, pts_s: float, follows: bool) -> bool:
        """Whether the frame of this time is the one for its turn; time that falls starts anew."""
        if pts_s < self._previous_s:
            self._first_s = self._previous_s = pts_s
            self._turn = -1
        turn = self.turn(pts_s, follows)
        if follows:
            self._interval_s = min(pts_s - self._previous_s, 1 / self._fps)
        self._previous_s = pts_s
        if turn is None:
            return False
        self._turn = turn
        return True

    def turn(self, pts_s: float, follows: bool) -> int | None:
        """The turn that a frame of this time is for, if it has not come yet."""
        if pts_s < self._previous_s:
            return 0
        # The next frame is as far away as the last one: half of that tells which is nearer.
        interval_s = min(pts_s - self._previous_s, 1 / self._fps) if follows else self._interval_s
        turn = math.floor((pts_s - self._first_s + interval_s / 2) * self._fps + 1e-6)
        return turn if turn > self._turn else None


def _named(spec: specs.TaskSpec) -> set[str]:
    """The classes that any rule names: others need not be followed."""
    return {name for rule in spec.rules for _, leaf in specs.leaves(rule) for name in leaf.classes}


def _of_classes(detections: Detections, like: set[str]) -> Detections:
    """Only the objects of these classes and of those that detectors take for them."""
    rows = [row for row, label in enumerate(detections.labels) if LIKE.get(label, label) in like]
    if len(rows) == len(detections):
        return detections
    return Detections(
        detections.boxes[rows],
        detections.scores[rows],
        tuple(detections.labels[row] for row in rows),
    )
