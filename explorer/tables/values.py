"""What is a table before it is built? Its name, its columns and their SQL, as plain values.

A provider plans them, from the discovered structure and the profile of raw rows where tables differ between tenants; `naming`,
`parts` and `column_types` name and type their columns, `select` writes their SQL, and `engine` builds them.
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
    """SQL of the value as it came, from the row's JSON. Without it, and without `value`, the column is selected unchanged."""
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
class Rows:
    """Where the rows of a table come from.

    `relation`: the raw table, or the table of this tenant, whose rows are read, under the name `source`, as far as they meet the
    condition `where`; a change is applied by reading only the changed ones among them. `key`: the column of `source` that names
    the record, which the built table has too. `queries`: name and SQL of queries that follow on `source`, in order; the last one
    (`source` where there is none) has the rows that columns are computed from. `is_recursive`: one of them reads itself.

    Other tables are named plainly: the engine's sessions find the tenant's tables and raw tables by their names alone. A table
    that no single relation's records make up has no `relation` and no `key`: then the first query reads what it needs, and the
    table is always built as a whole.
    """

    relation: str | None
    key: str = ""
    where: str = ""
    queries: tuple[tuple[str, str], ...] = ()
    is_recursive: bool = False


@dataclass(frozen=True)
class TableSpec:
    """One table of one row per record of the source, or of a part of one.

    `kind`: the provider's word for this kind of table, `mart` where every tenant has it; `source`: the part of the source that it
    is made from; `key`: the columns that identify a row; `inputs`: the raw tables that it is made from, also through other
    tables; `reads`: the tables that are built before it; `document`: the JSON column of its rows that paths start from; `group`:
    the value that selects its rows among the records, None where it has all of them; `indexes`: columns with an index, beside the
    key's first one; `parents`: what its columns refer to; `part`: 2 and higher for tables that continue one with too many
    columns, joined by `key`; `origin`: where it comes from, in fields of `contract.materializations.ListedTable`.
    """

    name: str
    kind: str
    source: str
    description: str
    columns: tuple[ColumnSpec, ...]
    rows: Rows = field(repr=False)
    key: tuple[str, ...]
    inputs: frozenset[str]
    reads: tuple[str, ...] = ()
    document: str = "record"
    group: str | None = None
    indexes: tuple[str, ...] = ()
    parents: tuple[Parent, ...] = ()
    origin: Mapping[str, Any] = field(default_factory=dict)
    part: int = 1

    @property
    def counts_unfit_values(self) -> bool:
        """Whether the table lists the unfit columns of each row, in the column `unfit_columns`."""
        return any(column.name == UNFIT for column in self.columns)
