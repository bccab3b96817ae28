"""How a command speaks: answers on stdout (text for people, or one JSON document), everything else on stderr.

Nothing else here writes to a terminal: what steers it, turns the direction of reading or cannot be seen is escaped on the way.
Errors are one block of three parts, never a traceback; with --json they are `{"error": {code, message, next_step}}` on stdout.
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
    """One JSON document and nothing else on stdout; what a terminal should not be sent stands as JSON's own escapes."""
    write(visible_json(data, indent=2))


def write(text: str) -> None:
    """Text on stdout as it is, less what a terminal should not be sent, and a new line."""
    sys.stdout.write(visible(text) + "\n")
    sys.stdout.flush()


def make_console(*, stderr: bool) -> "Console":
    """A console that takes text for what it is: in keys and names `:m:` is no picture and `[red]` is no colour."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


def tell(console: "Console", *parts: Piece, style: str = "") -> None:
    """One line made of plain and of styled text, never broken: paths, addresses and SQL stay whole to be copied."""
    console.print(styled(*parts, style=style), soft_wrap=True)


def styled(*parts: Piece, style: str = "") -> "Text":
    """Plain and styled text in one, as `visible` shows it."""
    from rich.text import Text

    pieces = ((part, "") if isinstance(part, str) else part for part in parts)
    return Text.assemble(*((visible(text), look) for text, look in pieces), style=style)


def say(*parts: Piece) -> None:
    """A remark for people, on stderr."""
    tell(make_console(stderr=True), *parts)


def show_error(error: ExplorerError, *, as_json: bool) -> None:
    """The error in the form that was asked for."""
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
