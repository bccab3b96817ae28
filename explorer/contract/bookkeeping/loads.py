"""How far has each source been loaded, and when did its raw table last change? In the tenant's raw schema.

A row and its table change in the same transaction.
"""

from collections.abc import Collection
from dataclasses import astuple, dataclass
from datetime import datetime

import psycopg
from psycopg import sql

from explorer.contract.bookkeeping.definitions import IN_RAW, LOADS, Connection
from explorer.contract.bookkeeping.versions import is_there, upgrade


@dataclass(frozen=True)
class LoadState:
    """What a load leaves for the next one. `cursor`: the source is loaded up to this time; `live_rows`, `deleted_rows`: rows
    that exist upstream, and rows marked as deleted; `changed_at`: time of the last load that changed a row."""

    cursor: datetime | None
    live_rows: int
    deleted_rows: int
    changed_at: datetime | None


@dataclass(frozen=True)
class Reached:
    """How far a source is loaded. `cursor`: as in `LoadState`; `age_s`: seconds since the source was last read or looked at."""

    cursor: datetime | None
    age_s: float


@dataclass(frozen=True)
class Loaded:
    """The last load of a raw table. `live_rows`: as in `LoadState`; `changed_at`: as in `changes`; `loaded_at`: when the source
    was last read, or looked at without news."""

    live_rows: int
    changed_at: str | None
    loaded_at: datetime
    run_id: str


def read(connection: Connection, raw_schema: str) -> dict[str, LoadState]:
    """Source to state."""
    upgrade(connection, raw_schema, IN_RAW)
    query = sql.SQL("select source, cursor, live_rows, deleted_rows, changed_at from {}").format(_place(raw_schema))
    return {source: LoadState(*values) for source, *values in connection.execute(query)}


def next_moment(connection: Connection, raw_schema: str) -> datetime:
    """The time that a load which begins now writes: later than every earlier load that changed a row, even if a clock went
    back."""
    query = "select greatest(clock_timestamp(), max(changed_at) + interval '1 microsecond') from {}"
    row = connection.execute(sql.SQL(query).format(_place(raw_schema))).fetchone()
    if row is None:
        raise psycopg.DataError("an aggregate gave no row")
    moment: datetime = row[0]
    return moment


def changes(connection: Connection, raw_schema: str) -> dict[str, str]:
    """Raw table to the time of its last change, as text; tables that never changed are missing. Empty when nothing was loaded
    yet. The connection needs no right to write."""
    query = sql.SQL("select table_name, changed_at::text from {} where changed_at is not null")
    place = _place(raw_schema)
    return dict(connection.execute(query.format(place)).fetchall()) if is_there(connection, place) else {}


def loaded(connection: Connection, raw_schema: str) -> dict[str, Loaded]:
    """Raw table to its last load. Empty when nothing was loaded yet. The connection needs no right to write."""
    query = sql.SQL("select table_name, live_rows, changed_at::text, updated_at, run_id from {}")
    place = _place(raw_schema)
    if not is_there(connection, place):
        return {}
    return {table: Loaded(*of) for table, *of in connection.execute(query.format(place))}


def reached(connection: Connection, raw_schema: str) -> tuple[datetime, dict[str, Reached]]:
    """The database's time, and how far each source is loaded. Empty when nothing was loaded yet."""
    place = _place(raw_schema)
    now = connection.execute("select clock_timestamp()").fetchone()
    if now is None:
        raise psycopg.DataError("a clock gave no row")
    if not is_there(connection, place):
        return now[0], {}
    query = sql.SQL("select source, cursor, extract(epoch from %s - updated_at)::float8 from {}").format(place)
    return now[0], {source: Reached(*of) for source, *of in connection.execute(query, [now[0]])}


def looked(connection: Connection, raw_schema: str, sources: Collection[str], at: datetime) -> None:
    """Record that these sources had nothing new at that moment."""
    connection.execute(
        sql.SQL("update {} set updated_at = greatest(updated_at, %s) where source = any(%s)").format(
            _place(raw_schema)
        ),
        [at, list(sources)],
    )


def write(connection: Connection, raw_schema: str, source: str, table: str, state: LoadState, run_id: str) -> None:
    """Store the state of `source`, whose rows are in `table`."""
    connection.execute(
        sql.SQL(
            "insert into {} (source, table_name, cursor, live_rows, deleted_rows, changed_at, run_id)"
            " values (%s, %s, %s, %s, %s, %s, %s) on conflict (source) do update set table_name = excluded.table_name,"
            " cursor = excluded.cursor, live_rows = excluded.live_rows, deleted_rows = excluded.deleted_rows,"
            " changed_at = excluded.changed_at, run_id = excluded.run_id, updated_at = now()"
        ).format(_place(raw_schema)),
        [source, table, *astuple(state), run_id],
    )


def _place(raw_schema: str) -> sql.Identifier:
    return sql.Identifier(raw_schema, LOADS)
