"""What the outside tells a worker over HTTP: who may, what is taken, what survives."""

import asyncio
import json
import re
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from edge.display.inputs import AT_ONCE, BURST, MAX_FACTS, MAX_POST_BYTES, InputRoutes
from edge.inputs import Inputs
from tests.parts.clock import SteppedClock
from tests.waiting import wait_for
from wire.facts import MAX_INPUTS, Fact

TOKEN = "a-token-of-this-station-only"
NOW_MS = SteppedClock().wall_ms()


@dataclass
class Local:
    """The routes over inputs, and what was told on to the shards."""

    inputs: Inputs
    routes: InputRoutes
    clock: SteppedClock
    http: httpx.AsyncClient
    told: list[Fact] = field(default_factory=list)

    async def post(self, body: object, **headers: str) -> httpx.Response:
        """Post as JSON, with the token unless another is given."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}
        return await self.http.post("/api/inputs", content=content, headers={**given, **headers})

    async def latest(self) -> dict[str, Any]:
        """What each input said last, as anybody is told."""
        items = (await self.http.get("/api/inputs")).json()["items"]
        return {item["input"]: item["value"] for item in items}


@asynccontextmanager
async def local(folder: Path) -> AsyncIterator[Local]:
    """Routes that answer, over a data folder."""
    told: list[Fact] = []
    clock = SteppedClock()
    inputs = Inputs(folder / "facts.db", clock, told.extend)
    routes = InputRoutes(inputs, TOKEN, clock)
    transport = httpx.ASGITransport(Starlette(routes=routes.routes))
    async with httpx.AsyncClient(transport=transport, base_url="http://worker") as http:
        yield Local(inputs, routes, clock, http, told)
    inputs.close()


def play(folder: Path, act: Callable[[Local], Awaitable[None]]) -> None:
    """Run one test's coroutine."""

    async def run() -> None:
        async with local(folder) as made, asyncio.timeout(30):
            await act(made)

    asyncio.run(run())


def test_a_fact_is_taken_kept_and_told_on(tmp_path: Path) -> None:
    """One, or a list; true, a number or text; of now, or since a moment in either notation."""

    async def act(made: Local) -> None:
        answer = await made.post({"input": "nozzle-1", "value": "lifted"})
        assert (answer.status_code, answer.json()) == (200, {"taken": 1, "refused": []})
        at = datetime.fromtimestamp(NOW_MS / 1000 - 60, UTC).isoformat()
        answer = await made.post(
            [
                {"input": "tank-1", "value": 87, "t_ms": NOW_MS - 500},
                {"input": "paid", "value": True, "at": at},
            ]
        )
        assert answer.json() == {"taken": 2, "refused": []}
        assert made.told == [
            Fact(input="nozzle-1", value="lifted", t_ms=NOW_MS),
            Fact(input="tank-1", value=87.0, t_ms=NOW_MS - 500),
            Fact(input="paid", value=True, t_ms=NOW_MS - 60_000),
        ]
        assert await made.latest() == {"nozzle-1": "lifted", "tank-1": 87.0, "paid": True}
        assert made.inputs.taken == 3

    play(tmp_path, act)


def test_what_inputs_say_survives_a_restart(tmp_path: Path) -> None:
    """I7: a nozzle that was lifted before is so afterwards; an older fact does not change it."""

    async def before(made: Local) -> None:
        await made.post({"input": "nozzle-1", "value": "lifted"})
        await made.post({"input": "nozzle-1", "value": "hung", "t_ms": NOW_MS - 1})

    async def after(made: Local) -> None:
        assert made.inputs.newest() == [Fact(input="nozzle-1", value="lifted", t_ms=NOW_MS)]

    play(tmp_path, before)
    play(tmp_path, after)


