"""Ingest: each event exactly once, acknowledged only when stored, and nothing blocks a lane."""

import sqlite3

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select

from center import check, events
from center.db import UNAVAILABLE
from center.ingest import leaves_hole, reached
from center.tables import dead_letters, gaps, open_incidents
from center.tables import events as events_table
from tests.parts.centers import Rig, furnish
from tests.parts.workers import EPOCH, Voice, crossing, crossings, held
from wire.events import Ack, Event, Gap, Lane, Rewind, Watermark, encode_event
from wire.messages import Deny, Welcome


@pytest.fixture
def voice(center: Rig) -> Voice:
    """A welcomed session of worker w1."""
    furnish(center.desk)
    welcome, _desired = center.hear("w1", "hello", Voice().hello())
    assert isinstance(welcome, Welcome)
    return Voice(fence=welcome.fence)


def ack(seq: int, lane: Lane = "bulk") -> Ack:
    mark = Watermark(epoch=EPOCH, lane=lane, seq=seq)
    return Ack(session="session-1", watermark=mark)


def rewind(seq: int) -> Rewind:
    return Rewind(session="session-1", watermark=Watermark(epoch=EPOCH, lane="bulk", seq=seq))


def stored(center: Rig) -> list[int]:
    with center.database.reading() as connection:
        statement = select(events_table.c.seq).order_by(events_table.c.lane, events_table.c.seq)
        return list(connection.execute(statement).scalars())


def sound(center: Rig) -> bool:
    return not list(check.check(center.database))


def test_a_batch_is_stored_as_it_was_written(center: Rig, voice: Voice) -> None:
    """The ack names the last number; body, station and times are kept, bytes verbatim."""
    body = b'{"kind":"crossing", "t_ms":1,"camera":"c1","severity":"info","new":[1]}'
    said = center.hear("w1", "ev/bulk", voice.batch(1, [body, crossing(2)], backfill=True))
    assert said == [ack(2)]
    with center.database.reading() as connection:
        first, second = events.search(connection, events.Filter(), "asc")
        assert events.bodies(connection, "w1", EPOCH, "bulk", 1, 1) == {1: body}
    assert first["new"] == [1], "what a newer edge adds is kept and shown"
    assert (first["station"], first["worker"], first["seq"]) == ("s1", "w1", 1)
    assert first["backfill"]
    assert first["received_ms"] == center.clock.now_ms()
    assert second["track"] == 2


def test_a_duplicate_batch_adds_nothing(center: Rig, voice: Voice) -> None:
    """I2: the same batch again is acknowledged again, and stored once."""
    batch = voice.batch(1, crossings(3))
    assert center.hear("w1", "ev/bulk", batch) == [ack(3)]
    assert center.hear("w1", "ev/bulk", batch) == [ack(3)]
    assert center.hear("w1", "ev/bulk", voice.batch(2, crossings(4, first=2))) == [ack(5)]
    assert stored(center) == [1, 2, 3, 4, 5]
    assert center.count("events_duplicate_total") == 5
    assert center.count("identity_conflicts_total") == 0


def test_batches_share_a_transaction_and_an_ack(center: Rig, voice: Voice) -> None:
    """A group of batches of one lane is answered once, by its last number."""
    batches = [voice.batch(1 + 2 * n, crossings(2, first=1 + 2 * n)) for n in range(4)]
    assert center.hear("w1", "ev/bulk", *batches) == [ack(8)]


def test_a_hole_is_sent_back(center: Rig, voice: Voice) -> None:
    """I3: where numbers are missing without a gap, nothing is stored and a rewind says where."""
    center.hear("w1", "ev/bulk", voice.batch(1, crossings(2)))
    assert center.hear("w1", "ev/bulk", voice.batch(5, crossings(2, first=5))) == [rewind(2)]
    assert stored(center) == [1, 2]
    half = voice.batch(5, crossings(1), gaps=[Gap(first=3, last=3, why="shed")])
    assert center.hear("w1", "ev/bulk", half) == [rewind(2)]
    assert sound(center)


def test_a_declared_gap_closes_a_hole(center: Rig, voice: Voice) -> None:
    """I1: what was shed is declared, kept as a gap, and the watermark passes over it."""
    shed = Gap(first=1, last=4, why="shed")
    assert center.hear("w1", "ev/bulk", voice.batch(5, crossings(2), gaps=[shed])) == [ack(6)]
    alone = voice.batch(10, [], gaps=[Gap(first=7, last=9, why="corrupt")])
    assert center.hear("w1", "ev/bulk", alone) == [ack(9)]
    overlapping = voice.batch(10, [], gaps=[Gap(first=8, last=12, why="shed")])
    assert center.hear("w1", "ev/bulk", overlapping) == [ack(12)]
    far = voice.batch(20, [], gaps=[Gap(first=15, last=16, why="shed")])
    assert center.hear("w1", "ev/bulk", far) == [rewind(12)]
    with center.database.reading() as connection:
        kept = [(row.first, row.last, row.why) for row in connection.execute(select(gaps))]
    assert kept == [(1, 4, "shed"), (7, 9, "corrupt"), (10, 12, "shed")]
    assert sound(center)


