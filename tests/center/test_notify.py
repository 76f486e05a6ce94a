"""Notifications: each new alarm is told once, to whom it concerns, whatever becomes of the post."""

import json
import logging
import random
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import httpx
import msgspec
import pytest
from sqlalchemy import Connection, Row, select

from center import events, notify
from center.notifier import Notifier
from center.notify import decide
from center.tables import deliveries
from tests.parts.centers import Rig, furnish
from tests.parts.receivers import Receiver, receiving
from tests.parts.workers import EPOCH, Voice, crossing
from tests.waiting import wait_for
from wire.events import Batch, Event, Gap
from wire.messages import Welcome

API = "/api/v1"
SECRET = "a-secret-of-the-duty-room"
MINUTE_MS = 60_000
GUIDE = Path(__file__).parents[2] / "docs" / "guide" / "notifications.md"


@pytest.fixture
def voice(center: Rig) -> Voice:
    """A welcomed session of worker w1."""
    furnish(center.desk)
    welcome = center.hear("w1", "hello", Voice().hello())[0]
    assert isinstance(welcome, Welcome)
    return Voice(fence=welcome.fence)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


@pytest.fixture
def notifier(center: Rig) -> Iterator[Notifier]:
    with notifying(center) as made:
        yield made


@contextmanager
def notifying(center: Rig) -> Iterator[Notifier]:
    made = Notifier(center.database, center.clock, center.metrics, 900.0, random.Random(1))
    try:
        yield made
    finally:
        made.stop()


def work(notifier: Notifier) -> None:
    """Rounds until nothing more is due."""
    wait_for(lambda: not notifier.step() and not notifier.posting, 10, "a quiet notifier", 0.005)


def alarm(incident: str | None, phase: str | None = "start", **changes: Any) -> Event:
    words = {"kind": "presence", "severity": "critical", "phase": phase, "incident": incident}
    return crossing(**{**words, **changes})


def alarms(
    voice: Voice, first: int, *said: Event, express: bool = False, epoch: int = EPOCH
) -> Batch:
    batch = voice.batch(first, said, lane="alarm", epoch=epoch)
    return msgspec.structs.replace(batch, express=express)


def subscribe(client: httpx.Client, name: str, url: str, **spec: Any) -> dict[str, Any]:
    answer = client.put(f"{API}/webhooks/{name}", json={"url": url, "secret": SECRET, **spec})
    assert answer.status_code == 200, answer.text
    put: dict[str, Any] = answer.json()
    return put


def listed(client: httpx.Client, **asked: Any) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = client.get(f"{API}/notifications", params=asked).json()["items"]
    return items


def verified(headers: dict[str, str], body: bytes, now_ms: int) -> bool:
    """What the guide tells receivers to do, run as it stands there."""
    (snippet,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    room: dict[str, Any] = {}
    exec(snippet, room)  # noqa: S102 - our own document
    age_s = abs(time.time() - now_ms / 1000) + 5
    return bool(room["verified"](SECRET, headers, body, age_s))


# --- the rule of late alarms -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age_min", "still_open", "caught_up", "waited_s", "decision"),
    [
        (-5, False, False, 0, "page"),
        (0, False, False, 0, "page"),
        (15, False, True, 0, "page"),
        (16, True, True, 0, "page"),
        (16, True, False, 0, "wait"),
        (16, True, False, 59, "wait"),
        (16, True, False, 60, "page"),
        (16, False, False, 0, "late"),
        (16, False, True, 99, "late"),
    ],
)
def test_which_alarms_page(
    age_min: int, still_open: bool, caught_up: bool, waited_s: int, decision: str
) -> None:
    """Young ones at once, older ones while they are open; an end on its way is waited for."""
    assert decision == decide(
        age_ms=age_min * MINUTE_MS,
        page_within_ms=15 * MINUTE_MS,
        still_open=still_open,
        caught_up=caught_up,
        waited_ms=waited_s * 1000,
    )


