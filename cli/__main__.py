"""`forecourt`, the operator's command: a table of contents.

Belongs here: which commands there are, and how an error ends the process. Does not belong here:
what any of them does.
"""

import json
import sys
from collections.abc import Sequence

import typer

from cli import models, terminal, workers
from cli.apply import apply
from cli.call import call
from cli.delete import delete
from cli.demo.command import demo
from cli.errors import CommandError
from cli.events import events
from cli.get import get
from cli.replace import replace
from wire import specs

app = typer.Typer(
    name="forecourt",
    help="Cameras of many stations in, a small number of trustworthy events out.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # locals hold tokens
    rich_markup_mode="rich",
)


def schema() -> None:
    """Print the JSON Schema of all resources, for editors.

    \b
    Example:
      forecourt schema > forecourt.schema.json
      # then in a YAML file:  # yaml-language-server: $schema=forecourt.schema.json
    """
    sys.stdout.write(json.dumps(specs.schema(), indent=2, ensure_ascii=False) + "\n")


app.command()(demo)
app.command()(apply)
app.command()(get)
app.command()(events)
app.command()(delete)
app.command()(replace)
app.command()(call)
app.command()(schema)
app.add_typer(models.app, name="models")
app.add_typer(workers.app, name="workers")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit: 0 done, 1 failed or refused, 2 bad input."""
    try:
        app(None if arguments is None else list(arguments), prog_name="forecourt")
    except CommandError as error:
        for line in str(error).splitlines():
            terminal.say(line, "red")
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
