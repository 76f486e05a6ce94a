"""Events over HTTP: search, paging, and the live stream."""

import json
import threading
from collections.abc import Iterator

import httpx
import pytest

from tests.parts.centers import SQLITE_ONLY, Rig, furnish, station, worker
from tests.parts.workers import Voice, crossing, crossings
from tests.waiting import wait_for

EVENTS = "/api/v1/events"


@pytest.fixture
def voice(center: Rig) -> Voice:
    furnish(center.desk)
    center.hear("w1", "hello", Voice().hello())
    return Voice(fence=1)


def ids(answer: httpx.Response) -> list[int]:
    assert answer.status_code == 200, answer.text
    return [event["id"] for event in answer.json()["items"]]


def test_filters(client: httpx.Client, center: Rig, voice: Voice) -> None:
    """Each filter keeps what it names."""
    said = [
        crossing(1),
        crossing(2, camera="c2"),
        crossing(3, task="t2", rule="other"),
        crossing(4, severity="warning", phase="start", incident="i1"),
    ]
    center.hear("w1", "ev/bulk", voice.batch(1, said))
    start_ms = crossing(0).t_ms
    for query, expected in [
        ({}, [4, 3, 2, 1]),
        ({"order": "asc"}, [1, 2, 3, 4]),
        ({"camera": "c2"}, [2]),
        ({"task": "t2"}, [3]),
        ({"rule": "other"}, [3]),
        ({"severity": "warning"}, [4]),
        ({"station": "s1", "limit": "1"}, [4]),
        ({"station": "s9"}, []),
        ({"since_ms": str(start_ms + 2), "until_ms": str(start_ms + 4)}, [3, 2]),
        ({"after": "2"}, [4, 3]),
        ({"before": "2"}, [1]),
        ({"open": "true"}, [4]),
    ]:
        assert ids(client.get(EVENTS, params=query)) == expected, query


def test_pages(client: httpx.Client, center: Rig, voice: Voice) -> None:
    """`next` leads through all events in either direction, each once."""
    center.hear("w1", "ev/bulk", voice.batch(1, crossings(10)))
    for order, mark in (("asc", "after"), ("desc", "before")):
        seen: list[int] = []
        query: dict[str, str] = {"order": order, "limit": "3"}
        while True:
            answer = client.get(EVENTS, params=query)
            seen += ids(answer)
            following = answer.json()["next"]
            if following is None:
                break
            query[mark] = str(following)
        assert sorted(seen) == list(range(1, 11))


@SQLITE_ONLY
@pytest.mark.parametrize(
    "query",
    [
        {"limit": "0"},
        {"limit": "1001"},
        {"after": "-1"},
        {"after": str(2**63)},
        {"since_ms": "9" * 30},
        {"order": "up"},
        {"severity": "loud"},
        {"station": "NO"},
        {"camera": "a\0"},
    ],
)
def test_bad_queries(client: httpx.Client, query: dict[str, str]) -> None:
    """A query that cannot be answered is refused by its field."""
    answer = client.get(EVENTS, params=query)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["query", next(iter(query))]


class Listener:
    """An SSE client on a thread; `seen` fills with (id, event)."""

    def __init__(self, client: httpx.Client, center: Rig, **request: dict[str, str]) -> None:
        self.seen: list[tuple[int, dict[str, object]]] = []
        self.lines: list[str] = []
        self._client = client
        self._bell = center.desk.bell
        self._request = request
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Listener":
        self._thread.start()
        wait_for(lambda: self.lines, 5, "the stream's first line")
        return self

    def __exit__(self, *_: object) -> None:
        self._bell.close()
        self._thread.join(5)
        assert not self._thread.is_alive(), "a closed bell ends the stream"

    def _run(self) -> None:
        with self._client.stream("GET", f"{EVENTS}/stream", **self._request) as answer:  # type: ignore[arg-type]  # params, headers
            assert answer.headers["content-type"].startswith("text/event-stream")
            self._read(answer.iter_lines())

    def _read(self, lines: Iterator[str]) -> None:
        number = 0
        for line in lines:
            self.lines.append(line)
            if line.startswith("id: "):
                number = int(line[4:])
            if line.startswith("data: "):
                self.seen.append((number, json.loads(line[6:])))

    def wait_for(self, count: int) -> list[int]:
        wait_for(lambda: len(self.seen) >= count, 5, f"{count} events")
        assert all(number == event["id"] for number, event in self.seen)
        return [number for number, _ in self.seen]


@SQLITE_ONLY
def test_the_stream_begins_now_and_follows(client: httpx.Client, center: Rig, voice: Voice) -> None:
    """Without a starting point it tells what comes from now on, as it is stored."""
    center.hear("w1", "ev/bulk", voice.batch(1, crossings(2)))
    with Listener(client, center) as listener:
        center.hear("w1", "ev/bulk", voice.batch(3, crossings(2, first=3)))
        assert listener.wait_for(2) == [3, 4]
    assert ": beat" in listener.lines


@SQLITE_ONLY
def test_the_stream_resumes(client: httpx.Client, center: Rig, voice: Voice) -> None:
    """`after` and Last-Event-ID say what was seen last; the header wins, as browsers send it."""
    center.hear("w1", "ev/bulk", voice.batch(1, crossings(5)))
    query, headers = {"after": "1"}, {"Last-Event-ID": "3"}
    with (
        Listener(client, center, params=query) as after,
        Listener(client, center, params=query, headers=headers) as resumed,
    ):
        assert after.wait_for(4) == [2, 3, 4, 5]
        assert resumed.wait_for(2) == [4, 5]


@SQLITE_ONLY
def test_the_stream_of_a_station(client: httpx.Client, center: Rig, voice: Voice) -> None:
    """A station's stream holds its own events only."""
    center.desk.put(station("s2"))
    center.desk.put(worker("w2", "s2"))
    center.hear("w2", "hello", Voice(worker="w2").hello())
    other = Voice(worker="w2", fence=1)
    with Listener(client, center, params={"after": "0", "station": "s2"}) as listener:
        center.hear("w1", "ev/bulk", voice.batch(1, crossings(2)))
        center.hear("w2", "ev/bulk", other.batch(1, crossings(1)))
        assert listener.wait_for(1) == [3]


@SQLITE_ONLY
def test_the_stream_tells_what_others_stored(
    client: httpx.Client, center: Rig, voice: Voice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """News that no bell rings for in this process arrive too, within a second."""
    with Listener(client, center, params={"after": "0"}) as listener:
        monkeypatch.setattr(center.desk.bell, "ring", lambda: None)
        center.hear("w1", "ev/bulk", voice.batch(1, crossings(1)))
        assert listener.wait_for(1) == [1]


@SQLITE_ONLY
def test_listeners_are_bounded(
    client: httpx.Client, center: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I8: one listener more than there may be is asked to come again."""
    monkeypatch.setattr("center.live.MAX_LISTENERS", 1)
    with Listener(client, center):
        answer = client.get(f"{EVENTS}/stream")
        assert answer.status_code == 503
        assert "retry-after" in answer.headers
