"""The worker's side of a session, against a center that a test plays by hand over a real broker."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge.clock import SystemClock
from edge.store.desired import DesiredStore, digest_of
from edge.store.outbox import Outbox
from edge.uplink import Identity, Report, Uplink
from tests.parts.brokers import embedded
from tests.parts.links import Heard, linked
from tests.waiting import wait_for
from wire import codec, topics
from wire.events import (
    Ack,
    Batch,
    Event,
    Lane,
    Refused,
    Rewind,
    Watermark,
    batch_name,
    decode_event,
)
from wire.link import Broker, Link, Received, Up
from wire.messages import (
    Ask,
    Bye,
    Credit,
    Delta,
    Deny,
    Desired,
    Heartbeat,
    Hello,
    ItemObserved,
    Observed,
    Rpc,
    Rsp,
    Welcome,
    observed_digest,
)
from wire.messages import Down as Said
from wire.messages import Up as Told

NAME = "w1"
PATIENCE_S = 10.0
RUNNING = ItemObserved(kind="Task", id="t1", revision=2, state="Running")
STARTING = ItemObserved(kind="Task", id="t2", revision=2, state="Starting")


async def _echo(call: Rpc) -> Rsp:
    return Rsp(session=call.session, id=call.id, ok=True, result=call.args)


@dataclass
class Stage:
    """A worker's uplink, and the center that the test plays."""

    uplink: Uplink
    outbox: Outbox
    desired: DesiredStore
    link: Link
    heard: Heard
    report: list[ItemObserved]
    """What the worker says of its items."""

    def told(self) -> list[Told]:
        """Everything that the worker has said."""
        return [
            codec.decode_up(topic, message.payload)
            for message in self.heard.all(Received)
            if isinstance(topic := topics.parse(message.topic), topics.UpTopic)
        ]

    def batches(self) -> list[Batch]:
        """The batches that the worker has sent."""
        return [message for message in self.told() if isinstance(message, Batch)]

    def say(self, message: Said) -> None:
        """Say something as the center."""
        assert self.link.connection is not None
        channel: topics.DownChannel = "ack"
        if isinstance(message, Desired | Delta):
            channel = "desired"
        elif isinstance(message, Rpc):
            channel = "rpc"
        payload = codec.encode(message)
        assert self.link.publish(self.link.connection, topics.down(NAME, channel), payload)

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait for a condition with a deadline, letting the uplink work meanwhile."""
        await asyncio.to_thread(wait_for, condition, PATIENCE_S, what, 0.01)

    def observed(self) -> list[Observed]:
        """What the worker has said of its items."""
        return [message for message in self.told() if isinstance(message, Observed)]

    def hellos(self) -> int:
        """How many hellos the worker has said."""
        return sum(isinstance(message, Hello) for message in self.told())

    async def hello(self) -> Hello:
        """The worker's latest hello."""
        await self.until(lambda: any(isinstance(m, Hello) for m in self.told()), "a hello")
        return [message for message in self.told() if isinstance(message, Hello)][-1]

    async def welcome(
        self,
        *marks: Watermark,
        window: int = 2,
        generation: int = 1,
        credit_s: float = 30.0,
        heartbeat_s: float = 60.0,
    ) -> Hello:
        """Welcome the worker on its present session."""
        hello = await self.hello()
        self.say(
            Welcome(
                session=hello.session, fence=5, generation=generation, watermarks=list(marks),
                heartbeat_s=heartbeat_s, window=window, credit_s=credit_s,
            )
        )  # fmt: skip
        await self.until(lambda: self.uplink.online, "the welcome is heard")
        return hello

    async def append(self, count: int, severity: str = "info") -> None:
        """Store events as a shard would have them stored."""
        events = [
            Event(kind="t", t_ms=n, camera="c", severity=severity, label="x" * 300)
            for n in range(count)
        ]
        await asyncio.wrap_future(self.outbox.append(events))


def mark_of(lane: Lane, epoch: int, seq: int) -> Watermark:
    return Watermark(epoch=epoch, lane=lane, seq=seq)


