"""A model's path: pushed to the center, fetched and tried by a worker, at work in its task."""

import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.flows.conftest import ROOT, STATION, Site
from tests.flows.test_flows import running, starts
from tests.parts import brokers
from tests.parts.brokers import BrokerHandle
from tests.parts.models import push
from tests.parts.processes import center, worker
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(150)

NANO = ROOT / "models" / "forecourt-nano"
BLIND = {"input": {"width": 416, "height": 256, "color": "BGR", "scale": 0.00001}}
"""What makes our own detector find nothing."""


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerHandle]:
    with brokers.mosquitto(tmp_path) as handle:
        yield handle


@pytest.fixture
def site(broker: BrokerHandle, tmp_path: Path, recordings: Path) -> Iterator[Site]:
    """A site whose worker has no models of its own, and a token for those of the center."""
    mine, models = tmp_path / "recordings", tmp_path / "models"
    shutil.copytree(recordings, mine)
    models.mkdir()
    with center(tmp_path, ["--broker", broker.url]) as at_center:
        at_center.put({"kind": "Station", "metadata": {"name": STATION}, "spec": {}})
        about = {"name": "s1-w1", "station": STATION}
        at_center.put({"kind": "Worker", "metadata": about, "spec": {}})
        token = tmp_path / "worker.token"
        token.write_text(at_center.http.post("/api/v1/workers/s1-w1/token").json()["token"])
        token.chmod(0o600)
        flags = ["--center", at_center.url, "--center-token-file", str(token)]
        with worker(tmp_path, "s1-w1", broker.url, [models], mine, *flags) as at_work:
            yield Site(broker, at_center, at_work, mine, models)


def published(site: Site, **changes: Any) -> dict[str, Any]:
    """Push our own detector as `yard`, with these changes to its manifest."""
    told = tomllib.loads((NANO / "model.toml").read_text())
    document = {**told, **changes, "name": "yard"}
    document.pop("sha256")
    document.pop("size_bytes")
    answer = push(site.center.http, (NANO / "model.onnx").read_bytes(), **document)
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()
    return result


def model(site: Site) -> dict[str, Any]:
    found: dict[str, Any] = site.center.get("/models/yard")
    return found


def test_a_model_goes_to_a_station_and_a_broken_one_does_not(site: Site) -> None:
    """From a push to a task at work; a version that sees nothing is refused, a good one taken."""
    site.add_camera()
    site.add_task(model={"name": "yard"})
    wait_for(
        lambda: "is not in" in site.center.task(STATION, "watch")["reason"],
        40,
        "the task says that there is no such model",
    )
    published(site, version="1")
    wait_for(lambda: model(site)["workers"] == {"Running": 1}, 60, "the model runs")
    wait_for(lambda: running(site), 20, "the task runs with it")
    wait_for(lambda: starts(site.worker.events()), 40, "an incident")

    published(site, version="2", **BLIND)
    wait_for(lambda: model(site)["workers"] == {"Rejected": 1}, 60, "the blind one is refused")
    (trouble,) = model(site)["troubles"]
    assert "nothing at all" in trouble["reason"]
    assert "version 1 goes on" in trouble["reason"]
    assert running(site)
    seen = len(starts(site.worker.events()))
    wait_for(lambda: len(starts(site.worker.events())) > seen, 30, "further incidents")

    published(site, version="3")
    wait_for(lambda: model(site)["workers"] == {"Running": 1}, 60, "the next one runs")
    wait_for(
        lambda: "yard: another version is loaded" in site.worker.process.tail(400),
        20,
        "it is put to work",
    )
    ends = [e["reason"] for e in site.worker.events() if e.get("phase") == "end"]
    assert set(ends) <= {"cleared"}

    site.center.process.kill()
    site.worker.process.kill()
    site.worker.start()
    wait_for(
        lambda: all(i["state"] == "Running" for i in site.worker.status()["items"]),
        30,
        "I7: all runs from disk, with the center away",
    )
    assert {i["kind"] for i in site.worker.status()["items"]} == {"Camera", "Model", "Task"}
