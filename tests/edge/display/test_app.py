"""The worker's local HTTP: what it answers, resumes from, and bounds."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec
from prometheus_client.parser import text_string_to_metric_families
from starlette.requests import Request

from edge.agent import _listen
from edge.config import load
from edge.display.app import Display
from edge.metrics import Snapshot
from edge.store.outbox import Outbox
from tests.parts.clock import SteppedClock
from tests.waiting import wait_for
from wire.events import Event
from wire.messages import ItemObserved, StreamHealth

SNAPSHOT = Snapshot(
    online=True, pending={"alarm": 2, "bulk": 0}, shed=1, unstored=0, ignored_messages=3,
    shard_restarts={"crash": 4}, quarantined=1, cores=1.5, catch_ups_dropped=2,
    facts_taken=5, facts_refused=6, posts_denied=7, coverage={"t": 0.25},
    streams=(
        StreamHealth(camera='a"b\n', stream="main", state="running", coverage=0.5, step="half"),
        StreamHealth(camera="c", stream="main", state="lost"),
    ),
    items=(ItemObserved(kind="Task", id="t", revision=1, state="Running"),),
)  # fmt: skip


@dataclass
class Local:
    """A display over an outbox."""

    display: Display
    outbox: Outbox
    http: httpx.AsyncClient

    async def append(self, *numbers: int) -> None:
        """Store events and tell the display."""
        events = [Event(kind="t", t_ms=n, camera="c", severity="info") for n in numbers]
        await asyncio.wrap_future(self.outbox.append(events))
        self.display.wake()

    async def follow(self, headers: dict[str, str], query: str = "") -> AsyncIterator[Any]:
        """The events of a server-sent stream, one after the other, without a server between."""
        scope = {
            "type": "http", "method": "GET", "path": "/events", "query_string": query.encode(),
            "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
        }  # fmt: skip
        answer = await self.display._event_stream(Request(scope))
        async for chunk in answer.body_iterator:  # type: ignore[attr-defined] # it streams
            for line in bytes(chunk).splitlines():
                if line.startswith(b"data: "):
                    yield msgspec.json.decode(line[6:])


@asynccontextmanager
async def local(folder: Path) -> AsyncIterator[Local]:
    """A display that answers."""
    outbox = Outbox(folder / "outbox.db", SteppedClock())
    display = Display(outbox, lambda: {"worker": "w1"}, lambda: SNAPSHOT)
    transport = httpx.ASGITransport(display.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://display") as http:
        yield Local(display, outbox, http)
    outbox.close()


def play(folder: Path, act: Callable[[Local], Awaitable[None]]) -> None:
    """Run one test's coroutine against a display."""

    async def run() -> None:
        async with local(folder) as made, asyncio.timeout(20):
            await act(made)

    asyncio.run(run())


def test_events_are_listed_newest_first_with_their_fate(tmp_path: Path) -> None:
    """Each event says whether the center has it."""

    async def act(made: Local) -> None:
        await made.append(1, 2, 3)
        (epoch, _, _) = made.outbox.undrained("bulk")[0]
        made.outbox.acked(epoch, "bulk", 2)
        await asyncio.wrap_future(made.outbox.append([]))
        items = (await made.http.get("/api/events?limit=2")).json()["items"]
        assert [(e["t_ms"], e["stored"]) for e in items] == [(3, False), (2, True)]
        for nonsense in ("limit=x", "limit=-1", "limit=", "limit=9999999999"):
            assert len((await made.http.get(f"/api/events?{nonsense}")).json()["items"]) == 3

    play(tmp_path, act)


def test_a_stream_resumes_where_it_broke(tmp_path: Path) -> None:
    """After Last-Event-ID nothing is missed and nothing comes twice; new events follow."""

    async def act(made: Local) -> None:
        await made.append(1, 2, 3)
        seen = []
        async for event in made.follow({"last-event-id": "1"}):
            seen.append(event["t_ms"])
            if seen == [2, 3]:
                await made.append(4)
            if len(seen) == 3:
                break
        assert seen == [2, 3, 4]

    play(tmp_path, act)


