"""Commands that sync and query a tenant's tables, and `explorer runs`, which tells of its runs."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from explorer_cli.commands.options import Json, Key

app = typer.Typer(help="What runs did to a tenant's tables.", no_args_is_help=True)


def sync(
    key: Annotated[
        str | None, typer.Argument(metavar="[KEY]", help="The tenant's key, such as www:my-domain.", show_default=False)
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="All tenants, behind the runs that somebody waits for.")] = False,
    failed: Annotated[bool, typer.Option("--failed", help="With --all: only those whose last run failed.")] = False,
    full: Annotated[bool, typer.Option("--full", help="Read everything again instead of what changed.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the run to its end; exit status 1 if it fails.")] = False,
    as_json: Json = False,
) -> None:
    """Bring a tenant's tables up to date (a Dagster run), or those of all tenants."""
    if (key is None) is not all_ or (failed and not all_) or (wait and all_):
        raise typer.BadParameter("Give a KEY, or --all, with --failed for those whose last run failed.")
    if key is None:
        from explorer_cli.operations.bulk import sync_all

        raise typer.Exit(sync_all(full=full, failed=failed, as_json=as_json))
    from explorer_cli.operations.runs import run_sync

    raise typer.Exit(run_sync(key, full=full, wait=wait, as_json=as_json))


def query(
    key: Key,
    sql: Annotated[str, typer.Argument(metavar="SQL", help="One SELECT statement.", show_default=False)],
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Rows to show at most.")] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Do not run it; tell what it would read and cost.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Ask a tenant's tables, the way agents do: same validator, same read-only login, same limits."""
    from explorer_cli.operations.runs import run_query

    raise typer.Exit(run_query(key, sql, limit=limit, explain=explain, as_json=as_json))


@app.command("compare")
def runs_compare(
    key: Key,
    before: Annotated[
        str | None, typer.Argument(metavar="[BEFORE]", help="Id of the earlier run; default: the one before AFTER.")
    ] = None,
    after: Annotated[
        str | None, typer.Argument(metavar="[AFTER]", help="Id of the later run; default: the last one.")
    ] = None,
    as_json: Json = False,
) -> None:
    """What changed between two runs: rows, columns, checks and seconds; by default the last run and the one before it."""
    from explorer_cli.operations.runs import compare_runs

    raise typer.Exit(compare_runs(key, before, after, as_json=as_json))


def export(
    key: Key,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder for the files.", show_default=False)],
    to: Annotated[
        Literal["csv", "csv_exact", "jsonl", "parquet"],
        typer.Option("--to", help="Format; csv puts ' before texts that a spreadsheet would run.", show_default=False),
    ],
    sql: Annotated[str | None, typer.Option("--sql", help="One SELECT, instead of tables.")] = None,
    tables: Annotated[
        list[str] | None, typer.Option("--tables", help="Only these tables; may be repeated.", metavar="TABLE")
    ] = None,
    as_json: Json = False,
) -> None:
    """Bring a tenant's tables, or the result of one SELECT, out as files; tables that have not changed are left as they are."""
    from explorer_cli.operations.export import run_export

    if sql is not None and tables:
        raise typer.BadParameter("Give --sql or --tables, not both.")
    raise typer.Exit(run_export(key, folder, to, sql=sql, tables=tables or (), as_json=as_json))
