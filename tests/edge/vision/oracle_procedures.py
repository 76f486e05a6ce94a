"""What procedures mean, told slowly: written from docs/guide/rules.md alone.

Here: the complete story of a rule with a procedure over the whole list of looks, run by run. Not
here: what is true at a look (oracle_scene.py), other rules (oracle.py).

At every look at which a run does not stand still, each step that has its turn is asked in order:
is it done, and what has it broken?
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

from tests.edge.vision.oracle_scene import Scene, Told, gone, in_ms, next_start
from wire.specs.rules import Procedure, Step

LEAST_CLEAR_MS = 30_000


@dataclass
class Turn:
    """A step whose turn has come: since when, until when, and what it broke before or then."""

    step: Step
    since_ms: int
    noticed: int
    """The look at which it was first known to be its turn."""
    until_ms: int | None = None


class Run:
    """One run of a procedure, from the look at which it starts."""

    def __init__(self, scene: Scene, procedure: Procedure, start: int, since_ms: int) -> None:
        self.scene = scene
        self.procedure = procedure
        self.start = start
        self.since_ms = since_ms
        self.turns = [Turn(procedure.steps[0], since_ms, start)]
        self.broken: dict[tuple[str, str], int] = {}
        """(step, reason) and when."""
        self.heeded = start
        """The last look at which the run did not stand still."""

    def came(self, condition: object, look: int) -> int | None:
        """The look since which a condition holds, not before the start; None: it does not hold."""
        if self.scene.truth(condition, look) is not True:
            return None
        while look > self.start and self.scene.truth(condition, look - 1) is True:
            look -= 1
        return look

    def moment_ms(self, look: int) -> int:
        """What holds at the start counts as having held since the run's beginning."""
        return self.since_ms if look == self.start else self.scene.t_ms(look)

    def ends(self, look: int) -> int | None:
        """The look since which the end's condition holds."""
        if self.procedure.ends is not None:
            return self.came(self.procedure.ends, look)
        begins = self.procedure.begins
        if self.scene.truth(begins, look) is not False:
            return None
        while look > self.start and self.scene.truth(begins, look - 1) is False:
            look -= 1
        return look

    def heed(self, look: int) -> Iterator[tuple[str, int]]:
        """Do what follows from a look; gives the steps that are done then, and when they were."""
        asked = []
        while self.turns[-1].until_ms is None:
            turn = self.turns[-1]
            asked.append(turn.step)
            turn.until_ms = self._done_ms(turn, look)
            self._judge(turn, look)
            if turn.until_ms is None:
                break
            yield turn.step.name, turn.until_ms
            if len(self.turns) < len(self.procedure.steps):
                following = self.procedure.steps[len(self.turns)]
                self.turns.append(Turn(following, turn.until_ms, look))
        self._judge_order(asked, look)
        self.heeded = look

    def _done_ms(self, turn: Turn, look: int) -> int | None:
        """When a step was done, if it is by this look."""
        if turn.step.until is None:
            done_ms = turn.since_ms + in_ms(turn.step.lasts or 0)
            return done_ms if done_ms <= self.scene.t_ms(look) else None
        came = self.came(turn.step.until, look)
        return None if came is None else max(turn.since_ms, self.moment_ms(came))

    def _judge(self, turn: Turn, look: int) -> None:
        """What a step breaks in its turn."""
        step, name = turn.step, turn.step.name
        until_ms = self.scene.t_ms(look) if turn.until_ms is None else turn.until_ms
        lasted_ms = until_ms - turn.since_ms
        if step.within is not None and lasted_ms > in_ms(step.within):
            self.breaks(name, "late", turn.since_ms + in_ms(step.within))
        if self.scene.truth(step.while_, look) is not True:
            since_ms = self._absent_ms(step.while_, look, turn.noticed)
            if until_ms - since_ms > self.scene.grace_ms:
                self.breaks(name, "interrupted", since_ms + self.scene.grace_ms)
        early = turn.until_ms is not None and lasted_ms < in_ms(step.lasts or 0)
        if step.until is not None and early:
            self.breaks(name, "early", until_ms)

    def _absent_ms(self, condition: object, look: int, first: int) -> int:
        """Since when a condition is not known to hold, of the looks from `first` on."""
        while look > first and self.scene.truth(condition, look - 1) is not True:
            look -= 1
        return self.scene.t_ms(look)

    def _judge_order(self, asked: list[Step], look: int) -> None:
        """Whether a step came to hold, since the look that was heeded before, ahead of its turn."""
        begun = {turn.step.name: turn.since_ms for turn in self.turns}
        for step in self.procedure.steps:
            came = None if step.until is None else self.came(step.until, look)
            if came is None or came <= self.heeded or not step.in_order:
                continue
            came_ms = self.scene.t_ms(came)
            mine = any(each.until == step.until for each in asked)
            if not mine and came_ms < begun.get(step.name, came_ms + 1):
                self.breaks(step.name, "out-of-order", came_ms)

    def breaks(self, step: str, reason: str, t_ms: int) -> None:
        """Each step tells each reason once."""
        self.broken.setdefault((step, reason), t_ms)


