"""`forecourt models` over folders on disk and a server on this machine."""

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cli import download
from cli.errors import CommandError
from tests.cli.conftest import Run

CONTENT = b"onnx" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server() -> Iterator[str]:
    """Serves /model.onnx, its redirect, and a file without end."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
            """Quiet."""

        def do_GET(self) -> None:
            if self.path == "/model.onnx":
                self.send_response(200)
                self.send_header("content-length", str(len(CONTENT)))
                self.end_headers()
                self.wfile.write(CONTENT)
            elif self.path in ("/moved", "/loop"):
                self.send_response(302)
                self.send_header("location", "/loop" if self.path == "/loop" else "/model.onnx")
                self.end_headers()
            elif self.path == "/half":
                self.send_response(200)
                self.send_header("content-length", str(len(CONTENT)))
                self.end_headers()
                self.wfile.write(CONTENT[:100])
            else:
                self.send_error(404)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def write_manifest(tmp_path: Path, **fields: object) -> Path:
    """A model folder `models/nano` whose manifest says this besides the usual."""
    folder = tmp_path / "models" / "nano"
    folder.mkdir(parents=True, exist_ok=True)
    table = {
        "name": "nano", "version": "1", "layout": "yolox", "file": "model.onnx",
        "sha256": SHA256, "size_bytes": len(CONTENT), "license": "Apache-2.0",
        "source": "the tests", "labels": ["person", "car"], **fields,
    }  # fmt: skip
    lines = [f"{key} = {json.dumps(value)}" for key, value in table.items()]
    text = "\n".join([*lines, "[input]", "width = 416", "height = 256", "[measured]"])
    (folder / "model.toml").write_text(text)
    return folder / "model.onnx"


@pytest.mark.parametrize("path", ["/model.onnx", "/moved"])
def test_pull_checks_and_puts_in_place(run: Run, tmp_path: Path, server: str, path: str) -> None:
    """The file appears whole with its checksum right, and is not fetched twice."""
    file = write_manifest(tmp_path, url=f"{server}{path}")
    ran = run("models", "pull", "nano", "--json")
    assert (ran.code, json.loads(ran.out)["check"]) == (0, "ok")
    assert file.read_bytes() == CONTENT
    assert "already there" in run("models", "pull", "nano").err
    assert run("models", "verify").code == 0


@pytest.mark.parametrize(
    ("fields", "path", "expected"),
    [
        ({"sha256": "0" * 64}, "/model.onnx", "is another one than its manifest means"),
        ({"size_bytes": 100}, "/model.onnx", "above 100 bytes"),
        ({}, "/half", "broke off"),
        ({}, "/gone", "answered with status 404"),
        ({}, "/loop", "more than 5 redirects"),
    ],
)
def test_what_does_not_match_is_thrown_away(
    run: Run, tmp_path: Path, server: str, fields: dict[str, object], path: str, expected: str
) -> None:
    """The old file stays, no part of the new one is left, and the reason is said."""
    file = write_manifest(tmp_path, url=f"{server}{path}", **fields)
    file.write_bytes(b"old")
    ran = run("models", "pull", "nano")
    assert (ran.code, file.read_bytes()) == (1, b"old")
    assert expected in ran.err
    assert sorted(each.name for each in file.parent.iterdir()) == ["model.onnx", "model.toml"]


def test_an_unknown_checksum_is_said_loudly(run: Run, tmp_path: Path, server: str) -> None:
    """The one that was got is printed, to be compared."""
    write_manifest(tmp_path, url=f"{server}/model.onnx", sha256="")
    ran = run("models", "pull", "nano")
    assert ran.code == 0
    assert "NO CHECKSUM IS KNOWN" in ran.err
    assert SHA256 in ran.err


def test_a_local_file_is_checked_in_the_same_way(run: Run, tmp_path: Path) -> None:
    """--from needs no network and no url."""
    file = write_manifest(tmp_path)
    (tmp_path / "usb.onnx").write_bytes(CONTENT)
    (tmp_path / "wrong.onnx").write_bytes(b"wrong")
    assert run("models", "pull", "nano", "--from", "wrong.onnx").code == 1
    assert not file.exists()
    assert run("models", "pull", "nano", "--from", "gone.onnx").code == 2
    assert run("models", "pull", "nano", "--from", "usb.onnx").code == 0
    assert file.read_bytes() == CONTENT


def test_offline_says_what_to_do(run: Run, tmp_path: Path, server: str) -> None:
    """Without a network the way with a file is named."""
    write_manifest(tmp_path, url="http://127.0.0.1:9/model.onnx")
    ran = run("models", "pull", "nano")
    assert ran.code == 1
    assert "offline? Get http://127.0.0.1:9/model.onnx elsewhere" in ran.err
    write_manifest(tmp_path)
    assert "has no url (its source: the tests)" in run("models", "pull", "nano").err


@pytest.mark.parametrize(
    "url",
    ["http://example.com/m.onnx", "file:///etc/passwd", "ftp://127.0.0.1/m", "https://", "m.onnx"],
)
def test_only_safe_addresses_are_asked(url: str) -> None:
    """http only from this machine."""
    with pytest.raises(CommandError, match="only https:// is fetched"), download.from_url(url):
        pass


def test_https_never_becomes_http() -> None:
    """A redirect to an address without https is refused, even to this machine."""
    with pytest.raises(CommandError, match="without https; refused"):
        download.redirected("https://example.com/m", "http://127.0.0.1/m")
    assert download.redirected("https://a.example/x/m", "../n") == "https://a.example/n"


def test_verify_finds_a_wrong_file(run: Run, tmp_path: Path) -> None:
    """Exit 1 for a mismatch; a file that is not there is one only if it was asked for."""
    file = write_manifest(tmp_path)
    ran = run("models", "verify")
    assert ran.code == 0
    assert ran.out.endswith(" not pulled\n")
    assert run("models", "verify", "nano").code == 1
    file.write_bytes(b"wrong")
    ran = run("models", "verify", "--json")
    assert ran.code == 1
    assert json.loads(ran.out) == {"models": [{"name": "nano", "check": "mismatch"}]}


def test_list_shows_each_model(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Size, licence, input and state in one line; FORECOURT_MODELS names the folder."""
    write_manifest(tmp_path)
    monkeypatch.setenv("FORECOURT_MODELS", str(tmp_path / "models"))
    monkeypatch.chdir("/")
    line = run("models", "list").out.splitlines()[1]
    assert line.split() == ["nano", "1", "0.0", "MB", "Apache-2.0", "416x256", "2", "not", "pulled"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"file": "../../etc/passwd"}, "file: write a plain file name"),
        ({"file": ".hidden"}, "file: write a plain file name"),
        ({"sha256": "abc"}, "sha256: write 64 hexadecimal digits"),
        ({"size_bytes": -1}, "size_bytes: Input should be"),
        ({"size_bytes": True}, "size_bytes: Input should be"),
        ({"labels": [1]}, "labels[0]: Input should be"),
        ({"name": "nano\n"}, "name: use 1 to 63 lower-case"),
        ({"sha256": SHA256 + "\n"}, "sha256: write 64"),
        ({"name": "Nano!"}, "name: use 1 to 63 lower-case"),
        ({"license": 1}, "license: Input should be"),
    ],
)
def test_a_bad_manifest_is_bad_input(
    run: Run, tmp_path: Path, fields: dict[str, object], expected: str
) -> None:
    """The key that is wrong is named, and nothing outside the folder is ever touched."""
    write_manifest(tmp_path, **fields)
    ran = run("models", "list")
    assert ran.code == 2
    assert expected in ran.err
    assert "no folder" in run("models", "list", "--dir", "nowhere").err
    assert "there are: nano" in run("models", "pull", "tiny").err
