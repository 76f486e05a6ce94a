"""Documents on their way: deltas from what a worker has, parts of what is large, no flood."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError

from center import db, dispatch, tasks
from center.admission import Bucket, Sluice
from center.documents import LATE_S
from center.downlink import Downlink, Terms
from center.tables import desired_history
from tests.parts.centers import Rig, furnish, rig, station, task, worker
from tests.parts.workers import Voice
from wire import codec, messages, specs
from wire.messages import PART_BYTES, Delta, Desired, Down, Item, Known, Observed, Welcome

Document = dict[tuple[str, str], Item]


LARGE = {
    f"zone-{number}": [[0.1 + step / 1000, step * step / 5000] for step in range(64)]
    for number in range(8)
}
"""Zones that make a task some 9 KB long."""


def digest_of(document: Document) -> str:
    return messages.digest(
        (item.kind, item.id, item.revision, messages.item_hash(item.body))
        for item in document.values()
    )


def taken(document: Document, known: Known, said: Iterable[Down]) -> tuple[Document, Known]:
    """What a worker has after these messages: all parts together, a delta only from its base."""
    parts: list[Desired] = []
    for message in said:
        if isinstance(message, Desired):
            parts.append(message)
            if message.part < message.parts:
                continue
            document = {(i.kind, i.id): i for part in parts for i in part.items}
        elif isinstance(message, Delta):
            if (message.base_digest, message.generation) != (known.digest, known.generation):
                continue
            document = {**document, **{(item.kind, item.id): item for item in message.puts}}
            for gone in message.removed:
                document.pop((gone.kind, gone.id), None)
        else:
            continue
        assert digest_of(document) == message.digest
        assert message.empty == (not document)
        known = Known(
            generation=message.generation, revision=message.revision, digest=message.digest
        )
    return document, known


def join(center: Rig, voice: Voice) -> tuple[Voice, Document]:
    """A welcomed session that has its document and has said so."""
    said = center.hear(voice.worker, "hello", voice.hello())
    assert isinstance(said[0], Welcome)
    document, known = taken({}, voice.desired, said)
    voice = replace(voice, fence=said[0].fence, desired=known)
    assert center.hear(voice.worker, "hb", voice.heartbeat()) == []
    return voice, document


def sent(center: Rig) -> list[Down]:
    """What the downlink sends at its next turn to those whose documents have changed."""
    center.downlink.wake(center.woken)
    center.woken.clear()
    center.downlink.take([])
    return center.link.said()


def furnish_many(center: Rig, count: int, **spec: Any) -> None:
    """So many tasks in one edit."""
    furnish(center.desk)
    with center.database.transaction() as connection:
        for number in range(count):
            tasks.put(connection, task(f"t{number}", **spec), 1)
        dispatch.refresh(connection, "s1", 1)
    center.woken.clear()


def test_an_edit_is_sent_as_a_delta(center: Rig) -> None:
    """C4: only what has changed, from the document that the worker said it has."""
    furnish(center.desk, "t1", "t2", "t3")
    voice, document = join(center, Voice())
    assert sent(center) == []
    center.desk.put(task("t2", fps=9.0))
    center.desk.delete_task("s1", "t3")
    (delta,) = sent(center)
    assert isinstance(delta, Delta)
    assert [item.id for item in delta.puts] == ["t2"]
    assert [gone.id for gone in delta.removed] == ["t3"]
    _, known = taken(document, voice.desired, [delta])
    assert center.hear("w1", "hb", replace(voice, desired=known).heartbeat()) == []


def test_a_delta_that_leaves_nothing_says_so(center: Rig) -> None:
    """A bug must not stop a station."""
    furnish(center.desk, "t1")
    voice, document = join(center, Voice())
    center.desk.delete_task("s1", "t1")
    (delta,) = sent(center)
    assert isinstance(delta, Delta)
    assert delta.empty
    assert taken(document, voice.desired, [delta])[0] == {}


def test_a_reconnect_after_one_edit_costs_little(center: Rig) -> None:
    """C4: with one of many tasks changed, both ways stay far below 2,560 bytes."""
    furnish_many(center, 100)
    voice, _ = join(center, Voice())
    center.desk.put(task("t50", fps=9.0))
    hello = replace(voice, session="session-2").hello()
    welcome, delta = center.hear("w1", "hello", hello)
    assert isinstance(delta, Delta)
    assert sum(len(codec.encode(one)) for one in (hello, welcome, delta)) < 2000


def test_a_large_document_comes_in_parts(center: Rig) -> None:
    """In parts of 192 KiB that together have the digest; what changed after is a delta again."""
    furnish_many(center, 60, zones=LARGE)
    said = center.hear("w1", "hello", Voice().hello())
    parts = [one for one in said if isinstance(one, Desired)]
    assert [one.part for one in parts] == list(range(1, parts[0].parts + 1))
    assert len(parts) > 2
    for part in parts:
        assert sum(len(bytes(item.body)) for item in part.items) <= PART_BYTES
    document, known = taken({}, Known(), parts)
    assert len(document) == 61
    voice = Voice(fence=1, desired=known)
    center.hear("w1", "hb", voice.heartbeat())
    center.desk.delete_task("s1", "t1")
    (delta,) = sent(center)
    assert isinstance(delta, Delta)


def test_a_delta_too_large_for_a_message_is_the_whole_document(center: Rig) -> None:
    """Many changes at once come in parts."""
    furnish(center.desk, "t0")
    join(center, Voice())
    furnish_many(center, 40, zones=LARGE)
    center.downlink.wake(["w1"])
    said = sent(center)
    assert len(said) > 1
    assert all(isinstance(one, Desired) for one in said)


@pytest.mark.parametrize(
    "changes",
    [
        {"digest": "another"},
        {"generation": 1},
        {"revision": 1},
        {"revision": 0, "digest": "", "generation": 0},
    ],
)
def test_a_document_that_the_center_does_not_know(center: Rig, changes: dict[str, Any]) -> None:
    """I5: a delta starts only where the center is sure of the base; else the whole is sent."""
    furnish(center.desk, "t1")
    voice, _ = join(center, Voice())
    center.desk.put(task("t1", fps=9.0))
    claimed = msgspec.structs.replace(voice.desired, **changes)
    hello = replace(voice, session="session-2", desired=claimed).hello()
    _, document = center.hear("w1", "hello", hello)
    assert isinstance(document, Desired)


def test_history_and_tombstones_are_bounded(center: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """I8: who has a document from before the oldest that is remembered gets the whole one."""
    monkeypatch.setattr("center.dispatch.MAX_HISTORY", 3)
    furnish(center.desk, "t1")
    join(center, Voice())
    for fps in (1.0, 2.0):
        center.desk.put(task("t1", fps=fps))
    (near,) = sent(center)
    assert isinstance(near, Delta)
    center.desk.put(task("t1", fps=3.0))
    (far,) = sent(center)
    assert isinstance(far, Desired)
    with center.database.reading() as connection:
        assert connection.execute(select(func.count()).select_from(desired_history)).scalar() == 3


def test_no_delta_from_before_the_oldest_tombstone(
    center: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I5: a removal that is not remembered any more cannot be told, so the whole is sent."""
    monkeypatch.setattr("center.dispatch.MAX_TOMBSTONES", 2)
    furnish(center.desk, "t1", "t2", "t3", "t4")
    voice, document = join(center, Voice())
    for name in ("t1", "t2"):
        center.desk.delete_task("s1", name)
    (delta,) = sent(center)
    assert isinstance(delta, Delta)
    center.desk.delete_task("s1", "t3")
    (whole,) = sent(center)
    assert isinstance(whole, Desired)
    assert len(taken(document, voice.desired, [whole])[0]) == 2