def runs(scene: Scene, end: str) -> list[Told]:
    """The events of a procedure over a stretch of looks."""
    procedure, rule = scene.rule.procedure, scene.rule
    assert procedure is not None
    clear_ms = max(LEAST_CLEAR_MS, scene.grace_ms) if rule.clear is None else in_ms(rule.clear)

    @cache
    def begins(look: int) -> bool:
        return scene.truth(procedure.begins, look) is True

    events: list[Told] = []
    begin: int | None = scene.range.start
    number = rested_ms = 0
    while begin is not None:
        started = next_start(scene, begins, begin, rested_ms)
        if started is None:
            break
        since, start, start_ms = started
        number += 1
        run = Run(scene, procedure, start, scene.t_ms(since))
        own = Told(
            0, rule.name, "procedure", None, 0, "info", incident=number, since_ms=run.since_ms
        )
        events.append(replace(own, look=start, phase="start", t_ms=start_ms))
        begin = None
        for look in range(start, scene.range.stop):
            ceased = run.ends(look)
            before = dict(run.broken)
            if ceased is None or ceased == look:
                events += [
                    replace(own, look=look, phase="update", t_ms=t_ms, step=step)
                    for step, t_ms in run.heed(look)
                ]
            ended_ms = None if ceased is None else scene.t_ms(ceased)
            over = ended_ms is not None and scene.t_ms(look) - ended_ms >= clear_ms
            if over and ended_ms is not None:
                done = sum(turn.until_ms is not None for turn in run.turns)
                for step in procedure.steps[done:]:
                    run.breaks(step.name, "skipped", ended_ms)
            events += [
                Told(look, rule.name, "procedure", None, t_ms, rule.severity, step=step, reason=why)
                for (step, why), t_ms in run.broken.items()
                if (step, why) not in before
            ]
            if over and ended_ms is not None:
                reason = "violated" if run.broken else "completed"
                events.append(_ended(run, own, look, ended_ms, reason))
                rested_ms = ended_ms + in_ms(rule.cooldown)
                begin = scene.first(look, lambda n: gone(scene, begins, n, scene.grace_ms))
                break
        else:
            last_ms = scene.t_ms(scene.range.stop - 1)
            events.append(_ended(run, own, scene.range.stop, last_ms, end))
    return events


def _ended(run: Run, own: Told, look: int, t_ms: int, reason: str) -> Told:
    trace = tuple(
        (
            turn.step.name,
            turn.since_ms,
            turn.until_ms,
            tuple(sorted(why for step, why in run.broken if step == turn.step.name)),
        )
        for turn in run.turns
    )
    return replace(own, look=look, phase="end", t_ms=t_ms, reason=reason, trace=trace)
