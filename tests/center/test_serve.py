"""The command: starting, answering, telling where, refusing, and stopping in time."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from center import auth, db, serving
from center.config import ConfigError, load
from tests.waiting import wait_for

COMMAND = [sys.executable, "-m", "center"]
EMBEDDED = ["--listen", "127.0.0.1:0", "--embedded-broker", "127.0.0.1:0"]


@contextmanager
def served(data: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """A serving process and what it tells in center.json."""
    facts = data / "center.json"
    facts.unlink(missing_ok=True)
    process = subprocess.Popen(
        [*COMMAND, "serve", "--data", str(data), *EMBEDDED, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for(lambda: facts.exists() or process.poll() is not None, 20, "center.json")
        assert process.poll() is None, process.communicate()[1]
        yield process, json.loads(facts.read_text())
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=30)


def test_from_start_to_stop(tmp_path: Path) -> None:
    """It answers when center.json is there, to the token that it printed; it stops within 3 s."""
    data = tmp_path / "data"
    with served(data) as (process, facts):
        assert facts["pid"] == process.pid
        assert facts["broker_url"].startswith("mqtt://127.0.0.1:")
        with pytest.raises(ConfigError, match="another center serves"):
            serving.serve(load({"data": data, "broker": "mqtt://h", "listen": "127.0.0.1:0"}, {}))
        assert httpx.get(f"{facts['url']}/healthz").json() == {"status": "ok"}
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "only this once" in line
        headers = {"Authorization": f"Bearer {line.split()[-1]}"}
        assert httpx.get(f"{facts['url']}/api/v1/stations", headers=headers).status_code == 200
        with httpx.stream(
            "GET", f"{facts['url']}/api/v1/events/stream", headers=headers
        ) as listening:
            assert next(listening.iter_lines()) == ": beat"
            started = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
            assert time.monotonic() - started < 3
        assert process.stderr is not None
        said = process.stderr.read()
    assert f"api: {facts['url']}/api/v1" in said
    assert f"console: {facts['url']}/console" in said
    assert "Traceback" not in said
    assert line.split()[-1] not in said


def test_the_token_goes_to_a_file_once(tmp_path: Path) -> None:
    """With a file, stdout stays silent; a second start makes no second token."""
    data, token = tmp_path / "data", tmp_path / "token"
    for _ in range(2):
        with served(data, "--admin-token-file", str(token)) as (process, facts):
            headers = {"Authorization": f"Bearer {token.read_text().strip()}"}
            answer = httpx.get(f"{facts['url']}/api/v1/workers", headers=headers)
            assert answer.status_code == 200
            process.terminate()
            assert process.communicate(timeout=10)[0] == ""
    assert token.stat().st_mode & 0o777 == 0o600


def test_bad_usage_is_exit_2(tmp_path: Path) -> None:
    """One clear line says what to do, without a traceback."""
    refused = run("serve", "--data", str(tmp_path / "data"), "--listen", "127.0.0.1:0")
    assert refused.returncode == 2, refused.stderr
    assert "--broker" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("flags", "hint"),
    [
        ({"embedded_broker": "0.0.0.0:0"}, "loopback"),
        ({"listen": "192.0.2.1:1"}, "cannot listen"),
        ({"admin_token_file": "."}, "admin token"),
        ({"admin_token_file": "/nowhere/token"}, "/nowhere/token"),
        ({"data": "/dev/null"}, "data folder"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path: Path, flags: dict[str, str], hint: str) -> None:
    """An address, a file or a folder that cannot be had is named, and nothing goes on running."""
    usable = {"data": tmp_path, "listen": "127.0.0.1:0", "embedded_broker": "127.0.0.1:0"}
    with pytest.raises(ConfigError, match=hint):
        serving.serve(load({**usable, **flags}, {}))


def test_a_refused_token_file_leaves_no_token(tmp_path: Path) -> None:
    """A start that could not hand its token over makes one when it is started again."""
    flags = {"data": tmp_path, "listen": "127.0.0.1:0", "embedded_broker": "127.0.0.1:0"}
    with pytest.raises(ConfigError):
        serving.serve(load({**flags, "admin_token_file": str(tmp_path)}, {}))
    database = db.open_sqlite(tmp_path)
    with database.reading() as connection:
        assert not auth.has_token(connection)
    database.close()


def test_migrate_and_check(tmp_path: Path) -> None:
    """`migrate` makes a database that `check` finds sound; without one, check is refused."""
    data = str(tmp_path / "data")
    assert run("check", "--data", data).returncode == 2
    assert run("migrate", "--data", data).returncode == 0
    checked = run("check", "--data", data, "--json")
    assert checked.returncode == 0, checked.stderr
    assert json.loads(checked.stdout.splitlines()[-1]) == {"ok": True, "findings": []}
    (tmp_path / "data" / "center.db").write_bytes(b"no database at all" * 1000)
    for leftover in (tmp_path / "data").glob("center.db-*"):
        leftover.unlink()
    damaged = run("check", "--data", data)
    assert damaged.returncode == 1
    assert "to do:" in damaged.stdout
    assert os.listdir(tmp_path) == ["data"]
