"""What is a generated table, before it is built: its name, its columns and the SQL of each, as plain values.

A provider plans them from what it discovered and from what is known of the raw rows; how they are named, cast and written is
`naming`, `parts`, `column_types` and `dbt_model`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from explorer.contract.bookkeeping.lineage import Origin

Path = tuple[str, ...]
UNFIT = "unfit_columns"
"""The column in which a row names those of its columns whose value did not fit."""


class Option(msgspec.Struct, frozen=True):
    """One choice of a question. `translations`: language code to label."""

    value: str
    label: str
    translations: dict[str, str] = {}

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form of the value."""
        data: dict[str, Any] = msgspec.to_builtins(self)
        return data


class ColumnSpec(msgspec.Struct, frozen=True):
    """One column. `path`: keys below the form's root, or the case property; None for key columns. `label`, `translations`,
    `options`: the question's own words, as upstream wrote them. `question_type`: the source's name of it, None when no question
    stands behind the column. The rest is SQL, empty where it does not apply."""

    name: str
    type: str
    description: str
    path: Path | None = None
    label: str | None = None
    translations: dict[str, str] = {}
    options: tuple[Option, ...] = ()
    question_type: str | None = None
    document: str = ""
    """The JSON column of the mart that `path` leads through, where that is not the answers or properties."""
    values: dict[str, Any] = {}
    """What the values seen tell of the column, for `describe_table`; no part of the model, since it changes with each load."""
    reads: Path | None = None
    """Keys below the form's root to what a column holds that stands for no question, such as the id of a case."""
    reads_attachments: bool = False
    text: str = ""
    """The text value, of the row's JSON. Without it, and without `value`, the column is taken as it is."""
    cast: str = ""
    """The typed value; `{text}` stands for the text value."""
    value: str = ""
    """The value, of the typed columns of the row."""
    unfit: str = ""
    """Whether the value does not fit; of the typed columns, `{text}` stands for the text value."""
    origins: tuple[Origin, ...] = ()
    """What the value is computed from, where neither `path` nor the SQL tells."""


@dataclass(frozen=True)
class Parent:
    """Columns that point to rows of another table, by its key."""

    columns: Sequence[str]
    table: str
    key: str


@dataclass(frozen=True)
class TableSpec:
    """One table and its model.

    `kind`: the provider's word for this kind of table; `source`: what of the source it is made of; `key`: the column that names a
    row; `mart`, `document`: the table that it is cut from and the JSON column there; `rows_of`: the column with the record of the
    source that a row comes from; `group`: the value by which the mart is cut; `part`: 2 and on for tables that continue the one
    of the same source whose columns are too many, joined by `key`; `origin`: where it comes from, in fields of
    `contract.materializations.ListedTable`.
    """

    name: str
    kind: str
    source: str
    description: str
    columns: tuple[ColumnSpec, ...]
    sql: str = field(repr=False)
    properties: str = field(repr=False)
    """The model's dbt properties file, YAML."""
    key: str
    mart: str
    document: str
    rows_of: str
    group: str
    origin: Mapping[str, Any] = field(default_factory=dict)
    part: int = 1
    parent: Parent | None = None

    @property
    def counts_unfit_values(self) -> bool:
        """Whether the table says of each row which values did not fit, in the column `unfit_columns`."""
        return any(column.name == UNFIT for column in self.columns)
