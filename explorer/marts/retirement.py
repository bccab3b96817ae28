"""What happens to generated tables whose source is gone? They stay for a while, marked as retired, and are then dropped.

The table's comment says since when it is retired and until when it stays; this module stores nothing else. A table whose source
comes back is built again with a normal comment.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import psycopg
from psycopg import sql

from explorer.postgres.connections import Connection

RETENTION_DAYS = 90
_SINCE = re.compile(r"Retired since ([0-9]{4}-[0-9]{2}-[0-9]{2}): ")


@dataclass(frozen=True)
class Retired:
    """A table that is no longer refreshed. `kept_by`: the views that read it, so that it outlives `dropped_after`."""

    name: str
    since: date
    kept_by: str | None = None

    @property
    def dropped_after(self) -> date:
        return self.since + timedelta(days=RETENTION_DAYS)


def retire(
    connection: Connection, schema: str, prefixes: Sequence[str], *, current: Collection[str], today: date
) -> list[Retired]:
    """Mark generated tables of the marts schema that are not `current`, and drop those whose time is over.

    `prefixes`: prefixes of the names of generated tables.

    A table with a dependent view is never dropped. One in use is left to the next run.
    """
    retired = []
    for name, comment in _generated_tables(connection, schema, prefixes):
        if name in current:
            continue
        known = _SINCE.match(comment)
        table = Retired(name, date.fromisoformat(known[1]) if known else today)
        if not known:
            _mark(connection, schema, table, comment)
        if today <= table.dropped_after:
            retired.append(table)
        elif (kept_by := _drop(connection, schema, name)) is not None:
            retired.append(Retired(name, table.since, kept_by))
    return retired


def _generated_tables(connection: Connection, schema: str, prefixes: Sequence[str]) -> list[tuple[str, str]]:
    rows = connection.execute(
        "select c.relname, coalesce(obj_description(c.oid, 'pg_class'), '') from pg_class c"
        " join pg_namespace n on n.oid = c.relnamespace where n.nspname = %s and c.relkind = 'r'"
        " and c.relname like any(%s) and c.relname not like '%%\\_\\_dbt\\_tmp' order by 1",
        [schema, [prefix.replace("_", r"\_") + "%" for prefix in prefixes]],
    )
    return [(name, comment) for name, comment in rows]


def _mark(connection: Connection, schema: str, table: Retired, comment: str) -> None:
    note = (
        f"Retired since {table.since}: the source is gone, the rows are no longer refreshed and the table is dropped after"
        f" {table.dropped_after}. It was: {comment}"
    )
    connection.execute(
        sql.SQL("comment on table {} is {}").format(sql.Identifier(schema, table.name), sql.Literal(note))
    )


def _drop(connection: Connection, schema: str, name: str) -> str | None:
    """Drop a table. Returns None, or the reason why it stays."""
    try:
        with connection.transaction():
            connection.execute("set local lock_timeout = '1s'")
            connection.execute(sql.SQL("drop table {}").format(sql.Identifier(schema, name)))
    except psycopg.errors.DependentObjectsStillExist as error:
        return (error.diag.message_detail or "another relation").splitlines()[0]
    except psycopg.errors.LockNotAvailable:
        return "a query that is running"
    return None