@asynccontextmanager
async def stage(folder: Path, ack_within_s: float = 15.0) -> AsyncIterator[Stage]:
    """An uplink at work over the embedded broker."""
    clock = SystemClock()
    uplinks: list[Uplink] = []
    items: list[ItemObserved] = []
    with embedded() as broker, linked(broker.url, subscribe=("fc/v1/up/+/#",)) as (link, heard):
        heard.wait(Up)
        outbox = Outbox(
            folder / "outbox.db", clock, on_stored=lambda stored: uplinks[0].wake(stored)
        )
        desired = DesiredStore(folder / "desired.db", clock)
        uplink = Uplink(
            Identity(NAME, "instance", "boot"), [Broker.parse(broker.url)], outbox, desired, clock,
            ack_within_s=ack_within_s, on_desired=lambda: None, report=lambda: Report(items, []),
            answer=_echo,
        )  # fmt: skip
        uplinks.append(uplink)
        running = asyncio.create_task(uplink.run())
        try:
            yield Stage(uplink, outbox, desired, link, heard, items)
        finally:
            await uplink.finish(0.1)
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
            outbox.close()
            desired.close()


def scenario(play: Callable[[Stage], Awaitable[None]]) -> Callable[[Path], None]:
    """A test that plays a coroutine on a stage."""

    def test(tmp_path: Path) -> None:
        async def run() -> None:
            async with stage(tmp_path, ack_within_s=0.5) as made:
                await play(made)

        asyncio.run(run())

    test.__doc__ = play.__doc__
    return test


async def _an_ack_that_never_comes(made: Stage) -> None:
    """A batch without an ack is sent again, also while new events keep coming."""
    await made.welcome()

    def first_again() -> bool:
        made.outbox.append([Event(kind="t", t_ms=1, camera="c", severity="info")])
        return sum(batch.first == 1 for batch in made.batches()) >= 2

    await made.until(first_again, "the first batch comes again")


async def _nothing_before_the_welcome(made: Stage) -> None:
    """Without a welcome no event is sent; a denied worker says why and asks again."""
    await made.append(3, "critical")
    hello = await made.hello()
    deny = Deny(session=hello.session, code="retry", reason="not now", retry_after_s=0.0)
    made.say(deny)
    await made.until(lambda: made.uplink.denied == "not now", "the reason is known")
    hellos = len([m for m in made.told() if isinstance(m, Hello)])
    await made.until(
        lambda: len([m for m in made.told() if isinstance(m, Hello)]) > hellos, "hello again"
    )
    assert made.batches() == []
    await made.welcome()
    await made.until(made.batches, "events after the welcome")
    assert made.batches()[0].backfill is True


async def _windows_and_acks(made: Stage) -> None:
    """At most `window` batches are unanswered; an ack makes room; a rewind sends again."""
    await made.append(1000)
    await made.welcome(window=2)
    await made.until(lambda: len(made.batches()) >= 2, "a full window")
    one, two = made.batches()[:2]
    assert two.first == one.first + len(one.events)
    mark = Watermark(epoch=one.epoch, lane="bulk", seq=two.first - 1)
    made.say(Ack(session=one.session, watermark=mark))
    follows = two.first + len(two.events)
    await made.until(lambda: made.batches()[-1].first >= follows, "the next batch")
    before = len(made.batches())
    made.say(Rewind(session=one.session, watermark=mark))
    await made.until(
        lambda: any(b.first == two.first for b in made.batches()[before:]), "again from the mark"
    )


async def _another_session_is_ignored(made: Stage) -> None:
    """What names another session changes nothing: no ack, no document, no denial."""
    await made.append(2)
    hello = await made.welcome()
    await made.until(made.batches, "a batch")
    (epoch, _, high) = made.outbox.undrained("bulk")[0]
    mark = Watermark(epoch=epoch, lane="bulk", seq=high)
    before = made.uplink.ignored
    made.say(Ack(session="elsewhere", watermark=mark))
    made.say(Deny(session="elsewhere", code="revoked", reason="no"))
    made.say(
        Desired(
            session="elsewhere", generation=1, revision=9, digest=digest_of([]), items=[],
            empty=True,
        )
    )  # fmt: skip
    await made.until(lambda: made.uplink.ignored == before + 3, "all three are ignored")
    assert made.uplink.online
    assert made.outbox.pending()["bulk"] == 2
    assert made.desired.known().revision == 0
    made.say(Ack(session=hello.session, watermark=mark))
    await made.until(lambda: made.outbox.pending()["bulk"] == 0, "the true ack counts")


async def _a_document_is_taken_and_told(made: Stage) -> None:
    """A sound document is stored and observed; a false one is refused and the session goes on."""
    hello = await made.welcome()
    false = Desired(session=hello.session, generation=1, revision=2, digest="0" * 32, items=[])
    made.say(false)
    made.say(
        Desired(
            session=hello.session, generation=1, revision=3, digest=digest_of([]), items=[],
            empty=True,
        )
    )  # fmt: skip
    await made.until(lambda: made.desired.known().revision == 3, "the document on disk")
    made.report.append(RUNNING)
    made.uplink.observed_changed()
    await made.until(
        lambda: any(isinstance(m, Observed) and m.desired.revision == 3 for m in made.told()),
        "observed speaks of it",
    )
    await made.until(lambda: made.desired.known().revision == 3, "the document on disk")
    await made.uplink.finish(1.0)
    await made.until(lambda: any(isinstance(m, Bye) for m in made.told()), "a bye at the end")


