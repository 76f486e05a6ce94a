"""What `forecourt-center serve` is told, from flags, the environment and a file, in this order.

Here: the options, their defaults and limits. Not here: resources, which live in the database.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from wire.link import Broker

PREFIX = "FORECOURT_CENTER_"
MAX_FILE_BYTES = 64 * 1024


class ConfigError(ValueError):
    """An option that cannot be used; the text says which and why, without its value."""


class Address(BaseModel):
    """Where to listen; port 0 is a free one."""

    model_config = ConfigDict(frozen=True)

    host: str
    port: int = Field(ge=0, le=65535)

    def __str__(self) -> str:
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def _address(value: object) -> object:
    """`127.0.0.1:8080` or `[::1]:8080` in its two parts; other values pass on."""
    if not isinstance(value, str):
        return value
    host, colon, port = value.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isdecimal():
        raise ValueError("write it as HOST:PORT, for example 127.0.0.1:8080")
    return {"host": host, "port": int(port)}


ListenAddress = Annotated[Address, BeforeValidator(_address)]


class ServeConfig(BaseModel):
    """The options of `serve`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: Path
    listen: ListenAddress = Address(host="127.0.0.1", port=8080)
    broker: str | None = None
    embedded_broker: ListenAddress | None = None
    admin_token_file: Path | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    heartbeat_s: Annotated[float, Field(ge=0.2, le=3600)] = 60.0
    window: Annotated[int, Field(ge=1, le=64)] = 4


def load(
    flags: Mapping[str, Any], environ: Mapping[str, str], file: Path | None = None
) -> ServeConfig:
    """The options; a flag that is None was not given. Raises ConfigError."""
    values: dict[str, Any] = {} if file is None else _read(file)
    for name in ServeConfig.model_fields:
        if PREFIX + name.upper() in environ:
            values[name] = environ[PREFIX + name.upper()]
    values.update({name: value for name, value in flags.items() if value is not None})
    try:
        config = ServeConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError("; ".join(_sentence(found) for found in error.errors())) from None
    if (config.broker is None) == (config.embedded_broker is None):
        raise ConfigError(
            "name the broker with either --broker mqtt://HOST:PORT or --embedded-broker HOST:PORT"
        )
    if config.broker is not None:
        try:
            Broker.parse(config.broker)
        except ValueError as error:
            raise ConfigError(f"broker: {error}") from None
    return config


def _read(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as opened:
            text = opened.read(MAX_FILE_BYTES + 1)
        if len(text) > MAX_FILE_BYTES:
            raise ConfigError(f"{file} is larger than {MAX_FILE_BYTES} bytes")
        values = tomllib.loads(text.decode())
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is no TOML: {error}") from None
    return {key.replace("-", "_"): value for key, value in values.items()}


def _sentence(found: Any) -> str:
    name = ".".join(str(part) for part in found["loc"])
    if found["type"] == "extra_forbidden":
        return f"{name}: there is no such option; the options are {_known()}"
    if found["type"] == "missing":
        return f"{name}: is needed; give --{name.replace('_', '-')} or {PREFIX}{name.upper()}"
    return f"{name}: {found['msg'].removeprefix('Value error, ')}"


def _known() -> str:
    return ", ".join(ServeConfig.model_fields)
