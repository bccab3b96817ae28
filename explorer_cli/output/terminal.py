"""Writes a command's output: answers on stdout (text for people, or one JSON document), everything else on stderr.

No other module here writes to a terminal; unsafe characters are escaped (see `escapes`). An error is one block of three parts,
never a traceback; with --json they are `{"error": {code, message, next_step}}` on stdout.
"""

import sys
from typing import TYPE_CHECKING, Any

from explorer.core.errors import ExplorerError
from explorer_cli.output.escapes import visible, visible_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

Piece = str | tuple[str, str]
"""Text, or text and its rich style."""


def answer_json(data: Any) -> None:
    """Write one JSON document and nothing else on stdout; unsafe characters are written as JSON's own escapes."""
    write(visible_json(data, indent=2))


def write(text: str) -> None:
    """Write text and a new line on stdout, with unsafe characters escaped."""
    sys.stdout.write(visible(text) + "\n")
    sys.stdout.flush()


def make_console(*, stderr: bool) -> "Console":
    """A console without markup: in keys and names `:m:` is no emoji and `[red]` is no colour."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


def tell(console: "Console", *parts: Piece, style: str = "") -> None:
    """Write one line of plain and styled text, never wrapped, so that paths, addresses and SQL can be copied."""
    console.print(styled(*parts, style=style), soft_wrap=True)


def styled(*parts: Piece, style: str = "") -> "Text":
    """Plain and styled text joined, with unsafe characters escaped."""
    from rich.text import Text

    pieces = ((part, "") if isinstance(part, str) else part for part in parts)
    return Text.assemble(*((visible(text), look) for text, look in pieces), style=style)


def say(*parts: Piece) -> None:
    """Write a remark for people on stderr."""
    tell(make_console(stderr=True), *parts)


def show_error(error: ExplorerError, *, as_json: bool) -> None:
    """Show the error in the requested form."""
    if as_json:
        answer_json({"error": error.as_dict()})
        return
    say(("Error", "bold red"), (f" ({error.code})", "dim"), f"  {error.message}")
    say(("What to do", "bold"), f"  {error.next_step}")
    lines = error.details.get("log") or []
    if lines:
        say(("Last lines of its log:", "dim"))
        for line in lines:
            say((f"  {line}", "dim"))