async def _credit_for_backlog(made: Stage) -> None:
    """Late bulk waits for credit and stops when it ends; alarms and live events do not wait."""
    await made.append(300)
    await made.append(2, "critical")
    hello = await made.welcome(credit_s=0.0)
    await made.until(
        lambda: any(b.lane == "alarm" for b in made.batches()), "alarms without credit"
    )
    assert not [b for b in made.batches() if b.lane == "bulk"]
    made.say(Credit(session=hello.session, credit_s=30.0))
    await made.until(
        lambda: any(b.lane == "bulk" and b.backfill for b in made.batches()), "backlog with credit"
    )
    (epoch, _, high) = made.outbox.undrained("bulk")[0]
    made.say(Ack(session=hello.session, watermark=mark_of("bulk", epoch, high), credit_s=0.0))
    await made.until(lambda: made.outbox.pending()["bulk"] == 0, "the backlog is acknowledged")
    await made.append(1)
    await made.until(
        lambda: any(b.lane == "bulk" and not b.backfill for b in made.batches()), "live news"
    )


async def _an_alarm_goes_ahead(made: Stage) -> None:
    """I9: an alarm behind a backlog of alarms is sent at once besides, and comes in turn too."""
    await made.append(1000, "critical")
    await made.welcome(window=1)
    await made.until(made.batches, "the first batch")
    await made.append(1, "critical")
    await made.until(lambda: any(b.express for b in made.batches()), "the alarm goes ahead")
    express = next(b for b in made.batches() if b.express and not b.backfill)
    assert (express.first, len(express.events), express.lane) == (1001, 1, "alarm")
    assert all(len(b.events) + b.first <= 1001 for b in made.batches() if not b.express)


async def _the_newest_open_alarm_goes_ahead(made: Stage) -> None:
    """I9: after a reconnect the newest open alarm overtakes what happened before it."""
    await made.append(500, "warning")
    start = Event(
        kind="presence", t_ms=1, camera="c", severity="critical", phase="start", incident="i1"
    )
    await asyncio.wrap_future(made.outbox.append([start]))
    await made.welcome(window=1)
    await made.until(lambda: any(b.express for b in made.batches()), "an express batch")
    (express,) = [b for b in made.batches() if b.express]
    assert decode_event(express.events[0]).incident == "i1"
    assert (express.first, express.backfill) == (501, True)


async def _a_refused_batch_is_halved(made: Stage) -> None:
    """I1: what the center cannot read is narrowed down to one event, which becomes a gap."""
    await made.append(8)
    hello = await made.welcome()
    answered = 0
    poison = 6

    def play() -> bool:
        nonlocal answered
        for message in made.heard.all(Received)[answered:]:
            answered += 1
            topic = topics.parse(message.topic)
            assert isinstance(topic, topics.UpTopic)
            said = codec.decode_up(topic, message.payload)
            if not isinstance(said, Batch):
                continue
            last = said.first + len(said.events) - 1
            if said.first <= poison <= last:
                name = batch_name(message.payload)
                made.say(Refused(session=hello.session, batch=name, reason="poison"))
            elif said.first == 1 or said.gaps or acked() == said.first - 1:
                made.say(Ack(session=hello.session, watermark=mark_of("bulk", said.epoch, last)))
        return made.outbox.pending()["bulk"] == 0

    def acked() -> int:
        marks = made.outbox.watermarks()
        return max(marks.values())

    await made.until(play, "everything is acknowledged or given up")
    gaps = {(g.first, g.last, g.why) for b in made.batches() for g in b.gaps}
    assert (poison, poison, "refused") in gaps


