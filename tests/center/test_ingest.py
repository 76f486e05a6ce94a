"""Ingest: each event exactly once, acknowledged only when stored, and nothing blocks a lane."""

import sqlite3
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select, update

from center import check, events
from center.batches import leaves_hole, reached
from center.db import UNAVAILABLE
from center.tables import dead_letters, gaps, open_incidents
from center.tables import events as events_table
from tests.parts.centers import SQLITE_ONLY, Rig, furnish, rig
from tests.parts.workers import EPOCH, Voice, crossing, crossings, held
from wire.events import (
    OPEN_END,
    Ack,
    Batch,
    Event,
    Gap,
    Lane,
    Refused,
    Rewind,
    Watermark,
    batch_name,
    encode_event,
)
from wire.messages import Clock, Deny, Welcome

POISON = encode_event(crossing(2))[:-1] + b',"later":1e400}'
"""Who reads only what is known of it skips the number, and who reads all of it cannot."""


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
    assert said == [msgspec.structs.replace(ack(2), credit_s=30.0)]
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


def test_answers_of_a_group_come_in_their_order(center: Rig, voice: Voice) -> None:
    """A rewind below an ack is old news, and one behind it is not."""
    one, far, between, farther = (
        voice.batch(first, crossings(count, first=first))
        for first, count in ((1, 6), (9, 1), (7, 4), (20, 1))
    )
    assert center.hear("w1", "ev/bulk", one, far, between) == [ack(10)]
    assert center.hear("w1", "ev/bulk", between, farther) == [ack(10), rewind(10)]
    assert center.hear("w1", "ev/bulk", farther, between) == [rewind(10), ack(10)]


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
        POISON,
        POISON.replace(b"1e400", b"9" * 5000),
        POISON.replace(b"1e400", b"[" * 900 + b"]" * 900),
    ],
    ids=[
        "type",
        "missing",
        "list",
        "oversized",
        "time",
        "long-word",
        "nul",
        "float",
        "int",
        "deep",
    ],
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


def test_fields_that_nobody_knows_are_shown(center: Rig, voice: Voice) -> None:
    """What a later version says is stored and shown as it was written."""
    later = POISON.replace(b"1e400", b'{"depth":[1,2.5,null]}')
    assert center.hear("w1", "ev/bulk", voice.batch(1, [later])) == [ack(1)]
    with center.database.reading() as connection:
        (found,) = events.search(connection, events.Filter())
    assert found["later"] == {"depth": [1, 2.5, None]}


def test_bytes_that_cannot_be_read_are_shown_by_their_columns(center: Rig, voice: Voice) -> None:
    """What an earlier version took must not hide the others."""
    center.hear("w1", "ev/bulk", voice.batch(1, crossings(2)))
    with center.database.transaction() as connection:
        connection.execute(update(events_table).where(events_table.c.seq == 1).values(body=POISON))
    with center.database.reading() as connection:
        poison, sane = events.search(connection, events.Filter(), "asc")
    assert (poison["kind"], poison["camera"], poison["seq"]) == ("unreadable", "c1", 1)
    assert (sane["kind"], sane["seq"]) == ("crossing", 2)


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


@SQLITE_ONLY
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
        b"{" + b" " * 300_000,
        b'{"k":"ev","session":"s","fence":1,"epoch":1,"lane":"bulk","first":1,"events":[1],'
        b'"express":true}',
    ],
)
def test_an_unreadable_batch_is_put_aside(center: Rig, voice: Voice, payload: bytes) -> None:
    """It is counted, kept as a dead letter and refused by name, and the next batch is taken."""
    batch = voice.batch(1, crossings(1))
    refused, acked = center.hear("w1", "ev/bulk", payload, msgspec.json.encode(batch))
    assert isinstance(refused, Refused)
    assert (refused.session, refused.batch) == ("session-1", batch_name(payload))
    assert refused.reason
    assert acked == ack(1)
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


@SQLITE_ONLY
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


def test_gaps_that_overlap_are_declared_once(center: Rig, voice: Voice) -> None:
    """I3: of two gaps from one number on, the longer is not forgotten."""
    lost = [Gap(first=1, last=2, why="shed"), Gap(first=1, last=6, why="corrupt")]
    assert center.hear("w1", "ev/bulk", voice.batch(7, [], gaps=lost)) == [ack(6)]
    assert sound(center)


def test_an_open_ended_gap_closes_an_epoch(center: Rig, voice: Voice) -> None:
    """A salvaged epoch ends with it; what comes again of the epoch is acknowledged."""
    lost = [Gap(first=3, last=OPEN_END, why="corrupt")]
    batch = voice.batch(1, crossings(2), gaps=lost)
    assert center.hear("w1", "ev/bulk", batch) == [ack(OPEN_END)]
    assert center.hear("w1", "ev/bulk", batch) == [ack(OPEN_END)]
    assert stored(center) == [1, 2]
    assert sound(center)


def test_an_open_ended_gap_may_come_alone(center: Rig, voice: Voice) -> None:
    """I1: an epoch of which nothing could be salvaged ends too."""
    lost = [Gap(first=1, last=OPEN_END, why="corrupt")]
    assert center.hear("w1", "ev/bulk", voice.batch(OPEN_END + 1, [], gaps=lost)) == [ack(OPEN_END)]
    assert sound(center)


# --- express -----------------------------------------------------------------------------------


def express(voice: Voice, seq: int, event: Event) -> Batch:
    return msgspec.structs.replace(voice.batch(seq, [event], lane="alarm"), express=True)


