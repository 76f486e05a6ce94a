"""Calls at the center: refused at once, answered by the one who was asked, or told to be late."""

import asyncio
import base64
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from center import auth, calls
from tests.parts.centers import Rig, furnish, rig, worker
from tests.parts.workers import Voice
from tests.waiting import wait_for
from wire import codec, topics
from wire.link import Received
from wire.messages import Bye, Rpc, Rsp, Welcome

CALLS = "/api/v1/workers/w1/calls"
PICTURE = "/api/v1/workers/w1/picture"
LOG = {"method": "log", "args": {"lines": 3}}
JPEG = b"\xff\xd8\xff a picture"


@pytest.fixture
def center(tmp_path: Path) -> Iterator[Rig]:
    """Over SQLite alone: a call reads one row, and keeps nothing."""
    with rig(tmp_path / "center") as made:
        yield made


@pytest.fixture(autouse=True)
def online(center: Rig) -> Rig:
    """Worker w1 is online with session `session-1`."""
    furnish(center.desk)
    said = center.hear("w1", "hello", Voice().hello())
    assert isinstance(said[0], Welcome)
    return center


class Asking(threading.Thread):
    """A request under way, and what was asked of the worker meanwhile."""

    def __init__(self, center: Rig, ask: Callable[[], httpx.Response]) -> None:
        super().__init__(daemon=True)
        self._ask = ask
        self._center = center
        self._response: httpx.Response | None = None
        self.start()

    def run(self) -> None:
        self._response = self._ask()

    def heard(self) -> Rpc:
        """What the worker is asked."""
        asked = wait_for(lambda: list(self._center.link.published), 5, "the call", every_s=0.01)
        self._center.link.published.clear()
        ((name, message),) = asked
        assert name == "w1"
        assert isinstance(message, Rpc)
        return message

    def response(self) -> httpx.Response:
        self.join(10)
        assert self._response is not None
        return self._response


def say(center: Rig, said: Rsp | bytes, worker: str = "w1") -> None:
    """Let the center hear an answer."""
    payload = said if isinstance(said, bytes) else codec.encode(said)
    topic = topics.up(worker, "rsp")
    center.desk.calls.offer(Received(connection=1, topic=topic, payload=payload, mid=1, qos=1))


def done(rpc: Rpc, **result: Any) -> Rsp:
    return Rsp(session=rpc.session, id=rpc.id, ok=True, result=result)


def test_a_call_and_its_answer(client: httpx.Client, center: Rig) -> None:
    """The worker gets method, arguments and a deadline by the center's clock; it is heard."""
    body = {**LOG, "timeout_s": 5, "id": "again-1"}
    asking = Asking(center, lambda: client.post(CALLS, json=body))
    rpc = asking.heard()
    assert (rpc.method, rpc.args, rpc.id, rpc.session) == (
        "log",
        {"lines": 3},
        "again-1",
        "session-1",
    )
    assert rpc.deadline_ms == center.clock.now_ms() + 5000
    say(center, done(rpc, lines=["a", "b"]))
    answer = asking.response()
    assert answer.status_code == 200
    assert answer.json() == {
        "id": "again-1", "ok": True, "result": {"lines": ["a", "b"]}, "error": "",
    }  # fmt: skip
    assert len(center.link.acked) == 1
    assert center.count("calls_total") == 1


def test_what_a_worker_refuses_is_an_answer(client: httpx.Client, center: Rig) -> None:
    """Its sentence is passed on, cut to a bearable length."""
    asking = Asking(center, lambda: client.post(CALLS, json={"method": "config"}))
    rpc = asking.heard()
    assert len(rpc.id) == 16
    say(center, Rsp(session=rpc.session, id=rpc.id, ok=False, error="no " * 10_000))
    answer = asking.response().json()
    assert (answer["ok"], answer["result"]) == (False, {})
    assert len(answer["error"]) == calls.MAX_ERROR


@pytest.mark.parametrize(
    ("body", "loc"),
    [
        ({}, ["body", "method"]),
        ({"method": "reboot"}, ["body", "method"]),
        ({"method": "probe"}, ["body", "args"]),
        (
            {"method": "probe", "args": {"camera": "c1", "password": "p"}},
            ["body", "args", "password"],
        ),
        ({"method": "picture", "args": {"camera": "../x"}}, ["body", "args", "camera"]),
        ({"method": "log", "args": {"lines": 0}}, ["body", "args", "lines"]),
        ({**LOG, "timeout_s": 61}, ["body", "timeout_s"]),
        ({**LOG, "timeout_s": 0}, ["body", "timeout_s"]),
        ({**LOG, "id": "a b"}, ["body", "id"]),
        ({**LOG, "session": "s"}, ["body", "session"]),
    ],
    ids=str,
)
def test_what_no_worker_knows_is_not_sent(
    client: httpx.Client, center: Rig, body: dict[str, Any], loc: list[str]
) -> None:
    """An unknown method or wrong arguments are refused with the field's path."""
    answer = client.post(CALLS, json=body)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == loc
    assert not center.link.published


