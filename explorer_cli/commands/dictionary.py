"""`explorer dictionary`: a tenant's tables and columns in words, as a file."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from explorer_cli.commands.options import Json, Key


class Form(StrEnum):
    """How the file is written."""

    HTML = "html"
    MD = "md"
    CSV = "csv"


def dictionary(
    key: Key,
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Default: named by KEY, in this folder.", show_default=False)
    ] = None,
    to: Annotated[
        Form, typer.Option("--to", help="A page for people, Markdown, or a row per column for spreadsheets.")
    ] = Form.HTML,
    as_json: Json = False,
) -> None:
    """Write a tenant's data dictionary: tables, columns, questions and options in each language, lineage, checks, examples."""
    from explorer_cli.operations.meaning.dictionary import write_dictionary

    raise typer.Exit(write_dictionary(key, file, to.value, as_json=as_json))