def test_an_id_of_another_life_does_not_silence_the_stream(tmp_path: Path) -> None:
    """A page that knew a larger outbox (one that was set aside) hears what is new."""

    async def act(made: Local) -> None:
        await made.append(1)
        follow = made.follow({"last-event-id": "999"})
        first = asyncio.ensure_future(anext(follow))
        await asyncio.to_thread(wait_for, lambda: made.display._listeners, 5, "it listens", 0.01)
        await made.append(2)
        assert (await first)["t_ms"] == 2

    play(tmp_path, act)


def test_displays_are_bounded(tmp_path: Path) -> None:
    """Beyond a bound a further display is told so, and the others go on."""

    async def act(made: Local) -> None:
        await made.append(1)
        streams = [made.follow({}, "recent=1") for _ in range(32)]
        for stream in streams:
            await anext(stream)
        refused = await made.http.get("/events")
        assert refused.status_code == 503
        made.display.close()

    play(tmp_path, act)


def test_metrics_are_what_prometheus_reads(tmp_path: Path) -> None:
    """The text parses, whatever a camera is called, and holds the snapshot's figures."""

    async def act(made: Local) -> None:
        text = (await made.http.get("/metrics")).text
        families = {family.name: family for family in text_string_to_metric_families(text)}
        assert families["forecourt_edge_online"].samples[0].value == 1
        assert families["forecourt_edge_events_shed"].samples[0].value == 1
        [restarts] = families["forecourt_edge_shard_restarts"].samples
        assert (restarts.labels, restarts.value) == ({"cause": "crash"}, 4)
        up = families["forecourt_edge_stream_up"].samples
        assert {s.labels["camera"]: s.value for s in up} == {'a"b\n': 1, "c": 0}
        steps = families["forecourt_edge_stream_degraded_steps"].samples
        assert {s.labels["camera"]: s.value for s in steps} == {'a"b\n': 1, "c": 0}
        [covered] = families["forecourt_edge_task_coverage_ratio"].samples
        assert (covered.labels, covered.value) == ({"task": "t"}, 0.25)
        assert families["forecourt_edge_cpu_budget_cores"].samples[0].value == 1.5
        assert families["forecourt_edge_catch_ups_dropped"].samples[0].value == 2
        assert families["forecourt_edge_facts_taken"].samples[0].value == 5
        assert families["forecourt_edge_facts_refused"].samples[0].value == 6
        assert families["forecourt_edge_input_posts_denied"].samples[0].value == 7

    play(tmp_path, act)


def test_healthz_needs_no_network(tmp_path: Path) -> None:
    """It answers while the store answers."""

    async def act(made: Local) -> None:
        answer = await made.http.get("/healthz")
        assert (answer.status_code, answer.json()["status"]) == (200, "ok")
        assert (await made.http.get("/")).headers["content-security-policy"]

    play(tmp_path, act)


def test_small_answers_are_sent_at_once(tmp_path: Path) -> None:
    """A connection to the display has TCP_NODELAY: else its answers come 40 ms later."""
    given = {
        "worker": "w1", "data": tmp_path, "broker": ["mqtt://127.0.0.1:1"], "models": [tmp_path],
        "display": "127.0.0.1:0",
    }  # fmt: skip
    listening = _listen(load(None, given))

    async def act() -> int:
        found = asyncio.get_running_loop().create_future()

        def connected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            taken = writer.get_extra_info("socket")
            found.set_result(taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        async with await asyncio.start_server(connected, sock=listening):
            _, writer = await asyncio.open_connection(*listening.getsockname())
            delays = await found
            writer.close()
            await writer.wait_closed()
            return int(delays)

    assert asyncio.run(act()) == 1
