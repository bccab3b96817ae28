"""How a command speaks: answers on stdout (text for people, or one JSON document), everything else on stderr.

Nothing else here writes to a terminal: what steers it, turns the direction of reading or cannot be seen is escaped on the way.
Errors are one block of three parts, never a traceback; with --json they are `{"error": {code, message, next_step}}` on stdout.
"""

import json
import sys
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from explorer.core.errors import ExplorerError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

Piece = str | tuple[str, str]
"""Text, or text and its rich style."""

# Letters by their category, and blanks to the eye: fillers of Hangul, an empty Braille cell, a joiner that joins nothing.
_UNSEEN = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
UNBOUNDED = 1_000_000


def answer_json(data: Any) -> None:
    """One JSON document and nothing else on stdout; what a terminal should not be sent stands as JSON's own escapes."""
    write(_escaped(json.dumps(data, indent=2, ensure_ascii=False, default=_plain), _json_escape))


def write(text: str) -> None:
    """Text on stdout as it is, less what a terminal should not be sent, and a new line."""
    sys.stdout.write(visible(text) + "\n")
    sys.stdout.flush()


def visible(text: str) -> str:
    """The text with all that steers a terminal, turns the direction of reading or cannot be seen as `\\u202e`.

    Those are Unicode's control and format characters, separators of lines, lone surrogates and code points without a character;
    new lines and tabs stay.
    """
    return _escaped(text, _escape)


def _escaped(text: str, escape: Callable[[str], str]) -> str:
    if text.isprintable() and _UNSEEN.isdisjoint(text):
        return text
    return "".join(char if _is_seen(char) else escape(char) for char in text)


def _is_seen(char: str) -> bool:
    if char.isprintable():
        return char not in _UNSEEN
    return char in "\n\t" or unicodedata.category(char) == "Zs"


def _escape(char: str) -> str:
    return f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"


def _json_escape(char: str) -> str:
    """JSON's escape, of two halves beyond the first plane."""
    return json.dumps(char)[1:-1]


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


def show_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str = "Nothing there.") -> None:
    """A table on stdout; None is shown as an empty cell, numbers are aligned to the right.

    A terminal's width folds the cells; elsewhere the table is as wide as its content.
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
