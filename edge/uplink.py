"""The worker's conversation with the center: hello, desired in, observed and batches out, acks in.

Here: one session after another over the link. Not here: MQTT (wire.link), batches and their
answers (sender), what lies on disk (store), what the tasks do (shards).

Nothing rests on the broker: until a welcome nothing is sent, what was in flight on an old session
is sent again from the outbox, and messages of other sessions are ignored.
"""

import asyncio
import logging
import random
import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version

import msgspec

from edge import observed
from edge.clock import Clock
from edge.memory import Memory
from edge.pacing import Pace
from edge.replies import Answer, Replies, no_calls
from edge.sender import ACK_WITHIN_S, Sender
from edge.store.desired import DesiredError, DesiredStore
from edge.store.outbox import Outbox, Stored
from wire import codec, topics
from wire.backoff import full_jitter
from wire.events import LANES, Ack, Refused, Rewind, Watermark
from wire.link import Broker, Down, Link, LinkEvent, Received, Up
from wire.messages import (
    MAX_EPOCHS,
    PROTOCOL,
    Ask,
    Bye,
    Credit,
    Delta,
    Deny,
    Desired,
    Heartbeat,
    Held,
    Hello,
    ItemObserved,
    Observed,
    Rpc,
    Rsp,
    StreamHealth,
    Welcome,
    Will,
)  # fmt: skip
from wire.messages import (
    Clock as ClockReading,
)

log = logging.getLogger("forecourt.uplink")

_HELLO_AGAIN_S = (1.0, 60.0)
_UNHEARD_AFTER = 3
"""Hellos that nobody answers before another broker is tried: the center may not be at this one."""
_HELLO_NOT_BEFORE_S = 5.0
"""Between two hellos that evidence of a restored center asks for."""
_INBOX = 1000
_MAX_LANES = 4096
_AT_ONCE = 3
"""Denials of a connection after which a hello is repeated at once, should the center ask for it."""
_EVIDENCE = 4
"""Drained lanes that each hello names, so that a restored center shows itself."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this worker is, and which of its lives this is."""

    worker: str
    instance: str
    boot: str
    """`MACHINE-PROCESS`; see wire.events.machine_of."""


@dataclass(frozen=True, slots=True)
class Report:
    """What the agent knows of its tasks and streams at a moment."""

    items: Sequence[ItemObserved]
    streams: Sequence[StreamHealth]


