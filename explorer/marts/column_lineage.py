"""From which columns is each column of a tenant's models computed? Kept in the tenant's staging schema, beside the tables.

Of static models their SQL tells (`sql_lineage`), of generated ones the columns they are generated from. Lineage reaches from
tables over marts and staging views down to the raw tables, one step at a time; within JSON it names the path.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec
import psycopg
from psycopg import sql

from explorer.core.jsonb import storable

if TYPE_CHECKING:
    # Who only reads, as the bridge does, needs none of what makes tables.
    from explorer.tables.generate import GeneratedTable
    from explorer.tables.model_files import GeneratedColumn

Connection = psycopg.Connection[tuple[Any, ...]]

_TABLE = "explorer_lineage"
# Kept under no relation's name: what the rows were made from.
_VERSION = ""
# Of what is kept; another one when the same SQL tells more than before.
FORMAT = 2
_READ = re.compile(r"\b(form|metadata) (?:->>|#>>) '\{?([^'}]+)\}?'")
_POSITIONS = frozenset({"repeat_id", "repeat_index", "parent_index", "parent_repeat_id"})


class Origin(msgspec.Struct, frozen=True, order=True, array_like=True, omit_defaults=True):
    """A column of a relation; `path`: keys to the value within it, where it holds JSON."""

    table: str
    column: str
    path: tuple[str, ...] = ()


class ColumnLineage(msgspec.Struct, frozen=True, omit_defaults=True):
    """`origins`: the nearest columns it is computed from, none for a constant or a count; `expression`: how, None when the value
    is passed on or only read with its type."""

    origins: tuple[Origin, ...] = ()
    expression: str | None = None


# Relation to column to lineage; of columns that are left out it is unknown.
Lineage = dict[str, dict[str, ColumnLineage]]


def of_generated(table: "GeneratedTable") -> dict[str, ColumnLineage]:
    """All columns of a generated table, from columns of the marts `cases` or `forms`."""
    found: dict[str, tuple[Origin, ...]] = {}
    for column in table.columns:
        found[column.name] = tuple(sorted(set(_origins(table, column, found))))
    return {name: ColumnLineage(origins) for name, origins in found.items()}


def _origins(
    table: "GeneratedTable", column: "GeneratedColumn", before: Mapping[str, tuple[Origin, ...]]
) -> Iterator[Origin]:
    mart, document = ("cases", "properties") if table.kind == "case_type" else ("forms", "form")
    if column.path is not None:
        yield Origin(mart, column.document or document, column.path)
        if column.reads_attachments:
            yield Origin(mart, "attachments")
    elif column.reads is not None:
        yield Origin(mart, document, column.reads)
    elif column.name == "unfit_columns":
        yield Origin(mart, document)
    elif column.name in _POSITIONS and table.kind == "repeat":
        yield Origin(mart, document, tuple(table.source.rpartition(" ")[2].split("/")))
        if column.name.endswith("_id"):
            yield Origin(mart, "form_id")
    elif column.text:
        yield from (Origin(mart, name, tuple(keys.split(","))) for name, keys in _READ.findall(column.text))
    elif column.value:
        words = set(re.findall(r"\w+", column.value))
        yield from (origin for name, origins in before.items() if name in words for origin in origins)
    else:
        yield Origin(mart, column.name)


def write(
    connection: Connection, prefix: str, static: Lineage, tables: "Iterable[GeneratedTable]", *, version: str
) -> None:
    """Keep the lineage of static models and generated tables, unless it was made from the same `version` before; other tables
    that still exist keep theirs."""
    place, made_from = sql.Identifier(f"{prefix}_staging", _TABLE), f"{FORMAT} {version}"
    connection.execute(
        sql.SQL("create table if not exists {} (relation text primary key, columns jsonb not null)").format(place)
    )
    kept = connection.execute(
        sql.SQL("select columns from {} where relation = %s").format(place), [_VERSION]
    ).fetchone()
    if kept == (made_from,):
        return
    lineage = static | {table.name: of_generated(table) for table in tables}
    rows = [(name, _json(columns)) for name, columns in lineage.items()]
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(
            sql.SQL(
                "delete from {} where relation not in (select tablename from pg_tables where schemaname = %s)"
            ).format(place),
            [f"{prefix}_marts"],
        )
        cursor.executemany(
            sql.SQL(
                "insert into {} values (%s, %s::jsonb) on conflict (relation) do update set columns = excluded.columns"
            ).format(place),
            [*rows, (_VERSION, msgspec.json.encode(made_from).decode())],
        )


def read(connection: Connection, prefix: str) -> Lineage:
    """All that is kept; nothing before the tenant's first run."""
    place = f"{prefix}_staging.{_TABLE}"
    if connection.execute("select to_regclass(%s) is null", [place]).fetchone() == (True,):
        return {}
    query = sql.SQL("select relation, columns::text from {} where relation <> %s").format(
        sql.Identifier(f"{prefix}_staging", _TABLE)
    )
    return {
        relation: msgspec.json.decode(columns, type=dict[str, ColumnLineage])
        for relation, columns in connection.execute(query, [_VERSION])
    }


def _json(columns: Mapping[str, ColumnLineage]) -> str:
    return msgspec.json.encode(storable(msgspec.to_builtins(columns))).decode()