@pytest.mark.parametrize(
    "bad",
    [
        b'{"kind":5,"t_ms":1,"camera":"c1","severity":"info"}',
        b'{"kind":"crossing"}',
        b"[]",
        encode_event(crossing(message="x" * 70_000)),
        encode_event(crossing(t_ms=2**60)),
        encode_event(crossing(camera="c" * 300)),
        encode_event(crossing(rule="a\0b")),
    ],
    ids=["type", "missing", "list", "oversized", "time", "long-word", "nul"],
)
def test_a_bad_event_does_not_spoil_its_neighbours(center: Rig, voice: Voice, bad: bytes) -> None:
    """A single bad event becomes a gap `refused` and a dead letter; the lane goes on."""
    batch = voice.batch(1, [crossing(1), bad, crossing(3)])
    assert center.hear("w1", "ev/bulk", batch) == [ack(3)]
    assert stored(center) == [1, 3]
    with center.database.reading() as connection:
        (gap,) = connection.execute(select(gaps)).all()
        (letter,) = connection.execute(select(dead_letters)).all()
    assert (gap.first, gap.last, gap.why) == (2, 2, "refused")
    assert (letter.seq, letter.lane) == (2, "bulk")
    assert letter.body == bad[: 64 * 1024]
    assert sound(center)


def test_one_number_with_two_bodies(center: Rig, voice: Voice) -> None:
    """The first body stays; the other is put aside and counted."""
    center.hear("w1", "ev/bulk", voice.batch(1, [crossing(1)]))
    assert center.hear("w1", "ev/bulk", voice.batch(1, [crossing(99)])) == [ack(1)]
    assert center.count("identity_conflicts_total") == 1
    with center.database.reading() as connection:
        (event,) = events.search(connection, events.Filter())
        (letter,) = connection.execute(select(dead_letters)).all()
    assert event["track"] == 1
    assert msgspec.json.decode(letter.body)["track"] == 99


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"not json",
        b"{}",
        b"\x78\x9c damaged",
        b'{"k":"hb"}',
        b'{"k":"ev","session":"session-1","fence":1,"epoch":0,"lane":"bulk","first":1,"events":[]}',
        b'{"k":"ev","session":"session-1","fence":1,"epoch":1,"lane":"bulk","first":0,"events":[]}',
        b'{"k":"ev","session":"session-1","fence":1,"epoch":1,"lane":"alarm","first":1,"events":[]}',
        b'{"k":"ev","session":"s","fence":1,"epoch":1,"lane":"bulk","first":99999999999999999999,'
        b'"events":[]}',
        b'{"k":"ev","session":"s","fence":1,"epoch":1,"lane":"bulk","first":1,"events":['
        + b",".join([b"1"] * 201)
        + b"]}",
        b'{"k":"ev","session":"s","fence":1,"epoch":1,"lane":"bulk","first":1,"events":[],'
        b'"gaps":[{"first":3,"last":2,"why":""}]}',
    ],
)
def test_an_unreadable_batch_is_put_aside(center: Rig, voice: Voice, payload: bytes) -> None:
    """It is counted and kept as a dead letter, nobody is answered, and the next batch is taken."""
    batch = voice.batch(1, crossings(1))
    assert center.hear("w1", "ev/bulk", payload, msgspec.json.encode(batch)) == [ack(1)]
    assert center.count("unreadable_messages_total") == 1
    with center.database.reading() as connection:
        assert connection.execute(select(func.count()).select_from(dead_letters)).scalar() == 1