async def _a_lower_welcome_is_obeyed(made: Stage) -> None:
    """I1: a restored center's welcome counts, and what it lacks is sent again from the disk."""
    await made.append(5)
    hello = await made.welcome()
    await made.until(made.batches, "a batch")
    epoch = made.batches()[0].epoch
    made.say(Ack(session=hello.session, watermark=mark_of("bulk", epoch, 5)))
    await made.until(lambda: made.outbox.pending()["bulk"] == 0, "drained")
    before, hellos = len(made.batches()), made.hellos()
    made.say(Rewind(session=hello.session, watermark=mark_of("bulk", epoch, 2)))
    await made.until(lambda: made.hellos() > hellos, "a hello instead of obeying")
    assert len(made.batches()) == before
    assert any(held.epoch == epoch and held.high == 5 for held in (await made.hello()).epochs)
    await made.welcome(mark_of("bulk", epoch, 2), generation=2)
    await made.until(lambda: len(made.batches()) > before, "sent again")
    again = made.batches()[before]
    assert (again.first, len(again.events)) == (3, 3)
    await made.until(
        lambda: made.desired.fact("told_generation") == "2", "the new generation was told all"
    )


async def _every_lane_is_told(made: Stage) -> None:
    """I1: a center of a new generation hears of every lane, also if a hello is lost."""
    for _ in range(40):
        made.outbox.renew_epoch()
        await made.append(1)
    hello = await made.hello()
    made.say(
        Welcome(
            session=hello.session, fence=5, generation=9, watermarks=[], heartbeat_s=0.2, window=1
        )
    )  # fmt: skip
    rest = {held.epoch for held in made.outbox.held_from(32, 100)}
    assert len(rest) == 8

    def telling() -> list[Hello]:
        return [
            message
            for message in made.told()
            if isinstance(message, Hello) and {held.epoch for held in message.epochs} == rest
        ]

    await made.until(lambda: len(telling()) >= 2, "they are told, and told again with a beat")
    assert made.desired.fact("told_generation") is None
    marks = [mark_of("bulk", epoch, 0) for epoch in rest]
    made.say(
        Welcome(
            session=hello.session, fence=5, generation=9, watermarks=marks, heartbeat_s=0.2,
            window=1,
        )
    )  # fmt: skip
    await made.until(lambda: made.desired.fact("told_generation") == "9", "all was told")


async def _a_rewound_lane_is_named_first(made: Stage) -> None:
    """I1: among more lanes than a hello holds, that which a restored center lacks is named."""
    for _ in range(40):
        made.outbox.renew_epoch()
        await made.append(3)
    hello = await made.welcome(window=1)
    await made.until(made.batches, "a batch of the newest")
    newest = made.batches()[0].epoch
    made.say(Ack(session=hello.session, watermark=mark_of("bulk", newest, 2)))
    await made.until(lambda: made.outbox.watermarks()[newest, "bulk"] == 2, "partly acknowledged")
    hellos = made.hellos()
    made.say(Rewind(session=hello.session, watermark=mark_of("bulk", newest, 1)))
    await made.until(lambda: made.hellos() > hellos, "a hello")
    first = (await made.hello()).epochs[0]
    assert (first.epoch, first.low, first.high) == (newest, 3, 3)


async def _gaps_that_are_refused_cost_no_event(made: Stage) -> None:
    """I1: where an event is refused together with gaps, these are tried alone before it goes."""
    await made.append(3)
    (epoch, _, _) = made.outbox.undrained("bulk")[0]
    made.outbox.refuse(epoch, "bulk", 1)
    made.outbox.refuse(epoch, "bulk", 2)
    hello = await made.welcome()
    answered = 0

    def play() -> bool:
        nonlocal answered
        for message in made.heard.all(Received)[answered:]:
            answered += 1
            topic = topics.parse(message.topic)
            assert isinstance(topic, topics.UpTopic)
            said = codec.decode_up(topic, message.payload)
            if not isinstance(said, Batch):
                continue
            if said.gaps and said.events:
                name = batch_name(message.payload)
                made.say(Refused(session=hello.session, batch=name, reason="no gaps beside events"))
            else:
                last = said.first + len(said.events) - 1
                made.say(Ack(session=hello.session, watermark=mark_of("bulk", epoch, last)))
        return made.outbox.pending()["bulk"] == 0

    await made.until(play, "gaps alone, then the event")
    assert any(batch.first == 3 and len(batch.events) == 1 for batch in made.batches())
    assert {gap.last for batch in made.batches() for gap in batch.gaps} == {2}


async def _a_watermark_above_is_a_new_epoch(made: Stage) -> None:
    """I2: numbers that the center knows and this process never gave out are not used."""
    await made.append(2)
    epoch, _ = made.outbox.high()
    await made.welcome(mark_of("bulk", epoch, 9))
    await made.append(1)
    await made.until(lambda: any(b.epoch != epoch for b in made.batches()), "another epoch")
    assert made.batches()[-1].first == 1


