"""What is a table made by? Its statements; and the hash of them all, which tells whether it must be built again."""

import hashlib
import secrets
from collections.abc import Iterable, Iterator, Mapping
from graphlib import TopologicalSorter

from explorer.contract.bookkeeping.kinds import TableKind
from explorer.tables.engine.checking import has_unfit_options
from explorer.tables.lineage import FORMAT
from explorer.tables.select import select_sql
from explorer.tables.sql_text import literal, one_line, quoted
from explorer.tables.values import UNFIT, TableSpec


def parents_first(tables: Mapping[str, TableSpec]) -> list[TableSpec]:
    """The tables, each after those that it reads."""
    sorter = TopologicalSorter(
        {name: [each for each in table.reads if each in tables] for name, table in tables.items()}
    )
    return [tables[name] for name in sorter.static_order()]


def definitions(tables: Mapping[str, TableSpec]) -> dict[str, str]:
    """Hash of each table's definition, and of the definitions of what it reads."""
    found: dict[str, str] = {}
    for table in parents_first(tables):
        own = hashlib.sha256(select_sql(table).encode())
        described = [(column.name, column.description) for column in table.columns]
        read = [found.get(name) for name in table.reads]
        own.update(repr((table.description, described, table.key, indexed(table), table.parents, read)).encode())
        # Its checks find something then that no row tells.
        if unfit := [column.name for column in table.columns if has_unfit_options(table, column)]:
            own.update(repr(unfit).encode())
        found[table.name] = own.hexdigest()
    return found


def kinds_of(tables: Iterable[TableSpec]) -> dict[str, TableKind]:
    """The kind and source of each table."""
    return {table.name: TableKind(table.kind, table.source if table.source != table.name else None) for table in tables}


def lineage_version(definitions: Mapping[str, str]) -> str:
    """The version of the lineage of tables with these `definitions`."""
    return f"{FORMAT} {hashlib.sha256(repr(sorted(definitions.items())).encode()).hexdigest()}"


def indexed(table: TableSpec) -> list[str]:
    """The columns that have an index each."""
    record = [table.rows.key] if table.rows.key else []
    referring = [column for parent in table.parents for column in parent.columns]
    return list(dict.fromkeys((*table.key[:1], *record, *referring, *table.indexes)))


def comments(table: TableSpec, relation: str) -> Iterator[str]:
    """Statements that write the descriptions into the database."""
    yield f"comment on table {relation} is {literal(one_line(table.description))}"
    for column in table.columns:
        if column.description:
            yield f"comment on column {relation}.{quoted(column.name)} is {literal(one_line(column.description))}"


def indexes(table: TableSpec, relation: str) -> Iterator[str]:
    """Statements that make the indexes. Each gets a name of its own: names that PostgreSQL makes up can be equal for tables that
    are built at the same time."""
    for column in indexed(table):
        yield f"create index {_index_name(table)} on {relation} ({quoted(column)})"
    if table.counts_unfit_values:
        yield f"create index {_index_name(table)} on {relation} ({quoted(table.key[0])}) where {UNFIT} is not null"


def _index_name(table: TableSpec) -> str:
    return quoted(f"{table.name}_{secrets.token_hex(4)}")