@pytest.mark.parametrize(
    "authorization", ["", "Bearer", "Bearer wrong", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x"]
)
def test_without_the_token_nothing_is_taken(tmp_path: Path, authorization: str) -> None:
    """401, what to do about it, and a count; who has no token spends none of the others' posts."""

    async def act(made: Local) -> None:
        for _ in range(BURST + 1):
            answer = await made.post(
                {"input": "a", "value": 1}, authorization=authorization, origin="http://evil"
            )
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert "station.token" in answer.json()["detail"]
        assert (made.routes.denied, await made.latest()) == (BURST + 1, {})
        assert (await made.post({"input": "a", "value": 1})).status_code == 200

    play(tmp_path, act)


def test_a_page_of_elsewhere_cannot_post(tmp_path: Path) -> None:
    """A form has another type, and nobody allows a foreign page to send JSON or the token."""

    async def act(made: Local) -> None:
        for kind in ("text/plain", "application/x-www-form-urlencoded", "", "application/jsonx"):
            answer = await made.post({"input": "a", "value": 1}, **{"content-type": kind})
            assert answer.status_code == 415
        headers = {"origin": "http://evil", "access-control-request-method": "POST"}
        asked = await made.http.options("/api/inputs", headers=headers)
        assert asked.status_code == 405
        assert not [name for name in asked.headers if name.startswith("access-control")]
        assert await made.latest() == {}

    play(tmp_path, act)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "truncated"),
        (b"nonsense", "malformed"),
        (b"3", "Expected `object`"),
        (b"[3]", "1 were refused"),
        (b'{"a":' * 600, "missing|unknown|truncated|deeply"),
        (b"[" * 60_000, "recursion"),
        (b"\xff\xfe", "malformed"),
        ({"input": "a"}, "`value`"),
        ({"value": "a"}, "`input`"),
        ({"input": "Not A Name", "value": 1}, "regex"),
        ({"input": "a\n", "value": 1}, "regex"),
        ({"input": "a" * 64, "value": 1}, "length|regex"),
        ({"input": "a", "value": None}, "got `null`"),
        ({"input": "a", "value": [1]}, "got `array`"),
        ({"input": "a", "value": "x" * 201}, "length"),
        (b'{"input": "a", "value": 1e999}', "range"),
        (b'{"input": "a", "value": NaN}', "malformed"),
        (b'{"input": "a", "value": "\xff"}', "utf-8"),
        ({"input": "a", "value": 1, "t_ms": -1}, ">= 0"),
        ({"input": "a", "value": 1, "t_ms": 10**300}, "<= "),
        ({"input": "a", "value": 1, "t_ms": 1.5}, "got `float`"),
        ({"input": "a", "value": 1, "t_ms": NOW_MS + 11_000}, "11 s ahead .* [(]NTP"),
        ({"input": "a", "value": 1, "at": "2026-01-01T00:00:00"}, "no time zone"),
        ({"input": "a", "value": 1, "at": "0001-01-01T00:00:00+23:00"}, "before 1970"),
        ({"input": "a", "value": 1, "at": "9999-12-31T23:59:59-23:00"}, "ahead"),
        ({"input": "a", "value": 1, "at": "yesterday"}, "datetime"),
        ({"input": "a", "value": 1, "t_ms": 1, "at": "2026-01-01T00:00:00Z"}, "both"),
        ({"input": "a", "value": 1, "unit": "l"}, "unit"),
        ({"input": "a", "value": "x", "at": "2026-01-01T00:00:00Z" + " " * 5000}, "4096"),
    ],
    ids=lambda value: value if isinstance(value, str) else "post",
)
def test_a_fact_that_is_none_is_refused_with_a_reason(
    tmp_path: Path, body: object, reason: str
) -> None:
    """400, nothing is kept or told on, and the words say what is wrong."""

    async def act(made: Local) -> None:
        answer = await made.post(body)
        assert answer.status_code == 400
        assert (made.told, await made.latest()) == ([], {})
        detail = answer.json()["detail"]
        assert re.search(reason, detail), detail

    play(tmp_path, act)


def test_one_bad_fact_does_not_stop_the_others(tmp_path: Path) -> None:
    """Each that was refused is named by its place; the others are taken, and it is said."""

    async def act(made: Local) -> None:
        answer = await made.post(
            [
                {"input": "a", "value": 1},
                {"input": "b"},
                {"input": "c", "value": 1, "t_ms": NOW_MS + 60_000},
                {"input": "d", "value": 1, "t_ms": NOW_MS + 9_000},
            ]
        )
        assert answer.status_code == 400
        said = answer.json()
        assert (said["taken"], said["detail"]) == (2, "2 were refused")
        assert [(one["item"], one.get("input")) for one in said["refused"]] == [(1, None), (2, "c")]
        assert await made.latest() == {"a": 1.0, "d": 1.0}
        assert (made.inputs.taken, made.inputs.refused) == (2, 2)

    play(tmp_path, act)


def test_posts_and_inputs_are_bounded(tmp_path: Path) -> None:
    """I8: bytes, facts and inputs beyond a bound are refused, and what is known goes on."""

    async def act(made: Local) -> None:
        assert (await made.post(b" " * (MAX_POST_BYTES + 1))).status_code == 413
        many = [{"input": f"i{n}", "value": n} for n in range(MAX_FACTS + 1)]
        assert (await made.post(many)).status_code == 413
        assert (await made.post(many[:-1])).status_code == 200
        answer = await made.post({"input": "another", "value": 1})
        assert (answer.status_code, answer.json()["taken"]) == (400, 0)
        assert f"{MAX_INPUTS} inputs already" in answer.json()["detail"]
        assert (await made.post({"input": "i7", "value": 8})).status_code == 200
        assert len(await made.latest()) == MAX_INPUTS

    play(tmp_path, act)


