"""Two runs over one recording, compared incident by incident. Pure.

Here: incidents out of events, which of them are the same in both runs, what is missed, extra or
late. Not here: running anything (recall.py).
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

from edge.vision.track import LIKE
from wire.events import Event

NEAR_MS = 2_000
"""Incidents further apart than this are never the same one."""
BUCKETS_S = ((0.0, 1.0), (1.0, 2.0), (2.0, 4.0), (4.0, 8.0), (8.0, float("inf")))


@dataclass(frozen=True, slots=True)
class Incident:
    """What a rule reported, from its first moment to its last; a crossing is one moment.

    `visit_s` is how long the condition held, the look after its last one included: an object that
    was seen at one look was there for about one. A crossing's is how long its object was seen.
    """

    kind: str
    rule: str
    label: str
    direction: str
    since_ms: int
    last_ms: int
    visit_s: float


@dataclass(frozen=True, slots=True)
class Pair:
    """The same incident in both runs."""

    full: Incident
    adaptive: Incident

    @property
    def moments(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Start and end, each in full and adaptive."""
        return (
            (self.full.since_ms, self.adaptive.since_ms),
            (self.full.last_ms, self.adaptive.last_ms),
        )

    @property
    def start_error_ms(self) -> int:
        """How much later (or earlier, below 0) the adaptive run says it began."""
        return self.adaptive.since_ms - self.full.since_ms

    @property
    def end_error_ms(self) -> int:
        """The same of its end."""
        return self.adaptive.last_ms - self.full.last_ms


@dataclass(frozen=True, slots=True)
class Agreement:
    """What full decoding found and what became of it."""

    found: list[Pair] = field(default_factory=list)
    missed: list[Incident] = field(default_factory=list)
    extra: list[Incident] = field(default_factory=list)
    late: list[Pair] = field(default_factory=list)
    """Of those found: the ones that begin or end more than one look apart."""
    exchanged: list[Pair] = field(default_factory=list)
    """Of those found: each two that are at the right times but for having exchanged their ends.
    Two like objects are so near each other that the next look may be of either; a tracker's choice
    there is chance, and rules say the same of the scene."""
    wavering: list[Incident] = field(default_factory=list)
    """Of the full run: what it alone has begin or end while nothing in the picture changed. That is
    the detector's wavering and no visit: what is carried does not waver."""
    short: list[tuple[Incident, bool]] = field(default_factory=list)
    """Visits that no rule must see, and whether each was found all the same."""

    @property
    def agrees(self) -> bool:
        """Whether both runs say the same."""
        return not (self.missed or self.extra or self.late)


def incidents(events: Iterable[Event], look_s: float, seen_by: str = "") -> list[Incident]:
    """The incidents of one run, in the order of their starts.

    `look_s` is the time between two looks. `seen_by` names a rule that sees each object wherever it
    is: it tells how long the objects that cross a line were there.
    """
    events = list(events)
    ends = {event.incident: event for event in events if event.phase == "end"}
    held = [
        _held(event, ends[event.incident], look_s)
        for event in events
        if event.phase == "start" and event.incident in ends
    ]
    there: dict[int | None, float] = {}
    for event in events:
        if event.phase == "start" and event.rule == seen_by:
            visit_s = _held(event, ends[event.incident], look_s).visit_s
            there[event.track] = max(visit_s, there.get(event.track, 0.0))
    moments = [
        Incident(
            event.kind, event.rule, event.label, event.direction, event.t_ms, event.t_ms,
            there.get(event.track, look_s),
        )
        for event in events
        if event.phase is None and event.rule
    ]  # fmt: skip
    return sorted(held + moments, key=lambda each: (each.since_ms, each.rule, each.label))


def _held(start: Event, end: Event, look_s: float) -> Incident:
    assert start.since_ms is not None
    # A start may be due after the last look: what ended before it became due never was.
    return Incident(
        start.kind, start.rule, start.label, "", start.since_ms, end.t_ms,
        (end.t_ms - start.since_ms) / 1000 + look_s,
    )  # fmt: skip


