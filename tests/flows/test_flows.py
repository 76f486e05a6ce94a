"""The paths of the product, each from end to end with real processes and a real broker."""

import json
import os
import signal
import socket
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import av
import httpx
import msgspec
import pytest

from tests.flows.conftest import STATION, Site
from tests.parts import rtsp
from tests.parts.processes import alive
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(120)


def running(site: Site, task: str = "watch") -> bool:
    """Whether the center has heard that the task runs at its desired revision."""
    status = site.center.task(STATION, task)
    fresh = status["desired_revision"] == status["observed_revision"]
    return bool(status["state"] == "Running" and fresh)


def starts(events: list[dict[str, Any]], rule: str = "person-at-unloading") -> list[str]:
    """Ids of the incidents of a rule that have begun."""
    return [e["incident"] for e in events if e.get("rule") == rule and e.get("phase") == "start"]


def still_open(site: Site) -> list[str]:
    """Incidents that the worker has begun and not ended."""
    events = site.worker.events()
    ended = {e["incident"] for e in events if e.get("phase") == "end"}
    return [i for i in starts(events) if i not in ended]


@contextmanager
def listening(url: str, headers: dict[str, str] | None = None) -> Iterator[list[dict[str, Any]]]:
    """Events of a server-sent stream, as they come."""
    heard: list[dict[str, Any]] = []
    with (
        httpx.Client(timeout=30, headers=headers) as client,
        client.stream("GET", url) as feed,
    ):
        thread = threading.Thread(target=_follow, args=(feed, heard))
        thread.start()
        try:
            yield heard
        finally:
            feed.extensions["network_stream"].get_extra_info("socket").shutdown(socket.SHUT_RDWR)
            thread.join()


def _follow(feed: httpx.Response, heard: list[dict[str, Any]]) -> None:
    with suppress(httpx.RemoteProtocolError):  # the test has hung up
        for line in feed.iter_lines():
            if line.startswith("data: "):
                heard += [msgspec.json.decode(line[6:])]


def test_frame_to_event(site: Site) -> None:
    """A person in a recording becomes an incident on the worker's disk, with what was seen."""
    site.add_camera()
    site.add_task()
    wait_for(lambda: starts(site.worker.events()), 40, "an incident on the worker's disk")
    first = starts(site.worker.events())[0]
    seen = next(e for e in site.worker.events() if e.get("incident") == first)
    assert (seen["kind"], seen["phase"], seen["label"]) == ("presence", "start", "person")
    assert (seen["zone"], seen["severity"], seen["lane"]) == ("unload", "critical", "alarm")
    assert 0.35 <= seen["score"] <= 1
    x1, y1, x2, y2 = seen["box"]
    assert 0 <= x1 < x2 <= 1
    assert 0.41 <= y2 <= 0.85
    assert y1 < y2
    assert 950 <= seen["t_ms"] - seen["since_ms"] <= 1500
    assert seen["boot"] == site.worker.status()["boot"]


def test_event_to_screen(site: Site) -> None:
    """An incident reaches display and console's feed live, is stored once, and is acknowledged."""
    site.add_camera()
    feed = f"{site.center.url}/api/v1/events/stream?after=0"
    token = dict(site.center.http.headers)["authorization"]
    with (
        listening(f"{site.worker.url}/events?recent=10") as display,
        listening(feed, {"Authorization": token}) as console,
    ):
        site.add_task()
        wait_for(lambda: starts(display), 40, "the incident on the display")
        (first, *_) = starts(display)
        wait_for(lambda: first in starts(console), 10, "the same incident in the console's feed")
    wait_for(lambda: site.worker.status()["pending"]["alarm"] == 0, 10, "the alarm's ack")
    stored = [e for e in site.center.events() if e.get("incident") == first]
    assert [e["phase"] for e in stored].count("start") == 1
    assert stored[0]["worker"] == "s1-w1"
    assert stored[0]["station"] == STATION
    assert stored[0]["backfill"] is False


def test_task_to_decoder(site: Site) -> None:
    """A task starts a decoder, a change reaches it, a removal ends it; observed tells each step."""
    site.add_camera()
    first = site.add_task()
    wait_for(lambda: running(site), 40, "the task runs")
    (stream,) = site.worker.status()["streams"]
    assert (stream["camera"], stream["state"]) == ("forecourt", "running")
    again = site.add_task()
    assert again["result"] == "unchanged"
    changed = site.add_task(fps=2)
    assert changed["revision"] > first["revision"]
    wait_for(lambda: running(site), 20, "the changed task runs")
    wait_for(
        lambda: site.worker.status()["streams"][0]["wanted_fps"] == 2, 10, "the new fps at work"
    )
    site.center.delete("Task", "watch", STATION)
    wait_for(lambda: site.worker.status()["streams"] == [], 10, "the decoder ends")
    wait_for(lambda: not still_open(site), 10, "what was open ends")
    ends = [e for e in site.worker.events() if e.get("phase") == "end"]
    assert all(e["reason"] in ("removed", "cleared") for e in ends)


