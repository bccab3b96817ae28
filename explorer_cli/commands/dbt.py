"""`explorer dbt`: dbt's own command line, as one tenant."""

from typing import Annotated

import typer

from explorer_cli.commands.options import Key


def dbt(
    key: Key,
    arguments: Annotated[
        list[str], typer.Argument(metavar="-- COMMAND...", help="dbt's command, such as `build --select my_model`.")
    ],
) -> None:
    """Run a command of dbt on a tenant's tables: `explorer dbt www:my-domain -- build --select my_model`."""
    from explorer_cli.operations.dbt import run_dbt

    raise typer.Exit(run_dbt(key, arguments))
