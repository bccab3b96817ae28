"""`explorer limits`: how much a principal may ask of a tenant."""

from typing import Annotated

import typer

from explorer_cli.commands.options import Json, Key

app = typer.Typer(help="Budgets and bounds per tenant and principal.", no_args_is_help=True)
Principal = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Only for this principal; default: for each one.", show_default=False),
]


@app.command("set")
def limits_set(
    key: Key,
    principal: Principal = None,
    calls: Annotated[int | None, typer.Option(min=0, help="Calls per window.", show_default=False)] = None,
    rows: Annotated[int | None, typer.Option(min=0, help="Rows of queries per window.", show_default=False)] = None,
    bytes_: Annotated[
        int | None, typer.Option("--bytes", min=0, help="Bytes of answers per window.", show_default=False)
    ] = None,
    seconds: Annotated[
        int | None, typer.Option(min=0, help="Seconds of queries per window.", show_default=False)
    ] = None,
    max_rows_per_query: Annotated[
        int | None, typer.Option(min=1, help="Rows in one answer of `query` at most.", show_default=False)
    ] = None,
    max_query_timeout_seconds: Annotated[
        float | None, typer.Option(min=1, help="Time limit of one query.", show_default=False)
    ] = None,
    allow_table: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TABLE", help="Only tables named here may be read; repeat. '' lifts it.", show_default=False
        ),
    ] = None,
    exclude_table: Annotated[
        list[str] | None,
        typer.Option(metavar="TABLE", help="This table may not be read; repeat. '' lifts it.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Set limits; what is not given stays as it is. A window is EXPLORER_BUDGET_WINDOW_S long."""
    from explorer_cli.operations.limits import set_limits

    given = {
        "calls": calls, "rows": rows, "bytes": bytes_, "seconds": seconds, "max_rows_per_query": max_rows_per_query,
        "max_query_timeout_seconds": max_query_timeout_seconds, "allowed_tables": allow_table,
        "excluded_tables": exclude_table,
    }  # fmt: skip
    values = {name: value for name, value in given.items() if value is not None and value != []}
    raise typer.Exit(set_limits(key, principal, values, as_json=as_json))


@app.command("show")
def limits_show(key: Key, as_json: Json = False) -> None:
    """Show the limits in force, and what each principal has used of its budget."""
    from explorer_cli.operations.limits import show_limits

    raise typer.Exit(show_limits(key, as_json=as_json))


@app.command("clear")
def limits_clear(key: Key, principal: Principal = None, as_json: Json = False) -> None:
    """Remove what `set` has set, for each principal or for one; used budgets are open again."""
    from explorer_cli.operations.limits import clear_limits

    raise typer.Exit(clear_limits(key, principal, as_json=as_json))
