"""How a command speaks: answers on stdout (text for people, or one JSON document), everything else on stderr.

Errors are one block of three parts, never a traceback; with --json they are `{"error": {code, message, next_step}}` on stdout.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from explorer_dagster.errors import ExplorerError


def answer_json(data: Any) -> None:
    """One JSON document and nothing else on stdout."""
    sys.stdout.write(json.dumps(data, indent=2, ensure_ascii=False, default=_plain) + "\n")
    sys.stdout.flush()


def show_error(error: ExplorerError, *, as_json: bool) -> None:
    """The error in the form that was asked for."""
    if as_json:
        answer_json({"error": error.as_dict()})
        return
    from rich.console import Console
    from rich.markup import escape

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(f"[bold red]Error[/] [dim]({escape(error.code)})[/]  {escape(error.message)}")
    console.print(f"[bold]What to do[/]  {escape(error.next_step)}")
    lines = error.details.get("log") or []
    if lines:
        console.print("[dim]Last lines of its log:[/]")
        for line in lines:
            console.print(f"  [dim]{escape(str(line))}[/]")


def say(text: str) -> None:
    """A remark for people, on stderr; markup is understood."""
    from rich.console import Console

    Console(stderr=True, highlight=False, soft_wrap=True).print(text)


def show_table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str | None = None, empty: str = "Nothing there."
) -> None:
    """A table on stdout; None is shown as an empty cell, numbers are aligned to the right."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    rows = list(rows)
    if not rows:
        console.print(empty, style="dim")
        return
    table = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
    for index, column in enumerate(columns):
        numeric = all(isinstance(row[index], int | float) and not isinstance(row[index], bool) for row in rows)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*("" if value is None else Text(_cell(value)) for value in row))
    console.print(table)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M")
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, default=_plain)
    return str(value)


def _plain(value: Any) -> Any:
    """JSON for what our own data structures hold."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not JSON")