def test_who_followed_but_not_to_the_end_is_sent_the_rest(center: Rig) -> None:
    """An edit that comes while another is on its way starts from what the worker had before; it
    gets the rest as soon as it says what it has."""
    furnish(center.desk, "t1")
    voice, document = join(center, Voice())
    said: list[Down] = []
    for fps in (1.0, 2.0):
        center.desk.put(task("t1", fps=fps))
        said += sent(center)
    document, known = taken(document, voice.desired, said)
    report = Observed(session=voice.session, desired=known, items=[])
    rest = center.hear("w1", "observed", report)
    assert [type(one) for one in rest] == [Delta]
    _, known = taken(document, known, rest)
    report = Observed(session=voice.session, desired=known, items=[])
    assert center.hear("w1", "observed", report) == []


def test_no_flood_of_whole_documents(center: Rig) -> None:
    """Beyond the rate they wait in line and go out as time passes; deltas and welcomes do not."""
    names = [f"w{number}" for number in range(10)]
    center.desk.put(station())
    for name in names:
        center.desk.put(worker(name))
    sluice = Sluice(documents=Bucket(2.0, 4.0))
    downlink = Downlink(
        center.database, center.link, center.clock, Terms(), center.metrics, sluice=sluice
    )
    center = replace(center, downlink=downlink)
    said = [one for name in names for one in center.hear(name, "hello", Voice(name).hello())]
    assert [type(one) for one in said].count(Welcome) == 10
    counts = [[type(one) for one in said].count(Desired)]
    for _ in range(4):
        center.clock.pass_s(1)
        center.downlink.take([])
        counts.append(len(center.link.said()))
    assert counts == [4, 2, 2, 2, 0]


