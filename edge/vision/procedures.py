"""Procedures: ordered steps with time limits, as in the unloading of a tanker. Pure.

Here: where a run of a procedure stands, and what broke it. Not here: what holds at one look
(program.py), other rules (rules.py).

A *run* begins when `begins` has held for the rule's `for`, since when it first held, and ends when
`ends` (or the absence of `begins`) has held for `clear`. It is one incident of severity info,
updated with each step that is done; its last event holds the trace of all steps. Whatever breaks
the procedure is an event of its own, a moment with the rule's severity, once for each step and
reason:

| reason | what happened |
|---|---|
| early | `until` came true before the step had lasted for `lasts`; the step counts as done |
| late | `within` has passed and the step is not done; it can still be done |
| interrupted | `while` did not hold for longer than `grace` |
| out-of-order | `until` of a later step came true; that one is done at once when its turn comes |
| skipped | the run ended before the step was done |

What held already when the run began is not out of order.

While the end holds, but not yet for `clear`, the run stands still: what happens then counts only if
the end ceases to hold. After a run `begins` must cease, for longer than `grace`, before it can
begin the next one.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import msgspec

from edge.vision.program import EPSILON_S, Look, Program, ReadyRule, holds
from wire import specs
from wire.events import Event, Phase, Stage


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment of the stream, by its own time and by the clock on the wall."""

    pts_s: float
    t_ms: int

    def after(self, seconds: float) -> "Moment":
        """The moment so much later."""
        return Moment(self.pts_s + seconds, self.t_ms + round(seconds * 1000))


@dataclass(frozen=True, slots=True)
class _Run:
    """A procedure under way."""

    incident: str
    since: Moment
    stages: tuple[Stage, ...]
    """Of the steps that have begun; the last one is not done, unless all are."""
    entered: Moment
    """When the step at work began."""
    lapsed: Moment | None = None
    """Since when its `while` does not hold."""
    ending: Moment | None = None
    """Since when the run's end holds."""
    last: Moment = Moment(0.0, 0)
    broken: frozenset[tuple[str, str]] = frozenset()
    """(step, reason) of all that was told."""
    true: Mapping[str, Moment] = field(default_factory=dict)
    """Steps whose `until` is true, since when."""
    known: frozenset[str] = frozenset()
    """Steps that were true when the run began."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What a procedure's rule remembers."""

    begins: Moment | None = None
    """Since when `begins` holds."""
    began: Moment | None = None
    """When it held last, if it has not ceased since."""
    spent: bool = False
    """It began the run before, and has not ceased since."""
    run: _Run | None = None
    cool_until_s: float = 0.0


NOTHING = Memory()


def judge(
    program: Program,
    rule: ReadyRule,
    procedure: specs.Procedure,
    memory: Memory,
    look: Look,
    incidents: int,
) -> tuple[Memory, list[Event], int]:
    """The memory after a look, what became true with it, and how many incidents there were."""
    now = Moment(look.pts_s, look.t_ms)
    events: list[Event] = []
    memory = _awaited(rule, procedure, memory, look, now)
    run = memory.run
    if run is None:
        since = memory.begins
        if since is None or memory.spent or memory.began != now:
            return memory, events, incidents
        due_s = max(since.pts_s + rule.for_s, memory.cool_until_s)
        if now.pts_s < due_s - EPSILON_S:
            return memory, events, incidents
        incidents += 1
        run = _begun(program, rule, procedure, since, look, incidents)
        events.append(_told(program, rule, run, "start", since.after(due_s - since.pts_s).t_ms))
    run, found, ended = _followed(program, rule, procedure, run, look, now)
    events += found
    if ended is None:
        return replace(memory, run=run), events, incidents
    cool_until_s = ended.pts_s + rule.cooldown_s
    spent = memory.began is not None
    return replace(memory, spent=spent, run=None, cool_until_s=cool_until_s), events, incidents


def close(program: Program, rule: ReadyRule, memory: Memory, reason: str) -> list[Event]:
    """The end of a run that nobody follows any more, at its last look."""
    run = memory.run
    return [] if run is None else [_told(program, rule, run, "end", run.last.t_ms, reason)]


# --- beginning ---------------------------------------------------------------------------------


def _awaited(
    rule: ReadyRule, procedure: specs.Procedure, memory: Memory, look: Look, now: Moment
) -> Memory:
    """Since when `begins` holds; absences up to `grace` are forgiven."""
    if holds(rule, procedure.begins, look):
        return replace(memory, begins=memory.begins or now, began=now)
    if memory.began is not None and now.pts_s - memory.began.pts_s > rule.grace_s + EPSILON_S:
        return replace(memory, begins=None, began=None, spent=False)
    return memory


