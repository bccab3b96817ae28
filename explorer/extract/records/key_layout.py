"""Which fields of a record hold its key columns, and in which order?"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from explorer.registry import Source

Values = tuple[Any, ...]


@dataclass(frozen=True)
class KeyLayout:
    """How fields of a record and constants become the key columns of a row.

    `fields`: each field of the record that is read, with the kinds of its columns; they are decoded in this order. `in_order`:
    the decoded values followed by the constants -> the values in the order of the columns; None where that order is the same.
    `kinds`: place and kind of each column that is read from the record; `untyped`: those among them whose field has several
    kinds, so that its decoded value is not converted; `timestamps`: places of decoded timestamps.
    """

    fields: Mapping[str, Sequence[str]]
    in_order: Callable[[Values], Values] | None
    kinds: Sequence[tuple[int, str]]
    untyped: Sequence[tuple[int, str]]
    timestamps: Sequence[int]


def key_layout(source: Source, constants: Collection[str]) -> KeyLayout:
    """The layout of a source's key columns. `constants`: columns that are not read from the record."""
    columns = list(source.keys)
    field_of = {column: field for field, column in source.rename.items()}
    read = {column: field_of.get(column, column) for column in columns if column not in constants}
    fields: dict[str, list[str]] = {}
    for column, field in read.items():
        fields.setdefault(field, []).append(source.keys[column])
    names = list(fields)
    places = {column: names.index(field) for column, field in read.items()}
    places |= {column: len(names) + number for number, column in enumerate(constants)}
    kinds = {column: (columns.index(column), source.keys[column]) for column in read}
    untyped = [kinds[column] for column, field in read.items() if len(fields[field]) > 1]
    timestamps = [place for place, kind in kinds.values() if kind == "timestamp" and (place, kind) not in untyped]
    return KeyLayout(
        fields, _reordering([places[column] for column in columns]), list(kinds.values()), untyped, timestamps
    )


def _reordering(order: Sequence[int]) -> Callable[[Values], Values] | None:
    return None if list(order) == list(range(len(order))) else itemgetter(*order)
