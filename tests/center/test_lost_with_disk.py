"""What a disk lost: the center declares numbers that were given out and that nobody holds."""

from dataclasses import replace

import msgspec
from sqlalchemy import select

from center import check, ledger
from center.tables import events, gaps, watermarks
from tests.parts.centers import Rig, furnish
from tests.parts.workers import EPOCH, Voice, crossing, crossings, held
from wire.events import Ack, Gap, Lane, Watermark
from wire.messages import Deny, Desired, Held, Known, Welcome


def begin(center: Rig, high: int = 9, told: int = 3) -> Voice:
    """Worker w1 has told of numbers up to `high`; the first `told` have come."""
    furnish(center.desk)
    center.hear("w1", "hello", Voice().hello())
    voice = Voice(fence=1)
    if told:
        center.hear("w1", "ev/bulk", voice.batch(1, crossings(told)))
    with center.database.transaction() as connection:
        ledger.claim(connection, "w1", EPOCH, {"bulk": high}, center.clock.now_ms())
    return voice


def settle(center: Rig, *epochs: Held, more: int = 0) -> None:
    hello = Voice(boot="boot-2").hello(epochs=list(epochs), epochs_more=more)
    with center.database.transaction() as connection:
        ledger.settle(connection, "w1", hello, center.clock.now_ms())


def give_up(center: Rig, after_s: float = 30) -> None:
    """Time passes, and the worker beats."""
    center.clock.pass_s(after_s)
    now_ms = center.clock.now_ms()
    with center.database.transaction() as connection:
        ledger.give_up(connection, "w1", now_ms - 30_000, now_ms)


def lost(center: Rig) -> list[tuple[int, int, str]]:
    with center.database.reading() as connection:
        statement = select(gaps.c.first, gaps.c.last, gaps.c.why).order_by(gaps.c.first)
        return [tuple(row) for row in connection.execute(statement)]


def mark(center: Rig) -> tuple[int, int, int | None]:
    with center.database.reading() as connection:
        row = connection.execute(select(watermarks).where(watermarks.c.lane == "bulk")).one()
        return row.seq, row.high, row.ends


def stored(center: Rig) -> list[int]:
    with center.database.reading() as connection:
        return list(connection.execute(select(events.c.seq).order_by(events.c.seq)).scalars())


def acked(seq: int, lane: Lane = "bulk", session: str = "session-1") -> Ack:
    return Ack(session=session, watermark=Watermark(epoch=EPOCH, lane=lane, seq=seq))


def sound(center: Rig) -> bool:
    return not list(check.check(center.database))


def test_a_claim_only_rises(center: Rig) -> None:
    """The highest number of each lane is kept; nonsense is not."""
    begin(center, high=9, told=0)
    assert mark(center) == (0, 9, None)
    with center.database.transaction() as connection:
        for high in ({"bulk": 5}, {"bulk": 2**60}, {"other": 3}, {"bulk": -1}):
            ledger.claim(connection, "w1", EPOCH, high, 0)
        ledger.claim(connection, "w1", 0, {"bulk": 20}, 0)
    assert mark(center) == (0, 9, None)


def test_a_disk_that_knows_nothing_of_an_epoch(center: Rig) -> None:
    """I1: everything beyond what has come is declared lost, after a while."""
    begin(center)
    settle(center)
    give_up(center, 29)
    assert lost(center) == []
    give_up(center, 1)
    assert lost(center) == [(4, 9, "lost_with_disk")]
    assert mark(center)[0] == 9
    assert sound(center)
    settle(center)
    give_up(center)
    assert lost(center) == [(4, 9, "lost_with_disk")]


def test_an_epoch_that_was_not_named_may_still_be_there(center: Rig) -> None:
    """Nothing is declared while there are more undrained epochs than were named."""
    begin(center)
    settle(center, more=1)
    give_up(center)
    assert lost(center) == []
    assert mark(center) == (3, 9, None)