def compare(
    full: Sequence[Incident],
    adaptive: Sequence[Incident],
    min_visit_s: Mapping[str, float],
    looks_ms: Sequence[int],
    still_ms: Sequence[tuple[int, int]] = (),
) -> Agreement:
    """Which incidents both runs have. `min_visit_s` is each rule's shortest visit.

    `looks_ms` are the times of all looks of the full run: what is at most one of them apart is at
    the same time. `still_ms` are stretches in which surely nothing changes in the picture.
    """

    def is_still(moment_ms: int) -> bool:
        return any(first <= moment_ms <= last for first, last in still_ms)

    agreement = Agreement()
    partner = _partners(full, adaptive)
    for number, incident in enumerate(full):
        other = partner.get(number)
        if incident.visit_s < min_visit_s[incident.rule] - 1e-6:
            agreement.short.append((incident, other is not None))
        elif other is None and is_still(incident.since_ms):
            agreement.wavering.append(incident)
        elif other is None:
            agreement.missed.append(incident)
        else:
            pair = Pair(incident, adaptive[other])
            agreement.found.append(pair)
            apart = [
                mine for mine, theirs in pair.moments if not one_look_apart(mine, theirs, looks_ms)
            ]
            if apart and all(map(is_still, apart)):
                agreement.wavering.append(incident)
            elif apart:
                agreement.late.append(pair)
    _sort_out_exchanged(agreement, looks_ms)
    taken = set(partner.values())
    for number, incident in enumerate(adaptive):
        if number not in taken and incident.visit_s >= min_visit_s[incident.rule] - 1e-6:
            agreement.extra.append(incident)
    return agreement


def _partners(full: Sequence[Incident], adaptive: Sequence[Incident]) -> dict[int, int]:
    """For incidents of the full run the same one of the other, nearest starts first."""
    candidates = sorted(
        (abs(mine.since_ms - other.since_ms), abs(mine.last_ms - other.last_ms), i, j)
        for i, mine in enumerate(full)
        for j, other in enumerate(adaptive)
        if _may_be_same(mine, other)
    )
    partner: dict[int, int] = {}
    taken: set[int] = set()
    for _, _, i, j in candidates:
        if i not in partner and j not in taken:
            partner[i] = j
            taken.add(j)
    return partner


def _may_be_same(mine: Incident, other: Incident) -> bool:
    """Same rule, like object, same direction, and times that touch or nearly do."""
    return (
        (mine.kind, mine.rule, mine.direction) == (other.kind, other.rule, other.direction)
        and LIKE.get(mine.label, mine.label) == LIKE.get(other.label, other.label)
        and mine.since_ms <= other.last_ms + NEAR_MS
        and other.since_ms <= mine.last_ms + NEAR_MS
    )


def _same_time(pair: Pair, looks_ms: Sequence[int]) -> bool:
    return all(one_look_apart(mine, theirs, looks_ms) for mine, theirs in pair.moments)


def _sort_out_exchanged(agreement: Agreement, looks_ms: Sequence[int]) -> None:
    """Move what is late by an exchange, two by two."""
    for one, other in combinations(list(agreement.late), 2):
        if one not in agreement.late or other not in agreement.late:
            continue
        if not _may_be_same(one.full, other.full):
            continue
        crossed = (
            Pair(one.full, replace(one.adaptive, last_ms=other.adaptive.last_ms)),
            Pair(other.full, replace(other.adaptive, last_ms=one.adaptive.last_ms)),
        )
        if all(_same_time(pair, looks_ms) for pair in crossed):
            for pair in (one, other):
                agreement.late.remove(pair)
                agreement.exchanged.append(pair)


def one_look_apart(a_ms: int, b_ms: int, looks_ms: Sequence[int]) -> bool:
    """Whether two moments are at most one look apart; a moment between looks is the earlier's."""
    # Stream times are rounded to milliseconds twice, hence the one more.
    first, last = sorted((a_ms, b_ms))
    return bisect_right(looks_ms, last) - bisect_right(looks_ms, first + 1) <= 1


def bucket_of(visit_s: float) -> str:
    """The name of the bucket that a visit's length falls into."""
    for low, high in BUCKETS_S:
        if visit_s < high:
            return f"{low:g} s and more" if high == float("inf") else f"{low:g} to {high:g} s"
    raise AssertionError("the last bucket has no end")


def by_length(agreements: Iterable[Agreement]) -> dict[str, tuple[int, int]]:
    """For each bucket of visit lengths: incidents in full decoding, and those found in adaptive."""
    counts = {bucket_of(low): [0, 0] for low, _ in BUCKETS_S}
    for agreement in agreements:
        told = (
            [(pair.full, True) for pair in agreement.found]
            + [(missed, False) for missed in agreement.missed]
            + agreement.short
        )
        for incident, found in told:
            counts[bucket_of(incident.visit_s)][0] += 1
            counts[bucket_of(incident.visit_s)][1] += found
    return {name: (full, found) for name, (full, found) in counts.items()}
