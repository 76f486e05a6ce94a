"""One incident, seen by the station's staff and by the center's operators, without a reload."""

import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Console
from tests.parts.browser import tab
from tests.parts.processes import worker

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

ROOT = Path(__file__).resolve().parents[2]
STATION = "both-pages"
NEWS_MS = 30_000


def test_an_incident_appears_on_display_and_console(console: Console, tmp_path: Path) -> None:
    """A task is assigned while both pages are open; its first incident comes up on both."""
    scene = tmp_path / "scene.mp4"
    command = [
        sys.executable, str(ROOT / "models" / "scenes.py"), "clip", "--out", str(scene),
        "--seconds", "7", "--fps", "10", "--size", "640x360",
    ]  # fmt: skip
    subprocess.run(command, check=True, stderr=subprocess.PIPE, timeout=60)
    here = {"station": STATION}
    stream = {"url": scene.as_uri(), "loop": True}
    put = console.center.put
    put({"kind": "Station", "metadata": {"name": STATION}, "spec": {}})
    put({"kind": "Worker", "metadata": {"name": "both-w1", **here}, "spec": {}})
    put(
        {
            "kind": "Camera",
            "metadata": {"name": "forecourt", **here},
            "spec": {"streams": {"main": stream}},
        }
    )
    folders = [ROOT / "models"]
    with (
        worker(tmp_path, "both-w1", console.broker_url, folders, tmp_path) as at_work,
        tab(console.browser) as display,
    ):
        operators = console.open()
        display.page.goto(at_work.url)
        for page in (display.page, operators.page):
            page.evaluate("window.sameDocument = true")
        rule = {"name": "person-there", "when": {"class": "person"}, "severity": "critical"}
        put(
            {
                "kind": "Task",
                "metadata": {"name": "watch", **here},
                "spec": {
                    "camera": "forecourt",
                    "model": {"name": "forecourt-nano"},
                    "rules": [rule],
                },
            }
        )
        shown = display.page.locator("#events tr[data-incident]", has_text="person-there").first
        expect(shown).to_be_visible(timeout=NEWS_MS)
        incident = shown.get_attribute("data-incident")
        listed = operators.page.locator(f'[data-incident="{incident}"]').first
        expect(listed).to_be_visible(timeout=NEWS_MS)
        expect(listed).to_contain_text("person-there")
        for page in (display.page, operators.page):
            assert page.evaluate("window.sameDocument") is True
        display.screenshot("both-display")
        operators.screenshot("both-console")
