"""The station token's file, and the words of a command line that posts."""

import logging
import stat
from pathlib import Path

import pytest

from edge.config import ConfigError
from edge.display import token
from edge.display.post import value_of


def test_a_token_is_made_once_for_its_owner_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """256 bits, mode 0600, the same at the next start; only its place is told (I11)."""
    path = tmp_path / "data" / "station.token"
    with caplog.at_level(logging.DEBUG):
        secret = token.made(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(secret) >= 43
    assert token.made(path) == token.read(path) == secret
    assert token.made(tmp_path / "other") != secret
    assert str(path) in caplog.text
    assert secret not in caplog.text


@pytest.mark.parametrize(
    "text", ["", "short", "two words and more", "x" * 2000, "lineline\n" * 4, "ü" * 20]
)
def test_a_file_that_holds_no_token_is_refused(tmp_path: Path, text: str) -> None:
    """Neither a worker nor a sender uses it, and the error does not repeat it."""
    path = tmp_path / "token"
    path.write_text(text)
    with pytest.raises(ConfigError, match="token") as refused:
        token.read(path)
    assert text.strip() == "" or text.strip() not in str(refused.value)
    with pytest.raises(ConfigError, match="No such file"):
        token.read(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("true", True),
        ("false", False),
        ("87.5", 87.5),
        ("-3", -3.0),
        ("1e3", 1000.0),
        ("lifted", "lifted"),
        ("nan", "nan"),
        ("inf", "inf"),
        ("1e999", "1e999"),
        ("1_000", "1_000"),
        ("True", "True"),
        ("", ""),
    ],
)
def test_a_word_of_a_command_line_is_a_value(word: str, value: object) -> None:
    """What looks like true, false or a number is one; the rest is text."""
    assert repr(value_of(word)) == repr(value)