def test_the_rate_of_posts_is_bounded(tmp_path: Path) -> None:
    """Beyond a burst the sender is told to wait, and is answered again when it has."""

    async def act(made: Local) -> None:
        for _ in range(BURST):
            assert (await made.post({"input": "a", "value": 1})).status_code == 200
        answer = await made.post({"input": "a", "value": 1})
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
        made.clock.step(1.0)
        assert (await made.post({"input": "a", "value": 1})).status_code == 200

    play(tmp_path, act)


def test_a_disk_that_does_not_take_it_is_told(tmp_path: Path) -> None:
    """503 and nothing told on; the same post again, once the disk has room, counts."""

    async def act(made: Local) -> None:
        with closing(sqlite3.connect(tmp_path / "facts.db")) as other:
            other.execute(
                "CREATE TRIGGER full BEFORE INSERT ON facts BEGIN SELECT RAISE(ABORT, 'full'); END"
            )
            answer = await made.post({"input": "a", "value": 1, "t_ms": NOW_MS})
            assert (answer.status_code, made.told) == (503, [])
            assert "post it again" in answer.json()["detail"]
            other.execute("DROP TRIGGER full")
        assert (await made.post({"input": "a", "value": 1, "t_ms": NOW_MS})).status_code == 200
        assert made.told == [Fact(input="a", value=1.0, t_ms=NOW_MS)]

    play(tmp_path, act)


def test_a_disk_that_cannot_be_opened_waits_for_the_next_post(tmp_path: Path) -> None:
    """The worker starts without what inputs said, and keeps what they say once it can."""
    (tmp_path / "facts.db").mkdir()

    async def act(made: Local) -> None:
        assert (await made.post({"input": "a", "value": 1})).status_code == 503
        (tmp_path / "facts.db").rmdir()
        assert (await made.post({"input": "a", "value": 2})).status_code == 200
        assert await made.latest() == {"a": 2.0}

    async def after(made: Local) -> None:
        assert await made.latest() == {"a": 2.0}

    play(tmp_path, act)
    play(tmp_path, after)


def test_posts_that_wait_for_the_disk_are_bounded(tmp_path: Path) -> None:
    """I8: beyond so many a sender is told to wait; those that wait are answered when it is free."""

    async def act(made: Local) -> None:
        async with made.inputs._one_at_a_time:
            posts = [
                asyncio.ensure_future(made.post({"input": f"i{n}", "value": n}))
                for n in range(AT_ONCE)
            ]
            await asyncio.to_thread(
                wait_for, lambda: made.routes._at_work == AT_ONCE, 10, "all of them wait"
            )
            answer = await made.post({"input": "another", "value": 1})
            assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
        assert {answer.status_code for answer in await asyncio.gather(*posts)} == {200}

    play(tmp_path, act)


def test_without_a_token_of_its_own_nobody_may_post(tmp_path: Path) -> None:
    """An empty token opens nothing."""

    async def act(made: Local) -> None:
        made.routes._token = b""
        for authorization in ("Bearer", "Bearer ", "", f"Bearer {TOKEN}"):
            answer = await made.post({"input": "a", "value": 1}, authorization=authorization)
            assert answer.status_code == 503

    play(tmp_path, act)


def test_a_clock_that_is_taken_back_does_not_silence_an_input(tmp_path: Path) -> None:
    """What was said "later" holds since now, and gives way to what is said next, also on disk."""

    async def act(made: Local) -> None:
        await made.post({"input": "nozzle-1", "value": "lifted"})
        made.clock.now_wall_ms -= 86_400_000
        [fact] = made.inputs.newest()
        assert (fact.value, fact.t_ms) == ("lifted", made.clock.wall_ms())
        made.clock.step(20.0)
        await made.post({"input": "nozzle-1", "value": "hung"})
        assert await made.latest() == {"nozzle-1": "hung"}

    async def after(made: Local) -> None:
        assert await made.latest() == {"nozzle-1": "hung"}

    play(tmp_path, act)
    play(tmp_path, after)


def test_the_posts_of_the_guide_are_taken(tmp_path: Path) -> None:
    """What docs/guide/inputs.md tells to post is taken as it stands there."""
    text = (Path(__file__).parents[3] / "docs" / "guide" / "inputs.md").read_text()
    bodies = re.findall(r"-d '([^']+)'", text)
    assert len(bodies) == 2

    async def act(made: Local) -> None:
        for body in bodies:
            answer = await made.post(body.encode())
            assert (answer.status_code, answer.json()["refused"]) == (200, [])

    play(tmp_path, act)
