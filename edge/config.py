"""What a worker must know to start: small, frozen, read once.

Everything that an operator edits later lives in the center. Flags win over the environment, that
over the file; a key that nobody knows is an error.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from wire.link import Broker
from wire.topics import all_down


class ConfigError(ValueError):
    """A configuration that cannot be used; the text names the key and what it should be."""


@dataclass(frozen=True, slots=True)
class Config:
    """A worker's configuration. Keys of the file have the same names."""

    worker: str
    data: Path
    broker: tuple[str, ...]
    models: tuple[Path, ...]
    recordings: Path | None = None
    display: str = "127.0.0.1:8090"
    shards: int = 1
    threads: int = 1
    quota_mb: int = 256
    reconnect_max_s: float = 60.0
    log_level: str = "INFO"

    def __post_init__(self) -> None:
        _checked("worker", lambda: all_down(self.worker))
        _checked("broker", lambda: [Broker.parse(url) for url in self.broker])
        _checked("display", lambda: self.display_address)
        if not self.broker:
            raise ConfigError("broker: name at least one, for example mqtt://127.0.0.1:1883")
        if not self.models:
            raise ConfigError("models: name at least one folder with models")
        for folder in self.models:
            if not folder.is_dir():
                raise ConfigError(f"models: {folder} is no folder")
        if self.recordings is not None and not self.recordings.is_dir():
            raise ConfigError(f"recordings: {self.recordings} is no folder")
        for name, low, high in (
            ("shards", 1, 64),
            ("threads", 1, 64),
            ("quota_mb", 1, 1_000_000),
            ("reconnect_max_s", 1, 3600),
        ):
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"{name}: {getattr(self, name)} is not within {low}..{high}")
        if self.log_level not in ("DEBUG", "INFO", "WARNING", "ERROR"):
            raise ConfigError("log_level: one of DEBUG, INFO, WARNING, ERROR")

    @property
    def brokers(self) -> tuple[Broker, ...]:
        """The brokers' addresses."""
        return tuple(Broker.parse(url) for url in self.broker)

    @property
    def display_address(self) -> tuple[str, int]:
        """Host and port of the display; port 0 is any free one."""
        host, _, port = self.display.rpartition(":")
        if not host or not port.isdigit() or int(port) > 65535:
            raise ValueError(f"{self.display!r} is no HOST:PORT")
        return host.strip("[]"), int(port)


def _checked(key: str, attempt: Any) -> None:
    try:
        attempt()
    except ValueError as error:
        raise ConfigError(f"{key}: {error}") from None


def load(file: Path | None, given: Mapping[str, object]) -> Config:
    """A configuration from a TOML file and what was given on the command line or environment.

    Raises ConfigError.
    """
    values: dict[str, Any] = {}
    if file is not None:
        try:
            values.update(tomllib.loads(file.read_text()))
        except OSError as error:
            raise ConfigError(f"cannot read {file}: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{file} is no TOML: {error}") from None
    known = {field.name: field for field in fields(Config)}
    for key in values:
        if key not in known:
            names = ", ".join(sorted(known))
            raise ConfigError(f"{file}: unknown key {key!r}; known are {names}")
    values.update({key: value for key, value in given.items() if value not in (None, (), [])})
    for key in ("worker", "data"):
        if key not in values:
            raise ConfigError(f"{key}: missing; see forecourt-edge run --help")
    try:
        return Config(
            **{
                **values,
                "data": Path(values["data"]),
                "broker": _several(values.get("broker", ())),
                "models": tuple(Path(folder) for folder in _several(values.get("models", ()))),
                "recordings": Path(values["recordings"]) if values.get("recordings") else None,
            }
        )
    except TypeError as error:
        raise ConfigError(f"a value of the wrong type: {error}") from None


def _several(value: object) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(str(v) for v in value)  # type: ignore[attr-defined] # a list, or a TypeError
