"""The command against the real center, so that both read the REST API in the same way."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from cli import access
from cli.api import Api
from tests.cli.conftest import Run
from tests.cli.test_apply import PLACES, SITE
from tests.parts.models import FILE, sha256_of
from tests.waiting import wait_for

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A center's data folder's parent, with `url` and `token` in it."""
    pytest.importorskip("nicegui", reason="the center's extras are not installed")
    root = tmp_path_factory.mktemp("center")
    data, log = root / "data", root / "log"
    words = [
        *("-m", "center", "serve", "--data", str(data), "--listen", "127.0.0.1:0"),
        *("--embedded-broker", "127.0.0.1:0", "--admin-token-file", str(root / "token")),
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *words], cwd=REPOSITORY, stdout=output, stderr=output
        )
    try:
        wait_for(
            lambda: (data / "center.json").is_file() or process.poll() is not None, 30, "its start"
        )
        assert process.poll() is None, log.read_text()[-2000:]
        (root / "url").write_text(json.loads((data / "center.json").read_text())["url"])
        yield root
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


@pytest.fixture(autouse=True)
def _pointed_to(serving: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORECOURT_URL", (serving / "url").read_text())
    monkeypatch.setenv("FORECOURT_TOKEN_FILE", str(serving / "token"))


def test_a_site_from_dry_run_to_deletion(run: Run, tmp_path: Path) -> None:
    """Each command says the same of a real center as the tests beside this one expect."""
    (tmp_path / "site.yaml").write_text(SITE)
    dry = run("apply", "-f", "site.yaml", "--dry-run")
    assert dry.code == 0, dry.err
    assert dry.out.count("created (dry run)") == 4
    assert "no stations" in run("get", "stations").err

    for result in ("created", "unchanged"):
        ran = run("apply", "-f", "site.yaml")
        assert (ran.code, ran.out.splitlines()) == (0, [f"{place} {result}" for place in PLACES])
    for kind in ("stations", "workers", "cameras", "tasks"):
        table = run("get", kind)
        assert table.code == 0
        assert "s1" in table.out
        again = run("apply", "-f", "-", stdin=run("get", kind, "-o", "yaml").out)
        assert again.out.splitlines() == [p for p in [f"{p} unchanged" for p in PLACES]
                                          if p.startswith(kind[:-1])]  # fmt: skip

    (tmp_path / "site.yaml").write_text(SITE.replace("10m", "5m"))
    changed = run("apply", "-f", "site.yaml", "--dry-run").out
    assert "-    for: 600.0\n+    for: 300.0" in changed

    needed = run("delete", "station", "s1")
    assert needed.code == 1
    assert "bay-2" in needed.err
    assert run("delete", "-f", "site.yaml", "--dry-run").out.count("deleted (dry run)") == 4
    assert run("delete", "-f", "site.yaml").out.count("deleted") == 4
    assert run("delete", "-f", "site.yaml", "--ignore-missing").out.count("already gone") == 4


def test_refusals_are_readable(run: Run) -> None:
    """An unknown station is a problem of a field; a wrong token is said without showing it."""
    camera = SITE.split("---")[1]
    ran = run("apply", "-f", "-", stdin=camera)
    assert ran.code == 2
    assert ran.err.startswith("standard input:doc 1 (Camera yard): metadata.station: ")
    Path("token").write_text("wrong-token")
    refused = run("get", "tasks", "--token-file", "token")
    assert refused.code == 1
    assert "does not accept the token" in refused.err
    assert "wrong-token" not in refused.err


def test_events_and_login_codes(run: Run, serving: Path) -> None:
    """A center without events says so, and gives codes for browsers."""
    assert "no events" in run("events", "--since", "1h").err
    token = access.read_token(serving / "token")
    with Api(access.Access((serving / "url").read_text(), token)) as api:
        assert api.login_code()
        assert list(api.events({"order": "asc"}, 10)) == []


def test_webhooks_and_notifications(run: Run, serving: Path) -> None:
    """Webhooks are listed without their secrets and deleted by name; notifications only listed."""
    token = access.read_token(serving / "token")
    made = httpx.put(
        f"{(serving / 'url').read_text().rstrip('/')}/api/v1/webhooks/duty",
        json={"url": "https://pager.example/hook?token=hunter2", "secret": "hunter2" * 3},
        headers={"Authorization": f"Bearer {token}"},
    )
    assert made.status_code == 200, made.text
    shown = "".join(run("get", "webhooks", *words).out for words in ((), ("-o", "json")))
    assert "https://pager.example/hook?..." in shown
    assert "hunter2" not in shown
    assert json.loads(run("get", "webhook", "duty", "-o", "json").out)["secret"] == "set"
    assert run("delete", "webhook", "duty").out == "webhook/duty deleted\n"
    assert "no webhooks" in run("get", "webhooks").err
    assert "no notifications" in run("get", "notifications").err
    assert run("get", "notification", "duty").code == 2
    assert run("delete", "notification", "duty").code == 2


def test_a_model_from_push_to_deletion(run: Run, tmp_path: Path) -> None:
    """A file is sent once, its manifest as often as it changes; lists show it, a task keeps it."""
    file = tmp_path / "Yard_v1.onnx"
    file.write_bytes(FILE)
    dry = run("models", "push", str(file), "--dry-run", "--name", "nano")
    assert dry.out == "model/nano created (dry run)\n"
    pushed = run("models", "push", str(file), "--name", "nano", "--json")
    assert pushed.code == 0, pushed.err
    told = json.loads(pushed.out)
    assert (told["result"], told["size_bytes"], told["tasks"]) == ("created", len(FILE), 0)
    assert told["sha256"] == sha256_of(FILE)
    (tmp_path / "yard.jpg").write_bytes(b"\xff\xd8\xff" + bytes(1000))
    (tmp_path / "model.toml").write_text(
        'name = "nano"\nfile = "Yard_v1.onnx"\nversion = "2"\nlabels = ["person"]\n'
        '[check]\npicture = "yard.jpg"\nfind = [{label = "person"}]\n'
    )
    again = run("models", "push", str(file))
    assert again.out.startswith("model/nano updated, revision "), again.err
    assert "has this file already" in again.err
    table = run("get", "models", "-o", "wide").out
    assert "nano" in table
    assert sha256_of(FILE)[:12] in table
    shown = json.loads(run("get", "model", "nano", "-o", "json").out)
    assert shown["manifest"]["check"]["picture"].endswith("characters")
    assert run("delete", "model", "nano").out == "model/nano deleted\n"
    assert run("get", "model", "nano").code == 1


def test_what_cannot_be_pushed_is_told_before_anything_is_sent(run: Run, tmp_path: Path) -> None:
    """No file, another file than its manifest means, a picture that does not travel: exit 2."""
    file = tmp_path / "yard.onnx"
    assert run("models", "push", str(file)).code == 2
    file.write_bytes(b"x")
    toml = tmp_path / "other.toml"
    for line, told in (
        (f'sha256 = "{"0" * 64}"', "not the file"),
        ('[check]\npicture = "yard.jpg"', "cannot be read"),
        ('[check]\npicture = "yard.onnx"', "must be a JPEG"),
        ("labels = 3", "labels"),
    ):
        toml.write_text(f'name = "nano"\nfile = "yard.onnx"\n{line}\n')
        ran = run("models", "push", str(file), "--manifest", str(toml))
        assert (ran.code, told in ran.err) == (2, True), ran.err
    assert run("models", "push", str(file), "--name", "No_Name").code == 2


def test_a_token_for_a_worker(run: Run, tmp_path: Path) -> None:
    """It is written to a new private file or shown once; nothing is overwritten by it."""
    (tmp_path / "site.yaml").write_text(SITE)
    assert run("apply", "-f", "site.yaml").code == 0
    worker = next(place for place in PLACES if place.startswith("worker/")).removeprefix("worker/")
    made = run("workers", "token", worker, "-o", "w.token")
    assert made.code == 0, made.err
    assert (tmp_path / "w.token").read_text().startswith("fc-worker-")
    assert (tmp_path / "w.token").stat().st_mode & 0o777 == 0o600
    assert run("workers", "token", worker, "-o", "w.token").code == 2
    assert run("workers", "token", worker).out.startswith("fc-worker-")
    assert run("workers", "token", worker, "--revoke").code == 0
    assert run("workers", "token", "nobody").code == 1
    assert run("delete", "-f", "site.yaml").code == 0