def test_an_alarm_overtakes_its_lane(center: Rig, voice: Voice) -> None:
    """I2: stored at once, unanswered and once; the watermark waits for those before it."""
    said = [alarm("start", "a"), alarm("update", "a"), alarm("start", "b")]
    assert center.hear("w1", "ev/alarm", express(voice, 3, said[2])) == []
    assert open_now(center) == ["b"]
    assert sound(center)
    in_turn = voice.batch(1, said, lane="alarm")
    assert center.hear("w1", "ev/alarm", in_turn) == [ack(3, "alarm")]
    assert stored(center) == [1, 2, 3]
    assert center.count("events_duplicate_total") == 1
    assert center.hear("w1", "ev/alarm", express(voice, 3, said[2])) == []
    assert stored(center) == [1, 2, 3]
    assert sorted(open_now(center)) == ["a", "b"]
    assert sound(center)


def test_an_end_may_overtake_its_start(center: Rig, voice: Voice) -> None:
    """The start that comes after it in its turn opens nothing, in the same transaction or not."""
    said = [alarm("start", "a"), alarm("end", "a")]
    center.hear("w1", "ev/alarm", express(voice, 2, said[1]))
    center.hear("w1", "ev/alarm", voice.batch(1, said, lane="alarm"))
    assert open_now(center) == []
    early = express(voice, 4, alarm("end", "b"))
    late = voice.batch(3, [alarm("start", "b"), alarm("end", "b")], lane="alarm")
    center.hear("w1", "ev/alarm", early, late)
    assert open_now(center) == []
    assert stored(center) == [1, 2, 3, 4]


def test_another_body_under_the_number_of_an_express_alarm(center: Rig, voice: Voice) -> None:
    """The first stays, the other is a dead letter, above the watermark and below it."""
    center.hear("w1", "ev/alarm", express(voice, 2, alarm("start", "a")))
    said = [alarm("start", "b"), alarm("start", "c")]
    assert center.hear("w1", "ev/alarm", voice.batch(1, said, lane="alarm")) == [ack(2, "alarm")]
    assert open_now(center) == ["a", "b"]
    assert center.hear("w1", "ev/alarm", express(voice, 1, alarm("end", "b"))) == []
    assert center.count("identity_conflicts_total") == 2
    with center.database.reading() as connection:
        assert connection.execute(select(func.count()).select_from(dead_letters)).scalar() == 2


@settings(max_examples=15)
@given(st.permutations(range(6)), st.lists(st.integers(0, 6), min_size=2, max_size=4))
def test_incidents_are_open_whatever_the_order(order: list[int], cuts: list[int]) -> None:
    """An incident whose end has come is closed, in whichever order and grouping the epochs come."""
    said = [("start", "a"), ("end", "a"), ("start", "b"), ("start", "a"), ("end", "c")]
    said.append(("start", "c"))
    with TemporaryDirectory() as folder, rig(Path(folder)) as center:
        furnish(center.desk)
        center.hear("w1", "hello", Voice().hello())
        voice = Voice(fence=1)
        batches = [voice.batch(1, [alarm(*said[n])], lane="alarm", epoch=n + 1) for n in order]
        for first, last in pairwise(sorted({0, *cuts, len(batches)})):
            center.hear("w1", "ev/alarm", *batches[first:last])
        assert open_now(center) == ["b"]


# --- credit and clocks -------------------------------------------------------------------------


def test_an_ack_restates_the_leave_for_backlog(center: Rig, voice: Voice) -> None:
    """For backlog of lane bulk alone, until all that was asked for has come."""
    center.credit.ask("w1", "session-1", 4)
    late = [voice.batch(n, crossings(2, first=n), backfill=True) for n in (1, 3, 5)]
    assert center.hear("w1", "ev/bulk", late[0]) == [msgspec.structs.replace(ack(2), credit_s=30.0)]
    assert center.hear("w1", "ev/bulk", late[1]) == [msgspec.structs.replace(ack(4), credit_s=0.0)]
    alarms = voice.batch(1, [alarm("start", "a")], lane="alarm", backfill=True)
    assert center.hear("w1", "ev/alarm", alarms) == [ack(1, "alarm")]
    assert center.hear("w1", "ev/bulk", voice.batch(5, crossings(2, first=5))) == [ack(6)]


def test_times_are_corrected(center: Rig, voice: Voice) -> None:
    """Where the wall clock was off; the raw time stays, filters go by the corrected one."""
    boot = "m1-p1"
    reading = Clock(wall_ms=0, boot_ms=1_000_000)
    hello = Voice(boot=boot, session="session-2").hello(clock=reading)
    center.hear("w1", "hello", hello)
    voice = Voice(boot=boot, session="session-2", fence=2)
    now_ms = center.clock.now_ms()
    said = [
        crossing(1, t_ms=now_ms - 500, boot=boot, boot_ms=1_000_000),
        crossing(2, t_ms=5_000, boot="m1-p0", boot_ms=900_000),
        crossing(3, t_ms=5_000, boot="m2-p0", boot_ms=900_000),
        crossing(4, t_ms=5_000, boot=boot),
        crossing(5, t_ms=5_000),
    ]
    center.hear("w1", "ev/bulk", voice.batch(1, said))
    with center.database.reading() as connection:
        kept = events.search(connection, events.Filter(), "asc")
        after = events.search(connection, events.Filter(since_ms=now_ms - 200_000), "asc")
    assert [(one["at_ms"], one["clock"]) for one in kept] == [
        (now_ms - 500, ""),
        (now_ms - 100_000, "corrected"),
        (5_000, "uncertain"),
        (5_000, "uncertain"),
        (5_000, ""),
    ]
    assert [one["track"] for one in after] == [1, 2]
    assert kept[1]["t_ms"] == 5_000
    assert sound(center)


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
