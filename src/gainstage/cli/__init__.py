"""The command line: each verb is a few lines that call one room."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from gainstage import __version__
from gainstage.cli import environment, inspect, repair, script, share
from gainstage.errors import GainstageError
from gainstage.lab.commands import app as lab_app

EXIT_USER = 2

app = typer.Typer(
    name="gainstage",
    help="Find out why a network's training blew up, while it trains, and fix it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(lab_app, name="lab")

_SCRIPT_FIRST: dict[str, Any] = {
    "context_settings": {"allow_interspersed_args": False, "ignore_unknown_options": False},
    "options_metavar": "[OPTIONS]",
}
"""Options after SCRIPT belong to the script."""

app.command(**_SCRIPT_FIRST)(script.run)
app.command(**_SCRIPT_FIRST)(script.check)
app.command()(inspect.report)
app.command(**_SCRIPT_FIRST)(repair.prescribe)
app.command()(inspect.diagnose)
app.command()(inspect.serve)
app.command()(inspect.watch)
app.command()(share.mcp)
app.command()(environment.doctor)
app.command()(repair.rescue)
app.command()(repair.replay)
app.command()(share.query)
app.command()(share.export)
app.command()(environment.schema)


def _show_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"gainstage {__version__}")
        raise typer.Exit


@app.callback()
def _global_options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Take the options that stand before the verb."""


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line; a user's mistake is one line on standard error and exit code 2."""
    try:
        return app(arguments, prog_name="gainstage")
    except GainstageError as error:
        print(f"gainstage: {error}", file=sys.stderr)
        sys.exit(EXIT_USER)