def test_nasty_arguments_are_refused(client: httpx.Client) -> None:
    """Half a surrogate and endless nesting are answered like any other mistake."""
    for body in (
        b'{"method":"log","args":{"\\ud800":1}}',
        b'{"method":"probe","args":{"url":"\\ud800"}}',
        b'{"method":"log","args":' + b'{"a":' * 900 + b"1" + b"}" * 901,
    ):
        answer = client.post(CALLS, content=body, headers={"content-type": "application/json"})
        assert answer.status_code in (400, 422), answer.text


def test_a_worker_that_is_away_is_not_waited_for(client: httpx.Client, center: Rig) -> None:
    """Unknown, silent and stopped workers are refused at once; one that does not exist is 404."""
    center.desk.put(worker("w2"))
    never = client.post("/api/v1/workers/w2/calls", json=LOG)
    assert (never.status_code, "not online (Unknown)" in never.text) == (409, True)
    assert client.post("/api/v1/workers/w9/calls", json=LOG).status_code == 404
    center.clock.pass_s(31)
    silent = client.post(CALLS, json=LOG)
    assert (silent.status_code, "not online (Autonomous)" in silent.text) == (409, True)
    center.hear("w1", "hello", Voice(session="session-2").hello())
    center.hear("w1", "bye", Bye(session="session-2"))
    assert client.post(CALLS, json=LOG).status_code == 409
    assert not center.link.published


def test_the_deadline_is_told(client: httpx.Client, center: Rig) -> None:
    """Without an answer in time the caller is told so; a late one is counted, and harms nobody."""
    asking = Asking(center, lambda: client.post(CALLS, json={**LOG, "timeout_s": 0.1}))
    rpc = asking.heard()
    answer = asking.response()
    assert answer.status_code == 504
    assert "worker w1 did not answer within 0.1 s" in answer.json()["detail"]
    say(center, done(rpc))
    assert (center.count("calls_unanswered_total"), center.count("calls_foreign_total")) == (1, 1)


def test_only_the_one_who_was_asked_can_answer(client: httpx.Client, center: Rig) -> None:
    """I12: other workers, other sessions, other ids and noise are no answers to this call."""
    asking = Asking(center, lambda: client.post(CALLS, json=LOG))
    rpc = asking.heard()
    say(center, done(rpc, mine=False), worker="w2")
    say(center, replace_session(done(rpc, mine=False)))
    say(center, Rsp(session=rpc.session, id="another", ok=True))
    say(center, b"noise")
    say(center, b'{"k":"rsp","session":"session-1","result":' + b"[" * 5000)
    say(center, done(rpc, mine=True))
    say(center, done(rpc, mine=False))
    assert asking.response().json()["result"] == {"mine": True}
    assert center.count("unreadable_messages_total") == 2
    assert center.count("calls_foreign_total") >= 3
    assert len(center.link.acked) == 7


def replace_session(said: Rsp) -> Rsp:
    return Rsp(session="session-9", id=said.id, ok=said.ok, result=said.result)


def test_a_deep_answer_is_sound(client: httpx.Client, center: Rig) -> None:
    """What could be read can be passed on, however deep it is."""
    asking = Asking(center, lambda: client.post(CALLS, json=LOG))
    rpc = asking.heard()
    deep: dict[str, Any] = {}
    for _ in range(300):
        deep = {"a": deep}
    say(center, done(rpc, **deep))
    assert asking.response().text.count('{"a":') == 300


