"""forecourt-center: serve | migrate | check.

Exit codes: 0 fine, 1 something was found or failed, 2 bad usage. With --json, stdout holds one JSON
object on its last line; everything else goes to stderr.
"""

import json
import os
import signal
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from center import check as checks
from center import db, logs, serving
from center.config import ConfigError, load

app = typer.Typer(
    name="forecourt-center",
    help="The center: takes in wishes, tells workers, keeps their events.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Data = Annotated[Path, typer.Option(help="the data folder", envvar="FORECOURT_CENTER_DATA")]


@app.command()
def serve(
    data: Annotated[Path | None, typer.Option(help="the data folder")] = None,
    listen: Annotated[
        str | None, typer.Option(help="HOST:PORT of API and console; port 0 is a free one")
    ] = None,
    broker: Annotated[str | None, typer.Option(help="mqtt[s]://HOST[:PORT] of a broker")] = None,
    embedded_broker: Annotated[
        str | None, typer.Option(help="HOST:PORT (loopback) of a broker in this process")
    ] = None,
    admin_token_file: Annotated[
        Path | None, typer.Option(help="where the first start writes the admin token")
    ] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning, error")] = None,
    heartbeat_s: Annotated[
        float | None, typer.Option(help="seconds between workers' heartbeats")
    ] = None,
    window: Annotated[int | None, typer.Option(help="batches of a lane in flight")] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="a TOML file with the same options", envvar="FORECOURT_CENTER_CONFIG"),
    ] = None,
) -> None:
    """Serve API, console and downlink. Every option is also FORECOURT_CENTER_<OPTION>."""
    flags = {
        "data": data,
        "listen": listen,
        "broker": broker,
        "embedded_broker": embedded_broker,
        "admin_token_file": admin_token_file,
        "log_level": log_level,
        "heartbeat_s": heartbeat_s,
        "window": window,
    }
    try:
        options = load(flags, os.environ, config)
        logs.setup(options.log_level)
        # uvicorn raises the signal that ended it once more: an interrupt lets all parts end.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        serving.serve(options)
    except ConfigError as error:
        _refuse(str(error))


@app.command()
def migrate(data: Data) -> None:
    """Bring the database's tables to this program's version."""
    logs.setup("info")
    database = db.open_sqlite(data)
    try:
        db.migrate(database)
    except db.UNAVAILABLE as error:
        _fail(f"cannot migrate {data}: {str(error).partition(chr(10))[0]}")
    finally:
        database.close()


@app.command()
def check(
    data: Data, as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False
) -> None:
    """Verify a database at rest; exit 1 if anything is wrong."""
    logs.setup("warning")
    if not (data / db.FILE_NAME).is_file():
        _refuse(f"there is no {db.FILE_NAME} in {data}; name the folder that `serve` was given")
    database = db.open_sqlite(data)
    try:
        findings = list(checks.check(database))
    except db.UNAVAILABLE as error:
        _fail(f"cannot check {data}: {str(error).partition(chr(10))[0]}")
    finally:
        database.close()
    for found in findings:
        _say(f"{found.invariant}: {found.what}\n    to do: {found.do}", to_stderr=as_json)
    if as_json:
        _say(json.dumps({"ok": not findings, "findings": [f.as_json() for f in findings]}))
    elif not findings:
        _say("nothing wrong found")
    if findings:
        raise typer.Exit(1)


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
