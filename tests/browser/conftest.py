"""A running center and a browser that is logged in to its console."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import httpx
import pytest
from playwright.sync_api import Browser

from tests.parts.browser import Tab, chromium, tab
from tests.parts.processes import Center, center


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests of this folder; its event loop must not outlive them."""
    with chromium() as running:
        yield running


@dataclass(frozen=True, slots=True)
class Console:
    """A center with its embedded broker, and ways to look at its console."""

    center: Center
    browser: Browser
    tabs: ExitStack

    @property
    def broker_url(self) -> str:
        """Where workers say hello."""
        facts: dict[str, str] = json.loads((self.center.data / "center.json").read_text())
        return facts["broker_url"]

    def login_url(self) -> str:
        """An address that logs a browser in once."""
        answer = self.center.http.post("/api/v1/login-codes")
        assert answer.status_code == 200, answer.text
        return f"{self.center.url}/login?code={answer.json()['code']}"

    def client(self) -> httpx.Client:
        """A client with a session's cookie and nothing else; it follows redirects."""
        client = self.tabs.enter_context(httpx.Client(follow_redirects=True, timeout=20))
        assert client.get(self.login_url()).status_code == 200
        return client

    def open(self, path: str = "/console", width: int = 1280, height: int = 800) -> Tab:
        """A fresh tab, logged in, at a page of the console."""
        opened = self.tabs.enter_context(tab(self.browser, width, height))
        opened.page.goto(self.login_url())
        if path != "/console":
            opened.page.goto(self.center.url + path)
        return opened

    def furnish(self, station: str = "s1", worker: str = "w1", camera: str = "c1") -> None:
        """A station with a worker and a camera."""
        here = {"station": station}
        stream = {"url": "rtsp://operator:secret@192.0.2.10/one"}
        for kind, metadata, spec in (
            ("Station", {"name": station}, {"title": "Ring road"}),
            ("Worker", {"name": worker, **here}, {}),
            ("Camera", {"name": camera, **here}, {"streams": {"main": stream}}),
        ):
            self.center.put({"kind": kind, "metadata": metadata, "spec": spec})


@pytest.fixture(scope="module")
def running_center(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Center]:
    """A center process that logs all that it can."""
    folder = tmp_path_factory.mktemp("center")
    flags = ["--embedded-broker", "127.0.0.1:0", "--log-level", "debug"]
    with center(folder, flags) as running:
        yield running


@pytest.fixture(scope="session")
def stranger() -> Iterator[httpx.Client]:
    """A client that has nothing and follows nothing."""
    with httpx.Client(timeout=20) as client:
        yield client


@pytest.fixture
def console(running_center: Center, browser: Browser) -> Iterator[Console]:
    """The center's console; each test names its own station in it."""
    with ExitStack() as tabs:
        yield Console(running_center, browser, tabs)
