"""A call from end to end: the center's API, a broker, a worker, its probe and its shard."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest

from edge.vision.blur import FILL
from tests.flows.conftest import STATION, Site
from tests.parts import rtsp
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(120)

SECRET = "hunter2-of-the-camera"


def call(site: Site, method: str, timeout_s: float = 20.0, **args: Any) -> httpx.Response:
    """Ask the site's worker."""
    body = {"method": method, "args": args, "timeout_s": timeout_s}
    return site.center.http.post("/api/v1/workers/s1-w1/calls", json=body, timeout=30)


def online(site: Site) -> bool:
    """Whether the worker knows itself welcome, and the center knows it."""
    return bool(
        site.worker.status()["session"] == "online"
        and site.center.get("/workers/s1-w1")["status"]["state"] == "Online"
    )


def test_what_a_worker_is_asked_it_answers(site: Site, tmp_path: Path) -> None:
    """Probe, picture, log and config of a worker at work; I11: no answer holds a password.

    What any of a stream's tasks hides is not in its picture.
    """
    said = ""
    with rtsp.serving(user="admin", password=SECRET) as camera:
        address = camera.url.replace("rtsp://", f"rtsp://admin:{SECRET}@")
        site.add_camera()
        site.add_task(masks={"sky": [[0, 0], [1, 0], [1, 0.25], [0, 0.25]]})
        site.add_task("other", blur={"door": [[0, 0.5], [0.5, 0.5], [0.5, 1], [0, 1]]})
        site.center.put(
            {
                "kind": "Camera",
                "metadata": {"name": "gate", "station": STATION},
                "spec": {"streams": {"main": {"url": address}}},
            }
        )
        site.add_task("gate", camera="gate")
        wait_for(lambda: _running(site) == {"forecourt", "gate"}, 40, "both streams run")
        probed = call(site, "probe", camera="gate")
        assert probed.json()["result"]["codec"] == "h264", probed.text
        wrong = call(site, "probe", url=camera.url)
        assert "refuses the user name" in wrong.json()["error"]
        said += probed.text + wrong.text

        shown = site.center.http.get(
            "/api/v1/workers/s1-w1/picture", params={"camera": "forecourt", "width": 320}
        )
        assert shown.status_code == 200, shown.text
        picture = cv2.imdecode(np.frombuffer(shown.content, np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None
        assert picture.shape == (180, 320, 3)
        assert picture.std() > 10
        assert abs(picture[:32].astype(int) - FILL).max() <= 3, "the mask is filled"
        edges = np.abs(np.diff(picture[92:178].astype(int), axis=1)).max(axis=(0, 2))
        assert edges[:155].max() < edges[165:].max() / 2, "within the blurred area is no detail"
        age_ms = time.time() * 1000 - int(shown.headers["x-picture-time-ms"])
        assert abs(age_ms) < 10_000
        nothing = call(site, "picture", camera="forecourt", stream="sub").json()
        assert "no task watches this stream" in nothing["error"]

        log = call(site, "log", lines=1000)
        assert any("welcomed by the center" in line for line in log.json()["result"]["lines"])
        config = call(site, "config").json()["result"]
        assert config["worker"] == "s1-w1"
        assert config["config"]["broker"] == [site.broker.url]
        assert "forecourt-nano" in [model["name"] for model in config["models"]]
        said += log.text + str(config)
    assert SECRET not in said


def _running(site: Site) -> set[str]:
    """Cameras whose streams give pictures."""
    return {s["camera"] for s in site.worker.status()["streams"] if s["state"] == "running"}


def test_a_worker_that_is_away(site: Site) -> None:
    """One that hangs is late and told so; one that has left is refused at once."""
    wait_for(lambda: online(site), 20, "the worker is online")
    pid = site.worker.process.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        late = call(site, "config", timeout_s=0.5)
        assert (late.status_code, "did not answer within 0.5 s" in late.text) == (504, True)
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_for(lambda: call(site, "config").status_code == 200, 20, "it answers again")
    site.worker.process.stop()
    wait_for(lambda: not _is_online(site), 10, "the center has heard its goodbye")
    began_s = time.monotonic()
    refused = call(site, "config")
    assert (refused.status_code, "not online" in refused.text) == (409, True)
    assert time.monotonic() - began_s < 5


def _is_online(site: Site) -> bool:
    return bool(site.center.get("/workers/s1-w1")["status"]["state"] == "Online")
