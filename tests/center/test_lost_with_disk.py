"""What a disk lost: the center declares numbers that were given out and that nobody holds."""

from sqlalchemy import select

from center import check, ledger
from center.tables import events, gaps, watermarks
from tests.parts.centers import Rig, furnish
from tests.parts.workers import EPOCH, Voice, crossings, held
from wire.events import Ack, Gap
from wire.messages import Held


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
    """I2: it is stored all the same, once; where the worker itself gave it up, it is not."""
    voice = begin(center)
    center.hear("w1", "ev/bulk", voice.batch(5, [], gaps=[Gap(first=4, last=4, why="shed")]))
    settle(center)
    give_up(center)
    late = voice.batch(3, crossings(4, first=3))
    for _ in range(2):
        (ack,) = center.hear("w1", "ev/bulk", late)
        assert isinstance(ack, Ack)
        assert ack.watermark.seq == 9
    with center.database.reading() as connection:
        stored = connection.execute(select(events.c.seq).order_by(events.c.seq)).scalars().all()
    assert stored == [1, 2, 3, 5, 6]
    assert sound(center)
