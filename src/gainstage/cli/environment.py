"""Verbs about gainstage itself: `doctor` and `schema`."""

from __future__ import annotations

from typing import Annotated

import typer


def doctor() -> None:
    """Check that gainstage works here, and print what a bug report should contain.

    Exit code 0 if all is well, 1 if there is something to do, which is printed.
    """
    from gainstage.attach.doctor import examine
    from gainstage.show.terminal import safe

    troubles = 0
    for check in examine():
        troubles += not check.is_ok
        typer.echo(safe(f"{'ok  ' if check.is_ok else 'FAIL'}  {check.name:<13} {check.said}"))
        if check.advice is not None:
            typer.echo(safe(f"      {'':<13} {check.advice}"))
    raise typer.Exit(1 if troubles else 0)


def schema(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="The schema; without it, list them all.")
    ] = None,
) -> None:
    """Print the JSON Schema of a file that gainstage writes, or list them."""
    import json

    from gainstage.store.json_schemas import schema_names, schema_text

    if name is not None:
        typer.echo(schema_text(name), nl=False)
        return
    for known in schema_names():
        typer.echo(f"{known:<14}{json.loads(schema_text(known))['title']}")