def test_offline_then_sync(site: Site) -> None:
    """With the broker down incidents go on; afterwards all arrive once, in order, as backfill."""
    site.add_camera()
    site.add_task()
    wait_for(lambda: starts(site.center.events()), 40, "a first incident at the center")
    site.broker.kill()
    wait_for(lambda: site.worker.status()["session"] == "offline", 15, "the worker is offline")
    before = len(site.worker.events())
    wait_for(lambda: len(site.worker.events()) >= before + 4, 60, "events while offline")
    offline = {identity(e): e for e in site.worker.events()[before:]}
    assert not any(e["stored"] for e in offline.values())
    site.broker.start()
    wait_for(lambda: site.worker.status()["session"] == "online", 30, "the worker is back")
    wait_for(lambda: not any(site.worker.status()["pending"].values()), 20, "all is acknowledged")
    arrived = site.center.events()
    stored = {identity(e): e for e in arrived}
    assert len(stored) == len(arrived)
    for lane in ("alarm", "bulk"):
        numbers = [seq for _, which, seq in stored if which == lane]
        assert numbers == list(range(1, len(numbers) + 1))
    for key, event in offline.items():
        assert stored[key]["backfill"] is True
        assert stored[key]["t_ms"] == event["t_ms"]


def identity(event: dict[str, Any]) -> tuple[int, str, int]:
    """What makes an event of a worker this one and no other."""
    return event["epoch"], event["lane"], event["seq"]


def test_restart_offline(site: Site) -> None:
    """C1, I7: killed with broker and center gone, the worker decodes again from its disk in 5 s."""
    site.add_camera()
    site.add_task()
    wait_for(lambda: starts(site.center.events()), 40, "a first incident at the center")
    site.broker.kill()
    site.center.process.kill()
    shards = site.worker.children()
    assert shards
    site.worker.process.kill()
    wait_for(lambda: not any(map(alive, shards)), 5, "no shard lives on without its agent")
    kept = len(starts_on_disk(site))
    site.worker.start()
    first_look_s = wait_for(
        lambda: site.worker.status()["first_look_s"], 30, "a frame is analysed after the restart"
    )
    assert first_look_s <= 5
    assert site.worker.status()["session"] == "offline"
    wait_for(lambda: len(starts(site.worker.events())) > kept, 40, "an incident while offline")
    site.broker.start()
    site.center.start()
    wait_for(lambda: not any(site.worker.status()["pending"].values()), 60, "all is acknowledged")
    acknowledged = {identity(e) for e in site.worker.events() if e["stored"]}
    keys = [identity(e) for e in site.center.events()]
    assert len(keys) == len(set(keys))
    assert acknowledged <= set(keys)
    assert len({epoch for epoch, _, _ in keys}) >= 2


@pytest.mark.parametrize("broker", ["embedded"], indirect=True)
def test_a_killed_shard(site: Site) -> None:
    """A decode process that dies is started again; what it left open ends as interrupted."""
    site.add_camera()
    site.add_task()
    boot = site.worker.status()["boot"]

    (incident, *_) = wait_for(lambda: still_open(site), 40, "an open incident")
    (shard,) = site.worker.shards()
    os.kill(shard, signal.SIGKILL)
    wait_for(lambda: incident not in still_open(site), 10, "the incident ends")
    begun, ended = [e for e in site.worker.events() if e.get("incident") == incident]
    assert (ended["phase"], ended["reason"]) == ("end", "interrupted")
    assert ended["t_ms"] == begun["t_ms"]
    wait_for(lambda: still_open(site), 40, "an incident of the new shard")
    assert site.worker.status()["boot"] == boot
    assert site.worker.shards() != [shard]


@pytest.mark.parametrize("broker", ["embedded"], indirect=True)
@pytest.mark.parametrize("flags", [["--shards", "2"]])
def test_an_rtsp_camera_beside_a_recording(site: Site, flags: list[str]) -> None:
    """Two shards, one stream each: a camera by RTSP with a password, and a recording."""
    raw = without_container(site.recordings / "scene.mp4")
    with rtsp.serving(raw, fps=10, user="keeper", password="hush77") as camera:
        site.add_camera()
        url = camera.url.replace("rtsp://", "rtsp://keeper:hush77@")
        site.center.put(
            {
                "kind": "Camera",
                "metadata": {"name": "gate", "station": STATION},
                "spec": {"streams": {"main": {"url": url}}},
            }
        )
        site.add_task()
        site.add_task("gate", camera="gate")
        wait_for(lambda: running(site) and running(site, "gate"), 40, "both tasks run")
        assert len(site.worker.shards()) == 2
        wait_for(
            lambda: {e["camera"] for e in site.center.events()} >= {"forecourt", "gate"},
            40, "events of both cameras at the center",
        )  # fmt: skip
        camera.stop()
        wait_for(
            lambda: site.center.task(STATION, "gate")["state"] == "Degraded", 30, "the loss is told"
        )
        assert site.center.task(STATION, "watch")["state"] == "Running"
    logs = site.worker.process.log.read_text() + site.center.process.log.read_text()
    listed = site.center.http.get("/api/v1/cameras").text
    told = json.dumps([site.worker.status(), site.center.events(), site.worker.events()])
    assert "hush77" not in logs + listed + told


def without_container(recording: Path) -> Path:
    """The recording's H.264 alone, as the RTSP server wants it."""
    raw = recording.with_suffix(".h264")
    with av.open(recording) as source, av.open(raw, "w", format="h264") as target:
        video = source.streams.video[0]
        copy = target.add_stream_from_template(video)
        for packet in source.demux(video):
            if packet.dts is not None:
                packet.stream = copy
                target.mux(packet)
    return raw


def starts_on_disk(site: Site) -> list[str]:
    """Incidents in the outbox of a worker that does not run."""
    with sqlite3.connect(site.worker.data / "outbox.db") as connection:
        rows = connection.execute("SELECT body FROM events ORDER BY id").fetchall()
    connection.close()
    return starts([msgspec.json.decode(body) for (body,) in rows])
