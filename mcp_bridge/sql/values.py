"""Converts PostgreSQL's text form of a value to a JSON value without loss.

Numbers are JSON numbers when a double holds them exactly, else strings; NaN and infinities are strings. `timestamptz`
is ISO-8601 in UTC. The executor selects arrays and rows as JSON, so they arrive here like `jsonb`.
"""

import json
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

# JavaScript, and so many JSON readers, represent all integers up to this one.
_EXACT_INTEGER = 2**53 - 1
_TIMESTAMP = re.compile(r"(\d{4,}-\d\d-\d\d) (\d\d:\d\d:\d\d(?:\.\d+)?)(\+00)?")
_SURROGATE = re.compile(r"\\u[dD][89abcdefABCDEF]")

JsonValue = Any


def integer(text: str) -> int | str:
    if len(text) > len(str(_EXACT_INTEGER)) + 1:
        return text
    value = int(text)
    return value if abs(value) <= _EXACT_INTEGER else text


def number(text: str) -> int | float | str:
    """The number if a double holds it exactly (it prints the same value again), else the text."""
    if not any(char in text for char in ".eE"):
        return integer(text) if text.lstrip("-").isdigit() else text  # NaN, Infinity
    if len(text) > 40:
        return text
    value = float(text)
    if value in (float("inf"), float("-inf")) or Decimal(repr(value)) != Decimal(text):
        return text
    return value


def double(text: str) -> float | str:
    """`float4` and `float8`: their shortest text is the value; NaN and infinities have no JSON number."""
    return text if text in ("NaN", "Infinity", "-Infinity") else float(text)


def timestamp(text: str) -> str:
    """ISO-8601; `infinity` and years before Christ stay as PostgreSQL writes them."""
    found = _TIMESTAMP.fullmatch(text)
    return f"{found[1]}T{found[2]}{'+00:00' if found[3] else ''}" if found else text


def document(text: str) -> JsonValue:
    """`json` and `jsonb` as nested values. A document that JSON readers could not process (unpaired surrogates, extreme
    depth) stays text.
    """
    try:
        value = json.loads(text, parse_int=integer, parse_float=number, object_pairs_hook=_object)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except (RecursionError, UnicodeEncodeError):
        return text
    return value


def _object(pairs: list[tuple[str, JsonValue]]) -> JsonValue:
    """An object. If a name occurs twice (`json` and rows allow it), the list of pairs, so that no value is lost."""
    value = dict(pairs)
    return value if len(value) == len(pairs) else [[name, item] for name, item in pairs]


_READERS: dict[str, Callable[[str], JsonValue]] = {
    "bool": lambda text: text == "t",
    "int2": integer,
    "int4": integer,
    "int8": integer,
    "oid": integer,
    "float4": double,
    "float8": double,
    "numeric": number,
    "timestamp": timestamp,
    "timestamptz": timestamp,
    "json": document,
    "jsonb": document,
}


def reader(type_name: str) -> Callable[[str], JsonValue]:
    """The reader of a scalar type, by PostgreSQL's internal name. Types without their own reader are text."""
    return _READERS.get(type_name, str)
