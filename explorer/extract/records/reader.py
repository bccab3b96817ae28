"""How does a page of API records become rows that Postgres can hold? Undecoded JSON and a few typed key columns.

Only the key columns are decoded; the record is stored as the server sent it. Content that Postgres cannot hold is repaired and
counted, or the record is rejected with a reason:

- `\\u0000`, lone surrogates and invalid UTF-8 become U+FFFD;
- a key value of another type than its column becomes NULL;
- a record is rejected that is no object, has no usable primary key, or exceeds jsonb's size or the range of `numeric`.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec.structs import astuple

from explorer.extract.records.content_keys import ContentKey, OccurrenceKey, Occurrences
from explorer.extract.records.key_layout import key_layout
from explorer.extract.records.key_values import JSON_TYPES, Key, typed_key
from explorer.extract.records.long_numbers import holds_long_number, may_hold_long_number
from explorer.registry import Source

# jsonb holds 256 MB at most; a key must fit into an index entry of a third of a page.
RECORD_MAX_BYTES = 255 * 1024 * 1024
KEY_MAX_BYTES = 2000


class Row(msgspec.Struct, frozen=True, gc=False):
    """A record ready to be written. `keys`: column values, None for NULL; `json`: the record's text. Datetimes are in UTC."""

    id: str
    cursor: datetime | None
    keys: tuple[Key | None, ...]
    json: bytes


class Reject(msgspec.Struct, frozen=True, gc=False):
    """A rejected record and the reason in words."""

    reason: str
    json: bytes


@dataclass
class Losses:
    """What was repaired or rejected, counted over an extract."""

    repaired: int = 0
    rejected: Counter[str] = field(default_factory=Counter)


class RecordReader:
    """Reads the records of one pass over a source. Not thread-safe.

    `constants`: values of columns that are not in the records, by column. `occurrences`: of the whole extract, for keys that
    count equal records.
    """

    def __init__(
        self,
        source: Source,
        constants: Mapping[str, str | bool | int],
        losses: Losses,
        occurrences: Occurrences | None = None,
    ) -> None:
        self._losses = losses
        given = {name: typed_key(value, source.keys[name]) for name, value in constants.items() if name in source.keys}
        if source.key_from != "field":
            given[source.primary_key] = None
        salt = "\0".join(f"{name}={value}" for name, value in sorted(given.items())).encode()
        self._made_key = _made_key(source, salt, occurrences)
        self._layout = key_layout(source, given)
        fields = self._layout.fields
        self._decode = self._decoder(
            {name: JSON_TYPES[kinds[0]] if len(kinds) == 1 else Any for name, kinds in fields.items()}
        )
        self._decode_any = self._decoder(dict.fromkeys(fields, Any))
        self._constants = tuple(given.values())
        columns = list(source.keys)
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
        """The record's row, or why it is rejected. `long_numbers`: whether it may hold numbers beyond Postgres' range."""
        layout = self._layout
        text = bytes(raw)
        if len(text) > RECORD_MAX_BYTES:
            return self._reject("the record is larger than 255 MB", text)
        untyped = layout.untyped
        try:
            decoded = self._decode(text)
        except msgspec.ValidationError:
            try:
                decoded, untyped = self._decode_any(text), layout.kinds
            except (msgspec.DecodeError, RecursionError):
                return self._reject("the record is not a JSON object", text)
        except (msgspec.DecodeError, RecursionError):
            return self._reject("the record is not a JSON object", text)
        if long_numbers and may_hold_long_number(text) and holds_long_number(text):
            return self._reject("a number is beyond what Postgres can hold", text)
        keys = astuple(decoded) + self._constants
        if layout.in_order:
            keys = layout.in_order(keys)
        if not untyped:
            # A loop: `any` over a generator takes five times as long, for every record.
            for place in layout.timestamps:
                if keys[place] is not None and keys[place].tzinfo is not UTC:
                    untyped = layout.kinds
        if untyped:
            keys = self._typed(keys, untyped)
        if self._made_key:
            identity = self._made_key.of(text)
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


def _made_key(source: Source, salt: bytes, occurrences: Occurrences | None) -> ContentKey | OccurrenceKey | None:
    """What makes keys for records without one."""
    match source.key_from:
        case "content":
            return ContentKey(salt)
        case "occurrence":
            return OccurrenceKey(salt, occurrences or Occurrences())
        case "field":
            return None