def test_a_disk_that_lost_the_end_of_an_epoch(center: Rig) -> None:
    """I1, I3: what it still holds comes first, then the rest is declared."""
    voice = begin(center)
    settle(center, held(4, 6))
    give_up(center)
    assert lost(center) == []
    assert mark(center) == (3, 9, 6)
    center.hear("w1", "ev/bulk", voice.batch(4, crossings(1, first=4)))
    give_up(center)
    assert lost(center) == []
    center.hear("w1", "ev/bulk", voice.batch(5, crossings(2, first=5)))
    give_up(center)
    assert mark(center)[0] == 9
    assert lost(center) == [(7, 9, "lost_with_disk")]
    assert sound(center)


def test_nothing_is_declared_while_a_clone_lives(center: Rig) -> None:
    """I1: what the one does not hold the other may, whom an operator can let in."""
    furnish(center.desk)
    elder = Voice(boot="m-elder")
    (welcome, _) = center.hear("w1", "hello", elder.hello())
    assert isinstance(welcome, Welcome)
    clone = replace(elder, boot="m-clone", session="session-2")
    center.hear("w1", "hello", clone.hello())
    center.hear("w1", "hb", replace(clone, fence=2).heartbeat(epoch=EPOCH, high={"bulk": 9}))
    back = replace(elder, session="session-3")
    (deny,) = center.hear("w1", "hello", back.hello())
    assert isinstance(deny, Deny)
    welcome, *_ = center.hear("w1", "hello", back.hello(challenge=deny.challenge))
    assert isinstance(welcome, Welcome)
    center.hear("w1", "hello", clone.hello())
    center.clock.pass_s(60)
    center.hear("w1", "hb", replace(back, fence=welcome.fence).heartbeat())
    assert lost(center) == []
    center.clock.pass_s(600)
    for _ in range(2):
        center.hear("w1", "hb", replace(back, fence=welcome.fence).heartbeat())
    assert lost(center) == [(1, 9, "lost_with_disk")], "it was not heard of for ten minutes"


def test_a_drained_epoch_that_told_of_more(center: Rig) -> None:
    """Its last number was acknowledged: what was given out after it is lost."""
    begin(center)
    settle(center, held(4, 3))
    give_up(center)
    assert lost(center) == [(4, 9, "lost_with_disk")]
    assert sound(center)


def test_a_disk_that_holds_everything_loses_nothing(center: Rig) -> None:
    """Also when an earlier hello knew less: a clone's, whose elder comes and tells."""
    voice = begin(center)
    settle(center, held(4, 3))
    center.clock.pass_s(20)
    settle(center, held(4, 12))
    give_up(center)
    assert mark(center) == (3, 9, None)
    center.hear("w1", "ev/bulk", voice.batch(4, crossings(9, first=4)))
    assert lost(center) == []
    assert mark(center)[0] == 12


def test_a_worker_that_goes_on_in_an_epoch_has_not_ended_it(center: Rig) -> None:
    """Numbers given out after the end was settled are no loss."""
    voice = begin(center)
    settle(center, held(4, 6))
    center.hear("w1", "ev/bulk", voice.batch(4, crossings(3, first=4)))
    with center.database.transaction() as connection:
        ledger.claim(connection, "w1", EPOCH, {"bulk": 12}, 0)
    give_up(center)
    assert lost(center) == []
    assert sound(center)


def test_what_was_declared_lost_may_turn_up(center: Rig) -> None:
    """I1, I2: it is stored all the same, once; where the worker itself gave it up, it is not."""
    voice = begin(center)
    center.hear("w1", "ev/bulk", voice.batch(5, [], gaps=[Gap(first=4, last=4, why="shed")]))
    settle(center)
    give_up(center)
    late = voice.batch(3, crossings(4, first=3))
    for _ in range(2):
        (ack,) = center.hear("w1", "ev/bulk", late)
        assert isinstance(ack, Ack)
        assert ack.watermark.seq == 6, "what is behind it is not forgotten unsent"
    assert stored(center) == [1, 2, 3, 5, 6]
    assert lost(center) == [(4, 4, "shed")]
    assert mark(center) == (6, 9, None)
    assert sound(center)
    settle(center)
    give_up(center)
    assert lost(center) == [(4, 4, "shed"), (7, 9, "lost_with_disk")]


