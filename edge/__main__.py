"""`forecourt-edge`: run | replay | explain | check-model | input | check.

A table of contents: each command reads its words here and is done elsewhere. What a command needs
is imported when it is called, so that an agent never loads a decoder.
"""

import logging
import sqlite3
import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A station's worker: decodes its cameras, applies rules, keeps events, syncs them.",
)

_PREFIX = "FORECOURT_EDGE_"


@app.command()
def run(
    context: typer.Context,
    worker: Annotated[
        str | None, typer.Option(envvar=f"{_PREFIX}WORKER", help="Name of this worker.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(envvar=f"{_PREFIX}DATA", help="Folder for events and tasks.")
    ] = None,
    broker: Annotated[
        list[str] | None,
        typer.Option(
            envvar=f"{_PREFIX}BROKER", help="mqtt://HOST:PORT or mqtts://…; may be repeated."
        ),
    ] = None,
    models: Annotated[
        list[Path] | None,
        typer.Option(envvar=f"{_PREFIX}MODELS", help="Folder with models; may be repeated."),
    ] = None,
    center: Annotated[
        str | None,
        typer.Option(envvar=f"{_PREFIX}CENTER", help="https://HOST of the center, for its models."),
    ] = None,
    center_token_file: Annotated[
        Path | None,
        typer.Option(
            envvar=f"{_PREFIX}CENTER_TOKEN_FILE",
            help="File with this worker's token (forecourt workers token NAME).",
        ),
    ] = None,
    center_insecure: Annotated[
        bool | None,
        typer.Option(
            "--center-insecure",
            envvar=f"{_PREFIX}CENTER_INSECURE",
            help="Show the token to a center by http:// too.",
        ),
    ] = None,
    models_mb: Annotated[
        int | None,
        typer.Option(envvar=f"{_PREFIX}MODELS_MB", help="Most that fetched models take [2048]."),
    ] = None,
    recordings: Annotated[
        Path | None,
        typer.Option(envvar=f"{_PREFIX}RECORDINGS", help="Folder that file:// streams may be in."),
    ] = None,
    display: Annotated[
        str | None,
        typer.Option(envvar=f"{_PREFIX}DISPLAY", help="HOST:PORT of the display [127.0.0.1:8090]."),
    ] = None,
    station_token_file: Annotated[
        Path | None,
        typer.Option(
            envvar=f"{_PREFIX}STATION_TOKEN_FILE",
            help="File with what those must show who tell of inputs; else one in --data.",
        ),
    ] = None,
    shards: Annotated[
        int | None, typer.Option(envvar=f"{_PREFIX}SHARDS", help="Decode processes [1].")
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(envvar=f"{_PREFIX}THREADS", help="Threads of an inference \\[by cores]."),
    ] = None,
    inference: Annotated[
        list[str] | None,
        typer.Option(
            envvar=f"{_PREFIX}INFERENCE",
            help="What may run networks, best first; may be repeated: tensorrt, cuda, migraphx,"
            " openvino, qnn, coreml, directml, xnnpack \\[cpu].",
        ),
    ] = None,
    cpus: Annotated[
        float | None,
        typer.Option(
            envvar=f"{_PREFIX}CPUS", help="Cores to use at most \\[what its cgroup says]."
        ),
    ] = None,
    quota_mb: Annotated[
        int | None, typer.Option(envvar=f"{_PREFIX}QUOTA_MB", help="Most that events take [256].")
    ] = None,
    keep_acked_h: Annotated[
        float | None,
        typer.Option(
            envvar=f"{_PREFIX}KEEP_ACKED_H",
            help="Hours that acknowledged events are kept, for a restored center [24].",
        ),
    ] = None,
    reconnect_max_s: Annotated[
        float | None,
        typer.Option(
            envvar=f"{_PREFIX}RECONNECT_MAX_S", help="Longest wait for the next attempt [60]."
        ),
    ] = None,
    log_level: Annotated[
        str | None,
        typer.Option(envvar=f"{_PREFIX}LOG_LEVEL", help="debug, info, warning, error \\[info]."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(envvar=f"{_PREFIX}CONFIG", help="TOML file with the same keys.")
    ] = None,
) -> None:
    """Work until SIGTERM: decode, analyse, keep events, show them, sync them.

    Needs no network to start. Example:

    forecourt-edge run --worker s0042-w1 --data /var/lib/forecourt --broker mqtt://center:1883
    --models models
    """
    from edge import agent
    from edge.clock import SystemClock
    from edge.config import ConfigError, load
    from edge.store.instance import InstanceLockedError

    given = {
        "worker": worker, "data": data, "broker": broker, "models": models,
        "center": center, "center_token_file": center_token_file,
        "center_insecure": center_insecure, "models_mb": models_mb,
        "recordings": recordings, "display": display, "station_token_file": station_token_file,
        "shards": shards, "threads": threads, "inference": inference, "cpus": cpus,
        "quota_mb": quota_mb, "keep_acked_h": keep_acked_h,
        "reconnect_max_s": reconnect_max_s, "log_level": log_level,
    }  # fmt: skip
    _refuse_passwords(context, broker or [])
    try:
        settings = load(config, given)
        _log_to_stderr(settings.log_level)
        agent.run(settings, SystemClock())
    except (ConfigError, InstanceLockedError) as error:
        _refuse(str(error))
    except (OSError, sqlite3.Error) as error:
        typer.echo(f"forecourt-edge: cannot use {settings.data}: {error}; try again", err=True)
        raise typer.Exit(1) from None


@app.command()
def replay(
    files: Annotated[list[Path], typer.Argument(help="Recordings, one after the other.")],
    task: Annotated[Path, typer.Option(help="YAML file with a Task.")],
    model: Annotated[
        str | None, typer.Option(help="Model by name, or a path to .onnx \\[the task's own].")
    ] = None,
    models: Annotated[
        list[Path] | None,
        typer.Option(envvar=f"{_PREFIX}MODELS", help="Folder with models [./models]."),
    ] = None,
    start: Annotated[
        str, typer.Option(help="Wall time of each recording's first picture.")
    ] = "2026-01-01T00:00:00Z",
    time_zone: Annotated[str, typer.Option(help="The station's time zone, for schedules.")] = "UTC",
    inputs: Annotated[
        Path | None,
        typer.Option(
            help="What inputs said: one JSON object a line, with input, value and at_s (seconds of"
            " the recording) or t_ms."
        ),
    ] = None,
    health: Annotated[
        bool,
        typer.Option(help="Tell faults of the camera too; no rule is applied while it is blind."),
    ] = True,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="The summary (with its wall times) as JSON on the last line of stdout."
        ),
    ] = False,
) -> None:
    """Analyse recordings as live streams are, as fast as may be; events as JSON lines on stdout.

    Deterministic: two runs print the same events, byte for byte. Exit code 2 for bad input.

    Example:

    forecourt-edge replay forecourt.mp4 --task bay-2.yaml --model yolox-nano
    """
    from edge.replay import command

    folders = models or [Path("models")]
    raise typer.Exit(
        command(
            files=files,
            task_file=task,
            model=model,
            models=folders,
            start=start,
            time_zone=time_zone,
            inputs=inputs,
            health=health,
            as_json=as_json,
        )
    )


