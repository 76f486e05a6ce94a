"""The downlink: who is welcomed, what each session is told, and what is kept of what it says."""

import logging
import sqlite3
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from center import db, dispatch, observed, presence, tasks, workers
from center.admission import Door
from center.credit import Credit
from center.documents import LATE_S
from center.downlink import Downlink, Terms
from center.tables import desired_items, observed_items, open_incidents
from tests.parts.centers import SQLITE_ONLY, Rig, camera, furnish, rig, station, task, worker
from tests.parts.workers import Voice, crossing, held
from wire import messages, specs
from wire.messages import (
    Ask,
    Bye,
    Deny,
    Desired,
    ItemObserved,
    Known,
    Observed,
    StreamHealth,
    Up,
    Welcome,
    Will,
)
from wire.topics import UpChannel


def known(document: Desired) -> Known:
    return Known(generation=document.generation, revision=document.revision, digest=document.digest)


def state(center: Rig, name: str = "w1") -> str:
    return str(status(center, name)["state"])


def status(center: Rig, name: str = "w1") -> dict[str, object]:
    with center.database.reading() as connection:
        view = workers.view(connection, name, center.clock.now_ms(), 10.0)
    found: dict[str, object] = view["status"]
    return found


def join(center: Rig, voice: Voice) -> tuple[Voice, Desired]:
    """A welcomed session that has taken its document."""
    welcome, document = center.hear(voice.worker, "hello", voice.hello())
    assert isinstance(welcome, Welcome)
    assert isinstance(document, Desired)
    center.clock.pass_s(LATE_S)  # what was sent has arrived, or it will not
    return replace(voice, fence=welcome.fence, desired=known(document)), document


def test_hello_welcome_document(center: Rig) -> None:
    """A first hello is welcomed; then comes the whole document, verbatim, with its digest."""
    furnish(center.desk, "t1", "t2")
    welcome, document = center.hear("w1", "hello", Voice().hello())
    assert isinstance(welcome, Welcome)
    assert (welcome.session, welcome.fence, welcome.heartbeat_s) == ("session-1", 1, 10.0)
    assert isinstance(document, Desired)
    assert document.generation == welcome.generation
    assert [(item.kind, item.id) for item in document.items] == [
        ("Camera", "c1"),
        ("Task", "t1"),
        ("Task", "t2"),
    ]
    assert document.digest == messages.digest(
        (item.kind, item.id, item.revision, messages.item_hash(item.body))
        for item in document.items
    )
    assert bytes(document.items[1].body) == specs.canonical(task("t1"))
    assert not document.empty


def test_an_unchanged_document_is_not_sent_again(center: Rig) -> None:
    """C4: who has the document is only welcomed."""
    furnish(center.desk, "t1")
    voice, _ = join(center, Voice())
    (welcome,) = center.hear("w1", "hello", replace(voice, session="session-2").hello())
    assert isinstance(welcome, Welcome)


def test_a_worker_without_tasks_is_told_so(center: Rig) -> None:
    """An empty document says that it is empty."""
    furnish(center.desk)
    _, document = join(center, Voice())
    assert document.empty
    assert document.items == []


def test_hello_is_idempotent(center: Rig) -> None:
    """The same boot and session get the same fence, however often."""
    furnish(center.desk)
    said = center.hear("w1", "hello", Voice().hello(), Voice().hello())
    assert [one.fence for one in said if isinstance(one, Welcome)] == [1, 1]


def test_two_instances(center: Rig) -> None:
    """A second device is refused while the first is heard, and accepted after its bye."""
    furnish(center.desk)
    first, _ = join(center, Voice())
    other = Voice(instance="disk-2", boot="boot-9", session="session-9")
    (denied,) = center.hear("w1", "hello", other.hello())
    assert isinstance(denied, Deny)
    assert (denied.code, denied.session) == ("fenced", "session-9")
    assert "fenced: another device" in str(status(center)["denied"])
    center.hear("w1", "bye", Bye(session=first.session))
    welcome = center.hear("w1", "hello", other.hello())[0]
    assert isinstance(welcome, Welcome)
    assert welcome.fence == 2
    assert status(center)["denied"] == ""


def challenge(center: Rig, voice: Voice) -> str:
    """What an outdated boot is told."""
    (denied,) = center.hear("w1", "hello", voice.hello())
    assert isinstance(denied, Deny)
    assert (denied.code, denied.retry_after_s, denied.session) == ("retry", 0.0, voice.session)
    return denied.challenge


