"""The address of a broker, as an operator writes it.

Here: parsing and showing it without its password. Not here: connecting to it.
"""

from dataclasses import dataclass, field
from typing import Literal, Self
from urllib.parse import parse_qsl, quote, unquote, urlsplit

Version = Literal["auto", "5", "3.1.1"]

_PORTS = {"mqtt": 1883, "mqtts": 8883}
_VERSIONS: dict[str, Version] = {"auto": "auto", "5": "5", "3.1.1": "3.1.1"}


@dataclass(frozen=True, slots=True)
class Broker:
    """The address of one broker, with the credentials for it. `str()` never shows the password."""

    host: str
    port: int
    tls: bool = False
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    version: Version = "auto"

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read `mqtt[s]://[user[:password]@]host[:port][?version=5|3.1.1]`.

        Raises ValueError with a text that quotes nothing of the URL, as its password may be
        anywhere in one that is malformed.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise _bad_url("host or port cannot be read") from None
        if parts.scheme not in _PORTS:
            raise _bad_url("it must begin with mqtt:// or mqtts://")
        if not host:
            raise _bad_url("it names no host")
        if port == 0:
            raise _bad_url("the port must be 1..65535")
        if parts.path not in ("", "/") or parts.fragment:
            raise _bad_url("nothing but ?version= may follow host and port")
        if parts.password and not parts.username:
            raise _bad_url("a password needs a user name")
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        version = _VERSIONS.get(options.pop("version", "auto"))
        if version is None or options:
            raise _bad_url("the only option is version=5, version=3.1.1 or version=auto")
        return cls(
            host=host,
            port=_PORTS[parts.scheme] if port is None else port,
            tls=parts.scheme == "mqtts",
            username=None if parts.username is None else unquote(parts.username),
            password=None if parts.password is None else unquote(parts.password),
            version=version,
        )

    def __str__(self) -> str:
        secret = ":***" if self.password is not None else ""
        user = "" if self.username is None else f"{quote(self.username, safe='')}{secret}@"
        host = f"[{self.host}]" if ":" in self.host else self.host
        option = "" if self.version == "auto" else f"?version={self.version}"
        return f"{'mqtts' if self.tls else 'mqtt'}://{user}{host}:{self.port}{option}"


def _bad_url(problem: str) -> ValueError:
    return ValueError(
        f"cannot read the broker's URL: {problem}; expected mqtt://user:password@host:1883 "
        "(mqtts:// for TLS), with / ? # @ : % in user and password percent-encoded"
    )
