"""The options of `serve`: where they come from, and what is refused."""

from pathlib import Path

import pytest

from center.config import Address, ConfigError, load

GIVEN = {"data": "/d", "broker": "mqtt://b"}


def test_flags_before_environment_before_file(tmp_path: Path) -> None:
    """The nearest word counts."""
    file = tmp_path / "center.toml"
    file.write_text('data = "/file"\nlisten = "0.0.0.0:1"\nheartbeat-s = 5\nbroker = "mqtt://f"\n')
    environ = {"FORECOURT_CENTER_LISTEN": "[::1]:2", "FORECOURT_CENTER_BROKER": "mqtt://e"}
    config = load({"broker": "mqtt://flag", "window": None}, environ, file)
    assert config.data == Path("/file")
    assert config.listen == Address(host="::1", port=2)
    assert config.broker == ("mqtt://flag",)
    assert config.heartbeat_s == 5.0


def test_several_brokers(tmp_path: Path) -> None:
    """Flags repeat, the file has a list, the environment has spaces between."""
    file = tmp_path / "center.toml"
    file.write_text('data = "/d"\nbroker = ["mqtt://a", "mqtt://b"]\n')
    expected = ("mqtt://a", "mqtt://b")
    assert load({"broker": []}, {}, file).broker == expected
    assert load({**GIVEN, "broker": list(expected)}, {}).broker == expected
    environ = {"FORECOURT_CENTER_BROKER": "mqtt://a  mqtt://b"}
    assert load({"data": "/d"}, environ).broker == expected
    assert [broker.host for broker in load({"data": "/d"}, environ).brokers] == ["a", "b"]


def test_nothing_shows_a_password() -> None:
    """I11: options with URLs are printed without them."""
    urls = {"database": "postgresql://u:s3cret@h/n", "broker": "mqtt://u:s3cret@h"}
    config = load({"data": "/d", **urls}, {})
    assert "s3cret" not in repr(config)
    assert config.database_url is not None
    assert config.database_url.password == "s3cret"


def test_other_variables_are_not_ours() -> None:
    """Kubernetes names variables after services: what is no option is left alone."""
    assert load(GIVEN, {"FORECOURT_CENTER_PORT": "tcp://10.0.0.1:80"}).window == 4


@pytest.mark.parametrize(
    ("flags", "text", "hint"),
    [
        ({}, "colour = 1", "colour: there is no such option"),
        ({"broker": None}, "[broker]\nurl = 1", "broker: "),
        ({}, "= broken", "is no TOML"),
        ({"data": None}, "", "data: is needed"),
        ({"listen": "8080"}, "", "HOST:PORT"),
        ({"listen": "h:99999"}, "", "listen"),
        ({"heartbeat_s": 0.0}, "", "heartbeat_s"),
        ({"log_level": "loud"}, "", "log_level"),
        ({"broker": None}, "", "--broker"),
        ({"embedded_broker": "127.0.0.1:0"}, "", "--broker"),
        ({"broker": "http://user:s3cret@b"}, "", "mqtt://"),
        ({"broker": ["mqtt://b", "http://user:s3cret@b"]}, "", "mqtt://"),
        ({"announce_broker": "mqtt://user:s3cret@b"}, "", "leave user and password out"),
        ({"database": "mysql://user:s3cret@h/n"}, "", "postgresql://"),
        ({"database": "postgresql://user:s3cret@h"}, "", "names no database"),
        ({"database": "postgresql:///n"}, "", "names no host"),
        ({"database": "postgresql://user:s3cret@h:x/n"}, "", "cannot be read"),
        ({"database": "postgresql://h/n?password=s3cret"}, "", "the only options"),
    ],
)
def test_refusals(tmp_path: Path, flags: dict[str, object], text: str, hint: str) -> None:
    """What cannot be used is named, with what to do, and without secrets."""
    file = tmp_path / "center.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as refused:
        load({**GIVEN, **flags}, {}, file)
    assert hint in str(refused.value)
    assert "s3cret" not in str(refused.value)


def test_a_missing_file() -> None:
    """A file that was named must be there."""
    with pytest.raises(ConfigError, match="cannot read /nowhere"):
        load(GIVEN, {}, Path("/nowhere"))
