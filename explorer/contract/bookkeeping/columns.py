"""Where does each column of a tenant's generated tables come from: path, label, translations, options?

Descriptions for people are the columns' comments in the database.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import msgspec
import psycopg
from psycopg import sql

from explorer.contract.bookkeeping.definitions import COLUMNS, IN_STAGING, Connection, Schemas
from explorer.contract.bookkeeping.versions import upgrade
from explorer.core.jsonb import storable


class OptionFacts(TypedDict, total=False):
    """A choice of a question. `translations`: language to label."""

    value: str
    label: str
    translations: dict[str, str]


class ColumnFacts(TypedDict, total=False):
    """Facts of one column; a key that does not apply is missing.

    `path`: keys within the source's record; `values`: why the column is text (`{are, fitting, of, not?}`), or that the options
    do not match the data (`{options_unfit, of, such_as}`); `case_block`: path to the block whose case the column holds; `tells`:
    the columns with personal data (`table.column`) that a column of a saved model is made of.
    """

    path: list[str]
    question_type: str
    label: str
    translations: dict[str, str]
    options: list[OptionFacts]
    values: dict[str, Any]
    case_block: list[str]
    tells: list[str]


FactsOfTable = Mapping[str, ColumnFacts]
"""Column to facts."""

_NUL = "\\u0000"
_decode = msgspec.json.Decoder(dict[str, dict[str, Any]]).decode


def write(connection: Connection, schemas: Schemas, facts: Mapping[str, FactsOfTable]) -> None:
    """Store facts by table. Other tables that still exist keep theirs: a retired table keeps its rows."""
    upgrade(connection, schemas.staging, IN_STAGING)
    place = _place(schemas)
    rows = [(table, _as_json(columns)) for table, columns in facts.items()]
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(
            sql.SQL(
                "delete from {} where relation <> all(%s)"
                " and relation not in (select tablename from pg_tables where schemaname = any(%s))"
            ).format(place),
            [[table for table, _ in rows], [schemas.marts, schemas.saved]],
        )
        cursor.executemany(
            sql.SQL(
                "insert into {} as known values (%s, %s::jsonb) on conflict (relation) do update"
                " set columns = excluded.columns where known.columns <> excluded.columns"
            ).format(place),
            rows,
        )


def are_written(connection: Connection, schemas: Schemas, facts: Mapping[str, FactsOfTable]) -> bool:
    """Whether exactly these facts of these tables are stored."""
    upgrade(connection, schemas.staging, IN_STAGING)
    query = sql.SQL(
        "select count(*) from {} as known join unnest(%s::text[], %s::text[]) as given(relation, columns)"
        " on given.relation = known.relation and given.columns::jsonb = known.columns"
    ).format(_place(schemas))
    values = [list(facts), [_as_json(columns) for columns in facts.values()]]
    return connection.execute(query, values).fetchone() == (len(facts),)


def read(connection: Connection, schemas: Schemas, tables: Sequence[str]) -> dict[str, FactsOfTable]:
    """Facts of the named tables that have any. The connection is in autocommit mode and needs no right to write."""
    query = sql.SQL("select relation, columns::text from {} where relation = any(%s)").format(_place(schemas))
    try:
        return {name: _decode(columns) for name, columns in connection.execute(query, [list(tables)])}  # type: ignore[misc]
    except psycopg.errors.UndefinedTable:
        return {}


def _as_json(columns: FactsOfTable) -> str:
    """JSON that PostgreSQL accepts. Scanning every text takes ten times as long as encoding, and few texts need repair."""
    try:
        text = msgspec.json.encode(columns).decode()
    except UnicodeEncodeError:
        text = _NUL
    return json.dumps(storable(columns), ensure_ascii=True) if _NUL in text else text


def _place(schemas: Schemas) -> sql.Identifier:
    return sql.Identifier(schemas.staging, COLUMNS)
