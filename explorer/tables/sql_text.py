"""How is upstream text written into generated SQL without being interpreted?

Literals made here contain no character that is special to PostgreSQL. Nothing else may put an application's text into SQL.
"""

import re
from collections.abc import Iterable

_PLAIN = re.compile(r"[A-Za-z0-9_ ./:@,-]*\Z")
_UNSAFE_CHAR = re.compile(r"[^A-Za-z0-9_ ./:@,]")
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}\Z")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
# Those, and characters that change the text direction.
_NOT_SHOWN = re.compile(rf"{_CONTROL.pattern}|[\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def quoted(name: str) -> str:
    """`name` as a quoted SQL identifier. Raises ValueError for names that `identifiers` did not make."""
    if not _NAME.match(name):
        raise ValueError(f"not a generated identifier: {name!r}")
    return f'"{name}"'


def literal(text: str) -> str:
    """`text` as a SQL string literal of letters, digits and \\u escapes. Unstorable characters become U+FFFD."""
    if _PLAIN.match(text) and "--" not in text:
        return f"'{text}'"
    return "E'" + _UNSAFE_CHAR.sub(_escaped, text) + "'"


def text_array(parts: Iterable[str]) -> str:
    """`parts` as a SQL expression of type text[]."""
    items = [literal(part) for part in parts]
    return f"array[{', '.join(items)}]::text[]" if items else "'{}'::text[]"


def one_line(text: str) -> str:
    """`text` without line breaks and other control characters, for a comment in the database."""
    return _CONTROL.sub(" ", text)


def shown(name: str) -> str:
    """A source's name for people, distinct from every other: control characters and backslashes are escaped."""
    return _NOT_SHOWN.sub(lambda found: f"\\u{ord(found[0]):04x}", name.replace("\\", "\\\\"))


def _escaped(found: re.Match[str]) -> str:
    point = ord(found[0])
    if point == 0 or 0xD800 <= point <= 0xDFFF:
        point = 0xFFFD
    return f"\\u{point:04x}" if point <= 0xFFFF else f"\\U{point:08x}"
