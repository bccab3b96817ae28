"""What are the columns of a tenant's generated tables in the words of its applications? Kept in the tenant's staging schema.

Beside the tables they speak of, so that a restored or copied database explains itself: original path, label, translations and
options of each question or case property. Descriptions for people are comments of the columns themselves.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import psycopg
from psycopg import sql

from explorer.core.jsonb import storable

if TYPE_CHECKING:
    # Who only reads, as the bridge does, needs none of what makes tables.
    from explorer.tables.generate import GeneratedTable

Connection = psycopg.Connection[tuple[Any, ...]]
# Column to {path: [...], question_type?, label?, translations?: {language: label}, options?: [{value, label, translations?}],
# values?: {are, fitting, of, not?} why it is text, or {options_unfit, of, such_as} that its options are not those of the data}.
# Of a column with the case of a block: {case_block: [...]}, the path to it; `case_id` speaks for itself.
ColumnFacts = Mapping[str, Mapping[str, Any]]

_TABLE = "explorer_columns"
_NUL = "\\u0000"
_decode = msgspec.json.Decoder(dict[str, dict[str, Any]]).decode


def write(connection: Connection, prefix: str, tables: "Iterable[GeneratedTable]") -> None:
    """Keep the facts of `tables`; those of other tables that still exist stay, as a retired table keeps its rows."""
    place = sql.Identifier(f"{prefix}_staging", _TABLE)
    rows = [(table.name, _as_json(_facts(table))) for table in tables]
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(
            sql.SQL("create table if not exists {} (relation text primary key, columns jsonb not null)").format(place)
        )
        cursor.execute(
            sql.SQL(
                "delete from {} where relation <> all(%s)"
                " and relation not in (select tablename from pg_tables where schemaname = %s)"
            ).format(place),
            [[name for name, _ in rows], f"{prefix}_marts"],
        )
        cursor.executemany(
            sql.SQL(
                "insert into {} as known values (%s, %s::jsonb) on conflict (relation) do update"
                " set columns = excluded.columns where known.columns <> excluded.columns"
            ).format(place),
            rows,
        )


def read(connection: Connection, prefix: str, tables: Sequence[str]) -> dict[str, ColumnFacts]:
    """Facts of the named tables, as far as there are any; over a connection in autocommit mode."""
    query = sql.SQL("select relation, columns::text from {} where relation = any(%s)").format(
        sql.Identifier(f"{prefix}_staging", _TABLE)
    )
    try:
        return {name: _decode(columns) for name, columns in connection.execute(query, [list(tables)])}
    except psycopg.errors.UndefinedTable:
        return {}


def _facts(table: "GeneratedTable") -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for column in table.columns:
        if column.reads is not None and column.name != "case_id":
            found[column.name] = {"case_block": list(column.reads[:-1])}
        elif column.path is not None:
            options = [_filled(option.to_dict()) for option in column.options]
            facts = {"path": list(column.path), "question_type": column.question_type, "label": column.label}
            words = {"translations": dict(column.translations), "options": options, "values": column.values}
            found[column.name] = _filled({**facts, **words})
    return found


def _as_json(facts: dict[str, Any]) -> str:
    """As PostgreSQL takes it. To look into every text takes ten times as long as to write them, and hardly any is unusual."""
    try:
        text = msgspec.json.encode(facts).decode()
    except UnicodeEncodeError:
        text = _NUL
    return json.dumps(storable(facts), ensure_ascii=True) if _NUL in text else text


def _filled(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value}
