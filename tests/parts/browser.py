"""A real browser for tests: Debian's Chromium, driven by Playwright.

Here: starting it, and a page that remembers what it asked of other hosts and what its scripts
complained about. Screenshots of what a test saw go to `test-results/`.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

CHROMIUM = Path("/usr/bin/chromium")
RESULTS = Path(__file__).parents[2] / "test-results"
ACTION_TIMEOUT_MS = 10_000

_ARGS = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass(slots=True)
class Tab:
    """A page, and what it did besides being looked at."""

    page: Page
    hosts: set[str] = field(default_factory=set)
    """Every host:port that it asked for anything."""
    complaints: list[str] = field(default_factory=list)
    """Errors of its scripts and of its console."""

    def screenshot(self, name: str) -> None:
        """Keep what is seen now as test-results/NAME.png."""
        RESULTS.mkdir(exist_ok=True)
        self.page.screenshot(path=RESULTS / f"{name}.png")


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless Chromium; skips where it is not installed."""
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not installed (apt-get install chromium)")
    # Chromium's sandbox refuses to run as root.
    root = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=[*_ARGS, *root], headless=True
        )
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def tab(browser: Browser, width: int = 1280, height: int = 800) -> Iterator[Tab]:
    """A fresh tab without cookies."""
    context = browser.new_context(viewport={"width": width, "height": height})
    context.set_default_timeout(ACTION_TIMEOUT_MS)
    opened = Tab(context.new_page())

    def asked(request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme in ("http", "https", "ws", "wss"):
            opened.hosts.add(parts.netloc)

    def said(message: ConsoleMessage) -> None:
        if message.type == "error":
            opened.complaints.append(message.text)

    opened.page.on("request", asked)
    opened.page.on("websocket", lambda socket: opened.hosts.add(urlsplit(socket.url).netloc))
    opened.page.on("pageerror", lambda error: opened.complaints.append(str(error)))
    opened.page.on("console", said)
    try:
        yield opened
    finally:
        context.close()
