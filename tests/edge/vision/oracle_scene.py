"""What is true at each look, told slowly: the ground under the oracle for rules.

Here: objects, zones, lines, counts, inputs and joined conditions, in whole numbers (milliseconds,
thousandths of the picture), written from docs/guide/rules.md alone. Not here: what follows from
them (oracle.py, oracle_procedures.py); nothing of edge/vision is used.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from wire import specs
from wire.facts import Fact
from wire.specs.rules import All, Any_, Count, Counted, Input, Not, Presence, Rule

Spot = tuple[int, int]


@dataclass(frozen=True)
class Body:
    """An object at a look. Where it stands, and how tall it is, in thousandths of the picture."""

    id: int
    label: str
    foot: Spot
    height: int
    seen: bool
    last_seen_ms: int


@dataclass(frozen=True)
class Look:
    """Everything that is known at a look; the stream and the wall have one clock, in ms."""

    t_ms: int
    bodies: Sequence[Body] = ()
    says: Mapping[str, Fact] = field(default_factory=dict)


@dataclass(frozen=True)
class Told:
    """An event, as far as the guide says what it holds."""

    look: int
    """The look at which it is told; the number of looks: when everything is closed."""
    rule: str
    kind: str
    phase: str | None
    t_ms: int
    severity: str
    incident: int | None = None
    """1 for the first incident of the rule, and so on."""
    since_ms: int | None = None
    reason: str = ""
    track: int | None = None
    label: str = ""
    count: int | None = None
    direction: str = ""
    step: str = ""
    trace: tuple[tuple[str, int, int | None, tuple[str, ...]], ...] = ()
    """Of a procedure's end: each step that has begun, when it began and was done, what it broke."""


class Scene:
    """One rule over a stretch of looks; of those before it only who was in which zone is known."""

    def __init__(self, task: specs.Task, rule: Rule, looks: Sequence[Look], stretch: range) -> None:
        self.rule = rule
        self.looks = looks
        self.range = stretch
        self.grace_ms = (
            max(1000, round(2000 / task.spec.fps)) if rule.grace is None else in_ms(rule.grace)
        )
        self.lines = {name: _whole(points) for name, points in task.spec.lines.items()}
        self._in_zone = {
            name: _inhabitants(_whole(points), looks[: stretch.stop])
            for name, points in task.spec.zones.items()
        }

    def t_ms(self, look: int) -> int:
        return self.looks[look].t_ms

    def first(self, begin: int, holds: Callable[[int], bool]) -> int | None:
        """The first look from `begin` on at which something holds."""
        return next((n for n in range(begin, self.range.stop) if holds(n)), None)

    def counts(self, asked: Presence | Counted, body: Body, look: int) -> bool:
        """Whether an object is of the class and in the zone that are asked for."""
        return body.label in asked.classes and (
            asked.zone is None or body.id in self._in_zone[asked.zone][look]
        )

    def count(self, asked: Counted, look: int) -> int:
        """How many are there: who is seen, and who was seen no longer than `grace` ago."""
        now_ms = self.t_ms(look)
        return sum(
            self.counts(asked, body, look)
            for body in self.looks[look].bodies
            if body.seen or now_ms - body.last_seen_ms <= self.grace_ms
        )

    def truth(self, condition: object, look: int) -> bool | None:
        """Whether a condition of the scene holds at a look; None: nobody knows."""
        match condition:
            case None:
                return True
            case Count():
                found = self.count(condition.count, look)
                return (condition.at_least is None or found >= condition.at_least) and (
                    condition.at_most is None or found <= condition.at_most
                )
            case Input():
                return self._says(condition, look)
            case Not():
                part = self.truth(condition.not_, look)
                return None if part is None else not part
            case All():
                parts = [self.truth(part, look) for part in condition.all]
                return False if False in parts else None if None in parts else True
            case Any_():
                parts = [self.truth(part, look) for part in condition.any]
                return True if True in parts else None if None in parts else False
        raise AssertionError(condition)

    def _says(self, asked: Input, look: int) -> bool | None:
        fact = self.looks[look].says.get(asked.input)
        if fact is None:
            return None
        if asked.max_age is not None and self.t_ms(look) - fact.t_ms > in_ms(asked.max_age):
            return None
        value = fact.value
        if asked.is_ is not None:
            return isinstance(value, bool) == isinstance(asked.is_, bool) and value == asked.is_
        if isinstance(value, bool | str):
            return False
        return (asked.above is None or value > asked.above) and (
            asked.below is None or value < asked.below
        )


@dataclass(frozen=True)
class Spell:
    """From when something holds for long enough until it has ceased for long enough; looks."""

    since: int
    start: int
    start_ms: int
    """When it had held for long enough, or when `cooldown` was over; maybe between two looks."""
    last: int
    """The last look at which it held."""
    over: int | None
    """None: it holds to the end."""


