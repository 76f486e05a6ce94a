"""Where things are: a station, its workers, its cameras and their streams.

Here: what an operator says of each, and a stream's URL as people may see it. Not here: who a
resource is and how it is written (resources), what is to be seen in the pictures (tasks).
"""

import re
from typing import Annotated, Any, Literal, Self
from urllib.parse import unquote, urlsplit, urlunsplit

from pydantic import (
    AfterValidator,
    Field,
    SecretStr,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_validator,
)

from wire.specs.health import Health
from wire.specs.values import Name, Seconds, Spec

_DEVICE_PATTERN = r"^[a-z0-9]{1,20}$"


def _device(value: str) -> str:
    if not re.fullmatch(_DEVICE_PATTERN, value):
        raise ValueError("write none, auto or a device type such as cuda, qsv, vaapi or drm")
    return value


Device = Annotated[
    str,
    AfterValidator(_device),
    Field(max_length=20, json_schema_extra={"pattern": _DEVICE_PATTERN}),
]


class StationSpec(Spec):
    """A site."""

    title: Annotated[str, Field(max_length=200)] = ""
    time_zone: Annotated[str, Field(max_length=64)] = "UTC"
    autonomy_duration: Seconds | None = Field(
        default=None,
        description="silence after which the station counts as Lost; none: never (its tasks stay)",
    )


class WorkerSpec(Spec):
    """An edge identity. Its name is its certificate's CN and its MQTT user name."""

    title: Annotated[str, Field(max_length=200)] = ""


class Stream(Spec):
    """One feed of a camera.

    `url` is rtsp://, http:// or file:///absolute/path. A user name and password inside the URL are
    taken out of it and kept apart, so that no log or listing shows them.
    """

    url: Annotated[str, Field(min_length=1, max_length=2000)]
    username: Annotated[str, Field(max_length=200)] | None = None
    password: SecretStr | None = None
    pace: Literal["live", "fast"] = Field(
        default="live", description="files only: as a camera would send it, or as fast as may be"
    )
    loop: bool = Field(default=False, description="files only: start again at the end")
    transport: Literal["tcp", "udp"] = Field(
        default="tcp",
        description="rtsp:// only: tcp loses nothing; udp for cameras that cannot do it",
    )
    hwaccel: Device = Field(
        default="none",
        description="who decodes: `none` (software), `auto`, or a device type as FFmpeg names it "
        "(cuda, qsv, vaapi, drm, rkmpp); what a worker lacks it replaces by software and a warning",
    )

    @field_validator("transport")
    @classmethod
    def _udp_is_for_rtsp(cls, value: str, given: ValidationInfo) -> str:
        scheme = given.data.get("url", "rtsp:").partition(":")[0].lower()
        if value == "udp" and scheme != "rtsp":
            raise ValueError("udp is for rtsp:// alone; leave transport out")
        return value

    @model_validator(mode="before")
    @classmethod
    def _credentials_apart(cls, data: Any) -> Any:
        if not isinstance(data, dict) or not isinstance(data.get("url"), str):
            return data
        try:
            parts = urlsplit(data["url"])
        except ValueError:
            raise ValueError("the stream's url cannot be read as a URL") from None
        if "@" not in parts.netloc:
            return data
        userinfo, _, host = parts.netloc.rpartition("@")
        user, _, password = userinfo.partition(":")
        bare = urlunsplit(parts._replace(netloc=host))
        found = {"username": unquote(user), "password": unquote(password)}
        given = {key: value for key, value in data.items() if value is not None}
        return {**found, **given, "url": bare}

    @model_validator(mode="after")
    def _url_is_known(self) -> Self:
        parts = urlsplit(self.url)
        try:
            parts.port  # noqa: B018 - reading it is what checks it
            torn = parts.scheme != "file" and "@" in parts.path + parts.query + parts.fragment
        except ValueError:
            torn = True
        if torn:
            raise ValueError(
                "the stream's url cannot be read; give username and password as fields of their "
                "own, or write the /, ?, # and @ in them as %2F, %3F, %23 and %40"
            )
        known = ("rtsp", "rtsps", "http", "https", "file")
        if parts.scheme not in known:
            schemes = ", ".join(f"{scheme}://" for scheme in known)
            raise ValueError(f"a stream's url begins with one of {schemes}")
        if parts.scheme == "file" and (parts.netloc or not parts.path.startswith("/")):
            raise ValueError("a recording's url is file:///absolute/path")
        if parts.scheme != "file" and not parts.hostname:
            raise ValueError("the stream's url names no host")
        return self

    @field_serializer("password", when_used="json-unless-none")
    def _reveal(self, password: SecretStr) -> str:
        """JSON carries the password: it is what travels to the worker. Listings use `redacted`."""
        return password.get_secret_value()


class CameraSpec(Spec):
    """A device with one or more streams, by name (`main`, `sub`)."""

    streams: dict[Name, Stream] = Field(min_length=1, max_length=8)
    title: Annotated[str, Field(max_length=200)] = ""
    health: Health = Field(default=Health(), description="which faults of it are told, and when")


def shown_url(url: str) -> str:
    """A stream's URL for people: no user, no query, and no part of the path that sets a value.

    Some cameras want `/user=admin&password=...` as their path, others `?password=...`.
    """
    parts = urlsplit(url)
    if parts.scheme == "file":
        return url
    before, *secret = re.split(r"/[^/]*(?:=|%3d)", parts.path, maxsplit=1, flags=re.IGNORECASE)
    path = f"{before}/..." if secret else parts.path
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, path, "..." if parts.query else "", ""))
