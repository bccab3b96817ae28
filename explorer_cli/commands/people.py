"""`explorer people` and `explorer clients`: who signed in, and the programs that act for them."""

from typing import Annotated

import typer

from explorer_cli.commands.options import Json

people_app = typer.Typer(help="People who signed in to the bridge.", no_args_is_help=True)
clients_app = typer.Typer(help="Programs (OAuth clients) that act for people.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", show_default=False, help="As `explorer people list` shows it.")]
ClientId = Annotated[str, typer.Argument(metavar="ID", show_default=False, help="As `explorer clients list` shows it.")]


@people_app.command("list")
def people_list(as_json: Json = False) -> None:
    """Show who signed in, what they may use, and by which programs."""
    from explorer_cli.operations.people import show_people

    raise typer.Exit(show_people(as_json=as_json))


@people_app.command("revoke")
def people_revoke(
    name: Name,
    block: Annotated[bool, typer.Option("--block", help="Do not let the person sign in again either.")] = False,
    as_json: Json = False,
) -> None:
    """End all that was granted to a person, at once."""
    from explorer_cli.operations.people import revoke

    raise typer.Exit(revoke(name, block=block, as_json=as_json))


@people_app.command("allow")
def people_allow(name: Name, as_json: Json = False) -> None:
    """Let a blocked person sign in again."""
    from explorer_cli.operations.people import allow

    raise typer.Exit(allow(name, as_json=as_json))


@clients_app.command("list")
def clients_list(as_json: Json = False) -> None:
    """Show the programs that asked people for access."""
    from explorer_cli.operations.people import show_clients

    raise typer.Exit(show_clients(as_json=as_json))


@clients_app.command("block")
def clients_block(client_id: ClientId, as_json: Json = False) -> None:
    """Refuse a program, and end all that was granted to it, at once."""
    from explorer_cli.operations.people import block

    raise typer.Exit(block(client_id, as_json=as_json))


@clients_app.command("unblock")
def clients_unblock(client_id: ClientId, as_json: Json = False) -> None:
    """Let people connect a blocked program again."""
    from explorer_cli.operations.people import unblock

    raise typer.Exit(unblock(client_id, as_json=as_json))