def test_a_late_copy_of_an_old_hello_changes_nothing(center: Rig) -> None:
    """It is challenged, and the process that is outdated for good never answers."""
    furnish(center.desk)
    join(center, Voice(boot="boot-1"))
    newer, _ = join(center, Voice(boot="boot-2", session="session-2"))
    before = status(center)
    old = Voice(boot="boot-1", session="session-1")
    assert challenge(center, old) == challenge(center, old) != ""
    assert status(center) == before
    assert center.hear("w1", "hb", newer.heartbeat()) == []
    assert center.count("clones_total") == 0


def test_a_cloned_disk(center: Rig) -> None:
    """The elder of two living clones keeps the name; the other waits for an operator's word."""
    furnish(center.desk)
    elder, _ = join(center, Voice(boot="boot-1"))
    younger, _ = join(center, Voice(boot="boot-2", session="session-2"))
    elder = replace(elder, session="session-3")
    nonce = challenge(center, elder)
    (welcome,) = center.hear("w1", "hello", elder.hello(challenge=nonce))
    assert isinstance(welcome, Welcome)
    assert welcome.fence == 3
    assert center.count("clones_total") == 1
    assert "two agents" in str(status(center)["trouble"])
    (denied,) = center.hear("w1", "hello", younger.hello())
    assert isinstance(denied, Deny)
    assert denied.code == "fenced"
    elder = replace(elder, fence=3)
    assert center.hear("w1", "hb", elder.heartbeat()) == []
    center.desk.replace_worker("w1")
    welcome = center.hear("w1", "hello", younger.hello())[0]
    assert isinstance(welcome, Welcome)
    assert welcome.fence == 4
    (denied,) = center.hear("w1", "hello", elder.hello())
    assert isinstance(denied, Deny)
    assert denied.code == "fenced"


def test_a_clone_that_went_away_is_no_trouble_any_more(center: Rig) -> None:
    """Ten minutes after its last word operators need not look any more."""
    furnish(center.desk)
    elder, _ = join(center, Voice(boot="boot-1"))
    join(center, Voice(boot="boot-2", session="session-2"))
    elder = replace(elder, session="session-3")
    center.hear("w1", "hello", elder.hello(challenge=challenge(center, elder)))
    assert status(center)["trouble"] != ""
    center.clock.pass_s(601)
    center.hear("w1", "hb", elder.heartbeat(fence=3))
    assert status(center)["trouble"] == ""


@pytest.mark.parametrize(
    ("words", "code", "hint"),
    [
        ({"worker": "w2"}, "revoked", "certificate"),
        ({"versions": ["9.0"]}, "upgrade", "1.0"),
        ({"versions": []}, "upgrade", "none"),
    ],
)
def test_a_hello_that_is_denied(
    center: Rig, words: dict[str, object], code: str, hint: str
) -> None:
    """A wrong name or version is refused in a sentence that helps, and operators see it."""
    furnish(center.desk)
    (denied,) = center.hear("w1", "hello", Voice().hello(**words))
    assert isinstance(denied, Deny)
    assert denied.code == code
    assert hint in denied.reason
    assert str(status(center)["denied"]).startswith(code)
    assert state(center) == "Unknown"