def spells(scene: Scene, holds: Callable[[int], bool]) -> list[Spell]:
    """All that make an incident, in their order."""
    rule = scene.rule
    clear_ms = scene.grace_ms if rule.clear is None else in_ms(rule.clear)
    found: list[Spell] = []
    begin, rested_ms = scene.range.start, 0
    while True:
        started = next_start(scene, holds, begin, rested_ms)
        if started is None:
            return found
        since, start, start_ms = started
        over = scene.first(start, lambda n: gone(scene, holds, n, clear_ms))
        begin = scene.range.stop if over is None else over
        last = max(n for n in range(start, begin) if holds(n))
        rested_ms = scene.t_ms(last) + in_ms(rule.cooldown)
        found.append(Spell(since, start, start_ms, last, over))


def next_start(
    scene: Scene, holds: Callable[[int], bool], begin: int, rested_ms: int
) -> tuple[int, int, int] | None:
    """When next something has held for long enough: (look since when, look, moment)."""
    while True:
        since = scene.first(begin, holds)
        if since is None:
            return None
        start_ms = max(scene.t_ms(since) + in_ms(scene.rule.for_), rested_ms)
        held = filter(holds, range(since, scene.range.stop))
        start = next((n for n in held if scene.t_ms(n) >= start_ms), None)
        over = scene.first(since, lambda n: gone(scene, holds, n, scene.grace_ms))
        if over is None or (start is not None and start < over):
            return None if start is None else (since, start, start_ms)
        begin = over


def gone(scene: Scene, holds: Callable[[int], bool], look: int, patience_ms: int) -> bool:
    """Whether something does not hold at a look, and last did longer ago than that."""
    if holds(look):
        return False
    held = [n for n in range(scene.range.start, look) if holds(n)]
    return not held or scene.t_ms(look) - scene.t_ms(held[-1]) > patience_ms


def in_ms(duration_s: float) -> int:
    return round(duration_s * 1000)


def margin(body: Body) -> Fraction:
    """How far its box may tremble: 5 % of its height, at least 5 thousandths of the picture."""
    return max(Fraction(5), Fraction(body.height, 20))


def side(line: Sequence[Spot], body: Body) -> str:
    """On which side of an endless line an object clearly is; nothing: on neither.

    Who walks down the picture (y grows) has the larger x on the left hand.
    """
    (ax, ay), (bx, by) = line
    leftward = (by - ay) * (body.foot[0] - ax) - (bx - ax) * (body.foot[1] - ay)
    # distance² > margin², without a root
    clear = leftward**2 > margin(body) ** 2 * ((bx - ax) ** 2 + (by - ay) ** 2)
    return "" if not clear else "left" if leftward > 0 else "right"


def meet(a: Spot, b: Spot, c: Spot, d: Spot) -> bool:
    """Whether the way from a to b meets the one from c to d; touching is meeting."""
    if any(_is_on(*way) for way in ((a, c, d), (b, c, d), (c, a, b), (d, a, b))):
        return True
    return _turn(a, b, c) * _turn(a, b, d) < 0 and _turn(c, d, a) * _turn(c, d, b) < 0


def _whole(points: Iterable[tuple[float, float]]) -> list[Spot]:
    return [(round(x * 1000), round(y * 1000)) for x, y in points]


def _inhabitants(zone: Sequence[Spot], looks: Sequence[Look]) -> list[frozenset[int]]:
    """Who is in a zone at each look: who stands in it, and who was in it and has not clearly left.

    A zone's edge belongs to it.
    """
    there: list[frozenset[int]] = []
    for look in looks:
        before = there[-1] if there else frozenset()
        there.append(
            frozenset(
                body.id
                for body in look.bodies
                if _holds(zone, body.foot) or (body.id in before and _is_near(zone, body))
            )
        )
    return there


def _edges(zone: Sequence[Spot]) -> list[tuple[Spot, Spot]]:
    return [(zone[n - 1], zone[n]) for n in range(len(zone))]


def _holds(zone: Sequence[Spot], foot: Spot) -> bool:
    """Even-odd: from inside, a way to the right meets the outline an odd number of times."""
    if any(_is_on(foot, a, b) for a, b in _edges(zone)):
        return True
    x, y = foot
    met = 0
    for (ax, ay), (bx, by) in _edges(zone):
        if min(ay, by) <= y < max(ay, by):
            met += Fraction((y - ay) * (bx - ax), by - ay) + ax > x
    return met % 2 == 1


def _is_near(zone: Sequence[Spot], body: Body) -> bool:
    return any(_distance2(body.foot, a, b) <= margin(body) ** 2 for a, b in _edges(zone))


def _distance2(p: Spot, a: Spot, b: Spot) -> Fraction:
    """The square of how far a point is from the way between two others."""
    dx, dy = b[0] - a[0], b[1] - a[1]
    along = Fraction((p[0] - a[0]) * dx + (p[1] - a[1]) * dy, dx * dx + dy * dy)
    along = min(max(along, Fraction(0)), Fraction(1))
    return (p[0] - a[0] - along * dx) ** 2 + (p[1] - a[1] - along * dy) ** 2


def _turn(a: Spot, b: Spot, c: Spot) -> int:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _is_on(p: Spot, a: Spot, b: Spot) -> bool:
    """Whether a point lies on the way between two others."""
    return (
        _turn(a, b, p) == 0
        and min(a[0], b[0]) <= p[0] <= max(a[0], b[0])
        and min(a[1], b[1]) <= p[1] <= max(a[1], b[1])
    )
