"""What did each run change in each table? Rows, columns and checks that turned.

A row per run and table that it changed, written in the transaction of the change. So two runs can be compared as long as the rows
are kept, whatever ran between them. dbt's models write theirs by the same hook of the dbt project as their builds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString

import msgspec
from psycopg import sql

from explorer.contract.bookkeeping.definitions import RUN_CHANGES, Connection, Schemas

# A run that changes a table twice, as an attempt of a step after another does: the first state before, the last one after.
AGAIN: LiteralString = (
    "at = excluded.at, rows_before = coalesce(known.rows_before, excluded.rows_before), rows_after = excluded.rows_after,"
    " rows_new = known.rows_new + excluded.rows_new, rows_changed = known.rows_changed + excluded.rows_changed,"
    " rows_gone = known.rows_gone + excluded.rows_gone,"
    " columns_before = coalesce(known.columns_before, excluded.columns_before),"
    " columns_after = coalesce(excluded.columns_after, known.columns_after)"
)


class RowCounts(msgspec.Struct, frozen=True):
    """Rows by the table's key: `new` and `gone` ones, and those with other values in columns that were there before too."""

    new: int
    changed: int
    gone: int


class Turned(msgspec.Struct, frozen=True, array_like=True):
    """A check whose result changed. `before`, `after`: pass, warn, fail or error; rows: that failed, None where not counted."""

    before: str
    rows_before: int | None
    after: str
    rows_after: int | None


@dataclass(frozen=True)
class Change:
    """How a table changed within a time. `times`: how many runs changed it; `counts`: sums over these, so that a row that changed
    in two of them counts twice, None where a run did not count; `rows_before`: None where the table was not there;
    `columns_before`, `columns_after`: name to type, None where they stayed."""

    name: str
    times: int
    rows_before: int | None
    rows_after: int | None
    counts: RowCounts | None
    columns_before: Mapping[str, str] | None
    columns_after: Mapping[str, str] | None
    checks: Mapping[str, Turned]


def write_turned(
    connection: Connection, schemas: Schemas, run_id: str, turned: Mapping[str, Mapping[str, Turned]]
) -> None:
    """Record which checks turned in a run, by table."""
    query = sql.SQL(
        "insert into {} as known (run_id, name, at, checks) values (%s, %s, clock_timestamp(), %s)"
        " on conflict (run_id, name) do update set at = excluded.at, checks = known.checks || excluded.checks"
    ).format(_place(schemas))
    rows = [(run_id, name, msgspec.json.encode(of).decode()) for name, of in turned.items()]
    if rows:
        with connection.cursor() as cursor:
            cursor.executemany(query, rows)


def within(connection: Connection, schemas: Schemas, after: datetime | None, until: datetime) -> list[Change]:
    """What changed after the first moment (None: ever), up to the second one, by table. The connection needs no right to
    write."""
    query = sql.SQL(
        "select name, count(*) filter (where rows_after is not null), (array_agg(rows_before order by at)"
        " filter (where rows_after is not null))[1], (array_agg(rows_after order by at desc)"
        " filter (where rows_after is not null))[1],"
        " case when bool_and(rows_new is not null) filter (where rows_after is not null)"
        " then array[sum(rows_new), sum(rows_changed), sum(rows_gone)]::bigint[] end,"
        " (array_agg(columns_before order by at) filter (where columns_after is not null))[1],"
        " (array_agg(columns_after order by at desc) filter (where columns_after is not null))[1],"
        " jsonb_agg(checks order by at) filter (where checks <> '{{}}')"
        " from {} where at > coalesce(%s, '-infinity'::timestamptz) and at <= %s group by name order by name"
    ).format(_place(schemas))
    return [
        Change(name, times, before, rows, RowCounts(*counts) if counts else None, were, are, _composed(checks or ()))
        for name, times, before, rows, counts, were, are, checks in connection.execute(query, [after, until])
    ]


def forget(connection: Connection, schemas: Schemas, before: datetime) -> None:
    """Delete what is older."""
    connection.execute(sql.SQL("delete from {} where at < %s").format(_place(schemas)), [before])


def _composed(checks: Sequence[object]) -> dict[str, Turned]:
    """The first state before and the last one after; without checks that are as they were."""
    found: dict[str, Turned] = {}
    for of_run in msgspec.convert(checks, list[dict[str, Turned]]):
        for name, now in of_run.items():
            first = found.get(name, now)
            found[name] = Turned(first.before, first.rows_before, now.after, now.rows_after)
    return {name: of for name, of in found.items() if (of.before, of.rows_before) != (of.after, of.rows_after)}


def _place(schemas: Schemas) -> sql.Identifier:
    return sql.Identifier(schemas.staging, RUN_CHANGES)
