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
from codecs import getincrementaldecoder
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from operator import itemgetter
from typing import Annotated, Any

import msgspec
from msgspec.structs import astuple

from explorer.registry import Source

# jsonb holds 256 MB at most; a key must fit into an index entry of a third of a page.
RECORD_MAX_BYTES = 255 * 1024 * 1024
KEY_MAX_BYTES = 2000
# numeric: up to 131,072 digits before and 16,383 after the point (PostgreSQL manual, 8.1).
NUMBER_MAX_DIGITS = 131_000
NUMBER_MAX_SCALE = 16_000

_REPLACEMENT = b"\\ufffd"
_CACHED_BYTES = 16 * 1024
# What may stand for something that Postgres cannot hold.
_SUSPECT = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
_PAIR = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_BAD = re.compile(rb"\\u(?:0000|[dD][89a-fA-F][0-9a-fA-F]{2})")
_ESCAPE_BYTES = 6
_BACKSLASH = ord("\\")
# Digits to 0, E to e, signs dropped: a number with an exponent of five digits, or a very long one, is then a substring search.
_NUMBER_SHAPE = bytes(ord("0") if chr(b).isdigit() else ord("e") if b in b"eE" else b for b in range(256))
_LONG_EXPONENT, _LONG_NUMBER = b"0e00000", b"0" * 1000
# Digits before an exponent that are looked through for where the number begins; with more it may be one for all that is known.
_NUMBER_LOOKED_AT = 64
_BEFORE_A_NUMBER = b":,[ \t\r\n"


Key = str | bool | int | datetime


class Row(msgspec.Struct, frozen=True, gc=False):
    """A record ready to be written. `keys`: column values, None for NULL; `json`: the record's own text. Datetimes are in UTC."""

    id: str
    cursor: datetime | None
    keys: tuple[Key | None, ...]
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
    if not body.isascii() and not _is_utf8(body):
        text = body.decode("utf-8", "replace")
        repaired += text.count("\ufffd") - body.count("\ufffd".encode())
        body = text.encode("utf-8")
    found = _unfit_escapes(body)
    if found:
        parts: list[bytes] = []
        start = 0
        for at in found:
            parts += (body[start:at], _REPLACEMENT)
            start = at + _ESCAPE_BYTES
        body = b"".join((*parts, body[start:]))
    return body, repaired + len(found)


def _is_utf8(body: bytes) -> bool:
    # Piece by piece it takes a sixth of the time: text of a whole page does not stay in the processor's cache.
    decode, whole = getincrementaldecoder("utf-8")().decode, memoryview(body)
    try:
        for start in range(0, len(body), _CACHED_BYTES):
            decode(whole[start : start + _CACHED_BYTES])
        decode(b"", True)
    except UnicodeDecodeError:
        return False
    return True


def _unfit_escapes(body: bytes) -> list[int]:
    """Where NUL and lone surrogates are escaped in JSON text. Pages hold next to none: only what may be one is looked at."""
    found, end = [], 0
    for suspect in _SUSPECT.finditer(body):
        at = before = suspect.start()
        while before and body[before - 1] == _BACKSLASH:
            before -= 1
        is_escaped = (at - before) % 2
        if at < end or is_escaped:
            continue
        if _PAIR.match(body, at):
            end = at + 2 * _ESCAPE_BYTES
        elif _BAD.match(body, at):
            found.append(at)
    return found


