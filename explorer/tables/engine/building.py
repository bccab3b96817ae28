"""How is a table built as a whole? Beside the old one, which it replaces in the same transaction: readers see the old rows or the
new ones and never wait. A killed build leaves nothing."""

from collections.abc import Iterable
from typing import NamedTuple

import psycopg

from explorer.contract.bookkeeping import builds as build_records
from explorer.contract.bookkeeping.run_changes import RowCounts
from explorer.contract.schemas import TenantSchemas
from explorer.postgres.connections import Connection
from explorer.postgres.reader_rights import keep_rights
from explorer.tables.counting import count_changes
from explorer.tables.engine.definition import comments, indexes
from explorer.tables.select import select_sql
from explorer.tables.sql_text import quoted
from explorer.tables.values import TableSpec

# What has this name now, and whether views read it.
_THERE = """
select c.relkind, exists (
    select from pg_depend d join pg_rewrite rule on rule.oid = d.objid
    where d.classid = 'pg_rewrite'::regclass and d.refclassid = 'pg_class'::regclass and d.refobjid = c.oid
    and rule.ev_class <> c.oid
)
from pg_class c
where c.oid = to_regclass(%s)
"""

# Views of the tenant's writer that read a relation, also through other views, those that are read first: how each is dropped, and
# how it is made again with its options, comments and rights to single columns.
_VIEWS = """
with recursive reading (oid, depth) as (
    select %s::regclass::oid, 0
    union
    select rule.ev_class, reading.depth + 1
    from reading
    join pg_depend d on d.refclassid = 'pg_class'::regclass and d.refobjid = reading.oid and d.classid = 'pg_rewrite'::regclass
    join pg_rewrite rule on rule.oid = d.objid and rule.ev_class <> reading.oid
)
select
    c.relname,
    format('drop view %%I.%%I', n.nspname, c.relname),
    format(
        'create view %%I.%%I %%s as %%s', n.nspname, c.relname,
        'with (' || array_to_string(c.reloptions, ', ') || ')', pg_get_viewdef(c.oid)
    ) || coalesce((
        select string_agg(
            format('; comment on %%s is %%L', case
                when a.attnum is null then format('view %%I.%%I', n.nspname, c.relname)
                else format('column %%I.%%I.%%I', n.nspname, c.relname, a.attname)
            end, said.description), '')
        from pg_description said
        left join pg_attribute a on a.attrelid = c.oid and a.attnum = said.objsubid and said.objsubid > 0
        where said.objoid = c.oid and said.classoid = 'pg_class'::regclass
    ), '') || coalesce((
        select string_agg(
            format('; grant select (%%I) on %%I.%%I to %%s', a.attname, n.nspname, c.relname, held.grantee::regrole), '')
        from pg_attribute a cross join aclexplode(a.attacl) held
        where a.attrelid = c.oid and held.privilege_type = 'SELECT'
    ), '')
from reading
join pg_class c on c.oid = reading.oid
join pg_namespace n on n.oid = c.relnamespace
where c.relkind = 'v' and pg_get_userbyid(c.relowner) = current_user and reading.depth > 0
group by c.oid, c.relname, c.reloptions, n.nspname
order by max(reading.depth)
"""

# Waits for running readers without making new readers wait: each attempt gives up after 0.1 s.
_DROP = """
do $drop$
begin
    for attempt in 1..300 loop
        begin
            set local lock_timeout = '100ms';
            {}
            set local lock_timeout = 0;
            return;
        exception when lock_not_available then
            perform pg_sleep(0.1);
        end;
    end loop;
    raise exception 'The table is in use by long-running queries; its old rows stay.' using errcode = 'lock_not_available';
end
$drop$
"""


class View(NamedTuple):
    """A view to make again. `drop`, `make`: statements."""

    name: str
    drop: str
    make: str


class Built(NamedTuple):
    """`rows`: their number; `counts`: which of them are others than before, None where that cannot be compared; `lost`: dbt's
    views that were dropped."""

    rows: int
    counts: RowCounts | None
    lost: list[str]


def build(connection: Connection, schemas: TenantSchemas, table: TableSpec) -> Built:
    """Build the table in the caller's transaction.

    Views of the tenant's own that read the old table read the new one. If one of dbt's does not fit it any more, it is dropped,
    and dbt says so when it builds the model. Where anything else depends on the old table, that stays.

    Raises:
        psycopg.Error: it cannot be built.
    """
    place, beside = (f"{quoted(schemas.marts)}.{quoted(name)}" for name in (table.name, f"_{table.name}"))
    rows = connection.execute(f"create table {beside} as {select_sql(table)}".encode()).rowcount
    dress = "; ".join((*indexes(table, beside), *comments(table, beside), f"analyze {beside}"))
    connection.execute(dress.encode())
    counts = count_changes(connection, schemas, table, beside, rows)
    views = _drop(connection, place, beside)
    connection.execute(f"alter table {beside} rename to {quoted(table.name)}".encode())
    return Built(rows, counts, _make_again(connection, schemas, views))


def _drop(connection: Connection, place: str, successor: str) -> list[View]:
    """Drop what has this name, and the views that read it. Returns these. The successor gets its rights."""
    there = connection.execute(_THERE, [place]).fetchone()
    if there is None:
        return []
    kind, is_read = there
    keep_rights(connection, place, successor)
    if is_read:
        # A view may read several tables that are built at the same time: one after the other makes it again.
        schema = place.partition(".")[0]
        connection.execute("select pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"views of {schema}"])
    views = [View(*row) for row in connection.execute(_VIEWS, [place])] if is_read else []
    drops = [view.drop for view in reversed(views)] + [f"drop {'view' if kind == 'v' else 'table'} {place}"]
    connection.execute(_DROP.format("; ".join(drops) + ";").encode())
    return views


def _make_again(connection: Connection, schemas: TenantSchemas, views: Iterable[View]) -> list[str]:
    lost = []
    for view in views:
        try:
            with connection.transaction():
                connection.execute(view.make.encode())
        except psycopg.ProgrammingError:
            build = build_records.read_provenance(connection, schemas).get(view.name)
            if build is None or build.kind != "model":
                raise
            lost.append(view.name)
    return lost
