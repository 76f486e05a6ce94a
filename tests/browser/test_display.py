"""The station's display in a real browser, over a real worker that has no network at all."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
import pytest
from playwright.sync_api import Browser, expect

from edge.clock import SystemClock
from edge.store.desired import DesiredStore, digest_of
from edge.store.outbox import Outbox
from tests.parts.browser import tab
from tests.parts.processes import Worker, worker
from wire import specs
from wire.events import Event
from wire.messages import Desired, Item

pytestmark = pytest.mark.browser

ROOT = Path(__file__).resolve().parents[2]
NOBODY = "mqtt://127.0.0.1:1"
MARKUP = '<img src=x onerror="window.hurt=1"><script>window.hurt=1</script>'
NEWS_MS = 30_000


def desired(*documents: dict[str, object]) -> Desired:
    """A desired document as a center would have sent it."""
    parsed = [specs.parse(document) for document in documents]
    items = [
        Item(kind=r.kind, id=r.metadata.name, revision=1, body=msgspec.Raw(specs.canonical(r)))
        for r in parsed
    ]
    digest = digest_of(items)
    return Desired(session="", generation=1, revision=1, digest=digest, items=items)


@pytest.fixture
def offline(tmp_path: Path) -> Iterator[Worker]:
    """A worker that has a task on its disk, an older event with markup in it, and no broker."""
    recordings = tmp_path / "recordings"
    recordings.mkdir()
    command = [
        sys.executable, str(ROOT / "models" / "scenes.py"), "clip",
        "--out", str(recordings / "scene.mp4"),
        "--seconds", "7", "--fps", "10", "--size", "640x360",
    ]  # fmt: skip
    subprocess.run(command, check=True, stderr=subprocess.PIPE, timeout=60)
    stream = {"url": (recordings / "scene.mp4").as_uri(), "loop": True}
    rule = {
        "name": "person-at-unloading",
        "when": {"class": "person", "in": "unload"},
        "for": "1s",
        "severity": "critical",
    }
    store = DesiredStore(tmp_path / "w1" / "desired.db", SystemClock())
    store.take(
        desired(
            {
                "kind": "Camera",
                "metadata": {"name": "forecourt", "station": "s1"},
                "spec": {"streams": {"main": stream}},
            },
            {
                "kind": "Task",
                "metadata": {"name": "watch", "station": "s1"},
                "spec": {
                    "camera": "forecourt",
                    "model": {"name": "forecourt-nano"},
                    "zones": {"unload": [[0.5, 0.41], [1, 0.41], [1, 0.83], [0.5, 0.83]]},
                    "rules": [rule],
                },
            },
        )
    )
    store.close()
    outbox = Outbox(tmp_path / "w1" / "outbox.db", SystemClock())
    marked = Event(
        kind=MARKUP, t_ms=SystemClock().wall_ms(), camera=MARKUP, severity=MARKUP, rule=MARKUP,
        phase="start", incident=MARKUP, label=MARKUP, zone=MARKUP, reason=MARKUP, message=MARKUP,
    )  # fmt: skip
    outbox.append([marked]).result(5)
    outbox.close()
    with worker(tmp_path, "w1", NOBODY, [ROOT / "models"], recordings) as at_work:
        yield at_work


def tell(worker: Worker, **inputs: str | float) -> None:
    """As the station's controllers do: so say its inputs."""
    token = (worker.data / "station.token").read_text().strip()
    answer = httpx.post(
        f"{worker.url}/api/inputs",
        json=[{"input": k.replace("_", "-"), "value": v} for k, v in inputs.items()],
        headers={"Authorization": f"Bearer {token}"},
    )
    assert answer.status_code == 200, answer.text


@pytest.mark.timeout(120)
def test_an_incident_appears_without_a_reload_and_without_a_network(
    browser: Browser, offline: Worker
) -> None:
    """The page shows a new incident by itself; markup in events is text; no other host is asked."""
    with tab(browser) as display:
        page = display.page
        page.goto(offline.url)
        page.evaluate("window.sameDocument = true")
        expect(page.locator("#worker")).to_have_text("w1")
        expect(page.locator("#center")).to_contain_text("offline")
        expect(page.locator("#streams")).to_contain_text("forecourt", timeout=NEWS_MS)
        expect(page.locator("#streams")).to_contain_text("running", timeout=NEWS_MS)
        expect(page.locator("#outside")).to_be_hidden()
        tell(offline, nozzle_2="lifted", tank_2=87.5, paid_2=False, ground_1=MARKUP)
        expect(page.locator(".input", has_text="nozzle-2")).to_contain_text("lifted")
        expect(page.locator(".input")).to_have_count(4)
        incident = page.locator(".incident", has_text="person-at-unloading")
        expect(incident.first).to_be_visible(timeout=NEWS_MS)
        display.screenshot("display-incident")
        row = page.locator("#events tr", has_text="person-at-unloading")
        expect(row.first).to_contain_text("critical")
        expect(row.first).to_contain_text("person in unload")
        assert page.evaluate("window.sameDocument") is True
        assert page.evaluate("window.hurt") is None
        expect(page.locator("#events")).to_contain_text("<img src=x")
        assert display.hosts == {offline.url.removeprefix("http://")}
        assert display.complaints == []
    with tab(browser, width=480) as narrow:
        narrow.page.goto(offline.url)
        expect(narrow.page.locator("#events tr").first).to_be_visible(timeout=NEWS_MS)
        narrow.screenshot("display-narrow")
        wide = narrow.page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 480


@pytest.mark.timeout(60)
def test_a_worker_that_stops_answering_is_not_shown_as_calm(
    browser: Browser, offline: Worker
) -> None:
    """I10: when the worker is gone the page says so."""
    with tab(browser) as display:
        display.page.goto(offline.url)
        expect(display.page.locator("#feed")).to_have_text("live")
        offline.process.kill()
        expect(display.page.locator("#feed")).to_have_text("reconnecting", timeout=NEWS_MS)
        expect(display.page.locator("#center")).to_have_text(
            "worker does not answer", timeout=NEWS_MS
        )
        expect(display.page.locator(".calm:not(.unknown)")).to_have_count(0)
        display.screenshot("display-gone")