async def _only_news_of_items_is_told(made: Stage) -> None:
    """What was told is not told again, until the center asks for everything."""
    made.report.extend([RUNNING, STARTING])
    hello = await made.welcome(heartbeat_s=0.3)
    await made.until(lambda: made.observed(), "both states")
    assert made.observed()[0].items == [RUNNING, STARTING]
    made.report[1] = ItemObserved(kind="Task", id="t2", revision=2, state="Running")
    made.uplink.observed_changed()
    await made.until(lambda: len(made.observed()) == 2, "the news")
    assert made.observed()[1].items == [made.report[1]]
    made.say(Ask(session=hello.session, what="observed"))
    await made.until(lambda: len(made.observed()) == 3, "everything again")
    assert made.observed()[2].items == made.report
    await made.until(
        lambda: any(
            isinstance(m, Heartbeat) and m.observed == observed_digest(made.report)
            for m in made.told()
        ),
        "the heartbeat's digest",
    )


async def _a_call_is_answered(made: Stage) -> None:
    """A call gets its answer under its own id."""
    hello = await made.welcome()
    call = Rpc(session=hello.session, id="c1", method="config", args={"a": 1}, deadline_ms=1)
    made.say(call)
    await made.until(lambda: any(isinstance(m, Rsp) for m in made.told()), "an answer")
    (answer,) = [m for m in made.told() if isinstance(m, Rsp)]
    assert (answer.id, answer.ok, answer.result) == ("c1", True, {"a": 1})


async def _a_challenge_is_repeated(made: Stage) -> None:
    """The hello after a challenge repeats it, which proves that this process lives."""
    hello = await made.hello()
    made.say(
        Deny(session=hello.session, code="retry", reason="who", retry_after_s=0, challenge="n1")
    )
    await made.until(
        lambda: any(isinstance(m, Hello) and m.challenge == "n1" for m in made.told()), "repeated"
    )


def test_a_broker_without_a_center_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no hello is answered the worker goes on to the next broker, and is heard there."""
    monkeypatch.setattr("edge.uplink._HELLO_AGAIN_S", (0.01, 0.05))

    async def run(urls: list[str], heard: Heard) -> None:
        clock = SystemClock()
        outbox = Outbox(tmp_path / "outbox.db", clock)
        desired = DesiredStore(tmp_path / "desired.db", clock)
        lonely = Broker.parse(urls[0])
        desired.remember("good_broker", f"{lonely.host}:{lonely.port}")
        uplink = Uplink(
            Identity(NAME, "instance", "boot"), list(map(Broker.parse, urls)), outbox, desired,
            clock, reconnect_max_s=1.0, on_desired=lambda: None, report=lambda: Report([], []),
        )  # fmt: skip
        running = asyncio.create_task(uplink.run())
        try:
            await asyncio.to_thread(heard.wait, Received)
        finally:
            await uplink.finish(0.1)
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
            outbox.close()
            desired.close()

    with (
        embedded() as without,
        embedded() as served,
        linked(served.url, subscribe=("fc/v1/up/+/#",)) as (_, heard),
    ):
        heard.wait(Up)
        asyncio.run(run([without.url, served.url], heard))
    assert heard.wait(Received).topic == topics.up(NAME, "hello")


test_an_ack_that_never_comes = scenario(_an_ack_that_never_comes)
test_nothing_before_the_welcome = scenario(_nothing_before_the_welcome)
test_windows_and_acks = scenario(_windows_and_acks)
test_another_session_is_ignored = scenario(_another_session_is_ignored)
test_a_document_is_taken_and_told = scenario(_a_document_is_taken_and_told)
test_credit_for_backlog = scenario(_credit_for_backlog)
test_an_alarm_goes_ahead = scenario(_an_alarm_goes_ahead)
test_the_newest_open_alarm_goes_ahead = scenario(_the_newest_open_alarm_goes_ahead)
test_a_refused_batch_is_halved = scenario(_a_refused_batch_is_halved)
test_a_lower_welcome_is_obeyed = scenario(_a_lower_welcome_is_obeyed)
test_a_watermark_above_is_a_new_epoch = scenario(_a_watermark_above_is_a_new_epoch)
test_every_lane_is_told = scenario(_every_lane_is_told)
test_a_rewound_lane_is_named_first = scenario(_a_rewound_lane_is_named_first)
test_gaps_that_are_refused_cost_no_event = scenario(_gaps_that_are_refused_cost_no_event)
test_only_news_of_items_is_told = scenario(_only_news_of_items_is_told)
test_a_call_is_answered = scenario(_a_call_is_answered)
test_a_challenge_is_repeated = scenario(_a_challenge_is_repeated)
pytestmark = pytest.mark.timeout(60)
