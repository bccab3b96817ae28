"""`explorer db`, `explorer secrets`, `explorer backup` and `explorer restore`: rare maintenance tasks."""

from pathlib import Path
from typing import Annotated

import typer

from explorer_cli.commands.options import Json

db_app = typer.Typer(help="The platform's database.", no_args_is_help=True)
secrets_app = typer.Typer(help="The keys that encrypt stored credentials.", no_args_is_help=True)


@db_app.command("upgrade")
def db_upgrade(
    take_over: Annotated[
        bool,
        typer.Option(
            "--take-over",
            help="Also when another HOME set it up or the keys are lost: new passwords, and a new key if there is none. "
            "Whoever holds the old ones is locked out.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Set up the database server and bring the catalog to the current version."""
    from explorer_cli.operations.maintenance import upgrade_database

    raise typer.Exit(upgrade_database(take_over=take_over, as_json=as_json))


def backup(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write to; it must be empty or not there.")],
    as_json: Json = False,
) -> None:
    """Write databases, keys and sealed audit files to a folder, while the platform runs or is stopped."""
    from explorer_cli.operations.backup.making import make_backup

    raise typer.Exit(make_backup(folder, as_json=as_json))


def restore(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that `explorer backup` has written.")],
    as_json: Json = False,
) -> None:
    """Make the installation of a backup in an empty HOME; an installation that is there is never written over."""
    from explorer_cli.operations.backup.restoring import restore_backup

    raise typer.Exit(restore_backup(folder, as_json=as_json))


@secrets_app.command("rotate")
def secrets_rotate(as_json: Json = False) -> None:
    """Make a new key and encrypt all stored credentials with it."""
    from explorer_cli.operations.maintenance import rotate_secrets

    raise typer.Exit(rotate_secrets(as_json=as_json))
