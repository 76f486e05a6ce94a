"""Which center, and with which token."""

import json
from pathlib import Path

import pytest

from cli import access
from cli.errors import BAD_INPUT, CommandError


def configure(tmp_path: Path, text: str) -> None:
    """Write the configuration file of this home."""
    path = tmp_path / ".config/forecourt/config.toml"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    (path.parent / "token").write_text("of-the-config\n")


def test_the_configuration_file_is_enough(tmp_path: Path) -> None:
    """URL and token file, the latter beside the configuration."""
    configure(tmp_path, '[center]\nurl = "https://c.example/"\ntoken_file = "token"\n')
    assert access.find(None, None) == access.Access("https://c.example", "of-the-config")


def test_a_configured_token_goes_to_its_own_center_only(tmp_path: Path) -> None:
    """Another --url does not get it."""
    configure(tmp_path, '[center]\nurl = "https://c.example"\ntoken_file = "token"\n')
    with pytest.raises(CommandError, match=r"no token for https://evil\.example"):
        access.find("https://evil.example", None)


def test_options_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token file given in so many words is used before the environment's token."""
    configure(tmp_path, '[center]\nurl = "https://c.example"\n')
    monkeypatch.setenv("FORECOURT_TOKEN", "of-the-environment")
    (tmp_path / "own").write_text("own")
    assert access.find("http://127.0.0.1:1", tmp_path / "own").token == "own"
    assert access.find(None, None) == access.Access("https://c.example", "of-the-environment")


def test_a_running_demo_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Beside its folder nothing need be said; that it is used is said."""
    (tmp_path / ".demo").mkdir()
    (tmp_path / ".demo/center.json").write_text(json.dumps({"url": "http://127.0.0.1:8080"}))
    (tmp_path / ".demo/admin.token").write_text("demo-token\n")
    assert access.find(None, None) == access.Access("http://127.0.0.1:8080", "demo-token")
    err = capsys.readouterr().err
    assert "using the demo's center at http://127.0.0.1:8080" in err
    assert "demo-token" not in err


@pytest.mark.parametrize(
    ("config", "url", "expected"),
    [
        ('[center]\nurl = "https://c.example"\ntokenfile = "x"\n', None, "unknown key center.tok"),
        ("[senter]\n", None, "unknown key senter"),
        ("center = 1\n", None, "center is a table"),
        ("[center]\nurl = 1\n", None, "are texts"),
        ("[center\n", None, "config.toml"),
        ("", None, "no center is known"),
        ("", "ftp://c.example", "no http:// or https:// address"),
        ("", "https://me:pw@c.example", "must hold no user name or password"),
        ("", "https://c.example", "no token for https://c.example"),
    ],
)
def test_what_cannot_be_used_is_bad_input(
    tmp_path: Path, config: str, url: str | None, expected: str
) -> None:
    """Exit 2 with a sentence that names the place."""
    configure(tmp_path, config)
    with pytest.raises(CommandError) as caught:
        access.find(url, None)
    assert expected in str(caught.value)
    assert "pw" not in str(caught.value)
    assert caught.value.exit_code == BAD_INPUT


@pytest.mark.parametrize("content", ["", "two words", "ümlaut", "a\nb", "x" * 70_000])
def test_a_file_without_a_token_is_refused_unshown(tmp_path: Path, content: str) -> None:
    """What is in the wrong file is never printed."""
    (tmp_path / "token").write_text(content)
    with pytest.raises(CommandError) as caught:
        access.find("https://c.example", tmp_path / "token")
    assert not content or content not in str(caught.value).replace(str(tmp_path), "")


def test_an_access_does_not_show_its_token() -> None:
    """Its repr may end up in a log."""
    assert "secret" not in repr(access.Access("https://c.example", "secret"))