@app.command()
def explain(
    task: Annotated[Path, typer.Argument(help="YAML file with one Task or more.")],
    gop: Annotated[
        str | None,
        typer.Option(help="Time between the camera's key frames, as 2s [1, 2, 4, 10 s, none]."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Tell what each rule needs to see and why, and how little of the stream is decoded for it.

    Reads the file and nothing else. Exit code 2 for bad input. Example:

    forecourt-edge explain bay-2.yaml --gop 2s
    """
    from edge.explain import command

    raise typer.Exit(command(task_file=task, gop=gop, as_json=as_json))


@app.command("input", context_settings={"ignore_unknown_options": True})  # -3 is a value
def input_(
    name: Annotated[str, typer.Argument(help="The input, as rules name it: nozzle-2, tank-1.")],
    value: Annotated[str, typer.Argument(help="true, false, a number, or text.")],
    text: Annotated[
        bool, typer.Option("--text", help="VALUE is text, whatever it looks like.")
    ] = False,
    at: Annotated[
        str | None, typer.Option(help="Since when, as 2026-01-31T10:00:00+01:00; else now.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            envvar=f"{_PREFIX}DATA",
            help="The worker's data folder: its address and token are there.",
        ),
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="The worker's address, if --data does not tell.")
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            envvar=f"{_PREFIX}STATION_TOKEN_FILE",
            help="File with the station token, if not station.token in --data.",
        ),
    ] = None,
) -> None:
    """Tell a worker what an input of the station says: a nozzle, a till, a probe.

    The value holds until the next one of the same input, also over restarts; rules ask for it with
    {input: nozzle-2, is: lifted}, above or below. Exit code 1 if the worker refuses it or does not
    answer, 2 for bad input. Examples:

    forecourt-edge input nozzle-2 lifted --data /var/lib/forecourt

    forecourt-edge input tank-1 87.5 --url http://10.0.0.7:8090 --token-file station.token

    forecourt-edge input ground-1 true --at 2026-01-31T10:00:00+01:00
    """
    from edge.display.post import command

    raise typer.Exit(
        command(
            name=name,
            value=value,
            text=text,
            at=at,
            data=data,
            url=url,
            token_file=token_file,
        )
    )


@app.command("check-model")
def check_model(
    file: Annotated[Path, typer.Argument(help="A .onnx file, a model.toml, or their folder.")],
    picture: Annotated[
        Path | None, typer.Option(help="Look at this JPEG or PNG instead of the known picture.")
    ] = None,
    threads: Annotated[
        int, typer.Option(envvar=f"{_PREFIX}THREADS", help="Threads of an inference.")
    ] = 1,
    inference: Annotated[
        list[str] | None,
        typer.Option(envvar=f"{_PREFIX}INFERENCE", help="What may run it, best first \\[cpu]."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Load a network and try it: its layout, input and labels, what it finds, how long it takes.

    Exit code 1 if a worker would refuse it, 2 if it cannot be loaded or read. Example:

    forecourt-edge check-model models/yolox-nano --picture yard.jpg
    """
    from edge.clock import SystemClock
    from edge.model_check import command

    raise typer.Exit(
        command(
            file,
            SystemClock(),
            picture=picture,
            threads=threads,
            inference=tuple(inference or ("cpu",)),
            as_json=as_json,
        )
    )


@app.command()
def check(
    data: Annotated[Path, typer.Option(envvar=f"{_PREFIX}DATA", help="The worker's data folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Verify what lies on disk: files, numbering, watermarks, gaps, the desired document's digest.

    Reads only; may be run beside a live worker. Exit code 1 if something is wrong.
    """
    from edge.store.check import command

    raise typer.Exit(command(data, as_json=as_json))


def _refuse_passwords(context: typer.Context, urls: list[str]) -> None:
    """A command line can be read by every user of the machine."""
    source = context.get_parameter_source("broker")
    if source is not None and source.name == "COMMANDLINE":
        for url in urls:
            if "@" in url and ":" in url.partition("://")[2].rpartition("@")[0]:
                _refuse(
                    "broker: a password does not belong on a command line; give the URL as"
                    f" {_PREFIX}BROKER or in the file of --config"
                )


def _log_to_stderr(level: str) -> None:
    logging.basicConfig(
        level=level.upper(),
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )


def _refuse(reason: str) -> None:
    typer.echo(f"forecourt-edge: {reason}", err=True)
    raise typer.Exit(2)


def main() -> None:
    """The console script."""
    app(prog_name="forecourt-edge")


if __name__ == "__main__":
    main()