def _begun(
    program: Program,
    rule: ReadyRule,
    procedure: specs.Procedure,
    since: Moment,
    look: Look,
    number: int,
) -> _Run:
    true = {step.name for step in procedure.steps if _is_true(rule, step, look)}
    return _Run(
        incident=program.incident(number),
        since=since,
        stages=(Stage(step=procedure.steps[0].name, since_ms=since.t_ms),),
        entered=since,
        true=dict.fromkeys(sorted(true), since),
        known=frozenset(true),
    )


# --- under way ---------------------------------------------------------------------------------


def _followed(
    program: Program,
    rule: ReadyRule,
    procedure: specs.Procedure,
    run: _Run,
    look: Look,
    now: Moment,
) -> tuple[_Run, list[Event], Moment | None]:
    """A run after a look, its events, and when it ended, if it is over."""
    events: list[Event] = []
    true = {
        step.name: run.true.get(step.name, now)
        for step in procedure.steps
        if _is_true(rule, step, look)
    }
    run = replace(run, true=true, known=run.known & true.keys(), last=now)
    run = _ending(rule, procedure, run, look, now)
    ending = run.ending
    if ending in (None, now):
        run, events = _worked(program, rule, procedure, run, look, now)
    elif (step := _at_work(procedure, run)) is not None:
        run = _lapsed(rule, step, run, look, now)
    if ending is None or now.pts_s - ending.pts_s < rule.clear_s - EPSILON_S:
        return run, events, None
    left = procedure.steps[_done(procedure, run) :]
    run, found = _broken(program, rule, run, [("skipped", ending, step) for step in left])
    end = _told(program, rule, run, "end", ending.t_ms, "violated" if run.broken else "completed")
    return run, [*events, *found, end], ending


def _worked(
    program: Program,
    rule: ReadyRule,
    procedure: specs.Procedure,
    run: _Run,
    look: Look,
    now: Moment,
) -> tuple[_Run, list[Event]]:
    """The steps that are done by now, one after the other, and what is broken by now."""
    events: list[Event] = []
    while (step := _at_work(procedure, run)) is not None:
        run = _lapsed(rule, step, run, look, now)
        done = _done_at(step, run, now)
        broken = [(*each, step) for each in _breaches(rule, step, run, done, now)]
        run, found = _broken(program, rule, run, broken)
        events += found
        if done is None:
            break
        run = _left(procedure, run, done)
        message = f"{step.name} done after {_shown(run.stages, step)}{_next(procedure, run)}"
        events.append(
            _told(program, rule, run, "update", done.t_ms, step=step.name, message=message)
        )
    run, found = _broken(program, rule, run, list(_out_of_order(procedure, run)))
    return run, events + found


def _is_true(rule: ReadyRule, step: specs.Step, look: Look) -> bool:
    return step.until is not None and holds(rule, step.until, look) is True


def _at_work(procedure: specs.Procedure, run: _Run) -> specs.Step | None:
    """The step whose turn it is; None: all are done."""
    number = _done(procedure, run)
    return procedure.steps[number] if number < len(procedure.steps) else None


def _done(procedure: specs.Procedure, run: _Run) -> int:
    """How many steps are done."""
    return len(run.stages) - (run.stages[-1].until_ms is None)


def _lapsed(rule: ReadyRule, step: specs.Step, run: _Run, look: Look, now: Moment) -> _Run:
    """The run that knows since when the `while` of the step at work is not known to hold."""
    if step.while_ is None or holds(rule, step.while_, look):
        return replace(run, lapsed=None)
    return replace(run, lapsed=run.lapsed or now)


def _done_at(step: specs.Step, run: _Run, now: Moment) -> Moment | None:
    """When the step at work was done, if it is."""
    if step.until is None:
        due = run.entered.after(step.lasts or 0.0)
        return due if now.pts_s >= due.pts_s - EPSILON_S else None
    true = run.true.get(step.name)
    return true and max(true, run.entered, key=lambda moment: moment.pts_s)


def _breaches(
    rule: ReadyRule, step: specs.Step, run: _Run, done: Moment | None, now: Moment
) -> Iterator[tuple[str, Moment]]:
    """What the step at work broke until it was done, or until now; and when."""
    ended_s = (done or now).pts_s
    took_s = ended_s - run.entered.pts_s
    if done is not None and step.lasts is not None and took_s < step.lasts - EPSILON_S:
        yield "early", done
    if step.within is not None and took_s > step.within + EPSILON_S:
        yield "late", run.entered.after(step.within)
    if run.lapsed is not None and ended_s - run.lapsed.pts_s > rule.grace_s + EPSILON_S:
        yield "interrupted", run.lapsed.after(rule.grace_s)