def test_old_alarms_are_listed_and_open_ones_page(
    center: Rig, voice: Voice, client: httpx.Client, receiver: Receiver, notifier: Notifier
) -> None:
    """After an outage one page comes for what is still so; the rest is late."""
    subscribe(client, "duty", receiver.url())
    old_ms = center.clock.now_ms() - 16 * MINUTE_MS
    said = [
        alarm("over", t_ms=old_ms),
        alarm("over", "end", t_ms=old_ms + 1000),
        alarm(None, None, t_ms=old_ms),
        alarm("open", t_ms=old_ms),
    ]
    center.hear("w1", "ev/alarm", alarms(voice, 1, *said))
    center.clock.pass_s(5)  # of backlog the ends are waited for
    work(notifier)
    assert [(one["seq"], one["state"]) for one in listed(client)] == [
        (4, "sent"),
        (3, "late"),
        (1, "late"),
    ]
    (post,) = receiver.posts
    assert (json.loads(post.body)["incident"], json.loads(post.body)["late"]) == ("open", True)
    assert center.count("notifications_late_total") == 2


@pytest.mark.parametrize("end_comes", [True, False])
def test_an_end_on_its_way_is_waited_for(
    center: Rig,
    voice: Voice,
    client: httpx.Client,
    receiver: Receiver,
    notifier: Notifier,
    end_comes: bool,
) -> None:
    """While a lane has not caught up, an old alarm is not paged: its end may follow, for 60 s."""
    subscribe(client, "duty", receiver.url())
    old_ms = center.clock.now_ms() - 60 * MINUTE_MS
    center.hear("w1", "hb", voice.heartbeat(epoch=EPOCH, high={"alarm": 2}))
    center.hear("w1", "ev/alarm", alarms(voice, 1, alarm("a", t_ms=old_ms)))
    work(notifier)
    assert listed(client)[0]["state"] == "waiting"
    if end_comes:
        center.hear("w1", "ev/alarm", alarms(voice, 2, alarm("a", "end", t_ms=old_ms)))
    center.clock.pass_s(30)
    work(notifier)
    center.clock.pass_s(30)
    work(notifier)
    assert listed(client)[0]["state"] == ("late" if end_comes else "sent")
    assert len(receiver.posts) == (not end_comes)


# --- once --------------------------------------------------------------------------------------


def test_an_alarm_notifies_once(
    center: Rig, voice: Voice, client: httpx.Client, receiver: Receiver, notifier: Notifier
) -> None:
    """I2: express, in its turn, doubled and once more in another epoch, it is posted once."""
    subscribe(client, "duty", receiver.url())
    center.hear("w1", "ev/alarm", alarms(voice, 2, alarm("b"), express=True))
    work(notifier)
    assert len(receiver.posts) == 1
    in_turn = alarms(voice, 1, alarm("a"), alarm("b"), alarm("b", "update"), alarm("b", "end"))
    center.hear("w1", "ev/alarm", in_turn, in_turn)
    center.hear("w1", "ev/alarm", in_turn)
    center.hear("w1", "ev/alarm", alarms(voice, 1, alarm("a"), epoch=EPOCH + 1))
    work(notifier)
    assert [json.loads(post.body)["incident"] for post in receiver.posts] == ["b", "a"]
    assert len(set(receiver.named())) == 2


def test_what_is_no_new_alarm_costs_nothing() -> None:
    """Without a new alarm among the rows the database is not asked."""
    rows = [{"lane": "bulk", "phase": "start"}, {"lane": "alarm", "phase": "end"}]
    notify.enqueue(cast(Connection, None), rows, 0)


