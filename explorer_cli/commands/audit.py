"""`explorer audit`: the trail of calls and changes."""

from pathlib import Path
from typing import Annotated

import typer

from explorer_cli.commands.options import Json

app = typer.Typer(help="The trail of what was asked and changed, by whom.", no_args_is_help=True)


@app.command("verify")
def audit_verify(
    log: Annotated[
        list[Path] | None,
        typer.Option(
            "--log",
            metavar="FILE",
            help="Log with signed heads to compare; repeat. Default: the bridge's logs in HOME.",
            show_default=False,
        ),
    ] = None,
    file: Annotated[
        list[Path] | None,
        typer.Option("--file", metavar="FILE", help="Exported entries to follow too; repeat.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Follow the chain of all entries; exit status 1 and the first broken entry when something was changed."""
    from explorer_cli.operations.audit import verify_trail

    raise typer.Exit(verify_trail(log, file or [], as_json=as_json))


@app.command("export")
def audit_export(
    after: Annotated[int, typer.Option(min=0, help="Only entries with a higher id.")] = 0,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File to write; default: standard output.", show_default=False)
    ] = None,
) -> None:
    """Write the entries as lines of JSON, with their hashes."""
    from explorer_cli.operations.audit import export_trail

    raise typer.Exit(export_trail(after, output))


@app.command("seal")
def audit_seal(
    days: Annotated[
        int | None,
        typer.Option(min=1, help="Age in days; default: EXPLORER_AUDIT_RETENTION_DAYS.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Move old entries to files in HOME/audit; their hash stays in the database."""
    from explorer_cli.operations.audit import seal_trail

    raise typer.Exit(seal_trail(days, as_json=as_json))
