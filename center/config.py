"""What `forecourt-center serve` is told, from flags, the environment and a file, in this order.

Here: the options, their defaults and limits. Not here: resources, which live in the database.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from wire import specs
from wire.link import Broker
from wire.manifest import MAX_MODEL_BYTES

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

_DATABASE_OPTIONS = {
    "host", "passfile", "sslmode", "sslrootcert", "sslcert", "sslkey", "target_session_attrs",
}  # fmt: skip


def database_url(text: str) -> URL:
    """Read `postgresql://[user[:password]@]host[:port]/name[?sslmode=...]`.

    Raises ValueError with a text that quotes nothing of it, as its password may be anywhere.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise _bad_database("it cannot be read") from None
    if url.drivername not in ("postgresql", "postgres"):
        raise _bad_database("it must begin with postgresql://")
    if not url.database:
        raise _bad_database("it names no database")
    if not url.host and "host" not in url.query:
        raise _bad_database("it names no host")
    if not _DATABASE_OPTIONS.issuperset(url.query):
        raise _bad_database(f"the only options are {', '.join(sorted(_DATABASE_OPTIONS))}")
    return url


def _bad_database(problem: str) -> ValueError:
    return ValueError(
        f"cannot read the database's URL: {problem}; expected "
        "postgresql://user:password@host:5432/name, with / ? # @ : % in user and password "
        "percent-encoded"
    )


def _database(text: str) -> str:
    database_url(text)
    return text


def _several(value: object) -> object:
    """One word stands for a list of one, words with spaces between them for a longer one."""
    return tuple(value.split()) if isinstance(value, str) else value


def _broker(url: str) -> str:
    Broker.parse(url)
    return url


def _announced(url: str) -> str:
    if Broker.parse(url).username is not None:
        raise ValueError("it is told to every worker: leave user and password out")
    return url


class ServeConfig(BaseModel):
    """The options of `serve`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: Path
    database: Annotated[str, AfterValidator(_database)] | None = Field(None, repr=False)
    listen: ListenAddress = Address(host="127.0.0.1", port=8080)
    broker: Annotated[
        tuple[Annotated[str, AfterValidator(_broker)], ...], BeforeValidator(_several)
    ] = Field((), repr=False)
    embedded_broker: ListenAddress | None = None
    announce_broker: Annotated[
        tuple[Annotated[str, AfterValidator(_announced)], ...], BeforeValidator(_several)
    ] = ()
    admin_token_file: Path | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    heartbeat_s: Annotated[float, Field(ge=0.2, le=3600)] = 60.0
    window: Annotated[int, Field(ge=1, le=64)] = 4
    page_within: specs.Seconds = 900.0
    max_model_mb: Annotated[int, Field(ge=1, le=MAX_MODEL_BYTES // 2**20)] = 512
    """Of 2^20 bytes each."""

    @property
    def database_url(self) -> URL | None:
        """The address of a PostgreSQL database; None: SQLite in the data folder."""
        return None if self.database is None else database_url(self.database)

    @property
    def brokers(self) -> tuple[Broker, ...]:
        """The brokers' addresses; none: the embedded one."""
        return tuple(map(Broker.parse, self.broker))


def load(
    flags: Mapping[str, Any], environ: Mapping[str, str], file: Path | None = None
) -> ServeConfig:
    """The options; a flag that is None or empty was not given. Raises ConfigError."""
    values: dict[str, Any] = {} if file is None else _read(file)
    for name in ServeConfig.model_fields:
        if PREFIX + name.upper() in environ:
            values[name] = environ[PREFIX + name.upper()]
    values.update({name: value for name, value in flags.items() if value not in (None, [])})
    try:
        config = ServeConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError("; ".join(_sentence(found) for found in error.errors())) from None
    if bool(config.broker) == (config.embedded_broker is not None):
        raise ConfigError(
            "name the broker with either --broker mqtt://HOST:PORT or --embedded-broker HOST:PORT"
        )
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
