"""What rules mean, told slowly: a second engine, written from docs/guide/rules.md alone.

Here: each rule's complete story over the whole list of looks, from scratch: incidents and
crossings. Not here: what is true at a look (oracle_scene.py), procedures (oracle_procedures.py),
how looks and rules are made up (test_oracle.py).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from itertools import pairwise
from typing import Any

from tests.edge.vision.oracle_procedures import runs
from tests.edge.vision.oracle_scene import Look, Scene, Spell, Told, in_ms, meet, side, spells
from wire import specs
from wire.specs.hours import Schedule
from wire.specs.rules import Count, Crossing, Presence


def told(task: specs.Task, looks: Sequence[Look], end: str) -> list[Told]:
    """All events of a task over all looks, and of its end for a reason; rule by rule."""
    events: list[Told] = []
    for rule in task.spec.rules:
        incidents = 0
        for stretch in _stretches(rule.schedule, looks):
            found = _story(
                Scene(task, rule, looks, stretch),
                end if stretch.stop == len(looks) else "inactive",
            )
            events += [
                event
                if event.incident is None
                else replace(event, incident=event.incident + incidents)
                for event in found
            ]
            incidents += max((event.incident or 0 for event in found), default=0)
    return events


def _stretches(schedule: Schedule | None, looks: Sequence[Look]) -> list[range]:
    """The stretches of looks at all of which a schedule is active."""
    active = [_is_active(schedule, look.t_ms) for look in looks]
    begins = [n for n, now in enumerate(active) if now and not (n and active[n - 1])]
    return [
        range(begin, next((n for n in range(begin, len(looks)) if not active[n]), len(looks)))
        for begin in begins
    ]


def _is_active(schedule: Schedule | None, t_ms: int) -> bool:
    """Spans of hours on every day, in UTC; `24:00` is later than every time of day."""
    if schedule is None:
        return True
    clock = datetime.fromtimestamp(t_ms / 1000, UTC).strftime("%H:%M")
    spans = [span.split("-") for span in schedule.active]
    return any(
        begin <= clock < end if begin < end else clock >= begin or clock < end
        for begin, end in spans
    )


def _story(scene: Scene, end: str) -> list[Told]:
    """The events of a rule over a stretch of looks, and what ends with it."""
    rule = scene.rule
    match rule.when:
        case None:
            return runs(scene, end)
        case Crossing():
            return _crossings(scene, rule.when)
        case Presence():
            found = [
                incident
                for track in sorted({b.id for n in scene.range for b in scene.looks[n].bodies})
                for incident in _of_object(scene, rule.when, track, end)
            ]
        case _:
            found = _of_scene(scene, rule.when, end)
    # An incident has its number from the look at which it starts.
    found.sort(key=lambda incident: incident[0].look)
    return [
        replace(event, incident=number)
        for number, incident in enumerate(found, 1)
        for event in incident
    ]


def _of_object(scene: Scene, asked: Presence, track: int, end: str) -> list[list[Told]]:
    """The incidents of one object."""

    @cache
    def holds(look: int) -> bool:
        return any(
            body.id == track and body.seen and scene.counts(asked, body, look)
            for body in scene.looks[look].bodies
        ) and bool(scene.truth(asked.while_, look))

    def label(_: int, look: int) -> str:
        return next(body.label for body in scene.looks[look].bodies if body.id == track)

    return [
        _tell(
            scene,
            spell,
            holds,
            end,
            lambda since, look: {"track": track, "label": label(since, look)},
        )
        for spell in spells(scene, holds)
    ]


def _of_scene(scene: Scene, asked: object, end: str) -> list[list[Told]]:
    """The incidents of the scene, one at a time."""

    @cache
    def holds(look: int) -> bool:
        return bool(scene.truth(asked, look))

    def peak(since: int, look: int) -> dict[str, Any]:
        if not isinstance(asked, Count):
            return {}
        held = [n for n in range(since, look + 1) if holds(n)]
        return {"count": max(scene.count(asked.count, n) for n in held)}

    return [_tell(scene, spell, holds, end, peak) for spell in spells(scene, holds)]


def _tell(
    scene: Scene,
    spell: Spell,
    holds: Callable[[int], bool],
    end: str,
    news: Callable[[int, int], dict[str, Any]],
) -> list[Told]:
    """The events of an incident. `news` is what it tells at a look; a change of it is told."""
    rule = scene.rule
    base = Told(0, rule.name, rule.kind, None, 0, rule.severity, 0, scene.t_ms(spell.since))
    known, heard = news(spell.since, spell.start), spell.start
    events = [replace(base, look=spell.start, phase="start", t_ms=spell.start_ms, **known)]
    stop = scene.range.stop if spell.over is None else spell.over
    for n in range(spell.start + 1, stop):
        waited_ms = scene.t_ms(n) - scene.t_ms(heard)
        now = news(spell.since, n) if holds(n) else known
        if now != known and waited_ms >= in_ms(rule.update_every):
            known, heard = now, n
            events.append(replace(base, look=n, phase="update", t_ms=scene.t_ms(n), **now))
    ended = replace(base, look=stop, phase="end", t_ms=scene.t_ms(spell.last))
    reason = end if spell.over is None else "cleared"
    return [*events, replace(ended, reason=reason, **news(spell.since, spell.last))]


def _crossings(scene: Scene, asked: Crossing) -> list[Told]:
    """Each crossing of a line is an event by itself."""
    rule, line = scene.rule, scene.lines[asked.line]
    events: list[Told] = []
    for track in sorted({body.id for n in scene.range for body in scene.looks[n].bodies}):
        clear = [
            (n, body, side(line, body))
            for n in scene.range
            for body in scene.looks[n].bodies
            if body.id == track and body.seen and body.label in asked.classes and side(line, body)
        ]
        last_ms: int | None = None
        for (_, before, come_from), (n, body, gone_to) in pairwise(clear):
            way = f"{come_from}-to-{gone_to}"
            now_ms = scene.t_ms(n)
            if (
                come_from != gone_to
                and meet(before.foot, body.foot, *line)
                and asked.direction in (way, "both")
                and scene.truth(asked.while_, n)
                and (last_ms is None or now_ms - last_ms >= in_ms(rule.cooldown))
            ):
                last_ms = now_ms
                crossed = Told(n, rule.name, "crossing", None, now_ms, rule.severity)
                events.append(replace(crossed, track=track, label=body.label, direction=way))
    return events
