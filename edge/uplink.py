"""The worker's conversation with the center: hello, desired in, observed and batches out, acks in.

Here: one session after another over the link, and what is in flight. Not here: MQTT (wire.link),
what lies on disk (store), what the tasks do (shards).

Nothing rests on the broker: until a welcome nothing is sent, what was in flight on an old session
is sent again from the outbox, and messages of other sessions are ignored.
"""

import asyncio
import logging
import random
import sqlite3
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version

import msgspec

from edge.clock import Clock
from edge.store.desired import DesiredError, DesiredStore
from edge.store.outbox import Outbox
from wire import codec, topics
from wire.backoff import full_jitter
from wire.events import LANES, Ack, Batch, Lane, Rewind, Watermark
from wire.link import Broker, Down, Link, LinkEvent, Received, Up
from wire.messages import (
    PROTOCOL,
    Bye,
    Deny,
    Desired,
    Heartbeat,
    Hello,
    ItemObserved,
    Observed,
    StreamHealth,
    Welcome,
    Will,
)  # fmt: skip
from wire.messages import (
    Clock as ClockReading,
)

log = logging.getLogger("forecourt.uplink")

_HELLO_AGAIN_S = (1.0, 60.0)
_ACK_WITHIN_S = 15.0
_BATCH_BYTES = 48 * 1024
"""Uncompressed; below the cap of 64 KiB compressed whatever the events hold."""
_INBOX = 1000
_REASONS_UP_TO = (1000, 100, 0)
"""Characters of a reason; fewer where many items would not fit into one message."""
_OBSERVED_EVERY_BEATS = 5
"""Observed is said again now and then: a center that died before its commit has lost it."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this worker is, and which of its lives this is."""

    worker: str
    instance: str
    boot: str


@dataclass(frozen=True, slots=True)
class Report:
    """What the agent knows of its tasks and streams at a moment."""

    items: Sequence[ItemObserved]
    streams: Sequence[StreamHealth]


@dataclass
class _Sent:
    """A batch in flight."""

    epoch: int
    last: int
    due_s: float


@dataclass
class _LaneState:
    """How far a lane has been sent on this session, by epoch, and what is unanswered."""

    sent: dict[int, int] = field(default_factory=dict)
    in_flight: deque[_Sent] = field(default_factory=deque)


@dataclass
class _Session:
    """One welcomed MQTT connection."""

    session: str
    fence: int
    heartbeat_s: float
    window: int
    late_until: dict[tuple[int, Lane], int]
    """Numbers given out before the welcome: news of these is late."""
    lanes: dict[Lane, _LaneState]


