"""How does a page of API records become rows that Postgres can hold? Undecoded JSON plus a few typed key columns.

Only the key columns are decoded; the record itself goes on as the server sent it. What Postgres cannot hold is repaired and
counted, or the record is set aside with a reason:

- `\\u0000`, lone surrogates and invalid UTF-8 in the text are replaced by U+FFFD;
- a key value of another type than the column's becomes NULL;
- a record that is no object, has no usable primary key, is beyond jsonb's size, or holds a number beyond `numeric` is set aside.
"""

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from explorer_dagster.registry import Pass, Source

# jsonb holds 256 MB at most; a key must fit into an index entry of a third of a page.
RECORD_MAX_BYTES = 255 * 1024 * 1024
KEY_MAX_BYTES = 2000
# numeric: up to 131,072 digits before and 16,383 after the point (PostgreSQL manual, 8.1).
NUMBER_MAX_DIGITS = 131_000
NUMBER_MAX_SCALE = 16_000

_REPLACEMENT = b"\\ufffd"
_PAIR, _LONE = rb"u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}", rb"u[dD][89a-fA-F][0-9a-fA-F]{2}"
_ESCAPE = re.compile(rb"\\(?:(u0000)|(" + _PAIR + rb")|(" + _LONE + rb")|.)", re.DOTALL)
# Digits to 0 and E to e: a number with an exponent of six digits, or a very long one, is then found by substring search.
_NUMBER_SHAPE = bytes(ord("0") if chr(b).isdigit() else ord("e") if b in b"eE" else b for b in range(256))
_LONG_NUMBERS = (b"e000000", b"e+000000", b"e-00000", b"0" * 1000)


@dataclass(frozen=True)
class Row:
    """A record ready to be written. `keys`: column values, None for NULL; `json`: the record's own text."""

    id: str
    cursor: datetime | None
    keys: tuple[str | None, ...]
    json: bytes


@dataclass(frozen=True)
class Reject:
    """A record set aside, with the reason in words."""

    reason: str
    json: bytes


@dataclass
class Losses:
    """What could not be kept as it was, counted over a walk."""

    repaired: int = 0
    rejected: Counter[str] = field(default_factory=Counter)


def repair_text(body: bytes) -> tuple[bytes, int]:
    """JSON text whose strings Postgres can hold, and how many characters were replaced for that."""
    repaired = 0
    if not body.isascii():
        try:
            body.decode("utf-8")
        except UnicodeDecodeError:
            text = body.decode("utf-8", "replace")
            repaired += text.count("\ufffd") - body.count("\ufffd".encode())
            body = text.encode("utf-8")
    if b"\\u0000" in body or b"\\ud" in body or b"\\uD" in body:

        def replace(match: re.Match[bytes]) -> bytes:
            nonlocal repaired
            if match[1] is None and match[3] is None:
                return match[0]
            repaired += 1
            return _REPLACEMENT

        body = _ESCAPE.sub(replace, body)
    return body, repaired


class RecordReader:
    """Reads the records of one pass over a source. Not for several threads at once."""

    def __init__(self, source: Source, constants: Pass, losses: Losses) -> None:
        self._constants = {name: value for name, value in constants.constants.items() if name in source.keys}
        fields = {column: field for field, column in source.rename.items()}
        self._columns = [(column, fields.get(column, column), kind) for column, kind in source.keys.items()]
        names = dict.fromkeys(json_field for column, json_field, _ in self._columns if column not in self._constants)
        self._fields = {name: f"f{position}" for position, name in enumerate(names)}
        struct = msgspec.defstruct(
            "Keys",
            [(attribute, Any, None) for attribute in self._fields.values()],
            rename={attribute: name for name, attribute in self._fields.items()},
        )
        self._decode = msgspec.json.Decoder(struct).decode
        self._id_at = list(source.keys).index(source.primary_key)
        self._cursor_at = list(source.keys).index(source.cursor.field) if source.cursor else None
        self._losses = losses

    def read(self, raw: msgspec.Raw | bytes) -> Row | Reject:
        """The record's row, or why it cannot be one."""
        text = bytes(raw)
        if len(text) > RECORD_MAX_BYTES:
            return self._reject("the record is larger than 255 MB", text)
        try:
            decoded = self._decode(text)
        except (msgspec.DecodeError, RecursionError):
            return self._reject("the record is not a JSON object", text)
        if _holds_long_number(text):
            return self._reject("a number is beyond what Postgres can hold", text)
        keys = tuple(self._key(decoded, *column) for column in self._columns)
        identity = keys[self._id_at]
        if not identity:
            return self._reject("the record has no primary key", text)
        if len(identity.encode("utf-8", "surrogatepass")) > KEY_MAX_BYTES:
            return self._reject("the primary key is too long for an index", text)
        cursor = keys[self._cursor_at] if self._cursor_at is not None else None
        return Row(identity, datetime.fromisoformat(cursor) if cursor else None, keys, text)

    def _key(self, decoded: Any, column: str, json_field: str, kind: str) -> str | None:
        value = self._constants[column] if column in self._constants else getattr(decoded, self._fields[json_field])
        if value is None:
            return None
        typed = typed_key(value, kind)
        if typed is None:
            self._losses.repaired += 1
        return typed

    def _reject(self, reason: str, text: bytes) -> Reject:
        self._losses.rejected[reason] += 1
        return Reject(reason, text)


def typed_key(value: Any, kind: str) -> str | None:
    """`value` as text for a column of `kind`; None if it is none. A timestamp that names no zone is UTC."""
    match kind:
        case "text":
            return _text(value)
        case "boolean":
            return {"true": "true", "false": "false"}.get(str(value).lower()) if isinstance(value, bool | str) else None
        case "bigint":
            return _bigint(value)
        case _:
            return _timestamp(value)


def _text(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else None


def _bigint(value: Any) -> str | None:
    try:
        number = int(value) if isinstance(value, str | int) and not isinstance(value, bool) else None
    except ValueError:
        return None
    return str(number) if number is not None and -(2**63) <= number < 2**63 else None


def _timestamp(value: Any) -> str | None:
    try:
        moment = datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
    except (TypeError, ValueError, OverflowError):
        return None


def _holds_long_number(text: bytes) -> bool:
    shape = text.translate(_NUMBER_SHAPE)
    if not any(pattern in shape for pattern in _LONG_NUMBERS):
        return False
    try:
        json.loads(text, parse_float=_check_number, parse_int=_check_number, parse_constant=_check_number)
    except (_NumberTooLong, RecursionError):
        return True
    return False


class _NumberTooLong(Exception):
    """Found inside a record."""


def _check_number(digits: str) -> None:
    try:
        number = Decimal(digits)
    except InvalidOperation:
        raise _NumberTooLong from None
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int) or number.adjusted() > NUMBER_MAX_DIGITS or exponent < -NUMBER_MAX_SCALE:
        raise _NumberTooLong
