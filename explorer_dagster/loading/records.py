"""How does a page of API records become rows that Postgres can hold? Undecoded JSON plus a few typed key columns.

Only the key columns are decoded; the record itself goes on as the server sent it. What Postgres cannot hold is repaired and
counted, or the record is set aside with a reason:

- `\\u0000`, lone surrogates and invalid UTF-8 in the text are replaced by U+FFFD;
- a key value of another type than the column's becomes NULL;
- a record that is no object, has no usable primary key, is beyond jsonb's size, or holds a number beyond `numeric` is set aside.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec
from msgspec.structs import astuple

from explorer_dagster.registry import Source

# jsonb holds 256 MB at most; a key must fit into an index entry of a third of a page.
RECORD_MAX_BYTES = 255 * 1024 * 1024
KEY_MAX_BYTES = 2000
# numeric: up to 131,072 digits before and 16,383 after the point (PostgreSQL manual, 8.1).
NUMBER_MAX_DIGITS = 131_000
NUMBER_MAX_SCALE = 16_000

_REPLACEMENT = b"\\ufffd"
_PAIR, _LONE = rb"u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}", rb"u[dD][89a-fA-F][0-9a-fA-F]{2}"
_ESCAPE = re.compile(rb"\\(?:(u0000)|(" + _PAIR + rb")|(" + _LONE + rb")|.)", re.DOTALL)
# Digits to 0, E to e, signs dropped: a number with an exponent of five digits, or a very long one, is then a substring search.
_NUMBER_SHAPE = bytes(ord("0") if chr(b).isdigit() else ord("e") if b in b"eE" else b for b in range(256))
_LONG_EXPONENT, _LONG_NUMBER = b"0e00000", b"0" * 1000
_BEFORE_A_NUMBER = b":,[ \t\r\n"


class Row(msgspec.Struct, frozen=True, gc=False):
    """A record ready to be written. `keys`: column values, None for NULL; `json`: the record's own text."""

    id: str
    cursor: datetime | None
    keys: tuple[str | None, ...]
    json: bytes


class Reject(msgspec.Struct, frozen=True, gc=False):
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
    if b"\\u" in body and (b"\\u0000" in body or b"\\ud" in body or b"\\uD" in body):

        def replace(match: re.Match[bytes]) -> bytes:
            nonlocal repaired
            if match[1] is None and match[3] is None:
                return match[0]
            repaired += 1
            return _REPLACEMENT

        body = _ESCAPE.sub(replace, body)
    return body, repaired


# What a column's value is in JSON when all is well. Anything else is looked at value by value.
_JSON_TYPES: dict[str, Any] = {
    "text": str | None,
    "boolean": bool | None,
    "bigint": int | None,
    "timestamp": str | None,
}


