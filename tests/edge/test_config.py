"""A configuration is read once, and a mistake in it is named by its key."""

from pathlib import Path

import pytest

from edge.config import ConfigError, load


@pytest.fixture
def given(tmp_path: Path) -> dict[str, object]:
    """The least that a worker needs."""
    return {
        "worker": "w1", "data": tmp_path / "data", "broker": ["mqtt://127.0.0.1:1883"],
        "models": [tmp_path],
    }  # fmt: skip


def test_a_file_and_flags_make_one_configuration(tmp_path: Path, given: dict[str, object]) -> None:
    """Flags win over the file, the file over the defaults."""
    file = tmp_path / "edge.toml"
    file.write_text('worker = "from-file"\nshards = 3\nbroker = "mqtt://broker:1"\n')
    config = load(file, {**given, "broker": None})
    assert (config.worker, config.shards, config.threads) == ("w1", 3, None)
    assert (config.cpus, load(file, {**given, "cpus": "1.5"}).cpus) == (None, 1.5)
    assert config.brokers[0].port == 1


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"worker": None}, "worker: missing"),
        ({"worker": "Not A Name"}, "worker: "),
        ({"broker": []}, "broker: missing"),
        ({"broker": ["mqtt://u:s3cret@host:x"]}, "broker.0: "),
        ({"broker": ["http://host"]}, "broker.0: "),
        ({"models": []}, "models: missing"),
        ({"models": ["/nowhere/at/all"]}, "models.0: .* is no folder"),
        ({"recordings": "/nowhere/at/all"}, "recordings: .* is no folder"),
        ({"display": "8090"}, "display: "),
        ({"shards": 0}, "shards: "),
        ({"cpus": 0}, "cpus: "),
        ({"cpus": "many"}, "cpus: "),
        ({"log_level": "loud"}, "log_level: "),
    ],
)
def test_a_mistake_is_named_by_its_key(
    given: dict[str, object], change: dict[str, object], expected: str
) -> None:
    """Each wrong value is refused with its key, and never shows a password."""
    with pytest.raises(ConfigError, match=f"^{expected}") as refused:
        load(None, {**given, **change})
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("wroker = 1\n", "wroker: there is no such key"),
        ("worker", "is no TOML"),
        ("shards = 'x'", "shards: "),
        ("shards = 1.5", "shards: "),
        ("shards = true", "shards: "),
        ("display = 5", "display: "),
    ],
)
def test_a_bad_file_is_refused(
    tmp_path: Path, given: dict[str, object], text: str, expected: str
) -> None:
    """An unknown key and a file that is no TOML are errors, not ignored."""
    file = tmp_path / "edge.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=expected):
        load(file, given)


@pytest.mark.parametrize(
    ("center", "insecure", "told"),
    [
        ("https://center.example", False, ""),
        ("http://127.0.0.1:8080/", False, ""),
        ("http://center.example", True, ""),
        ("http://center.example", False, "center_insecure"),
        ("http://127.0.0.1.example", False, "center_insecure"),
        ("https://u:s3cret@center.example", False, "center_token_file"),
        ("ftp://center.example", False, "https://HOST"),
        ("https://center.example/?token=s3cret", False, "https://HOST"),
        ("https://[bad", False, "center"),
        (None, False, "give both"),
    ],
)
def test_a_token_goes_only_where_nobody_can_read_it(
    given: dict[str, object], center: str | None, insecure: bool, told: str
) -> None:
    """I11: the center's address is https or this machine, unless it is wished otherwise."""
    words = {"center": center, "center_token_file": "token", "center_insecure": insecure}
    if not told:
        assert load(None, {**given, **words}).center == (center or "").rstrip("/")
        return
    with pytest.raises(ConfigError, match=told) as refused:
        load(None, {**given, **words})
    assert "s3cret" not in str(refused.value)