# What a column's value is in JSON when all is well. Anything else is looked at value by value.
_JSON_TYPES: dict[str, Any] = {
    "text": str | None,
    "boolean": bool | None,
    "bigint": Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] | None,
    "timestamp": Annotated[datetime, msgspec.Meta(tz=True)] | None,
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
        in_order = [places[column] for column in columns]
        self._in_order: Callable[[tuple[Any, ...]], tuple[Any, ...]] | None = None
        if in_order != list(range(len(places))):
            # Of a single place itemgetter gives no tuple.
            self._in_order = itemgetter(*in_order) if len(in_order) > 1 else lambda keys: (keys[in_order[0]],)
        # Where a decoded value may not yet be the column's.
        self._untyped = [(columns.index(column), kind) for column, name, kind in read if len(kinds[name]) > 1]
        self._kinds = [(columns.index(column), kind) for column, _, kind in read]
        self._timestamps = [
            place for place, kind in self._kinds if kind == "timestamp" and (place, kind) not in self._untyped
        ]
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
        untyped = self._untyped
        try:
            decoded = self._decode(text)
        except msgspec.ValidationError:
            try:
                decoded, untyped = self._decode_any(text), self._kinds
            except (msgspec.DecodeError, RecursionError):
                return self._reject("the record is not a JSON object", text)
        except (msgspec.DecodeError, RecursionError):
            return self._reject("the record is not a JSON object", text)
        if long_numbers and may_hold_long_number(text) and _holds_long_number(text):
            return self._reject("a number is beyond what Postgres can hold", text)
        keys = astuple(decoded) + self._constants
        if self._in_order:
            keys = self._in_order(keys)
        if not untyped:
            # A loop: `any` over a generator takes five times as long, and this is done for every record.
            for place in self._timestamps:
                if keys[place] is not None and keys[place].tzinfo is not UTC:
                    untyped = self._kinds
        if untyped:
            keys = self._typed(keys, untyped)
        if self._from_content:
            identity = hashlib.blake2b(text, digest_size=16, key=self._salt[:64]).hexdigest()
            keys = (*keys[: self._id_at], identity, *keys[self._id_at + 1 :])
        key = keys[self._id_at]
        if key is None or key == "":
            return self._reject("the record has no primary key", text)
        identity = str(key)
        if len(identity) > KEY_MAX_BYTES // 4 and len(identity.encode("utf-8", "surrogatepass")) > KEY_MAX_BYTES:
            return self._reject("the primary key is too long for an index", text)
        return Row(identity, keys[self._cursor_at] if self._cursor_at is not None else None, keys, text)

    def _typed(self, keys: tuple[Any, ...], untyped: Sequence[tuple[int, str]]) -> tuple[Key | None, ...]:
        typed = list(keys)
        for place, kind in untyped:
            value = keys[place]
            if value is not None and (key := typed_key(value, kind)) is not value:
                typed[place] = key
                self._losses.repaired += key is None
        return tuple(typed)

    def _reject(self, reason: str, text: bytes) -> Reject:
        self._losses.rejected[reason] += 1
        return Reject(reason, text)


def typed_key(value: Any, kind: str) -> Key | None:
    """`value` for a column of `kind`; None if it is none. A timestamp that names no zone is UTC."""
    match kind:
        case "boolean":
            if isinstance(value, bool):
                return value
            return {"true": True, "false": False}.get(value.lower()) if isinstance(value, str) else None
        case "bigint":
            return _bigint(value)
        case "text":
            return _text(value)
        case _:
            return _instant(value)


def _text(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else None


def _bigint(value: Any) -> int | None:
    try:
        number = int(value) if isinstance(value, str | int) and not isinstance(value, bool) else None
    except ValueError:
        return None
    return number if number is not None and -(2**63) <= number < 2**63 else None


def _instant(value: Any) -> datetime | None:
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (TypeError, ValueError, OverflowError):
        return None


def may_hold_long_number(text: bytes) -> bool:
    """Whether JSON text, of one record or a page of them, may hold a number that Postgres cannot; a quick look."""
    shape = text.translate(_NUMBER_SHAPE, b"+-")
    found = shape.find(_LONG_EXPONENT)
    while found >= 0:
        # Ids in hexadecimal look like this as well, but follow a quote or a letter.
        before = shape[max(0, found - _NUMBER_LOOKED_AT) : found].rstrip(b"0.")
        if not before or before[-1] in _BEFORE_A_NUMBER:
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
