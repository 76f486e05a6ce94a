"""`forecourt workers token`: what a worker fetches the center's files with.

Belongs here: what is asked and where the secret is written. Does not belong here: what it opens
(the center).
"""

import os
from pathlib import Path
from typing import Annotated

import typer

from cli import access, terminal
from cli.api import Api
from cli.apply import AsJson
from cli.errors import BAD_INPUT, CommandError
from cli.get import require_name

app = typer.Typer(no_args_is_help=True, help="Tokens with which workers fetch models.")


@app.callback()
def _group() -> None:
    """Keep `token` a word of its own, however few commands there are."""


@app.command()
def token(
    name: Annotated[str, typer.Argument(help="Name of the worker.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Write it to this new file, for its owner only."),
    ] = None,
    revoke: Annotated[
        bool, typer.Option("--revoke", help="End all tokens of this worker instead.")
    ] = False,
    as_json: AsJson = False,
    url: access.Url = None,
    token_file: access.TokenFile = None,
) -> None:
    """Make a token for a worker, shown this one time; the one before stays good meanwhile.

    It opens the files of the models that this worker's tasks name, and nothing else. The worker
    reads it from the file that its `center_token_file` names.

    \b
    Examples:
      forecourt workers token s0042-w1 -o s0042-w1.token
      forecourt workers token s0042-w1 --revoke
    """
    require_name(name)
    if revoke and out is not None:
        raise CommandError("--revoke writes no file; leave --out away", BAD_INPUT)
    if out is not None and out.exists():
        raise CommandError(f"{out} exists, and no secret overwrites anything", BAD_INPUT)
    with Api(access.find(url, token_file)) as api:
        if revoke:
            api.revoke_worker_tokens(name)
            terminal.say(f"worker/{name}: its tokens are ended")
            if as_json:
                terminal.write_json({"worker": name, "revoked": True})
            return
        secret = api.worker_token(name)
    if out is not None:
        _write(out, secret)
        terminal.say(f"worker/{name}: its token is in {out}")
        if as_json:
            terminal.write_json({"worker": name, "file": str(out)})
    elif as_json:
        terminal.write_json({"worker": name, "token": secret})
    else:
        terminal.write(secret)


def _write(path: Path, secret: str) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"{secret}\n")
    except OSError as error:
        raise CommandError(
            f"the token was made and cannot be written to {path}: {error.strerror}; make another"
        ) from None
