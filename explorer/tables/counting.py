"""Which rows of a table are others than before? Counted by its key while the rows of before are still there."""

from collections.abc import Sequence

from explorer.contract.bookkeeping.run_changes import RowCounts
from explorer.contract.schemas import TenantSchemas
from explorer.postgres.connections import Connection
from explorer.tables.sql_text import quoted
from explorer.tables.values import TableSpec

# The columns of a table by name and type, in order; none of what is no table.
_COLUMNS = (
    "select a.attname::text, a.atttypid::bigint from pg_attribute a join pg_class c on c.oid = a.attrelid"
    " where c.oid = to_regclass(%s) and c.relkind = 'r' and a.attnum > 0 and not a.attisdropped order by a.attnum"
)


def counts_sql(before: str, after: str, key: Sequence[str], columns: Sequence[str]) -> str:
    """The SELECT of the number of rows that are new, changed and gone between two relations with these columns.

    Rows are compared as they are stored (`*<>`), which needs no operator of the columns' types.
    """
    listed = ", ".join(map(quoted, columns))
    was, are = (f"row({', '.join(f'{side}.{quoted(name)}' for name in columns)})::record" for side in ("was", "now"))
    same = " and ".join(f"was.{quoted(name)} = now.{quoted(name)}" for name in key)
    return (
        "select count(*) filter (where was._here is null), count(*) filter (where was._here and now._here"
        f" and {was} *<> {are}), count(*) filter (where now._here is null)"
        f" from (select true as _here, {listed} from {before}) as was"
        f" full join (select true as _here, {listed} from {after}) as now on {same}"
    )


def count_changes(
    connection: Connection, schemas: TenantSchemas, table: TableSpec, beside: str, rows: int
) -> RowCounts | None:
    """Count them for a table whose `rows` new rows lie in the table `beside`; the columns that both have are compared.

    None where the rows of before cannot be compared: a view, or a table with another key.
    """
    place = f"{quoted(schemas.marts)}.{quoted(table.name)}"
    there = connection.execute("select relkind from pg_class where oid = to_regclass(%s)", [place]).fetchone()
    if there is None:
        return RowCounts(rows, 0, 0)
    before: dict[str, int] = dict(connection.execute(_COLUMNS, [place]).fetchall())
    after: dict[str, int] = dict(connection.execute(_COLUMNS, [beside]).fetchall())
    shared = [name for name, of_type in after.items() if before.get(name) == of_type]
    if not set(table.key) <= set(shared):
        return None
    counted = connection.execute(counts_sql(place, beside, table.key, shared).encode()).fetchone()
    return RowCounts(*counted) if counted else None
