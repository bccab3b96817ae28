"""How does a typed record become Dagster metadata, and how is it read back?

A label that is missing, or whose value has another type than expected, reads as the field's default: runs of older versions stay
readable. A record in a list is left out when it lacks a field without default.
"""

import types
import typing
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import msgspec

ROW_COUNT = "dagster/row_count"
TABLE_NAME = "dagster/table_name"
COLUMN_SCHEMA = "dagster/column_schema"
COLUMN_LINEAGE = "dagster/column_lineage"


class Markdown(str):
    """A text that Dagster's UI renders as Markdown."""


class RunId(str):
    """The id of a run, which Dagster's UI renders as a link."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all records. A field's label is its name unless `msgspec.field(name=...)` says otherwise."""

    # Labels that are written even when their value is None. Other labels are left out then.
    written_as_null: ClassVar[frozenset[str]] = frozenset()

    def to_metadata(self) -> dict[str, Any]:
        """Label to plain value (numbers, texts, lists, dicts), in the order of the fields. Texts may be `Markdown`."""
        facts = {each.encode_name: getattr(self, each.name) for each in msgspec.structs.fields(self)}
        return {
            label: _plain(value) for label, value in facts.items() if value is not None or label in self.written_as_null
        }

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any]) -> Self:
        """Read a record. Raises TypeError where a field without default is missing."""
        values = {}
        for each in msgspec.structs.fields(cls):
            if each.encode_name in metadata:
                value = _read(metadata[each.encode_name], each.type)
                if value is not msgspec.UNSET:
                    values[each.name] = value
        return cls(**values)


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return value.to_metadata()
    # Exact types, not subclasses: Dagster's own objects are tuples.
    if type(value) in (list, tuple):
        return [_plain(each) for each in value]
    return msgspec.to_builtins(value) if isinstance(value, msgspec.Struct) else value


def _read(value: Any, expected: Any) -> Any:
    """The value as `expected`; UNSET when it has another type."""
    if isinstance(expected, types.UnionType):
        (expected,) = (each for each in typing.get_args(expected) if each is not types.NoneType)
        return None if value is None else _read(value, expected)
    if isinstance(expected, type) and issubclass(expected, Record):
        return _read_record(value, expected)
    if typing.get_origin(expected) is tuple:
        if not isinstance(value, list):
            return msgspec.UNSET
        of = typing.get_args(expected)[0]
        return tuple(found for each in value if (found := _read(each, of)) is not msgspec.UNSET)
    try:
        return msgspec.convert(value, expected)
    except msgspec.ValidationError:
        return msgspec.UNSET


def _read_record(value: Any, expected: type[Record]) -> Any:
    if not isinstance(value, dict):
        return msgspec.UNSET
    try:
        return expected.from_metadata(value)
    except TypeError:
        return msgspec.UNSET