def test_an_alarm_that_cannot_be_posted_stops_no_other(
    center: Rig,
    voice: Voice,
    client: httpx.Client,
    receiver: Receiver,
    notifier: Notifier,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is dead at once and says why; the others are told."""
    subscribe(client, "duty", receiver.url())
    center.hear("w1", "ev/alarm", alarms(voice, 1, alarm("a"), alarm("b"), alarm("c")))
    shown = events.shown

    def refuse(found: Row[Any]) -> dict[str, Any]:
        if found.incident == "b":
            raise ValueError("a word that no JSON can hold")
        return shown(found)

    monkeypatch.setattr(events, "shown", refuse)
    work(notifier)
    work(notifier)
    came_to = {one["incident"]: one["state"] for one in listed(client)}
    assert came_to == {"a": "sent", "b": "dead", "c": "sent"}
    (dead,) = listed(client, state="dead")
    assert "no JSON can hold" in dead["deliveries"][0]["error"]


def test_an_alarm_whose_start_is_lost_is_told_by_an_update(
    center: Rig, voice: Voice, client: httpx.Client, receiver: Receiver, notifier: Notifier
) -> None:
    """I2: whatever of it comes first tells it, once; an update of a moment is no news."""
    subscribe(client, "duty", receiver.url())
    lost = [Gap(first=1, last=1, why="shed")]
    said = [alarm("a", "update"), alarm("a", "update"), alarm(None, "update")]
    batch = msgspec.structs.replace(alarms(voice, 2, *said), gaps=lost)
    center.hear("w1", "ev/alarm", batch)
    work(notifier)
    assert len(receiver.posts) == 1
    center.hear("w1", "ev/alarm", alarms(voice, 5, alarm("a", "update"), alarm("a")))
    work(notifier)
    assert [json.loads(post.body)["incident"] for post in receiver.posts] == ["a"]


def test_two_replicas_post_once(
    center: Rig, voice: Voice, client: httpx.Client, receiver: Receiver
) -> None:
    """I2: of two notifiers over one database, one posts each alarm."""
    subscribe(client, "duty", receiver.url())
    center.hear("w1", "ev/alarm", alarms(voice, 1, *(alarm(f"i{n}") for n in range(20))))
    with notifying(center) as one, notifying(center) as other:
        one.start()
        other.start()
        wait_for(lambda: len(listed(client, state="sent")) == 20, 20, "20 alarms sent")
    assert len(receiver.posts) == len(set(receiver.named())) == 20


def test_a_crashed_center_goes_on_where_it_was(
    center: Rig, voice: Voice, client: httpx.Client, receiver: Receiver
) -> None:
    """What was being posted is due again when the lease is over, under the same name."""
    subscribe(client, "duty", receiver.url())
    receiver.answer = lambda _: 0
    center.hear("w1", "ev/alarm", alarms(voice, 1, alarm("a")))
    with notifying(center) as crashing:
        crashing.step()
        wait_for(lambda: receiver.posts, 5, "the first post")
        receiver.answer = lambda _: 200
        with notifying(center) as restarted:
            work(restarted)
            assert len(receiver.posts) == 1, "it is leased to somebody"
            center.clock.pass_s(61)
            work(restarted)
        receiver.ended.set()
    assert len(receiver.posts) == 2
    assert len(set(receiver.named())) == 1
    assert listed(client)[0]["state"] == "sent"


# --- posting -----------------------------------------------------------------------------------


def test_a_post_is_signed_and_says_all(
    center: Rig, voice: Voice, client: httpx.Client, receiver: Receiver, notifier: Notifier
) -> None:
    """The guide's verification accepts it, and nothing that was changed on the way."""
    subscribe(client, "duty", receiver.url())
    center.hear("w1", "ev/alarm", alarms(voice, 1, alarm("a", label="person")))
    work(notifier)
    (post,) = receiver.posts
    assert verified(post.headers, post.body, center.clock.now_ms())
    assert not verified(post.headers, post.body + b" ", center.clock.now_ms())
    later = str(int(post.headers["X-Forecourt-Timestamp"]) + 1)
    moved = {**post.headers, "X-Forecourt-Timestamp": later}
    assert not verified(moved, post.body, center.clock.now_ms())
    body = json.loads(post.body)
    assert body["id"] == post.headers["X-Forecourt-Delivery"] == listed(client)[0]["delivery"]
    assert (body["station"], body["worker"], body["severity"]) == ("s1", "w1", "critical")
    assert (body["late"], body["event"]["label"], body["event"]["seq"]) == (False, "person", 1)


def test_who_is_told(
    center: Rig, voice: Voice, client: httpx.Client, receiver: Receiver, notifier: Notifier
) -> None:
    """Each webhook gets what its severity and station ask for; what nobody wants is `unrouted`."""
    subscribe(client, "critical", receiver.url("/critical"), min_severity="critical")
    subscribe(client, "elsewhere", receiver.url("/elsewhere"), station="s2")
    center.hear("w1", "ev/alarm", alarms(voice, 1, alarm("a", severity="warning"), alarm("b")))
    work(notifier)
    assert [post.path for post in receiver.posts] == ["/critical"]
    assert [(one["incident"], one["state"]) for one in listed(client)] == [
        ("b", "sent"),
        ("a", "unrouted"),
    ]
    assert listed(client, station="s2") == []


def test_a_failed_post_is_tried_again(
    center: Rig,
    voice: Voice,
    client: httpx.Client,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After an error, silence, a refused connection, with growing pauses, under one name."""
    monkeypatch.setattr("center.notifier.TIMEOUT_S", 0.2)
    with receiving() as gone:
        closed = gone.url()
    answers = iter([500, 0, 200])
    receiver.answer = lambda _: next(answers)
    subscribe(client, "duty", receiver.url())
    center.hear("w1", "ev/alarm", alarms(voice, 1, alarm("a")))
    errors = ["it answered 500", "no answer within 0.2 s", "cannot connect: "]
    with notifying(center) as notifier:
        for tried, error in enumerate(errors):
            subscribe(client, "duty", closed if error.startswith("cannot") else receiver.url())
            work(notifier)
            (note,) = listed(client, state="waiting")
            (way,) = note["deliveries"]
            assert way["error"].startswith(error)
            assert way["attempts"] == tried + 1
            pause_ms = way["next_ms"] - center.clock.now_ms()
            assert 0 < pause_ms <= 1000 * 2**tried
            center.clock.pass_s(pause_ms / 1000 - 0.001)
            work(notifier)
            assert listed(client)[0]["deliveries"][0]["attempts"] == tried + 1, "not before then"
            center.clock.pass_s(0.001)
        subscribe(client, "duty", receiver.url())
        work(notifier)
    assert listed(client)[0]["deliveries"][0]["state"] == "sent"
    assert len(receiver.posts) == 3
    assert len(set(receiver.named())) == 1
    assert center.count("notifications_retried_total") == 3


def test_after_a_day_it_is_given_up(
    center: Rig, voice: Voice, client: httpx.Client, receiver: Receiver, notifier: Notifier
) -> None:
    """A delivery that fails for 24 h is dead, with the reason, and tried no more."""
    subscribe(client, "duty", receiver.url())
    receiver.answer = lambda _: 503
    center.hear("w1", "ev/alarm", alarms(voice, 1, alarm("a")))
    work(notifier)
    center.clock.pass_s(86_399)
    work(notifier)
    assert listed(client)[0]["state"] == "waiting"
    center.clock.pass_s(600)
    work(notifier)
    (note,) = listed(client, state="dead")
    assert note["deliveries"][0]["error"] == "it answered 503"
    center.clock.pass_s(86_400)
    work(notifier)
    assert len(receiver.posts) == 3
    assert center.count("notifications_dead_total") == 1


def test_what_an_answer_means(
    center: Rig, voice: Voice, client: httpx.Client, receiver: Receiver, notifier: Notifier
) -> None:
    """Any 2xx is taken, 410 is for good, everything else is tried again; nothing is followed."""
    statuses = ("204", "302", "307", "404", "410")
    for status in statuses:
        subscribe(client, status, receiver.url(f"/{status}"))
    receiver.answer = lambda path: int(path.strip("/"))
    center.hear("w1", "ev/alarm", alarms(voice, 1, alarm("a")))
    work(notifier)
    assert sorted(post.path for post in receiver.posts) == [f"/{status}" for status in statuses]
    (note,) = listed(client)
    assert [(way["state"], way["error"]) for way in note["deliveries"]] == [
        ("sent", ""),
        ("waiting", "it answered 302; redirects are not followed"),
        ("waiting", "it answered 307; redirects are not followed"),
        ("waiting", "it answered 404"),
        ("dead", "it answered 410"),
    ]


def test_a_slow_webhook_delays_no_other(
    center: Rig, voice: Voice, client: httpx.Client, receiver: Receiver, notifier: Notifier
) -> None:
    """Posts to one wait at most two at a time, while another takes all of its own."""
    subscribe(client, "quick", receiver.url("/quick"))
    subscribe(client, "slow", receiver.url("/slow"))
    receiver.answer = lambda path: 0 if path == "/slow" else 200
    center.hear("w1", "ev/alarm", alarms(voice, 1, *(alarm(f"i{n}") for n in range(10))))

    def quick_is_done() -> bool:
        notifier.step()
        return [post.path for post in receiver.posts].count("/quick") == 10

    wait_for(quick_is_done, 10, "all posts to the quick one", 0.005)
    assert [post.path for post in receiver.posts].count("/slow") == 2


def test_the_thread_tells_by_itself(
    center: Rig, voice: Voice, client: httpx.Client, receiver: Receiver, notifier: Notifier
) -> None:
    """Started, it finds what is stored without being told."""
    subscribe(client, "duty", receiver.url())
    notifier.start()
    center.hear("w1", "ev/alarm", alarms(voice, 1, alarm("a")))
    wait_for(lambda: listed(client, state="sent"), 10, "a told alarm")
    notifier.stop(5)
    assert not notifier.is_alive()


# --- webhooks ----------------------------------------------------------------------------------


def test_a_webhook_is_put_and_deleted(client: httpx.Client) -> None:
    """It is created, changed, unchanged and deleted; a secret that is left out is made and kept."""
    place = f"{API}/webhooks/duty"
    wish = {"url": "https://pager.example/a"}
    tried = client.put(place, json=wish, params={"dry_run": "true"}).json()
    assert (tried["result"], tried["secret"], tried["dry_run"]) == ("created", None, True)
    assert client.get(place).status_code == 404
    made = client.put(place, json=wish).json()
    assert made["result"] == "created"
    assert len(made["secret"]) > 40
    again = client.put(place, json=wish).json()
    assert (again["result"], again["secret"]) == ("unchanged", None)
    changed = client.put(place, json={**wish, "min_severity": "critical", "station": "s1"}).json()
    assert changed["result"] == "updated"
    view = client.get(place).json()
    assert view == changed["webhook"] == client.get(f"{API}/webhooks").json()["items"][0]
    assert (view["min_severity"], view["station"], view["secret"]) == ("critical", "s1", "set")
    assert client.put(place, json={**wish, "secret": SECRET}).json()["secret"] is None
    assert client.delete(place).json() == {"result": "deleted", "dry_run": False}
    assert client.delete(place).status_code == 404


REFUSED: list[dict[str, str]] = [
    {},
    {"url": "ftp://files.example"},
    {"url": "https://"},
    {"url": "https:///path"},
    {"url": "https://host:99999/"},
    {"url": "https://user:hunter2@pager.example/"},
    {"url": "https://pager.example/#here"},
    {"url": "https://pager.example/a b"},
    {"url": "https://p\u00e4ger.example/"},
    {"url": "https://pager.example/" + "x" * 2000},
    {"url": "https://pager.example/", "secret": "hunter2"},
    {"url": "https://pager.example/", "secret": "hunter2\n" * 4},
    {"url": "https://pager.example/", "min_severity": "info"},
    {"url": "https://pager.example/", "station": "No Station"},
    {"url": "https://pager.example/", "sekret": "hunter2hunter2hunter2"},
]


def test_what_is_no_webhook_is_refused(client: httpx.Client) -> None:
    """A 422 names the field and repeats no secret (I11)."""
    for wish in REFUSED:
        answer = client.put(f"{API}/webhooks/duty", json=wish)
        assert answer.status_code == 422, wish
        assert answer.json()["detail"][0]["loc"][:1] == ["body"]
        assert "hunter2" not in answer.text


def test_webhooks_are_bounded(client: httpx.Client) -> None:
    """I8: no more than 16; those that are there can still be changed."""
    for number in range(16):
        subscribe(client, f"hook-{number}", "https://pager.example/")
    more = client.put(f"{API}/webhooks/one-more", json={"url": "https://pager.example/"})
    assert more.status_code == 409
    subscribe(client, "hook-3", "https://pager.example/other")


def test_nothing_shows_a_secret(
    center: Rig,
    voice: Voice,
    client: httpx.Client,
    receiver: Receiver,
    notifier: Notifier,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """I11: neither the secret nor the URL's query is in a listing, a metric or a log."""
    caplog.set_level(logging.DEBUG)
    subscribe(client, "duty", receiver.url("/hook?token=hunter2"))
    receiver.answer = lambda _: 500
    center.hear("w1", "ev/alarm", alarms(voice, 1, alarm("a")))
    work(notifier)
    view = client.get(f"{API}/webhooks/duty").json()
    shown = client.put(f"{API}/webhooks/duty", json={"url": view["url"]}).json()
    assert shown["result"] == "unchanged", "put as it is shown, it stays what it was"
    assert receiver.posts[0].path == "/hook?token=hunter2"
    places = ("/metrics", f"{API}/webhooks", f"{API}/notifications")
    said = caplog.text + "".join(client.get(path).text for path in places)
    assert "webhook duty did not take an alarm: it answered 500" in said
    assert SECRET not in said
    assert "hunter2" not in said


def test_a_deleted_webhook_takes_its_deliveries_along(
    center: Rig, voice: Voice, client: httpx.Client, receiver: Receiver, notifier: Notifier
) -> None:
    """What waited for it waits no more; what others were told stays."""
    subscribe(client, "broken", receiver.url("/broken"))
    subscribe(client, "duty", receiver.url("/duty"), min_severity="critical")
    receiver.answer = lambda path: 500 if path == "/broken" else 200
    center.hear("w1", "ev/alarm", alarms(voice, 1, alarm("a", severity="warning"), alarm("b")))
    work(notifier)
    assert [one["state"] for one in listed(client)] == ["waiting", "waiting"]
    metrics = client.get("/metrics").text
    assert "forecourt_center_notifications_waiting 2\n" in metrics
    assert "forecourt_center_notifications_oldest_waiting_s 0\n" in metrics
    client.delete(f"{API}/webhooks/broken")
    assert [one["state"] for one in listed(client)] == ["sent", "unrouted"]


# --- listing and letting go --------------------------------------------------------------------


def test_notifications_are_listed_in_pages(
    center: Rig, voice: Voice, client: httpx.Client, notifier: Notifier
) -> None:
    """`next` leads to the following page, and is null on the last."""
    center.hear("w1", "ev/alarm", alarms(voice, 1, *(alarm(f"i{n}") for n in range(5))))
    work(notifier)
    seen: list[int] = []
    before: dict[str, int] = {}
    while True:
        page = client.get(f"{API}/notifications", params={"limit": 2, **before}).json()
        seen += [one["seq"] for one in page["items"]]
        if page["next"] is None:
            break
        before = {"before": page["next"]}
    assert seen == [5, 4, 3, 2, 1]


def test_what_is_settled_goes_after_a_month(
    center: Rig, voice: Voice, client: httpx.Client, receiver: Receiver, notifier: Notifier
) -> None:
    """I8: sent and late ones are kept for 30 days, dead ones for 90, with their deliveries."""
    subscribe(client, "duty", receiver.url())
    center.hear("w1", "ev/alarm", alarms(voice, 1, alarm("a")))
    work(notifier)
    receiver.answer = lambda _: 410
    center.hear("w1", "ev/alarm", alarms(voice, 2, alarm("b")))
    work(notifier)
    center.clock.pass_s(29 * 86_400)
    work(notifier)
    assert len(listed(client)) == 2
    center.clock.pass_s(2 * 86_400)
    work(notifier)
    assert [one["state"] for one in listed(client)] == ["dead"]
    center.clock.pass_s(60 * 86_400)
    work(notifier)
    assert listed(client) == []
    with center.database.reading() as connection:
        assert connection.execute(select(deliveries)).all() == []
