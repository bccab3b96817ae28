"""`explorer semantics`: show and set a tenant's own semantics."""

from pathlib import Path
from typing import Annotated

import typer

from explorer_cli.commands.options import Json, Key

app = typer.Typer(help="What a tenant's tables mean, beyond what the pipeline says.", no_args_is_help=True)


@app.command("show")
def semantics_show(
    key: Key,
    as_json: Json = False,
) -> None:
    """Print the tenant's own entities, measures, synonyms, flags of personal data and example queries, as YAML."""
    from explorer_cli.operations.meaning.semantics import show

    raise typer.Exit(show(key, as_json=as_json))


@app.command("set")
def semantics_set(
    key: Key,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="YAML; empty takes all away.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Check a file and put it in force as the tenant's newest version; its SQL is tried as the tenant's reader."""
    from explorer_cli.operations.meaning.semantics import set_from

    raise typer.Exit(set_from(key, file, as_json=as_json))
