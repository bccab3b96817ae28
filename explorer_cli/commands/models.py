"""`explorer models`: the models that people and agents of a tenant keep."""

from pathlib import Path
from typing import Annotated

import typer

from explorer_cli.commands.options import Json, Key

app = typer.Typer(
    help="SELECTs that are kept as tables of a tenant, which each sync brings up to date.", no_args_is_help=True
)
_Name = Annotated[str, typer.Argument(metavar="NAME", help="The model.", show_default=False)]
_Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder with .sql and .yml files.", show_default=False)]


@app.command("list")
def models_list(key: Key, as_json: Json = False) -> None:
    """Show the saved models: owner, what each reads, when it was built."""
    from explorer_cli.operations.meaning.models import show_list

    raise typer.Exit(show_list(key, as_json=as_json))


@app.command("show")
def models_show(key: Key, name: _Name, as_json: Json = False) -> None:
    """Print a model's SQL, and its versions."""
    from explorer_cli.operations.meaning.models import show

    raise typer.Exit(show(key, name, as_json=as_json))


@app.command("save")
def models_save(
    key: Key,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="One SELECT; the model has the file's name.", show_default=False)
    ],
    description: Annotated[str, typer.Option(help="What one row is, and what for.", show_default=False)],
    unique: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="Test; repeat.", show_default=False)
    ] = None,
    not_null: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="Test; repeat.", show_default=False)
    ] = None,
    accepted: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN=VALUE,...", help="Test; repeat.", show_default=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and try it, and save nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Check a SELECT, try it as the tenant's reader, and keep it as the newest version of a model; the next run builds it."""
    from explorer_cli.operations.meaning.models import save

    tests = (unique or [], not_null or [], accepted or [])
    raise typer.Exit(save(key, file, description, tests, dry_run=dry_run, as_json=as_json))


@app.command("drop")
def models_drop(key: Key, name: _Name, as_json: Json = False) -> None:
    """Drop a model: the next run drops its table, its versions stay."""
    from explorer_cli.operations.meaning.models import drop

    raise typer.Exit(drop(key, name, as_json=as_json))


@app.command("export")
def models_export(key: Key, folder: _Folder, as_json: Json = False) -> None:
    """Write the models as dbt files, which can be moved into dbt_project/models/."""
    from explorer_cli.operations.meaning.models import export

    raise typer.Exit(export(key, folder, as_json=as_json))


@app.command("import")
def models_import(
    key: Key,
    folder: _Folder,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and try them, and save nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Save each .sql file of a folder as a model, with description and tests of its .yml; all are tried first."""
    from explorer_cli.operations.meaning.models import import_

    raise typer.Exit(import_(key, folder, dry_run=dry_run, as_json=as_json))
