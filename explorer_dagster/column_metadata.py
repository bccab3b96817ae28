"""How does Dagster's metadata show columns and their origins?

Dagster's UI shows the schema with its tags, but the lineage only as JSON. So each column has its origin as a tag too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import dagster as dg

from explorer.contract.bookkeeping.lineage import ColumnLineage, Origin
from explorer.tables.lineage import lineage_of_table
from explorer.tables.sql_text import shown
from explorer.tables.values import TableSpec

# A materialization lists the columns of generated tables up to this number, whole tables at a time. Measured: a column is 650
# bytes of JSON (25 when compressed) and takes 0.3 ms of CPU, in every sync; 10,000 would be 6.7 MB and 3 s.
MAX_GENERATED_COLUMNS = 600
_MAX_DESCRIPTION = 120
_MADE_FROM = "made_from"

Keys = Mapping[str, dg.AssetKey]
Types = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Columns:
    """Columns and their origins, as Dagster's own objects."""

    schema: dg.TableSchema
    lineage: dg.TableColumnLineage


def planned(table: TableSpec) -> dg.TableSchema:
    """The columns of a table that every tenant has, for its definition."""
    lineage = lineage_of_table(table)
    return dg.TableSchema(
        columns=[_column(each.name, each.type, each.description, lineage[each.name]) for each in table.columns]
    )


def of_table(table: TableSpec, types: Types, keys: Keys) -> Columns:
    """Columns of a built table. `types`: as the database has them; `keys`: relation to asset, of all that it may be made from."""
    return of_relation(types, {each.name: each.description for each in table.columns}, lineage_of_table(table), keys)


def of_relation(
    types: Types, descriptions: Mapping[str, str], lineage: Mapping[str, ColumnLineage], keys: Keys
) -> Columns:
    """Columns of a table or view, such as a dbt model."""
    columns = [_column(name, type_, descriptions.get(name), lineage.get(name)) for name, type_ in types]
    deps = {name: _deps(lineage[name], keys) for name, _ in types if name in lineage}
    return Columns(dg.TableSchema(columns=columns), dg.TableColumnLineage(deps))


def of_family(tables: Sequence[TableSpec], types: Mapping[str, Types], keys: Keys) -> Columns:
    """Columns of the tables that one asset stands for, named `<table>.<column>`. `types`: by table.

    Only the first `MAX_GENERATED_COLUMNS` are listed; the tool `get_lineage` knows all of them.
    """
    schema: list[dg.TableColumn] = []
    deps: dict[str, list[dg.TableColumnDep]] = {}
    for table in tables:
        if len(schema) + len(table.columns) > MAX_GENERATED_COLUMNS:
            continue
        lineage, sql_types = lineage_of_table(table), dict(types.get(table.name, ()))
        for column in table.columns:
            name, type_ = f"{table.name}.{column.name}", sql_types.get(column.name, column.type)
            schema.append(_column(name, type_, column.description[:_MAX_DESCRIPTION], lineage[column.name]))
            deps[name] = _deps(lineage[column.name], keys)
    return Columns(dg.TableSchema(columns=schema), dg.TableColumnLineage(deps))


def _column(name: str, type_: str, description: str | None, lineage: ColumnLineage | None) -> dg.TableColumn:
    told = ", ".join(_origin_text(origin) for origin in lineage.origins[:3]) if lineage else ""
    more = " ..." if lineage and len(lineage.origins) > 3 else ""
    return dg.TableColumn(
        name, type_, description=description or None, tags={_MADE_FROM: f"{told}{more}"} if told else None
    )


def _origin_text(origin: Origin) -> str:
    path = f" at {shown('/'.join(origin.path))}" if origin.path else ""
    return f"{origin.table}.{origin.column}{path}"


def _deps(lineage: ColumnLineage, keys: Keys) -> list[dg.TableColumnDep]:
    """Asset columns; several paths within one column are one."""
    columns = dict.fromkeys((origin.table, origin.column) for origin in lineage.origins if origin.table in keys)
    return [dg.TableColumnDep(keys[table], column) for table, column in columns]
