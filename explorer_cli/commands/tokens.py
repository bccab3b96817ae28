"""`explorer tokens`: the bearer tokens of agents."""

from typing import Annotated

import typer

from explorer_cli.commands.options import Json

app = typer.Typer(help="Bearer tokens with which agents reach the bridge.", no_args_is_help=True)


@app.command("create")
def tokens_create(
    name: Annotated[str, typer.Option(help="Who will use it; shown in the audit.")],
    tenant: Annotated[list[str], typer.Option(metavar="KEY", help="Tenant it may use; repeat for several.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(
            help="metadata:read, query:run, runs:launch, runs:cancel, schema:manage, semantics:write or models:write; "
            "repeat. Default: all but the last three.",
            show_default=False,
        ),
    ] = None,
    toolsets: Annotated[
        str,
        typer.Option(
            help="Tools it sees beside the default ones: schema, models, workspaces, operations, with commas, or all.",
            show_default=False,
        ),
    ] = "",
    expires_days: Annotated[int | None, typer.Option(min=1, help="Days until it ends; default: never.")] = None,
    as_json: Json = False,
) -> None:
    """Make a token and print it, once: only its hash is kept."""
    from explorer_cli.operations.tokens import create

    raise typer.Exit(
        create(name, tenants=tenant, scopes=scope, expires_days=expires_days, toolsets=toolsets, as_json=as_json)
    )


@app.command("list")
def tokens_list(as_json: Json = False) -> None:
    """Show who has tokens for what."""
    from explorer_cli.operations.tokens import show_list

    raise typer.Exit(show_list(as_json=as_json))


@app.command("revoke")
def tokens_revoke(
    name: Annotated[str, typer.Argument(metavar="NAME", show_default=False)], as_json: Json = False
) -> None:
    """End a token at once."""
    from explorer_cli.operations.tokens import revoke

    raise typer.Exit(revoke(name, as_json=as_json))