def test_only_the_end_of_a_gap_may_be_taken_back(center: Rig) -> None:
    """I3: where something is stored behind it the lane stays, and what comes is stored."""
    voice = begin(center)
    settle(center)
    give_up(center)
    turned_up = voice.batch(8, crossings(1, first=8))
    assert center.hear("w1", "ev/bulk", turned_up) == [acked(8)]
    assert lost(center) == [(4, 7, "lost_with_disk")]
    assert center.hear("w1", "ev/bulk", voice.batch(5, crossings(2, first=5))) == [acked(8)]
    assert center.hear("w1", "ev/bulk", voice.batch(8, crossings(2, first=8))) == [acked(9)]
    assert stored(center) == [1, 2, 3, 5, 6, 8, 9]
    assert sound(center)


def test_an_alarm_that_overtook_holds_no_gap(center: Rig) -> None:
    """I1: what was stored ahead comes once more in its turn, and nothing before it is forgotten."""
    begin(center, told=0)
    voice = Voice(fence=1)
    with center.database.transaction() as connection:
        ledger.claim(connection, "w1", EPOCH, {"alarm": 3}, center.clock.now_ms())
    settle(center)
    give_up(center)
    said = [crossing(number, severity="critical") for number in (1, 2, 3)]
    ahead = msgspec.structs.replace(voice.batch(3, said[2:], lane="alarm"), express=True)
    center.hear("w1", "ev/alarm", ahead)
    assert center.hear("w1", "ev/alarm", voice.batch(1, said[:1], lane="alarm")) == [
        acked(1, "alarm")
    ]
    assert center.hear("w1", "ev/alarm", voice.batch(2, said[1:], lane="alarm")) == [
        acked(3, "alarm")
    ]
    assert stored(center) == [1, 2, 3]
    assert sound(center)


def test_a_hello_takes_back_what_the_worker_still_has(center: Rig) -> None:
    """I1: told of the watermark behind the gap, it would forget what it never sent."""
    voice = begin(center)
    settle(center)
    give_up(center)
    (welcome, *_) = center.hear("w1", "hello", voice.hello(epochs=[held(4, 6)]))
    assert isinstance(welcome, Welcome)
    assert welcome.watermarks == [Watermark(epoch=EPOCH, lane="bulk", seq=3)]
    assert lost(center) == []
    assert sound(center)


def test_a_hello_of_the_same_boot_is_heard_too(center: Rig) -> None:
    """I1: whoever says that it has the lane after all is believed, before the time is over."""
    voice = begin(center)
    settle(center)
    center.hear("w1", "hello", voice.hello(epochs=[held(4, 8)]))
    assert mark(center) == (3, 9, 0)
    center.hear("w1", "hello", voice.hello(epochs=[held(10, 9)]))
    assert mark(center) == (3, 9, None)
    give_up(center)
    assert lost(center) == []


def test_a_restored_center_takes_nothing_for_lost(center: Rig) -> None:
    """I1: a worker that restarted names its drained lanes only after a welcome of the new life."""
    furnish(center.desk, "t1")
    welcome, desired = center.hear("w1", "hello", Voice().hello())
    assert isinstance(welcome, Welcome)
    assert isinstance(desired, Desired)
    known = Known(generation=desired.generation, revision=desired.revision, digest=desired.digest)
    voice = Voice(fence=welcome.fence, desired=known)
    center.hear("w1", "ev/bulk", voice.batch(1, crossings(3)))
    center.hear("w1", "hb", voice.heartbeat(epoch=EPOCH, high={"bulk": 9}))
    # Here the backup was made; since then all was acknowledged, and the worker restarted.
    voice = replace(voice, boot="boot-2", session="session-2", fence=7)
    drained = [held(6, 5, epoch=epoch) for epoch in (1, 2, 3, 4)]
    (welcome, *_) = center.hear("w1", "hello", voice.hello(epochs=drained))
    assert isinstance(welcome, Welcome)
    assert welcome.generation != desired.generation
    voice = replace(voice, fence=welcome.fence)
    center.hear("w1", "hello", voice.hello(epochs=[held(10, 9)]))
    center.clock.pass_s(31)
    center.hear("w1", "hb", voice.heartbeat(epoch=5, high={"bulk": 1}))
    for first in (4, 7):
        batch = voice.batch(first, crossings(3, first=first))
        assert center.hear("w1", "ev/bulk", batch) == [acked(first + 2, session="session-2")]
    assert stored(center) == list(range(1, 10))
    assert lost(center) == []
