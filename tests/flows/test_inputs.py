"""What is told to a worker from outside, from the post to the incident, over its restarts."""

import subprocess
import sys
from typing import Any

import httpx
import pytest

from tests.flows.conftest import Site
from tests.waiting import wait_for

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.parametrize("broker", ["embedded"], indirect=True),
]

RULES = [
    {"name": "tank-full", "when": {"input": "tank-2", "above": 87.5}, "severity": "critical"},
    {
        "name": "walks-with-nozzle",
        "when": {
            "class": "person",
            "in": "unload",
            "while": {"input": "nozzle-2", "is": "lifted"},
        },
        "for": "1s",
        "grace": "0.4s",
        "clear": "0.4s",
    },
    {"name": "person", "when": {"class": "person", "in": "unload"}, "severity": "info"},
]


def tell(site: Site, *words: str) -> None:
    """As a script at the station does, which reads the worker's data folder."""
    command = [sys.executable, "-m", "edge", "input", "--data", str(site.worker.data), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr


def opened(site: Site, rule: str) -> list[dict[str, Any]]:
    """The incidents of a rule that have begun, as the display lists them."""
    events = site.worker.events()
    return [e for e in events if e.get("rule") == rule and e["phase"] == "start"]


def is_open(site: Site, rule: str) -> bool:
    """Whether the display shows an incident of a rule as open."""
    return any(event["rule"] == rule for event in site.worker.status()["open"])


def test_a_fact_from_outside_opens_an_incident(site: Site) -> None:
    """Alone or joined with an object, on the display at once, and again after kill -9 (I7)."""
    site.add_camera()
    site.add_task(rules=RULES)
    wait_for(lambda: opened(site, "person"), 40, "the camera is watched")
    assert not opened(site, "tank-full")

    tell(site, "tank-2", "91.25")
    wait_for(lambda: is_open(site, "tank-full"), 10, "the tank's incident on the display")
    tell(site, "tank-2", "60")
    wait_for(lambda: not is_open(site, "tank-full"), 20, "the tank's incident ends")
    assert not opened(site, "walks-with-nozzle")

    tell(site, "nozzle-2", "lifted")
    wait_for(lambda: opened(site, "walks-with-nozzle"), 20, "a person while the nozzle is lifted")
    before = len(opened(site, "walks-with-nozzle"))

    site.worker.process.kill()
    site.worker.start()
    inputs = {each["input"]: each["value"] for each in site.worker.status()["inputs"]}
    assert inputs == {"nozzle-2": "lifted", "tank-2": 60.0}
    wait_for(
        lambda: len(opened(site, "walks-with-nozzle")) > before, 40, "the nozzle is still lifted"
    )

    secret = (site.worker.data / "station.token").read_text().strip()
    assert secret not in site.worker.process.log.read_text()
    assert secret not in httpx.get(f"{site.worker.url}/api/status").text
