"""What is a generated table before it is built? Its name, its columns and their SQL, as plain values.

A provider plans them from the discovered structure and the profile of raw rows; `naming`, `parts`, `column_types` and
`dbt_model` name, cast and write them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from explorer.contract.bookkeeping.lineage import Origin

Path = tuple[str, ...]
UNFIT = "unfit_columns"
"""The column in which a row lists its columns with unfit values."""


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
    `options`: the question's own texts, as upstream wrote them. `question_type`: the source's type name, None for columns
    without a question. The rest is SQL, empty where it does not apply."""

    name: str
    type: str
    description: str
    path: Path | None = None
    label: str | None = None
    translations: dict[str, str] = {}
    options: tuple[Option, ...] = ()
    question_type: str | None = None
    document: str = ""
    """The JSON column of the mart that `path` starts from, if that is not the one of answers or properties."""
    values: dict[str, Any] = {}
    """Facts from the values, for `describe_table`; not part of the model, since they change with each load."""
    reads: Path | None = None
    """Path below the form's root for a column without a question, such as the id of a case."""
    reads_attachments: bool = False
    text: str = ""
    """The text value, from the row's JSON. Without it, and without `value`, the column is selected unchanged."""
    cast: str = ""
    """The typed value; `{text}` stands for the text value."""
    value: str = ""
    """The value, computed from typed columns of the row."""
    unfit: str = ""
    """Condition for an unfit value, on typed columns; `{text}` stands for the text value."""
    origins: tuple[Origin, ...] = ()
    """Origins of the value, where neither `path` nor the SQL names them."""


@dataclass(frozen=True)
class Parent:
    """Columns that refer to rows of another table, by its key."""

    columns: Sequence[str]
    table: str
    key: str


@dataclass(frozen=True)
class TableSpec:
    """One table and its model.

    `kind`: the provider's word for this kind of table; `source`: the part of the source that it is made from; `key`: the column
    that identifies a row; `mart`, `document`: the table that it selects from and the JSON column there; `rows_of`: the column
    with the source record of a row; `group`: the value that selects its rows in the mart; `part`: 2 and higher for tables that
    continue one with too many columns, joined by `key`; `origin`: where it comes from, in fields of
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
        """Whether the table lists the unfit columns of each row, in the column `unfit_columns`."""
        return any(column.name == UNFIT for column in self.columns)