@dataclass
class _Session:
    """One welcomed MQTT connection."""

    session: str
    fence: int
    heartbeat_s: float
    sender: Sender
    has_beaten: bool = False
    telling: list[Held] | None = None
    """Lanes that a center of a new generation is being told of; None: it need not be told."""
    untold: list[Held] = field(default_factory=list)
    """Those that it is to be told of next."""


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
        ack_within_s: float = ACK_WITHIN_S,
        on_desired: Callable[[], None],
        report: Callable[[], Report],
        answer: Answer = no_calls,
    ) -> None:
        """`answer` does what a call asks for; None where it came too late."""
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
        self._pace = Pace()
        self._told = observed.Told()
        self._replies = Replies(answer, self._say_reply)
        self._hello_not_before_s = 0.0
        self._center_ahead_ms = clock.wall_ms() - clock.boot_ms()
        self._challenge = ""
        self.denied = ""
        self._denials = 0
        self._unheard = 0
        self._quiet_s = 0.0
        self.ignored = 0
        self._memory = Memory(desired, brokers, identity.worker)
        self._link = Link(
            self._memory.brokers(),
            client_id=identity.worker,
            subscribe=[topics.all_down(identity.worker)],
            on_event=self._enqueue,
            will=self._will,
            backoff_s=(min(0.5, reconnect_max_s), reconnect_max_s),
            on_good=self._on_good,
        )

    # --- what others ask for ---

    @property
    def online(self) -> bool:
        """Whether the center has welcomed this worker on the present connection."""
        return self._session is not None

    def center_now_ms(self) -> int:
        """The center's wall time, as its latest welcome had it; this machine's before one."""
        return self._clock.boot_ms() + self._center_ahead_ms

    def wake(self, stored: Iterable[Stored] = ()) -> None:
        """Events were stored. May be called from any thread."""
        alarms = [one for one in stored if one.lane == "alarm"]
        self._loop.call_soon_threadsafe(self._woken, alarms)

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
        self._replies.cancel()
        if self._session is not None:
            self._say("bye", Bye(session=self._session.session))
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

    # --- other threads ---

    def _enqueue(self, event: LinkEvent) -> None:
        self._loop.call_soon_threadsafe(self._put, event)

    def _on_good(self, broker: Broker) -> None:
        self._loop.call_soon_threadsafe(self._memory.served, broker)

    def _woken(self, alarms: list[Stored]) -> None:
        if self._session is not None:
            self._session.sender.happened(alarms)
        self._stored.set()

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
                self._challenge, self._denials, self._unheard = "", 0, 0
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
            case Ask():
                self._told.forget()
                self._changed.set()
            case Desired() | Delta():
                self._desire(message)
            case Ack() | Rewind() | Refused() | Credit():
                if self._session is not None:
                    self._answered(self._session.sender, message, up)
            case Rpc():
                self._replies.take(message)

    def _welcomed(self, welcome: Welcome, up: Up) -> None:
        """A session begins, or the watermarks of further epochs are told on one that has begun."""
        self.denied, self._challenge, self._denials = "", "", 0
        if welcome.now_ms:
            self._center_ahead_ms = welcome.now_ms - self._clock.boot_ms()
        try:
            self._desired.raise_fence(welcome.fence)
        except sqlite3.Error as error:  # a full disk must not keep its own events from leaving
            log.error("the fence cannot be remembered: %s", error)
        session = self._session
        if session is None:
            session = self._begin(welcome, up)
        for mark in welcome.watermarks:
            session.sender.settled(mark)
        session.sender.credited(welcome.credit_s)
        self._tell_lanes(session, up, welcome)
        if self._memory.announced(welcome.brokers):
            self._link.reorder(self._memory.brokers())
        self._stored.set()
        self._changed.set()

    def _begin(self, welcome: Welcome, up: Up) -> _Session:
        sender = Sender(
            self._outbox,
            self._clock,
            self._pace,
            self._publish,
            session=up.session,
            fence=welcome.fence,
            window=welcome.window,
            ack_within_s=self._ack_within_s,
        )
        session = _Session(up.session, welcome.fence, welcome.heartbeat_s, sender)
        log.info("welcomed by the center, fence %d", welcome.fence)
        self._turn(up, session)
        return session

    def _tell_lanes(self, session: _Session, up: Up, welcome: Welcome) -> None:
        """A center whose generation is new may lack what an earlier one had: name every lane.

        A hello names some; the welcome that answers it settles these, and the next are told.
        """
        if session.telling is None:
            if self._memory.was_told(welcome.generation):
                return
            session.telling = []
            beyond_hello = self._outbox.held_from(MAX_EPOCHS, _MAX_LANES)
            session.untold = beyond_hello + self._outbox.drained(0, _MAX_LANES)
        answered = {(mark.epoch, mark.lane) for mark in welcome.watermarks}
        if not {(held.epoch, held.lane) for held in session.telling} <= answered:
            return
        session.telling, session.untold = session.untold[:MAX_EPOCHS], session.untold[MAX_EPOCHS:]
        if session.telling:
            self._tell_again(session, up)
            return
        session.telling = None
        self._memory.told(welcome.generation)

    def _tell_again(self, session: _Session, up: Up) -> None:
        """Name the lanes that are being told of; a hello or its welcome may get lost."""
        if session.telling:
            hello = self._hello(up.session)
            told = msgspec.structs.replace(hello, epochs=session.telling, epochs_more=0)
            self._say("hello", told)

    def _denied(self, deny: Deny) -> None:
        self._turn(self._up, None)
        self._denials += 1
        self._unheard = 0
        at_once = self._denials <= _AT_ONCE
        self._quiet_s = deny.retry_after_s if at_once else max(1.0, deny.retry_after_s)
        self._challenge = deny.challenge
        if self.denied != deny.reason and not deny.challenge:
            log.error("the center refuses this worker (%s): %s", deny.code, deny.reason)
        self.denied = deny.reason

    def _desire(self, message: Desired | Delta) -> None:
        try:
            changed = self._desired.take(message)
        except (DesiredError, sqlite3.Error) as error:
            log.error("desired revision %d refused: %s", message.revision, error)
            return
        if changed:
            known = self._desired.known()
            log.info("desired revision %d: %d items", known.revision, len(self._desired.items()))
            self._on_desired()
            self._changed.set()
            if self._up is not None and not self._memory.was_told(known.generation):
                # A database that was restored while this session went on: it is to be told all.
                self._say("hello", self._hello(self._up.session))

    def _answered(self, sender: Sender, message: Ack | Rewind | Refused | Credit, up: Up) -> None:
        match message:
            case Ack(watermark=mark, credit_s=credit_s):
                sender.acked(mark)
                if credit_s is not None:
                    sender.credited(credit_s)
            case Rewind(watermark=mark):
                if not sender.rewound(mark):
                    self._hello_again(up, mark)
            case Refused():
                sender.refused(message)
            case Credit(credit_s=credit_s):
                sender.credited(credit_s)
        self._stored.set()

    def _hello_again(self, up: Up, mark: Watermark) -> None:
        """A rewind below what was acknowledged: a late message, or the center was restored.

        The welcome to a hello that names the lane will tell.
        """
        now_s = self._clock.monotonic_s()
        if now_s < self._hello_not_before_s:
            return
        self._hello_not_before_s = now_s + _HELLO_NOT_BEFORE_S
        hello = self._hello(up.session)
        others = [one for one in hello.epochs if (one.epoch, one.lane) != (mark.epoch, mark.lane)]
        known = self._outbox.watermarks().get((mark.epoch, mark.lane), 0)
        undrained = self._outbox.undrained(mark.lane)
        high = next((high for epoch, _, high in undrained if epoch == mark.epoch), known)
        lane = Held(epoch=mark.epoch, lane=mark.lane, low=known + 1, high=high)
        epochs = [lane, *others][:MAX_EPOCHS]
        self._say("hello", msgspec.structs.replace(hello, epochs=epochs))

    # --- what goes out ---

    async def _introduce(self) -> None:
        """Say hello on each new connection, again with jitter until the center answers."""
        up, attempt = self._up, 0
        while up is not None and self._up is up and self._session is None:
            if self._quiet_s:
                quiet_s, self._quiet_s = self._quiet_s, 0.0
                await self._next_turn(self._random.uniform(0.5, 1.0) * quiet_s)
                continue
            if self._unheard >= _UNHEARD_AFTER and len(self._memory.brokers()) > 1:
                self._unheard = 0
                self._link.drop(up.connection, "no center answers at this broker")
                await self._next_turn()
                return
            self._say("hello", self._hello(up.session))
            self._unheard += 1
            attempt += 1
            await self._next_turn(1.0 + full_jitter(attempt, *_HELLO_AGAIN_S, self._random))
        if self._up is up:
            await self._next_turn()

    def _hello(self, session: str) -> Hello:
        epochs, more = self._outbox.held()
        evidence = min(_EVIDENCE, MAX_EPOCHS - len(epochs))
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
            epochs=[*epochs, *self._outbox.drained(0, evidence)],
            epochs_more=more,
            observed=observed.digest_of(self._report().items),
            challenge=self._challenge,
        )

    async def _drain(self) -> None:
        """Send batches, alarms first, while the windows have room."""
        with suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await self._stored.wait()
        self._stored.clear()
        session, up = self._session, self._up
        if session is None or up is None:
            return
        session.sender.send()
        if session.sender.deaf:
            self._link.drop(up.connection, "the center does not answer on it")

    async def _beat(self) -> None:
        session = self._session
        if session is None:
            await self._next_turn()
            return
        if not session.has_beaten:
            # The document that follows a welcome is on its way: a beat now would ask for it again.
            session.has_beaten = True
            await self._next_turn(self._random.uniform(0.5, 1.0) * min(3.0, session.heartbeat_s))
            return
        if self._up is not None:
            self._tell_again(session, self._up)
        epoch, high = self._outbox.high()
        report = self._report()
        self._say(
            "hb",
            Heartbeat(
                session=session.session,
                fence=session.fence,
                clock=self._reading(),
                desired=self._desired.known(),
                pending=self._outbox.pending(),
                shed=self._outbox.shed,
                streams=list(report.streams),
                observed=observed.digest_of(report.items),
                epoch=epoch,
                high={str(lane): high.get(lane, 0) for lane in LANES} if epoch else {},
                backlog=session.sender.backlog,
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
        items = self._report().items
        if self._say_observed(session, self._told.news(items)):
            self._told.tell(items)

    def _say_observed(self, session: _Session, items: list[ItemObserved]) -> bool:
        """Say it in as many messages as it takes. False if there is no way."""
        if not items:
            return True
        said = Observed(session=session.session, desired=self._desired.known(), items=items)
        try:
            return self._say("observed", said)
        except codec.TooLargeError:
            half = len(items) // 2
            return self._say_observed(session, items[:half]) and self._say_observed(
                session, items[half:]
            )

    def _say(
        self,
        channel: topics.UpChannel,
        message: Hello | Observed | Heartbeat | Bye | Rsp,
    ) -> bool:
        """Raises codec.TooLargeError."""
        return self._publish(channel, codec.encode(message))

    def _say_reply(self, reply: Rsp) -> bool:
        return self._say("rsp", reply)

    def _publish(self, channel: topics.UpChannel, payload: bytes) -> bool:
        if self._up is None:
            return False
        topic = topics.up(self._identity.worker, channel)
        return self._link.publish(self._up.connection, topic, payload)

    def _reading(self) -> ClockReading:
        return ClockReading(wall_ms=self._clock.wall_ms(), boot_ms=self._clock.boot_ms())


async def _forever(step: Callable[[], Awaitable[None]]) -> None:
    """One failed step is logged and the next one tried: the conversation never dies of a bug."""
    while True:
        try:
            await step()
        except Exception:
            log.exception("uplink%s", getattr(step, "__name__", ""))
            await asyncio.sleep(1.0)
