"""The command as an operator runs it: words in, exit code and both outputs out."""

import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from cli.__main__ import main
from tests.cli.fake_center import TOKEN, FakeCenter, serving


@dataclass(frozen=True)
class Ran:
    """How a command ended and what it wrote."""

    code: int
    out: str
    err: str


class Run(Protocol):
    """Runs `forecourt` with these words."""

    def __call__(self, *words: str, stdin: str = "") -> Ran: ...


@pytest.fixture
def center(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCenter]:
    """A fake center that the environment points to."""
    with serving() as fake:
        monkeypatch.setenv("FORECOURT_URL", fake.url)
        monkeypatch.setenv("FORECOURT_TOKEN", TOKEN)
        yield fake


@pytest.fixture(autouse=True)
def _own_world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No configuration or running demo of the person who runs the tests has a say."""
    for name in ("FORECOURT_URL", "FORECOURT_TOKEN", "FORECOURT_TOKEN_FILE", "FORECOURT_MODELS",
                 "XDG_CONFIG_HOME"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """`forecourt` in this process; it must end with an exit code, never with a traceback."""

    def call(*words: str, stdin: str = "") -> Ran:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(words)
        out, err = capsys.readouterr()
        return Ran(int(ended.value.code or 0), out, err)

    return call