class RecordReader:
    """Reads the records of one pass over a source. Not for several threads at once.

    `constants`: values of columns that are not in the records, by column.
    """

    def __init__(self, source: Source, constants: Mapping[str, str | bool | int], losses: Losses) -> None:
        self._losses = losses
        self._from_content = source.key_from == "content"
        given = {name: typed_key(value, source.keys[name]) for name, value in constants.items() if name in source.keys}
        if self._from_content:
            given[source.primary_key] = None
        self._salt = "\0".join(f"{name}={value}" for name, value in sorted(given.items())).encode()
        fields = {column: field for field, column in source.rename.items()}
        read = [
            (column, fields.get(column, column), kind) for column, kind in source.keys.items() if column not in given
        ]
        self._names = list(dict.fromkeys(name for _, name, _ in read))
        kinds: dict[str, list[str]] = {name: [] for name in self._names}
        for _, name, kind in read:
            kinds[name].append(kind)
        self._decode = self._decoder(
            {name: _JSON_TYPES[kind[0]] if len(kind) == 1 else Any for name, kind in kinds.items()}
        )
        self._decode_any = self._decoder(dict.fromkeys(self._names, Any))
        self._constants = tuple(given.values())
        places = {column: self._names.index(name) for column, name, _ in read}
        places |= {column: len(self._names) + n for n, column in enumerate(given)}
        columns = list(source.keys)
        self._places = [places[column] for column in columns]
        # Where a decoded value is not yet the column's text.
        self._converted: list[tuple[int, str]] = [
            (columns.index(column), kind) for column, _, kind in read if kind != "text"
        ]
        self._kinds: list[tuple[int, str]] = [(columns.index(column), kind) for column, _, kind in read]
        self._id_at = columns.index(source.primary_key)
        self._cursor_at = columns.index(source.cursor.field) if source.cursor else None

    def _decoder(self, types: dict[str, Any]) -> Callable[[bytes], Any]:
        struct = msgspec.defstruct(
            "Keys",
            [(f"f{n}", kind, None) for n, kind in enumerate(types.values())],
            rename={f"f{n}": name for n, name in enumerate(types)},
            gc=False,
        )
        return msgspec.json.Decoder(struct).decode

    def read(self, raw: msgspec.Raw | bytes, *, long_numbers: bool = True) -> Row | Reject:
        """The record's row, or why it cannot be one. `long_numbers`: whether it may hold numbers beyond Postgres' range."""
        text = bytes(raw)
        if len(text) > RECORD_MAX_BYTES:
            return self._reject("the record is larger than 255 MB", text)
        kinds = self._converted
        try:
            decoded = self._decode(text)
        except msgspec.ValidationError:
            try:
                decoded, kinds = self._decode_any(text), self._kinds
            except (msgspec.DecodeError, RecursionError):
                return self._reject("the record is not a JSON object", text)
        except (msgspec.DecodeError, RecursionError):
            return self._reject("the record is not a JSON object", text)
        if long_numbers and may_hold_long_number(text) and _holds_long_number(text):
            return self._reject("a number is beyond what Postgres can hold", text)
        values = astuple(decoded) + self._constants
        keys: list[Any] = [values[place] for place in self._places]
        cursor = None
        for place, kind in kinds:
            value = keys[place]
            if value is None:
                continue
            if kind == "timestamp":
                moment = _instant(value)
                keys[place] = typed = _timestamp_text(value, moment) if moment else None
                if place == self._cursor_at:
                    cursor = moment
            else:
                keys[place] = typed = typed_key(value, kind)
            if typed is None:
                self._losses.repaired += 1
        if self._from_content:
            keys[self._id_at] = hashlib.blake2b(text, digest_size=16, key=self._salt[:64]).hexdigest()
        identity = keys[self._id_at]
        if not identity:
            return self._reject("the record has no primary key", text)
        if len(identity) > KEY_MAX_BYTES // 4 and len(identity.encode("utf-8", "surrogatepass")) > KEY_MAX_BYTES:
            return self._reject("the primary key is too long for an index", text)
        return Row(identity, cursor, tuple(keys), text)

    def _reject(self, reason: str, text: bytes) -> Reject:
        self._losses.rejected[reason] += 1
        return Reject(reason, text)


def typed_key(value: Any, kind: str) -> str | None:
    """`value` as text for a column of `kind`; None if it is none. A timestamp that names no zone is UTC."""
    match kind:
        case "boolean":
            if isinstance(value, bool):
                return "true" if value else "false"
            return {"true": "true", "false": "false"}.get(value.lower()) if isinstance(value, str) else None
        case "bigint":
            return _bigint(value)
        case "text":
            return _text(value)
        case _:
            moment = _instant(value)
            return _timestamp_text(value, moment) if moment else None


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


def _instant(value: Any) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is UTC:
            return moment
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (TypeError, ValueError, OverflowError):
        return None


def _timestamp_text(value: str, moment: datetime) -> str:
    """The text of `moment`, read from `value`. In the form that CommCare writes it is kept: isoformat() costs microseconds."""
    if len(value) == 27 and value[26] == "Z" and value[4] == value[7] == "-" and value[10] == "T" and value[19] == ".":
        return value[:26] + "+00:00"
    return moment.isoformat()


def may_hold_long_number(text: bytes) -> bool:
    """Whether JSON text, of one record or a page of them, may hold a number that Postgres cannot; a quick look."""
    shape = text.translate(_NUMBER_SHAPE, b"+-")
    found = shape.find(_LONG_EXPONENT)
    while found >= 0:
        # Ids in hexadecimal look like this as well, but follow a quote or a letter.
        start = found
        while start > 0 and shape[start - 1] in b"0.":
            start -= 1
        if start == 0 or shape[start - 1] in _BEFORE_A_NUMBER:
            return True
        found = shape.find(_LONG_EXPONENT, found + 1)
    return _LONG_NUMBER in shape


def _holds_long_number(text: bytes) -> bool:
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