def test_a_busy_database_after_the_answers_is_tried_again_later(
    center: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The group was answered, so it is not handled twice; the document goes out next time."""
    furnish(center.desk, "t1")
    hello = Voice().hello()

    def busy() -> None:
        raise OperationalError("SELECT", {}, Exception("database is locked"))

    with monkeypatch.context() as patched:
        patched.setattr(center.database, "reading", busy)
        (welcome,) = center.hear("w1", "hello", hello)
    assert isinstance(welcome, Welcome)
    center.downlink.take([])
    assert [type(one) for one in center.link.said()] == [Desired]


EDITS = st.one_of(
    st.tuples(st.just("put"), st.sampled_from(["t1", "t2", "t3"]), st.sampled_from([1.0, 2.0])),
    st.tuples(st.just("delete"), st.sampled_from(["t1", "t2", "t3"])),
    st.tuples(st.just("send"), st.sampled_from(["arrives", "is lost", "comes twice"])),
    st.tuples(st.just("hello"), st.booleans()),
    st.just(("restore",)),
)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(story=st.lists(EDITS, max_size=12))
def test_whatever_happens_they_converge(
    tmp_path_factory: pytest.TempPathFactory, story: list[tuple[Any, ...]]
) -> None:
    """I5: edits, losses, repetitions, reconnects and a renewed generation end in one document."""
    with rig(tmp_path_factory.mktemp("center")) as center:
        furnish(center.desk)
        voice, document = join(center, Voice())
        known, sessions = voice.desired, 1
        for what, *words in story:
            said: list[Down] = []
            if what == "put":
                center.desk.put(task(words[0], fps=words[1]))
            elif what == "delete":
                _delete(center, words[0])
            elif what == "send":
                times = {"arrives": 1, "is lost": 0, "comes twice": 2}[words[0]]
                said = sent(center) * times
            elif what == "hello":
                sessions += 1
                voice = replace(voice, session=f"session-{sessions}", desired=known)
                said = center.hear("w1", "hello", voice.hello()) if words[0] else []
                voice = replace(voice, fence=max(voice.fence, 1))
                if not words[0]:
                    center.hear("w1", "hello", voice.hello())
            else:
                with center.database.transaction() as connection:
                    db.renew_generation(connection, db.generation(connection))
            document, known = taken(document, known, said)
        for _ in range(3):
            center.clock.pass_s(LATE_S)
            beat = replace(voice, desired=known).heartbeat()
            document, known = taken(document, known, center.hear("w1", "hb", beat))
        with center.database.reading() as connection:
            assert known == dispatch.known(connection, "w1")
            whole = dispatch.whole(connection, "w1", "any")
        assert document == taken({}, Known(), whole)[0]


def _delete(center: Rig, name: str) -> None:
    with center.database.reading() as connection:
        there = {view["metadata"]["name"] for view in tasks.views(connection, 0, 1.0)}
    if name in there:
        center.desk.delete_task("s1", name)


def test_a_worker_learns_its_stations_time_zone(center: Rig) -> None:
    """It comes with the tasks that need it, changes with the station, and UTC needs no word."""
    furnish(center.desk, "t1")
    voice, document = join(center, Voice())
    assert ("Station", "s1") not in document
    center.desk.put(station(title="Bay", time_zone="Europe/Berlin"))
    document, known = taken(document, voice.desired, sent(center))
    body = specs.parse(msgspec.json.decode(document["Station", "s1"].body))
    assert isinstance(body, specs.Station)
    assert body.spec == specs.StationSpec(time_zone="Europe/Berlin")
    center.desk.put(station(time_zone="UTC"))
    voice = replace(voice, desired=known)
    center.hear(voice.worker, "hb", voice.heartbeat())
    document, _ = taken(document, known, sent(center))
    assert ("Station", "s1") not in document


@pytest.mark.parametrize("zone", ["Mars/Olympus", "../../etc/passwd", "/etc/passwd", "Europe", ""])
def test_a_time_zone_that_nobody_knows_is_refused(center: Rig, zone: str) -> None:
    """The error names the field and says how a zone is written."""
    with pytest.raises(specs.SpecError, match=r"spec\.time_zone: no time zone .* Europe/Berlin"):
        center.desk.put(station(time_zone=zone))
