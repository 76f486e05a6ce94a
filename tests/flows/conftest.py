"""A station for the flows: a rendered recording, our own detector, real processes around them."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.parts import brokers
from tests.parts.brokers import BrokerHandle
from tests.parts.processes import Center, Worker, center, worker

ROOT = Path(__file__).resolve().parents[2]
STATION = "s1"


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `scene.mp4`: 7 s in which a person walks into the unloading point."""
    folder = tmp_path_factory.mktemp("recordings")
    command = [
        sys.executable, str(ROOT / "models" / "scenes.py"), "clip",
        "--out", str(folder / "scene.mp4"), "--seconds", "7", "--fps", "10", "--size", "640x360",
    ]  # fmt: skip
    subprocess.run(command, check=True, stderr=subprocess.PIPE, timeout=60)
    return folder


@dataclass
class Site:
    """A broker, a center and a worker that belong together."""

    broker: BrokerHandle
    center: Center
    worker: Worker
    recordings: Path
    models: Path
    """Looked through after the repository's own."""

    def add_camera(self, name: str = "forecourt", file: str = "scene.mp4") -> None:
        """A camera that shows a recording for ever."""
        stream = {"url": (self.recordings / file).as_uri(), "loop": True}
        self.center.put(
            {
                "kind": "Camera",
                "metadata": {"name": name, "station": STATION},
                "spec": {"streams": {"main": stream}},
            }
        )

    def add_task(self, name: str = "watch", **changes: Any) -> dict[str, Any]:
        """A task with an incident in each turn of the recording, which is over before the next."""
        spec: dict[str, Any] = {
            "camera": "forecourt",
            "fps": 5,
            "model": {"name": "forecourt-nano"},
            "zones": {"unload": [[0.5, 0.41], [1, 0.41], [1, 0.83], [0.5, 0.83]]},
            "rules": [
                {
                    "name": "person-at-unloading",
                    "when": {"class": "person", "in": "unload"},
                    "for": "1s",
                    "grace": "0.4s",
                    "clear": "0.4s",
                    "severity": "critical",
                },
                {
                    "name": "vehicles",
                    "when": {"count": {"class": ["car", "truck"]}, "at_least": 1},
                    "severity": "info",
                },
            ],
            **changes,
        }
        metadata = {"name": name, "station": STATION}
        return self.center.put({"kind": "Task", "metadata": metadata, "spec": spec})


@pytest.fixture(params=["mosquitto", "embedded"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BrokerHandle]:
    """Mosquitto (MQTT 5) and the embedded broker (3.1.1): every flow runs on both."""
    made = brokers.mosquitto(tmp_path) if request.param == "mosquitto" else brokers.embedded()
    with made as handle:
        yield handle


@pytest.fixture
def flags() -> list[str]:
    """More flags of the worker; a test may give others."""
    return []


@pytest.fixture
def site(
    broker: BrokerHandle, tmp_path: Path, recordings: Path, flags: list[str]
) -> Iterator[Site]:
    """A running site with station and worker known to the center, and nothing to do yet."""
    mine = tmp_path / "recordings"
    mine.mkdir()
    models = tmp_path / "models"
    models.mkdir()
    for recording in recordings.iterdir():
        shutil.copy(recording, mine)
    with center(tmp_path, ["--broker", broker.url]) as running:
        running.put({"kind": "Station", "metadata": {"name": STATION}, "spec": {}})
        about = {"name": "s1-w1", "station": STATION}
        running.put({"kind": "Worker", "metadata": about, "spec": {}})
        folders = [ROOT / "models", models]
        with worker(tmp_path, "s1-w1", broker.url, folders, mine, *flags) as at_work:
            yield Site(broker, running, at_work, mine, models)