def test_strangers_are_turned_away(center: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """An unregistered worker is denied, remembered in a bounded list, and logged once a minute."""
    with caplog.at_level(logging.WARNING):
        for number in range(150):
            name = f"stranger-{number}"
            (denied,) = center.hear(name, "hello", Voice(worker=name).hello())
            assert isinstance(denied, Deny)
            assert denied.code == "revoked"
    assert len(center.downlink.strangers()) == 100
    assert len(caplog.records) == 1
    assert center.hear("stranger-1", "will", Will(session="x")) == []


def test_a_heartbeat_is_kept(center: Rig) -> None:
    """Presence, pending, shed and streams are what the last heartbeat said."""
    furnish(center.desk, "t1")
    voice, _ = join(center, Voice())
    center.clock.pass_s(100)
    assert state(center) == "Autonomous"
    health = StreamHealth(camera="c1", stream="main", state="running", decoded_fps=5.0)
    assert center.hear("w1", "hb", voice.heartbeat(shed=3, streams=[health])) == []
    assert state(center) == "Online"
    found = status(center)
    assert found["pending"] == {"alarm": 1, "bulk": 2}
    assert found["shed"] == 3
    assert found["streams"] == [msgspec.to_builtins(health)]
    assert found["observed_revision"] == voice.desired.revision


def test_silent_divergence_heals(center: Rig) -> None:
    """I5: a heartbeat with another digest is answered by the whole document, once."""
    furnish(center.desk, "t1")
    voice, document = join(center, Voice())
    astray = replace(voice, desired=Known(generation=1, revision=1, digest="?"))
    assert center.hear("w1", "hb", astray.heartbeat()) == [document]
    assert center.hear("w1", "hb", voice.heartbeat()) == []
    assert center.hear("w1", "hb", astray.heartbeat()) == [document], "it may happen again"


def test_a_document_on_its_way_is_not_sent_again(center: Rig) -> None:
    """A heartbeat that crosses the document, or was said before it came, asks for nothing."""
    furnish(center.desk, "t1")
    welcome, document = center.hear("w1", "hello", Voice().hello())
    assert isinstance(welcome, Welcome)
    crossing = Voice(fence=welcome.fence)
    assert center.hear("w1", "hb", crossing.heartbeat()) == []
    center.clock.pass_s(LATE_S)
    assert center.hear("w1", "hb", crossing.heartbeat()) == [document]


def test_what_does_not_heal_is_told_instead_of_repeated(center: Rig) -> None:
    """I5: after a second mismatch it waits for the next change, and operators see why."""
    furnish(center.desk, "t1")
    voice, document = join(center, Voice())
    astray = replace(voice, desired=Known(generation=1, revision=1, digest="?"))
    assert center.hear("w1", "hb", astray.heartbeat()) == [document]
    for _ in range(3):
        assert center.hear("w1", "hb", astray.heartbeat()) == []
    assert center.count("desired_stuck_total") == 1
    assert "sent twice" in str(status(center)["trouble"])
    center.desk.put(task("t1", fps=9.0))
    assert status(center)["trouble"] == ""
    center.downlink.wake(["w1"])
    center.downlink.take([])
    (changed,) = center.link.said()
    assert isinstance(changed, Desired)
    healed = replace(voice, desired=known(changed))
    assert center.hear("w1", "hb", healed.heartbeat()) == []


def test_a_new_session_tries_again(center: Rig) -> None:
    """I5: what could not be healed is forgotten with the session."""
    furnish(center.desk, "t1")
    voice, _ = join(center, Voice())
    astray = replace(voice, desired=Known(generation=1, revision=1, digest="?"))
    for _ in range(3):
        center.hear("w1", "hb", astray.heartbeat())
    assert status(center)["trouble"] != ""
    again = replace(astray, session="session-2")
    _, resent = center.hear("w1", "hello", again.hello())
    assert isinstance(resent, Desired)
    assert status(center)["trouble"] == ""
    center.clock.pass_s(LATE_S)
    assert len(center.hear("w1", "hb", again.heartbeat())) == 1


def test_observed_that_differs_is_asked_for_once(center: Rig) -> None:
    """I5: while both have the document, another observed digest is asked about, then told."""
    furnish(center.desk, "t1")
    voice, document = join(center, Voice())
    revision = document.items[1].revision
    running = voice.observed("Task", "t1", revision, "Running")
    digest = messages.observed_digest(running.items)
    astray = replace(voice, desired=Known(generation=1, revision=1, digest="?"))
    assert center.hear("w1", "hb", astray.heartbeat(observed=digest)) == [document]
    ask = Ask(session=voice.session, what="observed")
    assert center.hear("w1", "hb", voice.heartbeat(observed=digest)) == [ask]
    assert center.hear("w1", "observed", running) == []
    assert center.hear("w1", "hb", voice.heartbeat(observed=digest)) == []
    assert center.hear("w1", "hb", voice.heartbeat(observed="another")) == [ask]
    for _ in range(3):
        assert center.hear("w1", "hb", voice.heartbeat(observed="another")) == []
    assert center.count("observed_stuck_total") == 1
    assert "asked" in str(status(center)["trouble"])
    again = replace(voice, session="session-2")
    said = center.hear("w1", "hello", again.hello(observed="another"))
    assert said[1:] == [Ask(session="session-2", what="observed")]
    center.hear("w1", "hb", again.heartbeat(observed=digest))
    assert status(center)["trouble"] == ""


def test_the_observed_digest_is_of_what_is_stored(center: Rig) -> None:
    """I5: it follows each message, which may name only some items, and each removal."""
    furnish(center.desk, "t1", "t2")
    voice, document = join(center, Voice())
    items = [
        ItemObserved(kind=item.kind, id=item.id, revision=item.revision, state="Running", reason=r)
        for item, r in zip(document.items, ["", "a\nb", "ü" * 400], strict=True)
    ]
    for part in (items[:1], items[1:]):
        said = Observed(session=voice.session, desired=voice.desired, items=part)
        center.hear("w1", "observed", said)
    digest = messages.observed_digest(items)
    assert center.hear("w1", "hb", voice.heartbeat(observed=digest)) == []
    center.desk.delete_task("s1", "t2")
    with center.database.reading() as connection:
        heard = presence.of_worker(connection, "w1")
        assert heard is not None
        assert heard.observed_digest == messages.observed_digest(items[:2])
        assert heard.observed_digest == observed.digest(connection, "w1")


def test_an_edit_is_sent_to_the_welcomed(center: Rig) -> None:
    """A change wakes its worker, and the worker gets the document that it led to."""
    furnish(center.desk, "t1")
    join(center, Voice())
    center.woken.clear()
    center.desk.put(task("t1", fps=9.0))
    assert center.woken == ["w1"]
    center.downlink.wake(center.woken)
    center.downlink.take([])
    (document,) = center.link.said()
    assert isinstance(document, Desired), "what the worker has it has not said yet"
    assert b'"fps":9.0' in bytes(document.items[1].body)


def test_what_cannot_be_sent_now_is_sent_when_the_link_is_back(center: Rig) -> None:
    """A change made while the broker is away is sent when it is there again."""
    furnish(center.desk, "t1")
    join(center, Voice())
    center.link.connection = None
    center.downlink.wake(["w1"])
    center.downlink.take([])
    assert center.link.said() == []
    center.link.connection = 2
    center.downlink.take([])
    assert len(center.link.said()) == 1


def test_a_document_that_the_link_does_not_take_is_sent_at_the_next_turn(
    center: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refused publish drops no wake: the worker need not beat to get its document."""
    furnish(center.desk, "t1")
    join(center, Voice())
    center.downlink.wake(["w1"])
    with monkeypatch.context() as patched:
        patched.setattr(center.link, "publish", lambda *_, **__: False)
        center.downlink.take([])
    center.downlink.take([])
    (document,) = center.link.said()
    assert isinstance(document, Desired)
    center.downlink.take([])
    assert center.link.said() == []


def test_a_busy_database_drops_no_wake(center: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The turn is tried again, and the document goes out then."""
    furnish(center.desk, "t1")
    join(center, Voice())
    center.downlink.wake(["w1"])

    def busy() -> None:
        raise OperationalError("SELECT", {}, sqlite3.OperationalError("database is locked"))

    with monkeypatch.context() as patched:
        patched.setattr(center.database, "reading", busy)
        with pytest.raises(db.UNAVAILABLE):
            center.downlink.take([])
    center.downlink.take([])
    assert len(center.link.said()) == 1


def test_a_silent_worker_keeps_its_tasks(center: Rig) -> None:
    """I6: nothing moves because a worker is gone, for however long."""
    furnish(center.desk, "t1")
    voice, _ = join(center, Voice())
    center.hear("w1", "will", Will(session=voice.session))
    center.clock.pass_s(400 * 86400)
    assert state(center) == "Autonomous"
    center.desk.put(worker("w2"))
    center.desk.put(task("t1"))
    with center.database.reading() as connection:
        kept = {name for name in ("w1", "w2") if dispatch.wanted_keys(connection, name)}
    assert len(kept) == 1, "only the new worker's share may move, and only because it came"


def test_observed_is_kept(center: Rig) -> None:
    """What the worker says of its items is what tasks show; other items are ignored."""
    furnish(center.desk, "t1")
    voice, document = join(center, Voice())
    revision = document.items[1].revision
    center.hear("w1", "observed", voice.observed("Task", "t1", revision, "Running"))
    center.hear("w1", "observed", voice.observed("Task", "ghost", 1, "Running"))
    with center.database.reading() as connection:
        view = tasks.view(connection, "s1", "t1", center.clock.now_ms(), 10.0)
    assert view["status"] == {
        "worker": "w1",
        "desired_revision": revision,
        "observed_revision": revision,
        "state": "Running",
        "reason": "",
    }


@pytest.mark.parametrize("channel", ["hb", "observed", "will", "bye"])
def test_other_sessions_do_not_count(center: Rig, channel: UpChannel) -> None:
    """A late message of another session changes nothing; a living one is told to say hello."""
    furnish(center.desk, "t1")
    join(center, Voice())
    before = status(center)
    late = Voice(session="late", fence=1)
    said: dict[UpChannel, Up] = {
        "hb": late.heartbeat(shed=99),
        "observed": late.observed("Task", "t1", 1, "Rejected"),
        "will": Will(session="late"),
        "bye": Bye(session="late"),
    }
    answers = center.hear("w1", channel, said[channel])
    assert [(type(one), getattr(one, "code", "")) for one in answers] == (
        [(Deny, "retry")] if channel in ("hb", "observed") else []
    )
    assert status(center) == before
    assert center.count("stale_messages_total") == 1


def test_a_restored_database_begins_a_new_generation(center: Rig) -> None:
    """A worker that has a later document than the center was given by a database that is lost."""
    furnish(center.desk, "t1")
    voice, document = join(center, Voice())
    later = Known(generation=document.generation, revision=1000, digest="later")
    welcome, resent = center.hear("w1", "hello", replace(voice, desired=later).hello())
    assert isinstance(welcome, Welcome)
    assert isinstance(resent, Desired)
    assert welcome.generation == resent.generation != document.generation
    again = center.hear("w1", "hello", replace(voice, desired=known(resent)).hello())
    assert len(again) == 1, "once is enough"


@pytest.mark.parametrize(
    "words", [{"fence": 50}, {"epochs": [held(low=11, high=20)]}, {"epochs": [held(11, 10)]}]
)
def test_other_evidence_of_a_restored_database(center: Rig, words: dict[str, Any]) -> None:
    """So does a higher fence, or an acknowledgement that this database does not know of."""
    furnish(center.desk, "t1")
    voice, document = join(center, Voice())
    welcome, resent = center.hear("w1", "hello", voice.hello(**words))
    assert isinstance(welcome, Welcome)
    assert isinstance(resent, Desired)
    assert welcome.generation == resent.generation != document.generation
    center.hear("w1", "hello", voice.hello(**words))
    assert center.count("generations_renewed_total") == 1


@pytest.mark.parametrize(
    "words",
    [
        {"fence": 50, "desired": Known()},
        {"fence": 50, "desired": Known(generation=5, revision=1000, digest="?")},
        {"epochs": [held(low=1, high=20)]},
        {"epochs": [held(low=1, high=0)]},
    ],
)
def test_what_is_no_evidence(center: Rig, words: dict[str, Any]) -> None:
    """Memories of another generation, or of none, and events that were never acknowledged."""
    furnish(center.desk, "t1")
    voice, _ = join(center, Voice())
    center.hear("w1", "hello", voice.hello(**words))
    assert center.count("generations_renewed_total") == 0


def test_all_workers_return_to_a_restored_database(center: Rig) -> None:
    """The generation is raised once, however many remember more; each gets its document."""
    names = [f"w{number}" for number in range(30)]
    center.desk.put(station())
    for name in names:
        center.desk.put(worker(name))
    voices = [join(center, Voice(worker=name))[0] for name in names]
    generations = set()
    for voice in voices:
        later = msgspec.structs.replace(voice.desired, revision=1000, digest="later")
        returning = replace(voice, session="session-2", fence=9, desired=later)
        welcome, document = center.hear(voice.worker, "hello", returning.hello())
        assert isinstance(welcome, Welcome)
        assert isinstance(document, Desired)
        generations |= {welcome.generation, document.generation}
    assert len(generations) == 1
    assert center.count("generations_renewed_total") == 1


def test_a_welcome_tells_the_terms(center: Rig) -> None:
    """Time by the center's clock, the brokers, and leave to send backlog where there is some."""
    furnish(center.desk)
    terms = Terms(heartbeat_s=10.0, brokers=("mqtt://one", "mqtt://two"))
    downlink = Downlink(center.database, center.link, center.clock, terms, center.metrics)
    center = replace(center, downlink=downlink)
    backlog = [held(1, 50), held(1, 5, lane="alarm")]
    welcome, _ = center.hear("w1", "hello", Voice().hello(epochs=backlog))
    assert isinstance(welcome, Welcome)
    assert welcome.now_ms == center.clock.now_ms()
    assert welcome.brokers == ["mqtt://one", "mqtt://two"]
    assert welcome.credit_s > 0
    (welcome,) = center.hear("w1", "hello", Voice(session="session-2").hello())[:1]
    assert isinstance(welcome, Welcome)
    assert welcome.credit_s == 0


def test_credit_is_asked_for_by_heartbeats_and_goes_round(center: Rig) -> None:
    """Who must wait gets it when another has said goodbye, without asking again."""
    furnish(center.desk)
    center.desk.put(worker("w2"))
    credit = Credit(center.clock, leases=1)
    downlink = Downlink(
        center.database, center.link, center.clock, Terms(), center.metrics, credit=credit
    )
    center = replace(center, downlink=downlink)
    first, _ = join(center, Voice())
    second, _ = join(center, Voice(worker="w2", session="session-2"))
    (granted,) = center.hear("w1", "hb", first.heartbeat(backlog=100))
    assert isinstance(granted, messages.Credit)
    assert granted.credit_s > 0
    assert center.hear("w2", "hb", second.heartbeat(backlog=100)) == []
    (turn,) = center.hear("w1", "bye", Bye(session=first.session))
    assert isinstance(turn, messages.Credit)
    assert (turn.session, turn.credit_s > 0) == ("session-2", True)


def test_hellos_beyond_what_the_center_takes_on_wait_their_turn(center: Rig) -> None:
    """They are told when to ask again, one after another, and nothing of them is kept."""
    furnish(center.desk)
    downlink = Downlink(
        center.database,
        center.link,
        center.clock,
        Terms(),
        center.metrics,
        door=Door(rate=10.0, at_once=1.0),
    )
    center = replace(center, downlink=downlink)
    said = center.hear("w1", "hello", *[Voice(session=f"s{n}").hello() for n in range(4)])
    waits = [one.retry_after_s for one in said if isinstance(one, Deny)]
    assert waits == pytest.approx([0.1, 0.2, 0.3])
    assert isinstance(said[0], Welcome)
    assert status(center)["denied"] == ""
    again = center.hear("w1", "hello", Voice(session="s0").hello())[0]
    assert isinstance(again, Welcome), "it is in already"
    center.clock.pass_s(0.2)
    assert isinstance(center.hear("w1", "hello", Voice(session="s3").hello())[0], Welcome)


def test_a_hello_that_tells_drained_lanes_takes_no_credit_away(center: Rig) -> None:
    """It is said on a session that was welcomed; what was granted there is restated."""
    furnish(center.desk)
    (welcome, *_) = center.hear("w1", "hello", Voice().hello(epochs=[held(1, 500, epoch=7)]))
    assert isinstance(welcome, Welcome)
    told = Voice().hello(epochs=[held(6, 5, epoch=8)])
    (again, *_) = center.hear("w1", "hello", told)
    assert isinstance(again, Welcome)
    assert again.credit_s == welcome.credit_s > 0
    assert center.credit.held == 1
    new = Voice(session="session-2").hello(epochs=[held(6, 5, epoch=8)])
    (anew, *_) = center.hear("w1", "hello", new)
    assert isinstance(anew, Welcome)
    assert (anew.credit_s, center.credit.held) == (0, 0)


OURS: list[UpChannel] = ["hello", "hb", "will", "bye", "observed", "rsp"]
CHANNELS: list[UpChannel] = [*OURS, "ev/alarm", "ev/bulk"]


@SQLITE_ONLY
@pytest.mark.parametrize("channel", OURS)
@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\0",
        b"{",
        b"{}",
        b'{"k":"hello"}',
        b'{"k":"welcome"}',
        b"x\x9c\xff",
        b"[" * 100_000,
        b'{"k":"hb","session":"session-1","fence":1,"clock":{"wall_ms":1,"boot_ms":1},'
        b'"desired":{},"pending":{"alarm":99999999999999999999}}',
        b'{"k":"will","session":"' + b"s" * 1000 + b'"}',
        b'{"k":"bye","session":"\\u0000"}',
    ],
)
def test_malformed_payloads_change_nothing(center: Rig, channel: UpChannel, payload: bytes) -> None:
    """Whatever comes on whatever topic is counted, and neither answered nor kept as presence."""
    furnish(center.desk)
    join(center, Voice())
    before = status(center)
    assert center.hear("w1", channel, payload) == []
    assert center.count("unreadable_messages_total") == 1
    assert status(center) == before


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200), st.sampled_from(CHANNELS))
def test_no_bytes_break_the_center(
    tmp_path_factory: pytest.TempPathFactory, payload: bytes, channel: UpChannel
) -> None:
    """Random bytes on any topic raise nothing."""
    with rig(tmp_path_factory.mktemp("center")) as center:
        assert center.hear("w1", channel, payload) == []