class Uplink:
    """The session with the center. Everything here runs on the agent's loop."""

    def __init__(
        self,
        identity: Identity,
        brokers: Sequence[Broker],
        outbox: Outbox,
        desired: DesiredStore,
        clock: Clock,
        *,
        reconnect_max_s: float = 60.0,
        ack_within_s: float = _ACK_WITHIN_S,
        on_desired: Callable[[], None],
        report: Callable[[], Report],
    ) -> None:
        self._identity = identity
        self._outbox = outbox
        self._desired = desired
        self._clock = clock
        self._ack_within_s = ack_within_s
        self._on_desired = on_desired
        self._report = report
        self._loop = asyncio.get_running_loop()
        self._inbox: asyncio.Queue[LinkEvent] = asyncio.Queue(_INBOX)
        self._stored = asyncio.Event()
        self._changed = asyncio.Event()
        self._random = random.Random()
        self._turned = asyncio.Event()
        self._up: Up | None = None
        self._session: _Session | None = None
        self.denied = ""
        self._quiet_s = 0.0
        self._beats = 0
        self.ignored = 0
        self._link = Link(
            brokers,
            client_id=identity.worker,
            subscribe=[topics.all_down(identity.worker)],
            on_event=self._enqueue,
            will=self._will,
            backoff_s=(min(0.5, reconnect_max_s), reconnect_max_s),
        )

    # --- what others ask for ---

    @property
    def online(self) -> bool:
        """Whether the center has welcomed this worker on the present connection."""
        return self._session is not None

    def wake(self) -> None:
        """Events were stored. May be called from any thread."""
        self._loop.call_soon_threadsafe(self._stored.set)

    def observed_changed(self) -> None:
        """The state of an item changed."""
        self._changed.set()

    # --- life ---

    async def run(self) -> None:
        """Converse until cancelled."""
        self._link.start()
        async with asyncio.TaskGroup() as group:
            loops: tuple[Callable[[], Awaitable[None]], ...] = (
                self._receive, self._introduce, self._drain, self._beat, self._tell_observed,
            )  # fmt: skip
            for loop in loops:
                group.create_task(_forever(loop), name=f"uplink{loop.__name__}")

    async def finish(self, timeout_s: float = 3.0) -> None:
        """Send what is pending while there is time, say goodbye, and close the link."""
        deadline_s = self._clock.monotonic_s() + timeout_s
        while self.online and any(self._outbox.pending().values()):
            if self._clock.monotonic_s() > deadline_s:
                break
            await asyncio.sleep(0.02)
        if self._session is not None:
            self._say(topics.up(self._identity.worker, "bye"), Bye(session=self._session.session))
        await asyncio.to_thread(self._link.stop)

    # --- which connection and session there is ---

    def _turn(self, up: Up | None, session: "_Session | None") -> None:
        """Another connection or session from now on; whoever waits for a turn goes on."""
        self._up, self._session = up, session
        self._turned.set()
        self._turned = asyncio.Event()

    async def _next_turn(self, within_s: float | None = None) -> None:
        """Wait for the next connection or session, at most so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._turned.wait()

    # --- the link's thread ---

    def _enqueue(self, event: LinkEvent) -> None:
        self._loop.call_soon_threadsafe(self._put, event)

    def _will(self, session: str) -> tuple[str, bytes]:
        return topics.up(self._identity.worker, "will"), codec.encode(Will(session=session))

    def _put(self, event: LinkEvent) -> None:
        """A full inbox sheds messages, which the center repeats, but never a change of the link."""
        if not isinstance(event, Received):
            while self._inbox.full():
                self._inbox.get_nowait()
                self.ignored += 1
        elif self._inbox.full():
            self.ignored += 1
            return
        self._inbox.put_nowait(event)

    # --- what comes in ---

    async def _receive(self) -> None:
        event = await self._inbox.get()
        match event:
            case Up():
                self._turn(event, None)
                log.info("connected, session %s", event.session)
            case Down(_, reason):
                self._turn(None, None)
                log.info("disconnected: %s", reason)
            case Received():
                self._link.ack(event)
                if self._up is not None and event.connection == self._up.connection:
                    self._hear(event, self._up)

    def _hear(self, received: Received, up: Up) -> None:
        try:
            topic = topics.parse(received.topic)
            if not isinstance(topic, topics.DownTopic):
                raise codec.WireError("not for a worker")
            message = codec.decode_down(topic, received.payload)
        except ValueError as error:
            self.ignored += 1
            log.warning("ignored a message on %s: %s", received.topic, error)
            return
        if message.session != up.session:
            self.ignored += 1
            return
        match message:
            case Welcome():
                self._welcomed(message, up)
            case Deny():
                self._denied(message)
            case Desired():
                self._desire(message)
            case Ack(watermark=mark):
                self._acked(mark)
            case Rewind(watermark=mark):
                self._rewind(mark)

    def _welcomed(self, welcome: Welcome, up: Up) -> None:
        if self._session is not None:
            return
        self.denied = ""
        try:
            self._desired.raise_fence(welcome.fence)
        except sqlite3.Error as error:  # a full disk must not keep its own events from leaving
            log.error("the fence cannot be remembered: %s", error)
        late = {}
        lanes: dict[Lane, _LaneState] = {lane: _LaneState() for lane in LANES}
        for mark in welcome.watermarks:
            self._outbox.acked(mark.epoch, mark.lane, mark.seq)
            lanes[mark.lane].sent[mark.epoch] = mark.seq
        for lane in LANES:
            for epoch, _, high in self._outbox.undrained(lane):
                late[epoch, lane] = high
        fresh = _Session(
            up.session, welcome.fence, welcome.heartbeat_s, welcome.window, late, lanes
        )
        self._turn(up, fresh)
        log.info("welcomed by the center, fence %d", welcome.fence)
        self._stored.set()
        self._changed.set()

    def _denied(self, deny: Deny) -> None:
        self._turn(self._up, None)
        self._quiet_s = deny.retry_after_s
        if self.denied != deny.reason:
            log.error("the center refuses this worker (%s): %s", deny.code, deny.reason)
        self.denied = deny.reason

    def _desire(self, document: Desired) -> None:
        try:
            self._desired.replace(document)
        except (DesiredError, sqlite3.Error) as error:
            log.error("desired revision %d refused: %s", document.revision, error)
            return
        log.info("desired revision %d: %d items", document.revision, len(document.items))
        self._on_desired()
        self._changed.set()

    def _acked(self, mark: Watermark) -> None:
        self._outbox.acked(mark.epoch, mark.lane, mark.seq)
        if self._session is None:
            return
        lane = self._session.lanes[mark.lane]
        lane.in_flight = deque(
            sent for sent in lane.in_flight if sent.epoch != mark.epoch or sent.last > mark.seq
        )
        self._stored.set()

    def _rewind(self, mark: Watermark) -> None:
        """Send again from the center's watermark; older news than we know is ignored."""
        known = self._outbox.watermarks().get((mark.epoch, mark.lane), 0)
        if self._session is None or mark.seq < known:
            return
        lane = self._session.lanes[mark.lane]
        lane.sent[mark.epoch] = mark.seq
        lane.in_flight = deque(sent for sent in lane.in_flight if sent.epoch != mark.epoch)
        self._stored.set()

    # --- what goes out ---

    async def _introduce(self) -> None:
        """Say hello on each new connection, again with jitter until the center answers."""
        up, attempt = self._up, 0
        while up is not None and self._up is up and self._session is None:
            if self._quiet_s:
                quiet_s, self._quiet_s = self._quiet_s, 0.0
                await self._next_turn(self._random.uniform(0.5, 1.0) * quiet_s)
                continue
            self._say(topics.up(self._identity.worker, "hello"), self._hello(up.session))
            attempt += 1
            await self._next_turn(1.0 + full_jitter(attempt, *_HELLO_AGAIN_S, self._random))
        if self._up is up:
            await self._next_turn()

    def _hello(self, session: str) -> Hello:
        epochs, more = self._outbox.held()
        return Hello(
            worker=self._identity.worker,
            instance=self._identity.instance,
            boot=self._identity.boot,
            session=session,
            fence=self._desired.fence(),
            versions=[PROTOCOL],
            software=f"forecourt {version('forecourt')}",
            clock=self._reading(),
            desired=self._desired.known(),
            epochs=epochs,
            epochs_more=more,
        )

    async def _drain(self) -> None:
        """Send batches, alarms first, while the windows have room."""
        with suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await self._stored.wait()
        self._stored.clear()
        self._give_up_waiting()
        session = self._session
        if session is not None:
            for lane in LANES:
                while len(session.lanes[lane].in_flight) < session.window:
                    if not self._send_next(session, lane):
                        break

    def _give_up_waiting(self) -> None:
        """An ack that does not come: send again from what the center is known to have."""
        if self._session is None:
            return
        now_s = self._clock.monotonic_s()
        for state in self._session.lanes.values():
            if state.in_flight and state.in_flight[0].due_s < now_s:
                log.warning("no ack within %.0f s; sending again", self._ack_within_s)
                state.in_flight.clear()
                state.sent.clear()

    def _send_next(self, session: _Session, lane: Lane) -> bool:
        """The next batch of a lane, newest epoch first. False if there is none or no way."""
        state = session.lanes[lane]
        for epoch, acked, high in self._outbox.undrained(lane):
            after = state.sent.get(epoch, acked)
            if after >= high:
                continue
            part = self._outbox.slice(epoch, lane, after, _BATCH_BYTES)
            if part is None:
                continue
            late_until = session.late_until.get((epoch, lane), 0)
            backfill = part.first <= late_until
            events = part.events[: late_until - part.first + 1] if backfill else part.events
            batch = Batch(
                session=session.session,
                fence=session.fence,
                epoch=epoch,
                lane=lane,
                first=part.first,
                events=[msgspec.Raw(body) for body in events],
                gaps=list(part.gaps),
                backfill=backfill,
            )
            if not self._say(topics.events(self._identity.worker, lane), batch):
                return False
            last = part.first + len(events) - 1
            state.sent[epoch] = last
            due_s = self._clock.monotonic_s() + self._ack_within_s
            state.in_flight.append(_Sent(epoch, last, due_s))
            return True
        return False

    async def _beat(self) -> None:
        session = self._session
        if session is None:
            await self._next_turn()
            # The document that follows a welcome is on its way: a beat now would ask for it again.
            await self._next_turn(self._random.uniform(0.5, 1.0))
            return
        report = self._report()
        self._beats += 1
        if self._beats % _OBSERVED_EVERY_BEATS == 0:
            self._changed.set()
        self._say(
            topics.up(self._identity.worker, "hb"),
            Heartbeat(
                session=session.session,
                fence=session.fence,
                clock=self._reading(),
                desired=self._desired.known(),
                pending=self._outbox.pending(),
                shed=self._outbox.shed,
                streams=list(report.streams),
            ),
        )
        await self._next_turn(session.heartbeat_s * self._random.uniform(0.9, 1.1))

    async def _tell_observed(self) -> None:
        await self._changed.wait()
        await asyncio.sleep(0.1)  # several changes at once are one message
        self._changed.clear()
        session = self._session
        if session is None:
            return
        report = self._report()
        for most in _REASONS_UP_TO:
            items = [_briefly(item, most) for item in report.items]
            known = self._desired.known()
            observed = Observed(session=session.session, desired=known, items=items)
            try:
                self._say(topics.up(self._identity.worker, "observed"), observed)
            except codec.TooLargeError as error:
                log.warning("%s; saying it with shorter reasons", error)
            else:
                return

    def _say(self, topic: str, message: Hello | Batch | Observed | Heartbeat | Bye) -> bool:
        if self._up is None:
            return False
        return self._link.publish(self._up.connection, topic, codec.encode(message))

    def _reading(self) -> ClockReading:
        return ClockReading(wall_ms=self._clock.wall_ms(), boot_ms=self._clock.boot_ms())


def _briefly(item: ItemObserved, most: int) -> ItemObserved:
    """The item with at most so many characters of its reason."""
    if len(item.reason) <= most:
        return item
    return msgspec.structs.replace(item, reason=item.reason[:most])


async def _forever(step: Callable[[], Awaitable[None]]) -> None:
    """One failed step is logged and the next one tried: the conversation never dies of a bug."""
    while True:
        try:
            await step()
        except Exception:
            log.exception("uplink%s", getattr(step, "__name__", ""))
            await asyncio.sleep(1.0)
