"""Bad input gets one clear error where a person looks, and everything else goes on."""

import random
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.flows.conftest import STATION, Site
from tests.flows.test_flows import running, starts
from tests.parts.links import linked
from tests.waiting import wait_for
from wire import topics
from wire.link import Link

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.parametrize("broker", ["mosquitto"], indirect=True),
]


@pytest.fixture
def silent_camera() -> Iterator[str]:
    """An address that accepts connections and sends nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"rtsp://127.0.0.1:{server.getsockname()[1]}/main"


def add_camera(site: Site, name: str, url: str) -> None:
    """A camera at an address."""
    metadata = {"name": name, "station": STATION}
    spec = {"streams": {"main": {"url": url}}}
    site.center.put({"kind": "Camera", "metadata": metadata, "spec": spec})


def test_each_gets_its_reason_and_the_good_task_goes_on(site: Site, silent_camera: str) -> None:
    """Cameras and models that are none: the reason is in `observed`; a neighbour sees on."""
    site.add_camera()
    site.add_task("good")
    (site.recordings / "garbage.mp4").write_bytes(random.Random(1).randbytes(50_000))
    (site.models / "broken.onnx").write_bytes(b"this is no model")
    add_camera(site, "missing", (site.recordings / "nothing.mp4").as_uri())
    add_camera(site, "garbage", (site.recordings / "garbage.mp4").as_uri())
    add_camera(site, "outside", "file:///etc/hostname")
    add_camera(site, "refused", "rtsp://keeper:s3cret@127.0.0.1:1/main")
    add_camera(site, "silent", silent_camera)
    expected: dict[str, tuple[str, str]] = {
        "missing": ("Degraded", "no such file"),
        "garbage": ("Degraded", "no video that can be read"),
        "outside": ("Rejected", "--recordings folder"),
        "refused": ("Degraded", "refused"),
        "silent": ("Degraded", "nothing came for"),
    }
    for name in expected:
        site.add_task(name, camera=name)
    site.add_task("no-model", model={"name": "no-such-model"})
    site.add_task("broken-model", model={"name": "broken"})
    zebra = [{"name": "r", "when": {"class": "zebra"}}]
    site.add_task("zebra", rules=zebra)
    expected |= {
        "no-model": ("Rejected", "no-such-model"),
        "broken-model": ("Rejected", "broken"),
        "zebra": ("Rejected", "spec.rules[0].when.class"),
    }

    def told() -> bool:
        statuses = {name: site.center.task(STATION, name) for name in expected}
        return all(
            statuses[name]["state"] == state and part in statuses[name]["reason"]
            for name, (state, part) in expected.items()
        )

    try:
        wait_for(told, 60, "every reason at the center", every_s=0.5)
    except AssertionError as error:
        statuses = {name: site.center.task(STATION, name) for name in expected}
        raise AssertionError(f"{error}: {statuses}") from None
    assert running(site, "good")
    before = len(starts(site.center.events()))
    wait_for(lambda: len(starts(site.center.events())) > before, 40, "an incident of the good task")
    for text in (site.worker.process.log.read_text(), site.center.process.log.read_text()):
        assert "s3cret" not in text


def test_the_api_names_the_field(site: Site) -> None:
    """422 with the path of the field for what a task gets wrong; nothing is stored."""
    site.add_camera()

    def refused(**changes: Any) -> list[str]:
        spec: dict[str, Any] = {
            "camera": "forecourt",
            "model": {"name": "forecourt-nano"},
            "zones": {"bay": [[0, 0], [1, 0], [1, 1]]},
            "rules": [{"name": "r", "when": {"class": "car", "in": "bay"}}],
            **changes,
        }
        document = {"kind": "Task", "metadata": {"name": "t", "station": STATION}, "spec": spec}
        path = f"/api/v1/stations/{STATION}/tasks/t"
        answer = site.center.http.put(path, json=document)
        assert answer.status_code == 422, answer.text
        return [".".join(map(str, found["loc"])) for found in answer.json()["detail"]]

    assert refused(camera="nowhere") == ["body.spec.camera"]
    assert refused(zones={"bay": [[0, 0], [1, 1]]}) == ["body.spec.zones.bay"]
    nowhere = [{"name": "r", "when": {"class": "car", "in": "nowhere"}}]
    assert refused(rules=nowhere) == ["body.spec.rules.0.when.in"]
    assert refused(fps="fast") == ["body.spec.fps"]
    assert refused(colour="red") == ["body.spec.colour"]
    assert site.center.get("/tasks")["items"] == []


def test_noise_on_every_topic_stops_nothing(site: Site) -> None:
    """Garbage up and down on every topic: both sides ignore it and the task's events go on."""
    site.add_camera()
    site.add_task()
    wait_for(lambda: starts(site.center.events()), 40, "a first incident")
    noise = [b"", b"{", b"\x78\x9c", b"\xff" * 100, b'{"k":"desired"}', b"[" * 5000, b"x" * 300_000]
    channels = [
        topics.up("s1-w1", channel)
        for channel in ("hello", "hb", "will", "bye", "ev/alarm", "ev/bulk", "observed", "rsp")
    ]
    channels += [topics.down("s1-w1", channel) for channel in ("desired", "ack", "rpc")]
    channels += ["fc/v1/up/s1-w1/nonsense", "fc/v1/up/UPPER/hello", "fc/v1/dn/s1-w1/nonsense"]
    with linked(site.broker.url) as (link, _):
        for channel in channels:
            for payload in noise:
                publish(link, channel, payload)
    before = len(starts(site.center.events()))
    wait_for(lambda: len(starts(site.center.events())) > before, 40, "another incident")
    wait_for(lambda: running(site), 10, "the task still runs")
    assert site.worker.status()["session"] == "online"


def publish(link: Link, channel: str, payload: bytes) -> None:
    """Hand a message to a link, once it has room."""

    def handed_over() -> bool:
        connection = link.connection
        return connection is not None and link.publish(connection, channel, payload)

    wait_for(handed_over, 10, "room in the link")