def test_calls_are_bounded(
    client: httpx.Client, center: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I8: one too many is refused, and the place of one that ended is free again."""
    monkeypatch.setattr(calls, "MAX_WAITING", 1)
    asking = Asking(center, lambda: client.post(CALLS, json=LOG))
    rpc = asking.heard()
    refused = client.post(CALLS, json=LOG)
    assert (refused.status_code, "under way already" in refused.text) == (503, True)
    say(center, done(rpc))
    assert asking.response().status_code == 200
    asking = Asking(center, lambda: client.post(CALLS, json=LOG))
    say(center, done(asking.heard()))
    assert asking.response().status_code == 200


def test_without_a_broker_nothing_is_sent(client: httpx.Client, center: Rig) -> None:
    """A call that cannot be handed over is refused at once."""
    center.link.connection = None
    answer = client.post(CALLS, json=LOG)
    assert (answer.status_code, "broker" in answer.text) == (503, True)


def test_who_waits_blocks_nobody(client: httpx.Client, center: Rig) -> None:
    """Sixty callers wait, more than there are threads, and the API answers others meanwhile."""

    async def crowd() -> list[int]:
        headers = {"Authorization": client.headers["authorization"]}
        async with httpx.AsyncClient(
            base_url=client.base_url, headers=headers, timeout=20, limits=httpx.Limits()
        ) as others:
            waiting = [
                asyncio.create_task(others.post(CALLS, json={**LOG, "id": f"call-{number}"}))
                for number in range(60)
            ]
            await asyncio.to_thread(
                wait_for, lambda: len(center.link.published) == 60, 10, "sixty calls"
            )
            assert (await others.get("/api/v1/workers")).status_code == 200
            for _, rpc in list(center.link.published):
                assert isinstance(rpc, Rpc)
                say(center, done(rpc))
            return [(await one).status_code for one in waiting]

    assert asyncio.run(crowd()) == [200] * 60


# --- pictures ----------------------------------------------------------------------------------


def picture(client: httpx.Client) -> httpx.Response:
    return client.get(PICTURE, params={"camera": "c1", "width": 320})


def test_a_picture_for_a_browser(client: httpx.Client, center: Rig) -> None:
    """The JPEG as it is, never cached, with its wall time."""
    asking = Asking(center, lambda: picture(client))
    rpc = asking.heard()
    assert rpc.method == "picture"
    assert rpc.args == {"camera": "c1", "stream": "main", "width": 320}
    say(center, done(rpc, jpeg=base64.b64encode(JPEG).decode(), t_ms=5, width=1, height=1))
    answer = asking.response()
    assert (answer.status_code, answer.content) == (200, JPEG)
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-picture-time-ms"] == "5"
    assert client.get(PICTURE).status_code == 422


def test_a_page_shows_a_picture_with_its_sessions_cookie(client: httpx.Client, center: Rig) -> None:
    """A browser sends no token; without either there is no picture."""
    with center.database.transaction() as connection:
        session = auth.issue(connection, "session", "test", center.clock.now_ms())
    url, words = f"{client.base_url}".rstrip("/") + PICTURE, {"camera": "c1"}
    assert httpx.get(url, params=words).status_code == 401
    cookie = {"Cookie": f"{auth.COOKIE}={session}"}
    asking = Asking(center, lambda: httpx.get(url, params=words, headers=cookie))
    rpc = asking.heard()
    say(center, done(rpc, jpeg=base64.b64encode(JPEG).decode(), t_ms=5))
    assert asking.response().content == JPEG
    assert httpx.post(url.replace("picture", "calls"), json=LOG, headers=cookie).status_code == 401


@pytest.mark.parametrize(
    "result",
    [
        {},
        {"jpeg": 1, "t_ms": 1},
        {"jpeg": "%%%", "t_ms": 1},
        {"jpeg": base64.b64encode(b"<script>").decode(), "t_ms": 1},
        {"jpeg": base64.b64encode(b"\xff\xd8\xff" + b"x" * 130_000).decode(), "t_ms": 1},
        {"jpeg": base64.b64encode(JPEG).decode(), "t_ms": "soon"},
    ],
    ids=range(6),
)
def test_what_is_no_picture_is_not_shown(
    client: httpx.Client, center: Rig, result: dict[str, Any]
) -> None:
    """A worker cannot make a browser read anything but a picture of a bearable size."""
    asking = Asking(center, lambda: picture(client))
    say(center, done(asking.heard(), **result))
    answer = asking.response()
    assert (answer.status_code, answer.headers["content-type"]) == (502, "application/json")


def test_a_picture_that_cannot_be_had(client: httpx.Client, center: Rig) -> None:
    """The worker's own sentence says why."""
    asking = Asking(center, lambda: picture(client))
    rpc = asking.heard()
    say(center, Rsp(session=rpc.session, id=rpc.id, ok=False, error="the stream does not run"))
    answer = asking.response()
    assert answer.status_code == 409
    assert "w1 gives no picture: the stream does not run" in answer.json()["detail"]
