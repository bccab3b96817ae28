"""Commands that sync and query a tenant's tables."""

from typing import Annotated

import typer

from explorer_cli.commands.options import Json, Key


def sync(
    key: Key,
    full: Annotated[bool, typer.Option("--full", help="Read everything again instead of what changed.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the run to its end; exit status 1 if it fails.")] = False,
    as_json: Json = False,
) -> None:
    """Bring a tenant's tables up to date (a Dagster run)."""
    from explorer_cli.operations.runs import run_sync

    raise typer.Exit(run_sync(key, full=full, wait=wait, as_json=as_json))


def query(
    key: Key,
    sql: Annotated[str, typer.Argument(metavar="SQL", help="One SELECT statement.", show_default=False)],
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Rows to show at most.")] = None,
    as_json: Json = False,
) -> None:
    """Ask a tenant's tables, the way agents do: same validator, same read-only login, same limits."""
    from explorer_cli.operations.runs import run_query

    raise typer.Exit(run_query(key, sql, limit=limit, as_json=as_json))
