"""What the tests of the center share."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from center.app import build
from tests.parts.brokers import BrokerHandle, embedded, mosquitto
from tests.parts.centers import Rig, rig
from tests.parts.postgres import Postgres
from tests.waiting import wait_for


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """A migrated database of each sort; None is SQLite in the center's folder."""
    if request.param == "sqlite":
        yield None
        return
    server: Postgres = request.getfixturevalue("postgres_server")
    with server.database() as url:
        yield url


@pytest.fixture
def center(tmp_path: Path, database_url: str | None) -> Iterator[Rig]:
    """A center's parts over a real database, without threads and broker."""
    with rig(tmp_path / "center", url=database_url) as made:
        yield made


@pytest.fixture(scope="session")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FastAPI, str]]:
    """The API behind a real web server, and its URL. The desk behind it is each test's own."""
    with rig(tmp_path_factory.mktemp("web")) as nobody:
        app = build(nobody.desk)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        wait_for(lambda: server.started, 5, "the web server")
        yield app, f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(5)


@pytest.fixture
def client(center: Rig, web: tuple[FastAPI, str]) -> Iterator[httpx.Client]:
    """A client of the API, with a token."""
    app, url = web
    app.state.desk = center.desk
    headers = {"Authorization": f"Bearer {center.token()}"}
    with httpx.Client(base_url=url, headers=headers, timeout=20) as made:
        yield made


@pytest.fixture(params=["mosquitto", "embedded"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BrokerHandle]:
    with mosquitto(tmp_path) if request.param == "mosquitto" else embedded() as handle:
        yield handle
