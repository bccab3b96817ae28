"""What was each table and each dbt model built from, by which run, and what did its checks find?

One row each, written in the transaction that changes the rows: whoever reads both in one snapshot sees what belongs together.
Models write theirs by a hook of the dbt project.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import msgspec
from psycopg import sql

from explorer.contract.bookkeeping import run_changes
from explorer.contract.bookkeeping.definitions import BUILDS, IN_STAGING, RUN_CHANGES, VERSIONS, Connection, Schemas
from explorer.contract.bookkeeping.run_changes import RowCounts
from explorer.contract.bookkeeping.versions import is_there, upgrade

Kind = Literal["table", "model", "saved"]
SAVED: Kind = "saved"
"""A model that people or agents have saved."""
_READ = sql.SQL(
    "select name, kind, definition, relation::bigint, built_from, version, run_id, changed_at, rows, findings, checked from {}"
)
_READ_ALL = sql.SQL(
    "select name, kind, definition, relation::bigint, built_from, version, run_id, changed_at, rows, findings, checked,"
    " whole_version from {}"
)


class Finding(msgspec.Struct, frozen=True):
    """A check or dbt test that did not pass when it last ran. `status`: warn, fail or error; `rows`: number of failing rows or
    values, None where they could not be counted; `columns`: the same by column."""

    check: str
    status: str
    rows: int | None
    message: str | None
    columns: Mapping[str, int] | None = None


@dataclass(frozen=True)
class Build:
    """How a table came to its rows.

    `definition`: hash of all that it is made by; empty when the next run must build it as a whole. `relation`: its oid.
    `built_from`: raw table to the time of the latest change that is in the rows; of a model, also table to its version.
    `version`: grows with each change of the rows, among all tables of the tenant. `run_id`, `changed_at`: of that change.
    `rows`: None for views. `findings`: of the last checks; `checked`: table to the version that these checks saw, of itself and
    of those that it refers to; `whole_version`: the version when it was last built as a whole, which readers do not read.
    """

    kind: Kind
    definition: str
    relation: int
    built_from: Mapping[str, str]
    version: int
    run_id: str
    changed_at: datetime
    rows: int | None
    findings: tuple[Finding, ...] = ()
    checked: Mapping[str, int] | None = None
    whole_version: int | None = None


def read(connection: Connection, schemas: Schemas) -> dict[str, Build]:
    """The build of each table and model, by its name."""
    upgrade(connection, schemas.staging, IN_STAGING)
    return _builds(connection, schemas, _READ_ALL)


def read_provenance(connection: Connection, schemas: Schemas) -> dict[str, Build]:
    """The same for readers, from the columns that the version before has too: it may have written them last. Empty where nothing
    was built yet, or only by a still earlier version. The connection needs no right to write, and may be in a transaction: what
    it read before and reads afterwards in a REPEATABLE READ one belongs to these builds."""
    return _builds(connection, schemas, _READ) if is_there(connection, _place(schemas)) else {}


def _builds(connection: Connection, schemas: Schemas, query: sql.SQL) -> dict[str, Build]:
    return {
        name: Build(kind, definition, oid, built_from, version, run_id, at, rows, _findings(found), *more)
        for name, kind, definition, oid, built_from, version, run_id, at, rows, found, *more in connection.execute(
            query.format(_place(schemas))
        )
    }


def record(
    connection: Connection,
    schemas: Schemas,
    table: str,
    *,
    definition: str,
    built_from: Mapping[str, str],
    run_id: str,
    rows: int,
    whole: bool = True,
    counts: RowCounts | None = None,
    kind: Kind = "table",
    schema: str | None = None,
) -> None:
    """Record that the rows of a table of the marts schema, or of `schema`, changed, and what the run changed, in the caller's
    transaction. `whole`: it was built as a whole; otherwise `changes` tells which keys changed. `counts`: None where nobody
    counted them."""
    connection.execute(
        sql.SQL(
            "with before as (select rows, columns from {builds} where name = %(table)s), now as ("
            "select jsonb_object_agg(attname, format_type(atttypid, atttypmod)) as columns from pg_attribute"
            " where attrelid = %(relation)s::regclass and attnum > 0 and not attisdropped), noted as ("
            "insert into {changes} as known (run_id, name, at, rows_before, rows_after, rows_new, rows_changed, rows_gone,"
            " columns_before, columns_after) select %(run_id)s, %(table)s, clock_timestamp(), before.rows, %(rows)s, %(new)s,"
            " %(changed)s, %(gone)s, case when before.columns is distinct from now.columns then before.columns end,"
            " case when before.columns is distinct from now.columns then now.columns end from now left join before on true"
            " on conflict (run_id, name) do update set {again})"
            " insert into {builds} as recorded (name, kind, definition, relation, built_from, version, run_id, changed_at, rows,"
            " whole_version, columns)"
            " select %(table)s, %(kind)s, %(definition)s, %(relation)s::regclass, %(built_from)s, nextval({versions}),"
            " %(run_id)s, clock_timestamp(), %(rows)s, currval({versions}), columns from now"
            " on conflict (name) do update set kind = excluded.kind, definition = excluded.definition,"
            " relation = excluded.relation, built_from = excluded.built_from, version = excluded.version,"
            " run_id = excluded.run_id, changed_at = excluded.changed_at, rows = excluded.rows, columns = excluded.columns,"
            " whole_version = case when %(whole)s then excluded.version else recorded.whole_version end"
        ).format(
            builds=_place(schemas),
            changes=sql.Identifier(schemas.staging, RUN_CHANGES),
            again=sql.SQL(run_changes.AGAIN),
            versions=sql.Literal(sql.Identifier(schemas.staging, VERSIONS).as_string(connection)),
        ),
        {
            "table": table,
            "kind": kind,
            # No part of the text, so that a session prepares it once for all tables.
            "relation": sql.Identifier(schema or schemas.marts, table).as_string(connection),
            "definition": definition,
            "built_from": _json(built_from),
            "run_id": run_id,
            "rows": rows,
            "whole": whole,
            "new": counts.new if counts else None,
            "changed": counts.changed if counts else None,
            "gone": counts.gone if counts else None,
        },
    )


def unchanged_since(
    connection: Connection, schemas: Schemas, current: Mapping[str, tuple[str, Mapping[str, str]]]
) -> None:
    """Record for these tables that what they are made from changed, and their rows did not: table to definition, and raw table to
    time of its latest change."""
    query = sql.SQL("update {} set definition = %s, built_from = %s where name = %s").format(_place(schemas))
    with connection.cursor() as cursor:
        cursor.executemany(
            query, [(definition, _json(versions), name) for name, (definition, versions) in current.items()]
        )


def build_as_a_whole(connection: Connection, schemas: Schemas, tables: Collection[str]) -> None:
    """Mark tables for which the next run must not apply changes alone; the next `record` takes the mark away."""
    query = sql.SQL("update {} set definition = '' where name = any(%s)").format(_place(schemas))
    connection.execute(query, [list(tables)])


def write_findings(
    connection: Connection,
    schemas: Schemas,
    findings: Mapping[str, Sequence[Finding]],
    checked: Mapping[str, Mapping[str, int]] | None = None,
    *,
    run_id: str,
) -> None:
    """Replace what the checks of these tables or models found, and record which of them turned in this run; `checked`: the
    versions that they saw, by table. In the caller's transaction, if there is one."""
    query = sql.SQL("select name, findings from {} where name = any(%s)").format(_place(schemas))
    before = {name: _findings(found) for name, found in connection.execute(query, [list(findings)])}
    run_changes.write_turned(
        connection,
        schemas,
        run_id,
        {name: turned for name, found in findings.items() if (turned := _turned(before.get(name, ()), found))},
    )
    query = sql.SQL("update {} set findings = %s, checked = %s where name = %s").format(_place(schemas))
    saw = checked or {}
    with connection.cursor() as cursor:
        cursor.executemany(query, [(_json(found), _json(saw.get(name, {})), name) for name, found in findings.items()])


def _turned(before: Sequence[Finding], now: Sequence[Finding]) -> dict[str, run_changes.Turned]:
    """The checks whose status or number of failing rows is another than before."""
    was, found = ({each.check: (each.status, each.rows) for each in of} for of in (before, now))
    passed = ("pass", None)
    return {
        check: run_changes.Turned(*was.get(check, passed), *found.get(check, passed))
        for check in (was | found)
        if was.get(check, passed) != found.get(check, passed)
    }


def forget(connection: Connection, schemas: Schemas, names: Collection[str]) -> None:
    """Delete the builds of these tables or models."""
    query = sql.SQL("delete from {} where name = any(%s)").format(_place(schemas))
    connection.execute(query, [list(names)])


def _findings(found: object) -> tuple[Finding, ...]:
    return msgspec.convert(found, tuple[Finding, ...])


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _place(schemas: Schemas) -> sql.Identifier:
    return sql.Identifier(schemas.staging, BUILDS)
