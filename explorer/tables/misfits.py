"""How many values of each column of the generated tables did not fit: no such number, date or time, or none of the choices?

Rows name such columns themselves, in `unfit_columns`. What was counted is kept in the tenant's staging schema for as long as the
table is the same, so that only tables built since are counted.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import psycopg
from psycopg import sql

from explorer.tables.generate import GeneratedTable
from explorer.tables.model_files import UNFIT

_TABLE = "explorer_misfits"
_AT_ONCE = 100

Connection = psycopg.Connection[tuple[Any, ...]]


def count_misfits(connection: Connection, prefix: str, tables: Iterable[GeneratedTable]) -> dict[str, dict[str, int]]:
    """Table to column to number of values, of the tables and columns that have any. Tables that were never built have none.

    Values of a text column are kept though they are none of its question's choices; those of other columns are NULL.
    """
    kept_in = sql.Identifier(f"{prefix}_staging", _TABLE)
    connection.execute(
        sql.SQL(
            "create table if not exists {} (model text primary key, relation oid not null, misfits jsonb not null)"
        ).format(kept_in)
    )
    there: dict[str, int] = dict(
        connection.execute(
            "select c.relname, c.oid::bigint from pg_class c join pg_namespace n on n.oid = c.relnamespace"
            " join pg_attribute a on a.attrelid = c.oid where n.nspname = %s and c.relkind = 'r' and a.attname = %s",
            [f"{prefix}_marts", UNFIT],
        ).fetchall()
    )
    wanted = {table.name: there[table.name] for table in tables if table.counts_misfits and table.name in there}
    rows = connection.execute(sql.SQL("select model, relation::bigint, misfits from {}").format(kept_in)).fetchall()
    counts = {model: misfits for model, relation, misfits in rows if wanted.get(model) == relation}
    new = _count(connection, f"{prefix}_marts", [name for name in wanted if name not in counts])
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(sql.SQL("delete from {} where model <> all(%s)").format(kept_in), [list(counts)])
        cursor.executemany(
            sql.SQL("insert into {} values (%s, %s, %s)").format(kept_in),
            [(name, wanted[name], json.dumps(misfits)) for name, misfits in new.items()],
        )
    return {name: misfits for name, misfits in sorted((counts | new).items()) if misfits}


def forget(connection: Connection, prefix: str, models: Iterable[str]) -> None:
    """Let these tables be counted again: their rows are about to change."""
    place = f"{prefix}_staging.{_TABLE}"
    if connection.execute("select to_regclass(%s) is not null", [place]).fetchone() == (True,):
        query = sql.SQL("delete from {} where model = any(%s)").format(sql.Identifier(f"{prefix}_staging", _TABLE))
        connection.execute(query, [list(models)])


def _count(connection: Connection, schema: str, tables: Sequence[str]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {table: {} for table in tables}
    for start in range(0, len(tables), _AT_ONCE):
        each = sql.SQL("select {}, unnest(unfit_columns), count(*) from {} where unfit_columns is not null group by 2")
        parts = (each.format(table, sql.Identifier(schema, table)) for table in tables[start : start + _AT_ONCE])
        for table, column, count in connection.execute(sql.SQL(" union all ").join(parts) + sql.SQL(" order by 1, 2")):
            found[table][column] = count
    return found