def test_passwords_travel_to_the_worker_alone(center: Rig) -> None:
    """I11: the camera's item holds the password; no view and no dry run shows it."""
    furnish(center.desk)
    secret = camera(url="rtsp://user:s3cret@cameras.example/1")
    change = center.desk.put(secret)
    center.desk.put(task())
    _, document = join(center, Voice())
    assert b"s3cret" in bytes(document.items[0].body)
    assert "s3cret" not in repr(change)


def test_a_removed_item_leaves_a_tombstone(center: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tombstones carry the document's revision, hold no body, and only the newest are kept."""
    monkeypatch.setattr("center.dispatch.MAX_TOMBSTONES", 3)
    furnish(center.desk, *(f"t{number}" for number in range(6)))
    for number in range(6):
        center.desk.delete_task("s1", f"t{number}")
    with center.database.reading() as connection:
        (document,) = dispatch.whole(connection, "w1", "any")
        rows = connection.execute(select(desired_items)).all()
    assert document.empty
    assert len(rows) == 3
    assert all(row.removed and row.body is None for row in rows)
    assert max(row.changed_revision for row in rows) == document.revision


def test_nothing_is_left_of_what_is_gone(center: Rig) -> None:
    """I8: a deleted task's observed state goes with it, and a deleted worker's open incidents."""
    furnish(center.desk, "t1")
    voice, document = join(center, Voice())
    revision = document.items[1].revision
    center.hear("w1", "observed", voice.observed("Task", "t1", revision, "Running"))
    start = crossing(phase="start", incident="i1", severity="critical")
    center.hear("w1", "ev/alarm", voice.batch(1, [start], lane="alarm"))
    center.desk.delete_task("s1", "t1")
    center.desk.delete_worker("w1")
    with center.database.reading() as connection:
        for table in (observed_items, open_incidents, desired_items):
            assert connection.execute(select(table)).all() == []


def test_a_deleted_worker_is_revoked_and_may_come_back(center: Rig) -> None:
    """What it says next is denied; registered again, it joins with a higher fence."""
    furnish(center.desk, "t1")
    voice, _ = join(center, Voice())
    center.desk.delete_worker("w1")
    (denied,) = center.hear("w1", "hb", voice.heartbeat())
    assert isinstance(denied, Deny)
    assert denied.code == "revoked"
    center.desk.put(worker("w1"))
    again, document = join(center, replace(voice, session="session-2"))
    assert again.fence > voice.fence
    assert document.revision > voice.desired.revision
    assert center.count("generations_renewed_total") == 0


def test_sessions_of_an_earlier_life_are_called_back(center: Rig) -> None:
    """I1, I5: a center that starts may have been restored: each worker is asked for a hello."""
    furnish(center.desk, "t1")
    voice, _ = join(center, Voice())
    with center.database.transaction() as connection:
        ended = presence.end_sessions(connection)
    assert ended == [("w1", "session-1")]
    downlink = Downlink(
        center.database, center.link, center.clock, Terms(), center.metrics, ended=ended
    )
    downlink.take([])
    (deny,) = center.link.said()
    assert isinstance(deny, Deny)
    assert (deny.code, deny.session) == ("retry", "session-1")
    downlink.take([])
    assert center.link.said() == [], "once"
    (again,) = center.hear("w1", "hb", voice.heartbeat())
    assert isinstance(again, Deny), "whom that does not reach is asked at its next word"
    welcome = center.hear("w1", "hello", voice.hello())[0]
    assert isinstance(welcome, Welcome)
    assert welcome.fence == voice.fence
