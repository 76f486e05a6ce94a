"""`forecourt call`: ask a worker for something now.

Belongs here: words to arguments, and how each answer is shown. Does not belong here: what the
arguments may be (wire.calls), HTTP (api), doing it (the worker).
"""

import base64
import binascii
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from cli import access, terminal
from cli.api import Api
from cli.errors import BAD_INPUT, CommandError
from cli.get import require_name
from wire import calls, text
from wire.specs import SpecError

Result = dict[str, Any]
_SPARE_S = 10.0
"""The center says itself that a worker is late; its answer is waited for a little longer."""


def call(
    worker: Annotated[str, typer.Argument(help="Name of the worker.")],
    method: Annotated[str, typer.Argument(help="probe, picture, log or config")],
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="What the method wants to know."),
    ] = None,
    timeout_s: Annotated[
        float,
        typer.Option("--timeout", min=0.1, max=calls.MAX_TIMEOUT_S, help="Seconds to wait."),
    ] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File for the JPEG of a picture.")
    ] = None,
    url: access.Url = None,
    token_file: access.TokenFile = None,
) -> None:
    """Ask a worker that is online for something now; one that is away is not waited for.

    probe opens a stream (camera=NAME stream=main, or url=...) and says what it is; picture takes
    the next picture of a stream that runs (camera=, stream=, width=); log shows the worker's last
    lines (lines=); config how it is set up, without credentials.

    \b
    Examples:
      forecourt call s0042-w1 probe camera=bay-2
      forecourt call s0042-w1 probe url=rtsp://10.0.0.7/main --timeout 20
      forecourt call s0042-w1 picture camera=bay-2 width=640 -o bay-2.jpg
      forecourt call s0042-w1 log lines=50
      forecourt call s0042-w1 config --json
    """
    require_name(worker)
    args = _args(method, words or [])
    if (method == "picture") != (output is not None):
        raise CommandError(
            "a picture goes to a file: give -o FILE"
            if output is None
            else f"-o is for pictures; {method} is written to standard output",
            BAD_INPUT,
        )
    asked = {"method": method, "args": args, "timeout_s": timeout_s}
    with Api(access.find(url, token_file), timeout_s + _SPARE_S) as api:
        answer = api.call(worker, asked)
    if not answer["ok"]:
        raise CommandError(f"worker {worker} cannot do it: {answer.get('error')}")
    result: Result = answer["result"]
    if output is not None:
        result = _write_picture(worker, result, output)
    if as_json:
        terminal.write_json({**answer, "result": result})
    elif method == "log":
        _show_log(result)
    else:
        terminal.out().print(Text(terminal.plain(text.write(result))), soft_wrap=True, end="")


def _args(method: str, words: Sequence[str]) -> Result:
    """The arguments in `key=value` words, checked. Raises CommandError."""
    given: Result = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise CommandError(f"{word!r} is no KEY=VALUE", BAD_INPUT)
        if key in given:
            raise CommandError(f"{key} is given twice", BAD_INPUT)
        given[key] = value
    try:
        return calls.written(calls.parse(method, given))
    except SpecError as error:
        found = "; ".join(str(problem).removeprefix("args.") for problem in error.problems)
        raise CommandError(f"call {method}: {found}", BAD_INPUT) from None


def _write_picture(worker: str, result: Result, output: Path) -> Result:
    """Write the JPEG; what is left to say of it. Raises CommandError."""
    try:
        jpeg = base64.b64decode(str(result.get("jpeg", "")), validate=True)
    except binascii.Error:
        jpeg = b""
    if not jpeg.startswith(b"\xff\xd8\xff"):
        raise CommandError(f"what worker {worker} sent is no picture; upgrade it")
    try:
        output.write_bytes(jpeg)
    except OSError as error:
        raise CommandError(f"cannot write {output}: {error.strerror}", BAD_INPUT) from None
    about = {key: value for key, value in result.items() if key != "jpeg"}
    return {**about, "file": str(output), "size_bytes": len(jpeg)}


def _show_log(result: Result) -> None:
    lines = result.get("lines")
    for line in lines if isinstance(lines, list) else []:
        terminal.write(str(line))
    if result.get("omitted"):
        terminal.say(f"{result['omitted']} more did not fit into the answer", "dim")