def _left(procedure: specs.Procedure, run: _Run, done: Moment) -> _Run:
    """The run once the step at work is done: the next one begins."""
    *before, stage = run.stages
    stages = [*before, msgspec.structs.replace(stage, until_ms=done.t_ms)]
    if len(stages) < len(procedure.steps):
        name = procedure.steps[len(stages)].name
        broken = sorted(reason for step, reason in run.broken if step == name)
        stages.append(Stage(step=name, since_ms=done.t_ms, broken=broken))
    return replace(run, stages=tuple(stages), entered=done, lapsed=None)


def _out_of_order(
    procedure: specs.Procedure, run: _Run
) -> Iterator[tuple[str, Moment, specs.Step]]:
    """Later steps that came true before their turn."""
    number = _done(procedure, run)
    now = procedure.steps[number].until if number < len(procedure.steps) else None
    for step in procedure.steps[number + 1 :]:
        came = step.name in run.true and step.name not in run.known
        if step.in_order and came and step.until != now:
            yield "out-of-order", run.true[step.name], step


def _ending(
    rule: ReadyRule, procedure: specs.Procedure, run: _Run, look: Look, now: Moment
) -> _Run:
    """The run that knows since when its end holds."""
    if procedure.ends is not None:
        ends = holds(rule, procedure.ends, look) is True
    else:
        ends = holds(rule, procedure.begins, look) is False
    return replace(run, ending=(run.ending or now) if ends else None)


def _broken(
    program: Program, rule: ReadyRule, run: _Run, found: list[tuple[str, Moment, specs.Step]]
) -> tuple[_Run, list[Event]]:
    """Tell what broke the procedure, and when; once for each step and reason."""
    events: list[Event] = []
    for reason, at, step in found:
        if (step.name, reason) not in run.broken:
            broken = run.broken | {(step.name, reason)}
            run = replace(run, broken=broken, stages=_marked(run, step, reason))
            events.append(_violation(program, rule, run, step, reason, at))
    return run, events


def _marked(run: _Run, step: specs.Step, reason: str) -> tuple[Stage, ...]:
    """The trace with that reason at that step, if it has begun."""
    return tuple(
        msgspec.structs.replace(stage, broken=[*stage.broken, reason])
        if stage.step == step.name
        else stage
        for stage in run.stages
    )


# --- events ------------------------------------------------------------------------------------


def _violation(
    program: Program, rule: ReadyRule, run: _Run, step: specs.Step, reason: str, at: Moment
) -> Event:
    limit = {
        "early": f"done before it had lasted {_duration(step.lasts or 0)}",
        "late": f"not done within {_duration(step.within or 0)}",
        "interrupted": "what must hold all the time does not",
        "out-of-order": "done before its turn",
        "skipped": "not done when the procedure ended",
    }[reason]
    return _event(
        program, rule, rule.spec.severity, at.t_ms,
        step=step.name, reason=reason, since_ms=run.since.t_ms, trace=list(run.stages),
        message=f"{rule.spec.name}: {step.name} was {limit}" if reason != "interrupted"
        else f"{rule.spec.name}: {step.name}: {limit}",
    )  # fmt: skip


def _told(
    program: Program,
    rule: ReadyRule,
    run: _Run,
    phase: Phase,
    t_ms: int,
    reason: str = "",
    step: str = "",
    message: str = "",
) -> Event:
    """What a run tells of itself."""
    return _event(
        program, rule, "info", t_ms,
        phase=phase, incident=run.incident, since_ms=run.since.t_ms, reason=reason,
        step=step or run.stages[-1].step, trace=list(run.stages), message=message,
    )  # fmt: skip


def _event(
    program: Program,
    rule: ReadyRule,
    severity: str,
    t_ms: int,
    *,
    since_ms: int,
    step: str,
    trace: list[Stage],
    reason: str = "",
    message: str = "",
    phase: Phase | None = None,
    incident: str | None = None,
) -> Event:
    return Event(
        kind="procedure",
        t_ms=t_ms,
        camera=program.camera,
        severity=severity,
        task=program.task,
        task_revision=program.revision,
        rule=rule.spec.name,
        phase=phase,
        incident=incident,
        since_ms=since_ms,
        reason=reason,
        step=step,
        trace=trace,
        message=message,
    )


def _next(procedure: specs.Procedure, run: _Run) -> str:
    step = _at_work(procedure, run)
    return "; all steps are done" if step is None else f"; next: {step.name}"


def _shown(stages: tuple[Stage, ...], step: specs.Step) -> str:
    stage = next(each for each in stages if each.step == step.name)
    return _duration(((stage.until_ms or stage.since_ms) - stage.since_ms) / 1000)


def _duration(seconds: float) -> str:
    """`42 s`, `15 min`, `1 h 5 min`: for people."""
    if seconds < 120:
        return f"{seconds:.3g} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
