"""`forecourt replace`: let another device or process have a worker's name.

Belongs here: what is asked and what is printed. Does not belong here: who is let in (the center).
"""

from typing import Annotated

import typer

from cli import access, terminal
from cli.api import Api
from cli.errors import BAD_INPUT, CommandError
from cli.get import noun_of, require_name


def replace(
    kind: Annotated[str, typer.Argument(help="worker")],
    name: Annotated[str, typer.Argument(help="Name of the worker.")],
    url: access.Url = None,
    token_file: access.TokenFile = None,
) -> None:
    """Let in the next device or agent that would be denied a worker's name.

    For a device that was exchanged, where the center need not wait until the old one has been
    silent; and for a cloned disk, where the copy that is turned away is the one to keep. Who has
    the name now and still lives is turned away from then on.

    \b
    Example:
      forecourt replace worker s0042-w1
    """
    if noun_of(kind) != "workers":
        raise CommandError(f"a {kind} cannot be replaced; only a worker can", BAD_INPUT)
    require_name(name)
    with Api(access.find(url, token_file)) as api:
        api.replace(name)
    terminal.write(f"worker/{name}: the next one that would be denied is let in")
