"""Events on their way to the center: batches, their answers, and alarms that go ahead.

Here: what one welcomed session sends of the outbox, and what becomes of it. Not here: hello,
documents, observed (uplink), which batch is next (lanes), how fast the line is (pacing).
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable

import msgspec

from edge.clock import Clock
from edge.lanes import Lanes, Sent
from edge.pacing import Pace
from edge.store.outbox import Outbox, Stored
from wire import codec
from wire.events import (
    LANES,
    Batch,
    Gap,
    Lane,
    Refused,
    Watermark,
    batch_name,
    decode_event,
)
from wire.topics import UpChannel

log = logging.getLogger("forecourt.uplink")

ACK_WITHIN_S = 15.0
_ACK_WITHIN_MAX_S = 300.0
_DEAF_AFTER = 3
"""Times in a row that acks did not come before the connection is given up."""
_BATCH_BYTES = 128 * 1024
"""Of events, before compression."""
_BATCH_WIRE_BYTES = 64 * 1024
_EXPRESS_WAITING = 16
_NEXT_BATCH = 20
"""Events that the next batch holds in any case."""

Publish = Callable[[UpChannel, bytes], bool]
"""Hands a payload to the connection; false if it does not take it."""


class Sender:
    """What a session sends of the outbox. Made anew for each session; lives on the agent's loop."""

    def __init__(
        self,
        outbox: Outbox,
        clock: Clock,
        pace: Pace,
        publish: Publish,
        *,
        session: str,
        fence: int,
        window: int,
        ack_within_s: float = ACK_WITHIN_S,
    ) -> None:
        """What was given out before now is late news. The newest open alarm will go ahead."""
        self._outbox = outbox
        self._clock = clock
        self._pace = pace
        self._publish = publish
        self._session = session
        self._fence = fence
        self._window = window
        self._ack_within_s = ack_within_s
        self._lanes = Lanes(
            {(epoch, lane): high for lane in LANES for epoch, _, high in outbox.undrained(lane)}
        )
        self._express: deque[Stored] = deque(maxlen=_EXPRESS_WAITING)
        newest = outbox.newest_open_alarm()
        if newest is not None:
            self._express.append(newest)
        self._credit_until_s = 0.0
        self._unanswered = 0

    @property
    def deaf(self) -> bool:
        """The other side has not answered for so long that another connection should be tried."""
        return self._unanswered >= _DEAF_AFTER

    @property
    def backlog(self) -> int:
        """Events that wait for credit."""
        return self._lanes.backlog(self._outbox)

    def happened(self, alarms: Iterable[Stored]) -> None:
        """New alarms are on disk; those that would wait go ahead."""
        self._express.extend(alarms)

    def credited(self, credit_s: float) -> None:
        """Leave to send backlog, for so many seconds from now."""
        self._credit_until_s = self._clock.monotonic_s() + credit_s

    # --- answers ---

    def settled(self, mark: Watermark) -> None:
        """Obey a welcome's watermark, also one that is lower than what was acknowledged before."""
        epoch, given_out = self._outbox.high()
        known = self._outbox.watermarks().get((mark.epoch, mark.lane), 0)
        if mark.seq < known:
            log.warning(
                "the center has %s of epoch %d only up to %d; %d was acknowledged: sending again",
                *(mark.lane, mark.epoch, mark.seq, known),
            )
            self._outbox.reopened(mark.epoch, mark.lane, mark.seq)
        else:
            if mark.epoch == epoch and mark.seq > given_out.get(mark.lane, 0):
                log.error("the center knows numbers that this process never gave out: a new epoch")
                self._outbox.renew_epoch()
            self._outbox.acked(mark.epoch, mark.lane, mark.seq)
        self._lanes.again_from(mark.epoch, mark.lane, mark.seq)

    def acked(self, mark: Watermark) -> None:
        """Everything up to the watermark is at the center."""
        self._unanswered = 0
        self._outbox.acked(mark.epoch, mark.lane, mark.seq)
        now_s = self._clock.monotonic_s()
        for sent in self._lanes.answered(mark.epoch, mark.lane, mark.seq):
            self._pace.answered(sent.wire_bytes, now_s - sent.at_s)

    def rewound(self, mark: Watermark) -> bool:
        """Send again from the watermark. False if it is below what was acknowledged before."""
        if mark.seq < self._outbox.watermarks().get((mark.epoch, mark.lane), 0):
            return False
        self._lanes.again_from(mark.epoch, mark.lane, mark.seq)
        return True

    def refused(self, refused: Refused) -> None:
        """The center could not read a batch: halve it, down to the event that is given up."""
        self._unanswered = 0
        log.error("the center cannot read batch %s: %s", refused.batch[:16], refused.reason[:200])
        alone = self._lanes.halve(refused.batch)
        if alone is not None:
            log.error("event %d of %s is given up", alone.first, alone.lane)
            self._outbox.refuse(alone.epoch, alone.lane, alone.first)

    # --- sending ---

    def send(self) -> None:
        """Send batches, alarms first, while the windows have room."""
        self._give_up_waiting()
        self._send_express()
        for lane in LANES:
            while self._has_room(lane) and self._send_next(lane):
                pass

    def _give_up_waiting(self) -> None:
        """Acks that do not come: send again, and wait longer each time."""
        within_s = min(_ACK_WITHIN_MAX_S, self._ack_within_s * 2**self._unanswered)
        now_s = self._clock.monotonic_s()
        if all(now_s - sent.at_s < within_s for sent in self._lanes.flying()):
            return
        self._unanswered += 1
        log.warning("no ack within %.0f s; sending again", within_s)
        self._lanes.again()
        self._pace.unanswered()

    def _has_room(self, lane: Lane) -> bool:
        if len(self._lanes.in_flight[lane]) >= self._window:
            return False
        in_flight = self._lanes.bytes_in_flight()
        return in_flight == 0 or in_flight < self._pace.budget_bytes

    def _send_express(self) -> None:
        """Alarms that would wait behind others go ahead, each in a batch of its own."""
        while self._express:
            stored = self._express.popleft()
            if self._is_next(stored) or decode_event(stored.body).phase == "end":
                continue
            late = stored.seq <= self._lanes.late_until.get((stored.epoch, stored.lane), 0)
            batch = self._batch(
                stored.epoch, stored.lane, stored.seq, [stored.body], late, express=True
            )
            self._publish("ev/alarm", codec.encode(batch))

    def _is_next(self, stored: Stored) -> bool:
        """Whether an alarm is sent at once anyway, or was."""
        undrained = self._outbox.undrained("alarm")
        if not undrained or undrained[0][0] != stored.epoch:
            return False
        acked = undrained[0][1]
        position = max(acked, self._lanes.sent.get((stored.epoch, "alarm"), acked))
        soon = stored.seq - position <= _NEXT_BATCH and self._has_room("alarm")
        return stored.seq <= acked or soon

    def _send_next(self, lane: Lane) -> bool:
        """The next batch of a lane. False if there is none or no way."""
        credit = self._clock.monotonic_s() < self._credit_until_s
        max_bytes = min(_BATCH_BYTES, self._pace.batch_bytes())
        while True:
            following = self._lanes.next(self._outbox, lane, max_bytes, credit=credit)
            if following is None:
                return False
            part = following.part
            batch = self._batch(
                following.epoch, lane, part.first, part.events, following.backfill, gaps=part.gaps
            )
            payload = codec.encode(batch)
            if len(payload) <= _BATCH_WIRE_BYTES or len(part.events) <= 1:
                break
            max_bytes //= 2
        if not self._publish(_CHANNELS[lane], payload):
            return False
        self._pace.sent(sum(map(len, part.events)), len(payload))
        self._lanes.note(
            Sent(
                batch_name(payload),
                following.epoch,
                lane,
                following.after,
                part.first,
                part.last,
                len(payload),
                self._clock.monotonic_s(),
            )
        )
        return True

    def _batch(
        self,
        epoch: int,
        lane: Lane,
        first: int,
        bodies: Iterable[bytes],
        backfill: bool,
        *,
        gaps: Iterable[Gap] = (),
        express: bool = False,
    ) -> Batch:
        return Batch(
            session=self._session,
            fence=self._fence,
            epoch=epoch,
            lane=lane,
            first=first,
            events=[msgspec.Raw(body) for body in bodies],
            gaps=list(gaps),
            backfill=backfill,
            express=express,
        )


_CHANNELS: dict[Lane, UpChannel] = {"alarm": "ev/alarm", "bulk": "ev/bulk"}
