"""forecourt-center: serve | migrate | check.

Exit codes: 0 fine, 1 something was found or failed, 2 bad usage. With --json, stdout holds one JSON
object on its last line; everything else goes to stderr.
"""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from sqlalchemy import URL

from center import check as checks
from center import db, logs, serving
from center.config import PREFIX, ConfigError, database_url, load
from wire.link import Broker

app = typer.Typer(
    name="forecourt-center",
    help="The center: takes in wishes, tells workers, keeps their events.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Data = Annotated[Path | None, typer.Option(help="the data folder", envvar="FORECOURT_CENTER_DATA")]
DatabaseUrl = Annotated[
    str | None, typer.Option(help="postgresql://USER@HOST/NAME [SQLite in the data folder]")
]


@app.command()
def serve(
    data: Annotated[Path | None, typer.Option(help="the data folder")] = None,
    database: DatabaseUrl = None,
    listen: Annotated[
        str | None, typer.Option(help="HOST:PORT of API and console; port 0 is a free one")
    ] = None,
    broker: Annotated[
        list[str] | None, typer.Option(help="mqtt\\[s]://HOST[:PORT] of a broker; may be repeated")
    ] = None,
    embedded_broker: Annotated[
        str | None, typer.Option(help="HOST:PORT (loopback) of a broker in this process")
    ] = None,
    announce_broker: Annotated[
        list[str] | None,
        typer.Option(help="a broker that workers are told of; may be repeated"),
    ] = None,
    admin_token_file: Annotated[
        Path | None, typer.Option(help="where the first start writes the admin token")
    ] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning, error")] = None,
    heartbeat_s: Annotated[
        float | None, typer.Option(help="seconds between workers' heartbeats")
    ] = None,
    window: Annotated[int | None, typer.Option(help="batches of a lane in flight")] = None,
    page_within: Annotated[
        str | None, typer.Option(help="an alarm that is older when it comes is late: 15m")
    ] = None,
    max_model_mb: Annotated[
        int | None, typer.Option(help="MiB that a model's file may have [512]")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="a TOML file with the same options", envvar="FORECOURT_CENTER_CONFIG"),
    ] = None,
) -> None:
    """Serve API, console and downlink. Every option is also FORECOURT_CENTER_<OPTION>."""
    flags = {
        "data": data,
        "database": database,
        "listen": listen,
        "broker": broker,
        "embedded_broker": embedded_broker,
        "announce_broker": announce_broker,
        "admin_token_file": admin_token_file,
        "log_level": log_level,
        "heartbeat_s": heartbeat_s,
        "window": window,
        "page_within": page_within,
        "max_model_mb": max_model_mb,
    }
    try:
        _refuse_passwords(broker or [], database)
        options = load(flags, os.environ, config)
        logs.setup(options.log_level)
        # uvicorn raises the signal that ended it once more: an interrupt lets all parts end.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        serving.serve(options)
    except ConfigError as error:
        _refuse(str(error))


@app.command()
def migrate(data: Data = None, database: DatabaseUrl = None) -> None:
    """Bring the database's tables to this program's version."""
    logs.setup("info")
    opened, name = _open(data, database)
    try:
        db.migrate(opened)
    except (*db.UNAVAILABLE, ValueError) as error:
        _fail(f"cannot migrate {name}: {str(error).partition(chr(10))[0]}")
    finally:
        opened.close()


@app.command()
def check(
    data: Data = None,
    database: DatabaseUrl = None,
    as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False,
) -> None:
    """Verify a database at rest; exit 1 if anything is wrong."""
    logs.setup("warning")
    opened, name = _open(data, database, must_exist=True)
    try:
        findings = list(checks.check(opened))
    except db.UNAVAILABLE as error:
        _fail(f"cannot check {name}: {str(error).partition(chr(10))[0]}")
    finally:
        opened.close()
    for found in findings:
        _say(f"{found.invariant}: {found.what}\n    to do: {found.do}", to_stderr=as_json)
    if as_json:
        _say(json.dumps({"ok": not findings, "findings": [f.as_json() for f in findings]}))
    elif not findings:
        _say("nothing wrong found")
    if findings:
        raise typer.Exit(1)


def _open(
    data: Path | None, flag: str | None, *, must_exist: bool = False
) -> tuple[db.Database, str]:
    """The database that is meant, for one long task, and its name for people."""
    try:
        _refuse_passwords([], flag)
        word = flag or os.environ.get(f"{PREFIX}DATABASE")
        url = database_url(word) if word else None
    except ValueError as error:
        _refuse(str(error))
    if url is not None:
        return db.open_database(Path(), url, patient=True), db.name_of(Path(), url)
    if data is None:
        _refuse("name the database: --data FOLDER, or --database postgresql://USER@HOST/NAME")
    if must_exist and not (data / db.FILE_NAME).is_file():
        _refuse(f"there is no {db.FILE_NAME} in {data}; name the folder that `serve` was given")
    return db.open_database(data, None), db.name_of(data, None)


def _refuse_passwords(brokers: list[str], database: str | None) -> None:
    """A command line can be read by every user of the machine. Raises ConfigError."""
    for url in brokers:
        _refuse_password("broker", Broker.parse, url)
    if database is not None:
        _refuse_password("database", database_url, database)


def _refuse_password(option: str, parse: Callable[[str], Broker | URL], url: str) -> None:
    try:
        password = parse(url).password
    except ValueError as error:
        raise ConfigError(f"{option}: {error}") from None
    if password is not None:
        raise ConfigError(
            f"{option}: a password does not belong on a command line; give the URL as "
            f"{PREFIX}{option.upper()} or in the file of --config"
        )


def _say(text: str, to_stderr: bool = False) -> None:
    typer.echo(text, err=to_stderr)


def _refuse(sentence: str) -> NoReturn:
    _say(f"forecourt-center: {sentence}", to_stderr=True)
    raise typer.Exit(2)


def _fail(sentence: str) -> NoReturn:
    _say(f"forecourt-center: {sentence}", to_stderr=True)
    raise typer.Exit(1)


def main() -> None:
    """The command's entry."""
    app()


if __name__ == "__main__":
    main()
