"""`explorer workspaces`: several tenants in one query."""

from typing import Annotated

import typer

from explorer_cli.commands.options import Json

app = typer.Typer(help="Sets of tenants that a principal queries together.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(metavar="NAME", help="The workspace's name.", show_default=False)]
Keys = Annotated[list[str], typer.Argument(metavar="KEY...", help="Keys of tenants.", show_default=False)]
Principal = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Whose workspace it is; default: the operator's own.", show_default=False),
]


@app.command("create")
def workspaces_create(name: Name, keys: Keys, principal: Principal = None, as_json: Json = False) -> None:
    """Make a workspace of tenants that its owner may query."""
    from explorer_cli.operations.tenants.workspaces import create

    raise typer.Exit(create(name, keys, principal, as_json=as_json))


@app.command("list")
def workspaces_list(as_json: Json = False) -> None:
    """Show all workspaces."""
    from explorer_cli.operations.tenants.workspaces import show_list

    raise typer.Exit(show_list(as_json=as_json))


@app.command("show")
def workspaces_show(name: Name, principal: Principal = None, as_json: Json = False) -> None:
    """Show a workspace's tenants, and which of them can be queried now."""
    from explorer_cli.operations.tenants.workspaces import show

    raise typer.Exit(show(name, principal, as_json=as_json))


@app.command("add")
def workspaces_add(name: Name, keys: Keys, principal: Principal = None, as_json: Json = False) -> None:
    """Add tenants."""
    from explorer_cli.operations.tenants.workspaces import change

    raise typer.Exit(change(name, keys, principal, add=True, as_json=as_json))


@app.command("remove")
def workspaces_remove(name: Name, keys: Keys, principal: Principal = None, as_json: Json = False) -> None:
    """Take tenants out; their rows are gone from the next query on."""
    from explorer_cli.operations.tenants.workspaces import change

    raise typer.Exit(change(name, keys, principal, add=False, as_json=as_json))


@app.command("drop")
def workspaces_drop(name: Name, principal: Principal = None, as_json: Json = False) -> None:
    """Take a workspace away. Tenants and data stay."""
    from explorer_cli.operations.tenants.workspaces import drop

    raise typer.Exit(drop(name, principal, as_json=as_json))
