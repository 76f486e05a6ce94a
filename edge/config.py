"""What a worker must know to start: small, frozen, read once.

Everything that an operator edits later lives in the center. Flags win over the environment, that
over the file; a key that nobody knows is an error.
"""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from wire.link import Broker
from wire.specs import Name

MAX_FILE_BYTES = 64 * 1024
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class ConfigError(ValueError):
    """A configuration that cannot be used; the text names the key and what it should be."""


def _several(value: object) -> object:
    """One word stands for a list of one."""
    return (value,) if isinstance(value, str | Path) else value


def _broker(value: str) -> str:
    Broker.parse(value)
    return value


def _folder(value: Path) -> Path:
    if not value.is_dir():
        raise ValueError(f"{value} is no folder")
    return value


def _address(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError("write it as HOST:PORT, for example 127.0.0.1:8090")
    return value


def _center(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("write it as https://HOST[:PORT]")
    if "@" in parts.netloc:
        raise ValueError("it holds no user and no password: the token goes into center_token_file")
    return value.rstrip("/")


Folder = Annotated[Path, AfterValidator(_folder)]


Provider = Literal[
    "tensorrt", "cuda", "migraphx", "openvino", "qnn", "coreml", "directml", "xnnpack", "cpu"
]
"""What may run a network; edge.vision.detect.PROVIDERS has ONNX Runtime's names."""


class Config(BaseModel):
    """A worker's configuration. Keys of the file have the same names."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    worker: Name
    data: Path
    broker: Annotated[
        tuple[Annotated[str, AfterValidator(_broker)], ...],
        BeforeValidator(_several),
        Field(min_length=1),
    ]
    models: Annotated[tuple[Folder, ...], BeforeValidator(_several), Field(min_length=1)]
    center: Annotated[str, AfterValidator(_center)] | None = None
    center_token_file: Path | None = None
    center_insecure: bool = False
    models_mb: Annotated[int, Field(ge=1, le=1_000_000, strict=True)] = 2048
    recordings: Folder | None = None
    display: Annotated[str, AfterValidator(_address)] = "127.0.0.1:8090"
    station_token_file: Path | None = None
    shards: Annotated[int, Field(ge=1, le=64, strict=True)] = 1
    threads: Annotated[int, Field(ge=1, le=64, strict=True)] | None = None
    inference: Annotated[tuple[Provider, ...], BeforeValidator(_several), Field(min_length=1)] = (
        "cpu",
    )
    cpus: Annotated[float, Field(gt=0, le=4096)] | None = None
    quota_mb: Annotated[int, Field(ge=1, le=1_000_000, strict=True)] = 256
    keep_acked_h: Annotated[float, Field(ge=0, le=8760)] = 24.0
    reconnect_max_s: Annotated[float, Field(ge=1, le=3600)] = 60.0
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @model_validator(mode="after")
    def _token_is_kept(self) -> Self:
        """A token goes over the network only where nobody can read it, unless that is wished."""
        if (self.center is None) != (self.center_token_file is None):
            raise ValueError("center and center_token_file: give both, or neither")
        parts = urlsplit(self.center or "")
        plain = parts.scheme == "http" and parts.hostname not in _LOOPBACK
        if plain and not self.center_insecure:
            raise ValueError(
                "center: http:// would show the worker's token to everybody on the way; write "
                "https://, or center_insecure = true where the way is protected otherwise"
            )
        return self

    @property
    def brokers(self) -> tuple[Broker, ...]:
        """The brokers' addresses."""
        return tuple(Broker.parse(url) for url in self.broker)

    def shown(self) -> dict[str, Any]:
        """All of it as JSON, for people: brokers without their passwords."""
        shown = self.model_dump(mode="json")
        return {**shown, "broker": [str(broker) for broker in self.brokers]}

    @property
    def display_address(self) -> tuple[str, int]:
        """Host and port of the display; port 0 is any free one."""
        host, _, port = self.display.rpartition(":")
        return host.strip("[]"), int(port)


def inherited() -> dict[str, str]:
    """The environment for a child, without our own options: a broker's URL may hold a password."""
    return {k: v for k, v in os.environ.items() if not k.startswith("FORECOURT_EDGE_")}


def load(file: Path | None, given: Mapping[str, object]) -> Config:
    """A configuration from a TOML file and what was given on the command line or environment.

    Raises ConfigError with every problem; the values are not repeated, they may hold a password.
    """
    values: dict[str, Any] = {} if file is None else _read(file)
    values.update({key: value for key, value in given.items() if value not in (None, (), [])})
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        raise ConfigError("; ".join(map(_sentence, found))) from None


def _read(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as opened:
            text = opened.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from None
    if len(text) > MAX_FILE_BYTES:
        raise ConfigError(f"{file} is larger than {MAX_FILE_BYTES} bytes")
    try:
        return tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is no TOML: {error}") from None


def _sentence(found: Any) -> str:
    key = ".".join(str(part) for part in found["loc"])
    if not key:  # what one key says of another names them itself
        return str(found["msg"]).removeprefix("Value error, ")
    if found["type"] == "extra_forbidden":
        return f"{key}: there is no such key; known are {', '.join(sorted(Config.model_fields))}"
    if found["type"] == "missing":
        return f"{key}: missing; see forecourt-edge run --help"
    return f"{key}: {found['msg'].removeprefix('Value error, ')}"
