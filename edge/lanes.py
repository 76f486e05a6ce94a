"""Which batch goes next: how far each lane was sent on a session, and what is unanswered.

Here: numbers and windows of one session. Not here: bytes on the wire and messages (uplink), the
events (store), how fast the line is (pacing).
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from edge.store.outbox import Outbox, Slice
from wire.events import LANES, MAX_BATCH_EVENTS, Lane

Place = tuple[int, Lane]
"""Epoch and lane."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A batch in flight: events `first`..`last` of a lane, and what names it."""

    name: str
    epoch: int
    lane: Lane
    after: int
    """What was sent before it; up to `first` there are gaps."""
    first: int
    last: int
    wire_bytes: int
    at_s: float


@dataclass(frozen=True, slots=True)
class Next:
    """What the next batch holds."""

    epoch: int
    lane: Lane
    after: int
    part: Slice
    backfill: bool


@dataclass
class Lanes:
    """The lanes of one session. Newest epoch first, alarms before bulk."""

    late_until: dict[Place, int]
    """Numbers given out before the session: news of these is late."""
    sent: dict[Place, int] = field(default_factory=dict)
    in_flight: dict[Lane, deque[Sent]] = field(
        default_factory=lambda: {lane: deque() for lane in LANES}
    )
    _halved: dict[Place, tuple[int, int]] = field(default_factory=dict)
    """Up to which number batches hold at most so many events: one there could not be read."""
    _gaps_alone: set[Place] = field(default_factory=set)
    """Where an event was refused together with gaps: these are tried by themselves first."""

    def next(self, outbox: Outbox, lane: Lane, max_bytes: int, *, credit: bool) -> Next | None:
        """The next batch of a lane; None if there is none, or none without `credit`."""
        for epoch, acked, high in outbox.undrained(lane):
            place = epoch, lane
            after = max(acked, self.sent.get(place, acked))
            if after >= high:
                continue
            late_until = self.late_until.get(place, 0)
            late = after < late_until
            if late and lane == "bulk" and not credit:
                continue
            part = outbox.slice(epoch, lane, after, max_bytes, self._most(place, after))
            if part is None:
                continue
            if late and part.first <= late_until < part.last:
                kept = part.events[: late_until - part.first + 1]
                part = Slice(part.first, kept, part.gaps)
            if place in self._gaps_alone and part.gaps:
                part = Slice(part.first, (), part.gaps)
            return Next(epoch, lane, after, part, late)
        return None

    def _most(self, place: Place, after: int) -> int:
        """Events that a batch may hold."""
        until, most = self._halved.get(place, (0, MAX_BATCH_EVENTS))
        if after >= until:
            self._halved.pop(place, None)
            return MAX_BATCH_EVENTS
        return min(most, until - after)

    def note(self, sent: Sent) -> None:
        """A batch was handed over."""
        self.sent[sent.epoch, sent.lane] = sent.last
        self._gaps_alone.discard((sent.epoch, sent.lane))
        self.in_flight[sent.lane].append(sent)

    def answered(self, epoch: int, lane: Lane, seq: int) -> list[Sent]:
        """Everything up to `seq` is stored: the batches that this answers."""
        done: list[Sent] = []
        kept: deque[Sent] = deque()
        for one in self.in_flight[lane]:
            (done if one.epoch == epoch and one.last <= seq else kept).append(one)
        self.in_flight[lane] = kept
        return done

    def again_from(self, epoch: int, lane: Lane, seq: int) -> None:
        """Go on after `seq`; what was in flight of that epoch does not count any more."""
        self.sent[epoch, lane] = seq
        self.in_flight[lane] = deque(one for one in self.in_flight[lane] if one.epoch != epoch)

    def again(self) -> None:
        """Nothing of what is in flight was answered: go on from what the center has."""
        self.sent.clear()
        for flight in self.in_flight.values():
            flight.clear()

    def halve(self, name: str) -> Sent | None:
        """A batch could not be read: go back before it, with half as many events.

        The batch, if it is one of a single event, which cannot be halved; else None.
        """
        for one in self.flying():
            if one.name == name:
                count = one.last - one.first + 1
                if count < 1:  # gaps alone: nothing to halve, it comes again in its time
                    return None
                self.again_from(one.epoch, one.lane, one.after)
                if count == 1 and one.first == one.after + 1:
                    return one
                if count == 1:
                    self._gaps_alone.add((one.epoch, one.lane))
                    return None
                self._halved[one.epoch, one.lane] = (one.last, count // 2)
        return None

    def flying(self) -> Iterator[Sent]:
        """Every batch in flight."""
        for flight in list(self.in_flight.values()):
            yield from list(flight)

    def bytes_in_flight(self) -> int:
        """Bytes of all that is unanswered."""
        return sum(one.wire_bytes for one in self.flying())

    def backlog(self, outbox: Outbox) -> int:
        """Late events of lane `bulk` that wait: what credit is asked for."""
        late = sum(
            max(0, min(high, self.late_until.get((epoch, "bulk"), 0)) - acked)
            for epoch, acked, high in outbox.undrained("bulk")
        )
        return min(late, outbox.pending()["bulk"])  # an epoch without an end counts for little