def test_dead_letters_are_bounded(
    center: Rig, voice: Voice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I8: a worker's newest dead letters are kept, the older make room."""
    monkeypatch.setattr("center.ledger.MAX_DEAD_LETTERS", 3)
    center.hear("w1", "ev/bulk", *(b"x%d" % n for n in range(10)))
    with center.database.reading() as connection:
        bodies = connection.execute(select(dead_letters.c.body)).scalars().all()
    assert bodies == [b"x7", b"x8", b"x9"]


@pytest.mark.parametrize(
    ("speaker", "code"),
    [
        (Voice(session="old", fence=1), "retry"),
        (Voice(session="session-1", fence=99), "retry"),
        (Voice(worker="w2", session="any"), "revoked"),
    ],
)
def test_only_the_welcomed_session_is_taken(
    center: Rig, voice: Voice, speaker: Voice, code: str
) -> None:
    """A batch of any other session stores nothing, and its speaker is told what to do."""
    (denied,) = center.hear(speaker.worker, "ev/bulk", speaker.batch(1, crossings(1)))
    assert isinstance(denied, Deny)
    assert (denied.code, denied.session) == (code, speaker.session)
    assert stored(center) == []


def test_a_welcome_tells_how_far_each_epoch_has_come(center: Rig, voice: Voice) -> None:
    """The watermarks of the epochs that a hello names, 0 where nothing is known."""
    center.hear("w1", "ev/bulk", voice.batch(1, crossings(3)))
    epochs = [held(2, 9), held(1, 1, lane="alarm"), held(5, 6, epoch=7)]
    hello = Voice(session="session-2").hello(epochs=epochs)
    welcome = center.hear("w1", "hello", hello)[0]
    assert isinstance(welcome, Welcome)
    assert [(mark.epoch, mark.lane, mark.seq) for mark in welcome.watermarks] == [
        (EPOCH, "bulk", 3),
        (EPOCH, "alarm", 0),
        (7, "bulk", 0),
    ]


def alarm(phase: str, incident: str) -> Event:
    return crossing(kind="presence", severity="critical", phase=phase, incident=incident)


def open_now(center: Rig) -> list[str]:
    with center.database.reading() as connection:
        found = events.search(connection, events.Filter(open=True), "asc")
        counted = connection.execute(select(func.count()).select_from(open_incidents)).scalar()
    assert counted == len(found)
    return [event["incident"] for event in found]


def test_an_incident_is_open_until_its_end(center: Rig, voice: Voice) -> None:
    """Starts open, ends close, within a batch, across batches, and doubled."""
    said = [alarm("start", "a"), alarm("start", "b"), alarm("end", "b"), alarm("update", "a")]
    center.hear("w1", "ev/alarm", voice.batch(1, said, lane="alarm"))
    assert open_now(center) == ["a"]
    again = [alarm("start", "a"), alarm("start", "c")]
    center.hear("w1", "ev/alarm", voice.batch(5, again, lane="alarm"))
    assert open_now(center) == ["a", "c"]
    center.hear("w1", "ev/alarm", voice.batch(7, [alarm("end", "a")], lane="alarm"))
    assert open_now(center) == ["c"]


def test_an_end_may_come_before_its_start(center: Rig, voice: Voice) -> None:
    """The newest epoch is drained first: a start that comes after its end opens nothing."""
    ended = voice.batch(1, [alarm("end", "a")], lane="alarm", epoch=2)
    started = voice.batch(1, [alarm("start", "a")], lane="alarm", epoch=1)
    center.hear("w1", "ev/alarm", ended, started)
    assert open_now(center) == []


def test_a_failing_database_loses_nothing(
    center: Rig, voice: Voice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it cannot commit, nobody is answered; then all is stored."""
    monkeypatch.setattr("center.db._BUSY_TIMEOUT_MS", 1)
    center.database.close()  # new connections wait 1 ms for a lock
    blocker = sqlite3.connect(center.folder / "center.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    batch = voice.batch(1, crossings(2))
    with pytest.raises(UNAVAILABLE):
        center.hear("w1", "ev/bulk", batch)
    assert center.link.said() == []
    blocker.execute("ROLLBACK")
    blocker.close()
    assert center.hear("w1", "ev/bulk", batch) == [ack(2)]
    assert stored(center) == [1, 2]


numbers = st.integers(1, 30)
some_gaps = st.lists(
    st.tuples(numbers, st.integers(0, 5)).map(
        lambda pair: Gap(first=pair[0], last=sum(pair), why="shed")
    ),
    max_size=4,
)


@given(st.integers(0, 20), numbers, st.integers(0, 6), some_gaps)
def test_a_watermark_never_passes_a_hole(
    watermark: int, first: int, count: int, lost: list[Gap]
) -> None:
    """I3: it rises exactly over numbers that the batch holds or declares lost, never back."""
    last = first + count - 1
    far = reached(watermark, first, last, lost)
    covered = set(range(first, last + 1))
    covered.update(number for gap in lost for number in range(gap.first, gap.last + 1))
    assert set(range(watermark + 1, far + 1)) <= covered
    assert far >= watermark
    assert far + 1 not in covered
    if not leaves_hole(watermark, first, last, lost):
        assert far >= last or count == 0
