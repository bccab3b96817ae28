"""Rows as a table for people."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from explorer_cli.output.escapes import to_json
from explorer_cli.output.terminal import make_console, styled, tell

UNBOUNDED = 1_000_000


def show_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str = "Nothing there.") -> None:
    """Show a table on stdout; None is an empty cell, numbers are aligned to the right.

    Cells are folded to a terminal's width; elsewhere the table is as wide as its content.
    """
    from rich.table import Table

    console = make_console(stderr=False)
    rows = list(rows)
    if not rows:
        tell(console, empty, style="dim")
        return
    table = Table(header_style="bold")
    for index, column in enumerate(columns):
        numeric = all(isinstance(row[index], int | float) and not isinstance(row[index], bool) for row in rows)
        table.add_column(styled(column), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*("" if value is None else styled(_cell(value)) for value in row))
    if not console.is_terminal:
        console.width = console.measure(table, options=console.options.update(max_width=UNBOUNDED)).maximum
    console.print(table)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M")
    if isinstance(value, dict | list):
        return to_json(value)
    return str(value)
