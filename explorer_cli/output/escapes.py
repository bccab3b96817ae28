"""Escapes characters that are unsafe in a terminal: those that control it, change the direction of reading or are invisible."""

import json
import unicodedata
from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID

# Unicode calls these letters or symbols, but they look blank: Hangul fillers, the empty Braille cell, a joiner.
_UNSEEN = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")


def visible(text: str) -> str:
    """The text with unsafe characters escaped in the form `\\u202e`.

    Unsafe are Unicode's control and format characters, line separators, lone surrogates and unassigned code points; new
    lines and tabs stay.
    """
    return _escaped(text, _escape)


def visible_json(data: Any, *, indent: int | None = None) -> str:
    """`to_json` with JSON's own escapes for unsafe characters."""
    return _escaped(to_json(data, indent=indent), _json_escape)


def to_json(data: Any, *, indent: int | None = None) -> str:
    """JSON of our own data structures: times and UUIDs are written as texts, sets as lists."""
    return json.dumps(data, indent=indent, ensure_ascii=False, default=_plain)


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
    """JSON's escape: a surrogate pair for characters beyond the first plane."""
    return json.dumps(char)[1:-1]


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not JSON")
