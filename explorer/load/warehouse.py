"""How do a source's rows become the content of its raw table? Compared, and what differs written by COPY; each table in one go.

A table that is still empty is not written twice: its rows are staged as what they will be, with their indexes, and the finished
table takes the empty one's place. Into a table with rows goes what differs, and nothing else, chunk by chunk while the walk goes
on; what is gone at the source is marked (`_deleted_at`). Either way it is one transaction: readers wait for nothing and see the
table as before or as after.

What the next load must know (`contract.bookkeeping.loads`) changes in the very transaction that changes the table.
"""

from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol

import psycopg
from psycopg import sql

from explorer.contract.bookkeeping import loads, rejected
from explorer.contract.bookkeeping.loads import LoadState
from explorer.extract.distinct import DistinctIds
from explorer.load.copy_format import (
    COPY_HEADER,
    COPY_TRAILER,
    PROVENANCE_COLUMNS,
    RECORD_COLUMN,
    BigintArray,
    PackedRow,
    RejectFile,
    TextArray,
    TimestampArray,
    keep_newest,
)
from explorer.registry import Source

DELETED_COLUMN = "_deleted_at"
_SORT_MEMORY_MB = 64
_INDEX_MEMORY_MB = 128
_LOADS_KEPT = 100
_VERSIONS_KEPT = 5
# Records that fit into a page stay in the row as they are. PostgreSQL would compress what is beyond 2 kB, which takes nearly as
# long as the rest of COPY, and undo that for each value that a query takes out of a record.
_STORED = "toast_tuple_target = 8160"
# Longer than a catalog lookup, shorter than anybody notices who comes after.
_MOVE_TIMEOUT_MS = 50
_KEY_TYPES = {"text": "text", "boolean": "boolean", "timestamp": "timestamptz", "bigint": "bigint"}

# Tells which of the rows that came are to be written, by what the table has of them: their numbers, and where those are that they
# replace. `again` is a row of this very load, which met the record before it changed.
_FIND = """
WITH came AS MATERIALIZED (
    SELECT * FROM unnest(%s::text[], %s::text[], %s::timestamptz[], %s::bigint[])
        WITH ORDINALITY AS c (id, hash, version, page, number)
),
found AS MATERIALIZED (
    SELECT c.number, t.ctid AS place, t.{deleted} IS NOT NULL AS is_marked, coalesce(t._loaded_at = {moment}, false) AS is_ours,
        coalesce({cursor}, '-infinity') > coalesce(c.version, '-infinity') AS is_older,
        {cursor} IS NOT DISTINCT FROM c.version AND t._page > c.page AS is_earlier
    FROM came c LEFT JOIN {table} t ON t.{key} = c.id::{type}
    WHERE t.{key} IS NULL OR t._content_hash IS DISTINCT FROM c.hash OR t.{deleted} IS NOT NULL
)
SELECT CASE WHEN place IS NULL THEN 'new' WHEN is_marked THEN 'revived'
    WHEN is_older OR is_ours AND is_earlier THEN 'older' WHEN is_ours THEN 'again' ELSE 'changed' END AS state,
    string_agg(number::text, ' '), coalesce(string_agg(place::text, ' '), '')
FROM found GROUP BY state
"""
# Joined by its place each row is fetched without looking for it; nobody but this load writes.
_TAKE_OUT = "DELETE FROM {table} t USING unnest(string_to_array(%s, ' ')::tid[]) AS c (place) WHERE t.ctid = c.place"

Connection = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True)
class RawTable:
    """A raw table. `columns`: the loaded ones before provenance, to their kinds (`KeyType`, or `json`); `cursor`: the column that
    tells the newer of two versions."""

    name: str
    source: str
    key: str
    columns: Mapping[str, str]
    cursor: str | None = None

    @classmethod
    def of_source(cls, source: Source) -> "RawTable":
        """The table of a source of the pipeline."""
        columns = dict(source.keys) | {RECORD_COLUMN: "json"}
        return cls(
            source.table, source.name, source.primary_key, columns, source.cursor.field if source.cursor else None
        )

    @property
    def loaded(self) -> tuple[str, ...]:
        """Columns that COPY fills, in its order."""
        return (*self.columns, *PROVENANCE_COLUMNS)


REJECTED = RawTable(rejected.TABLE, "rejected", rejected.KEY, dict.fromkeys(rejected.COLUMNS, "text"))


@dataclass(frozen=True)
class Contents:
    """What the dataset holds: columns by table, and bookmarks by source, of tables that are there.

    `moment`: what a load that begins now writes as its time. Later than that of every load that changed anything, whatever clocks
    do: what changed since some load is then a question of comparing moments.
    """

    columns: Mapping[str, frozenset[str]]
    bookmarks: Mapping[str, LoadState]
    moment: datetime

    def lacks(self, tables: Iterable[RawTable]) -> bool:
        """Whether one of `tables`, or a column of it, is not there yet."""
        return any(not {*table.loaded, DELETED_COLUMN} <= self.columns.get(table.name, set()) for table in tables)


@dataclass(frozen=True)
class Difference:
    """How rows in memory differ from their table: ids that are new there or have other content, and how many of its are gone.

    `bookmark` is what holds if nothing is written.
    """

    ids: list[str]
    gone: int
    bookmark: LoadState


@dataclass(frozen=True)
class Ending:
    """What is known once all rows came. `whole`: everything was read, so that rows of the table that did not come may be gone at
    the source; `repeated`: ids of which there are several rows."""

    cursor: datetime | None
    whole: bool
    repeated: Collection[str] = ()


@dataclass(frozen=True)
class Landed:
    """What a landing did. `changed`: rows with other content than before, or that came back; `deleted`: marked as gone."""

    new: int = 0
    changed: int = 0
    deleted: int = 0
    live: int = 0


class Prover(Protocol):
    """Who knows which records are gone (`loading.proof`). Says itself what it found; raises nothing."""

    @property
    def reads_again(self) -> bool: ...
    @property
    def limit(self) -> int: ...
    def refuse(self, missing: int, why: str) -> None: ...
    def ask(self, missing: Sequence[str], known: str | None) -> list[str]: ...
    def read_again(self) -> Iterator[list[str]]: ...
    def agrees(self, missing: int) -> bool: ...


@dataclass(frozen=True)
class Owners:
    """Records of `table` (its key `key`) that own the rows here, by their `column`. `walked`: those whose rows were read."""

    table: str
    key: str
    column: str
    walked: Collection[str]


@dataclass(frozen=True)
class Delivery:
    """What a table gets: `chunks` of rows, then `ending()`; `rejects` of the same walk land with them. `may_be_whole`: the ending
    may find that everything was read; `proof` then tells which rows of the table that did not come are gone. `finder`: opens a
    second session, for many chunks. `owners()`, at the end: rows of owners that were not read go with their owner."""

    chunks: Iterable[Sequence[PackedRow]]
    ending: Callable[[], Ending]
    may_be_whole: bool
    rejects: RejectFile
    run_id: str
    moment: datetime
    finder: Callable[[], Connection] | None = None
    proof: Prover | None = None
    owners: Callable[[], Owners | None] = lambda: None


@dataclass(frozen=True)
class _Found:
    """Rows, one per id, by what they are to the table, and the places of what it has of them."""

    rows: Mapping[str, PackedRow]
    states: Mapping[str, Sequence[PackedRow]]
    places: str


class Warehouse:
    """A tenant's raw tables in `dataset`; `<dataset>_staging` is the loader's own. Connections are in autocommit mode."""

    def __init__(self, dataset: str) -> None:
        self.dataset = dataset

    def contents(self, connection: Connection) -> Contents:
        """What is there now."""
        query = (
            "SELECT c.relname::text, array_agg(a.attname::text) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
            " WHERE c.relnamespace = to_regnamespace(%s) AND c.relkind IN ('r', 'p') AND a.attnum > 0"
            " AND NOT a.attisdropped GROUP BY 1"
        )
        columns = {name: frozenset(names) for name, names in connection.execute(query, [self.dataset])}
        bookmarks = loads.read(connection, self.dataset)
        return Contents(columns, bookmarks, loads.next_moment(connection, self.dataset))

    def compare(
        self,
        connection: Connection,
        table: RawTable,
        hashes: Mapping[str, str],
        before: LoadState | None,
        ending: Ending,
    ) -> Difference:
        """How rows, by id and content hash, differ from the table, which is there."""
        names = self._names(table, type=sql.SQL(_KEY_TYPES[table.columns[table.key]]))
        changed = connection.execute(
            sql.SQL(
                "SELECT c.id FROM unnest(%s::text[], %s::text[]) AS c (id, hash) LEFT JOIN {table} t ON t.{key} = c.id::{type}"
                " WHERE t.{key} IS NULL OR t._content_hash IS DISTINCT FROM c.hash OR t.{deleted} IS NOT NULL"
            ).format(**names),
            [TextArray(hashes), TextArray(hashes.values())],
        ).fetchall()
        ids = [identity for (identity,) in changed]
        if before and not ending.whole:
            return Difference(ids, 0, replace(before, cursor=ending.cursor))
        live, marked, gone = _row(
            connection.execute(
                sql.SQL(
                    "WITH came AS MATERIALIZED (SELECT id::{type} AS id FROM unnest(%s::text[]) AS c (id))"
                    " SELECT count(*) FILTER (WHERE t.{deleted} IS NULL), count(*) FILTER (WHERE t.{deleted} IS NOT NULL),"
                    " count(*) FILTER (WHERE t.{deleted} IS NULL AND c.id IS NULL)"
                    " FROM {table} t LEFT JOIN came c ON c.id = t.{key}"
                ).format(**names),
                [TextArray(hashes)],
            )
        )
        changed_at = before.changed_at if before else None
        return Difference(ids, gone if ending.whole else 0, LoadState(ending.cursor, live, marked, changed_at))

    def knows_rejects(self, connection: Connection, ids: list[str]) -> bool:
        """Whether all these records were set aside before."""
        query = "SELECT count(*) FROM unnest(%s::text[]) AS c (id) WHERE NOT EXISTS (SELECT FROM {table} t WHERE t.{key} = c.id)"
        return _row(connection.execute(sql.SQL(query).format(**self._names(REJECTED)), [ids])) == (0,)

    def count(self, connection: Connection, table: RawTable) -> LoadState:
        """The table's rows, counted one by one; apart, both counts come from indexes and not from the rows themselves."""
        query = "SELECT count(*), (SELECT count(*) FROM {table} WHERE {deleted} IS NOT NULL) FROM {table}"
        rows, marked = _row(connection.execute(sql.SQL(query).format(**self._names(table))))
        return LoadState(None, rows - marked, marked, None)

    def values(self, connection: Connection, table: RawTable, column: str) -> set[str]:
        """The different values of a column, of rows that are there."""
        query = "SELECT DISTINCT {column}::text FROM {table} WHERE {deleted} IS NULL AND {column} IS NOT NULL"
        names = self._names(table, column=sql.Identifier(column))
        return {value for (value,) in connection.execute(sql.SQL(query).format(**names))}

    def remember(self, connection: Connection, table: RawTable, bookmark: LoadState, run_id: str) -> None:
        """Keep `bookmark` for the next load."""
        loads.write(connection, self.dataset, table.source, table.name, bookmark, run_id)

    def land(self, connection: Connection, table: RawTable, delivery: Delivery, before: LoadState | None) -> Landed:
        """Bring `table` to what `delivery` says.

        Raises:
            ExplorerError: the delivery broke off; the table is as it was.
            psycopg.Error: so did the database.
        """
        if self._can_be_replaced(connection, table):
            return self._land_first(connection, table, delivery, before)
        with connection.transaction():
            return self._merge(connection, table, delivery, before)

    def _land_first(
        self, connection: Connection, table: RawTable, delivery: Delivery, before: LoadState | None
    ) -> Landed:
        keys = _columns(column for column in table.columns if column != RECORD_COLUMN)
        names = self._names(table, keys=keys, columns=_columns(table.loaded))
        with connection.transaction():
            rows = self._stage(connection, table, delivery)
            connection.execute(sql.SQL("ANALYZE {staged} ({keys})").format(**names))
        changed_at = delivery.moment if rows else before.changed_at if before else None
        # Committed before the move, which then is short: the wait for the disk is over.
        try:
            with connection.transaction():
                connection.execute(f"SET LOCAL lock_timeout = '{_MOVE_TIMEOUT_MS}ms'")
                connection.execute(sql.SQL("DROP TABLE {table}").format(**names))
                connection.execute(sql.SQL("ALTER TABLE {staged} SET SCHEMA {schema}").format(**names))
                self._finish(connection, table, delivery, LoadState(delivery.ending().cursor, rows, 0, changed_at))
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DependentObjectsStillExist):
            # Somebody reads the empty table this very moment, or has just built a view on it.
            with connection.transaction():
                connection.execute(sql.SQL("ALTER TABLE {table} SET ({stored})").format(**names))
                connection.execute(
                    sql.SQL("INSERT INTO {table} ({columns}) SELECT {columns} FROM {staged}").format(**names)
                )
                connection.execute(sql.SQL("DROP TABLE {staged}").format(**names))
                self._finish(connection, table, delivery, LoadState(delivery.ending().cursor, rows, 0, changed_at))
        return Landed(new=rows, live=rows)

    def _stage(self, connection: Connection, table: RawTable, delivery: Delivery) -> int:
        """Rows staged, one per id, with their indexes."""
        names = self._names(table)
        connection.execute(f"SET LOCAL work_mem = '{_SORT_MEMORY_MB}MB'")
        connection.execute(f"SET LOCAL maintenance_work_mem = '{_INDEX_MEMORY_MB}MB'")
        connection.execute(sql.SQL("DROP TABLE IF EXISTS {staged}").format(**names))
        connection.execute(sql.SQL("CREATE TABLE {staged} (LIKE {table}) WITH ({stored})").format(**names))
        # No row will be marked: afterwards the whole table would be read to find that.
        self._index_marks(connection, table, names["staged"])
        chunks = (b"".join([row.data for row in rows]) for rows in delivery.chunks)
        rows = _copy(connection, names["staged"], table, chunks, ", FREEZE")
        repeated = delivery.ending().repeated
        if repeated:
            rows -= connection.execute(self._drop_repeats(table), [TextArray(repeated)]).rowcount
        connection.execute(sql.SQL("ALTER TABLE {staged} ADD PRIMARY KEY ({key})").format(**names))
        self._index_loads(connection, table, names["staged"])
        return rows

    def _index_loads(self, connection: Connection, table: RawTable, place: sql.Composable) -> None:
        """What finds the rows of the latest loads."""
        self._index(connection, table, place, "_loaded_at", "")

    def _index_marks(self, connection: Connection, table: RawTable, place: sql.Composable) -> None:
        """What counts rows that are marked."""
        self._index(connection, table, place, DELETED_COLUMN, "WHERE {column} IS NOT NULL")

    def _index(
        self, connection: Connection, table: RawTable, place: sql.Composable, column: str, condition: str
    ) -> None:
        connection.execute(
            sql.SQL("CREATE INDEX IF NOT EXISTS {name} ON {place} ({column}) " + condition).format(
                name=sql.Identifier(f"{table.name}_{column}"), place=place, column=sql.Identifier(column)
            )
        )

    def _drop_repeats(self, table: RawTable) -> sql.Composed:
        newest = sql.SQL("{} DESC NULLS LAST, ").format(sql.Identifier(table.cursor)) if table.cursor else sql.SQL("")
        return sql.SQL(
            "DELETE FROM {staged} WHERE ctid = ANY (ARRAY(SELECT place FROM (SELECT ctid AS place, row_number() OVER"
            " (PARTITION BY {key} ORDER BY {newest}_page DESC, ctid DESC) AS version FROM {staged}"
            " WHERE {key} IN (SELECT id::{type} FROM unnest(%s::text[]) AS c (id))) v WHERE version > 1))"
        ).format(**self._names(table, newest=newest, type=sql.SQL(_KEY_TYPES[table.columns[table.key]])))

    def _merge(self, connection: Connection, table: RawTable, delivery: Delivery, before: LoadState | None) -> Landed:
        """What the rows change in the table."""
        names = self._names(table, moment=sql.Literal(delivery.moment))
        self._index_loads(connection, table, names["table"])
        self._index_marks(connection, table, names["table"])
        if delivery.may_be_whole:
            connection.execute(sql.SQL("DROP TABLE IF EXISTS {staged}").format(**names))
            connection.execute(
                sql.SQL("CREATE UNLOGGED TABLE {staged} AS SELECT {key} FROM {table} LIMIT 0").format(**names)
            )
        done = Counter[str]()
        with closing(self._found(connection, table, delivery)) as chunks:
            for found in chunks:
                done += self._replace(connection, table, delivery, found)
        ending, deleted = delivery.ending(), 0
        if ending.whole and delivery.proof:
            deleted = self._mark_gone(connection, table, delivery, delivery.proof)
        if delivery.may_be_whole:
            connection.execute(sql.SQL("DROP TABLE {staged}").format(**names))
        new, changed, revived = done["new"], done["changed"], done["revived"]
        changed_at = delivery.moment if new or changed or revived or deleted else before.changed_at if before else None
        # After a whole read rows are counted and not added up: whatever the table had, the check against the server sees it.
        if before is None or ending.whole:
            bookmark = replace(self.count(connection, table), cursor=ending.cursor, changed_at=changed_at)
        else:
            live, marked = before.live_rows + new + revived, before.deleted_rows - revived
            bookmark = LoadState(ending.cursor, live, marked, changed_at)
        self._finish(connection, table, delivery, bookmark)
        return Landed(new, changed + revived, deleted, bookmark.live_rows)

    def _mark_gone(self, connection: Connection, table: RawTable, delivery: Delivery, proof: Prover) -> int:
        """Mark rows that did not come and are proven to be gone; how many. `staged` holds the ids that came."""
        owners = delivery.owners()
        names = self._names(
            table,
            moment=sql.Literal(delivery.moment),
            type=sql.SQL(_KEY_TYPES[table.columns[table.key]]),
            read=sql.SQL("true"),
        )
        deleted = 0
        if owners:
            names |= {
                "owner": sql.Identifier("t", owners.column),
                "owners": sql.Identifier(self.dataset, owners.table),
                "owner_key": sql.Identifier("o", owners.key),
                "walked": sql.Literal(sorted(owners.walked)),
            }
            names["read"] = sql.SQL("{owner}::text = ANY({walked}::text[])").format(**names)
            gone = (
                "UPDATE {table} t SET {deleted} = {moment} FROM {owners} o WHERE t.{deleted} IS NULL AND NOT {read}"
                " AND {owner_key}::text = {owner}::text AND o.{deleted} IS NOT NULL"
            )
            deleted += connection.execute(sql.SQL(gone).format(**names)).rowcount
        missing = sql.SQL(
            "t.{deleted} IS NULL AND {read} AND NOT EXISTS (SELECT FROM {staged} s WHERE s.{key} = t.{key})"
        ).format(**names)
        names["missing"] = missing
        connection.execute(sql.SQL("ANALYZE {staged}").format(**names))
        count = sql.SQL("SELECT count(*) FROM {table} t WHERE {missing}").format(**names)
        [number] = _row(connection.execute(count))
        if not number:
            return deleted
        if proof.reads_again:
            came = sql.SQL("INSERT INTO {staged} SELECT id::{type} FROM unnest(%s::text[]) AS c (id)").format(**names)
            for ids in proof.read_again():
                connection.execute(came, [TextArray(ids)])
            [number] = _row(connection.execute(count))
            if not proof.agrees(number):
                return deleted
            mark = sql.SQL("UPDATE {table} t SET {deleted} = {moment} WHERE {missing}").format(**names)
            return deleted + connection.execute(mark).rowcount
        if number > proof.limit:
            proof.refuse(number, f"more are missing than the {proof.limit} that a load may ask for one by one")
            return deleted
        listed = sql.SQL("SELECT t.{key}::text FROM {table} t WHERE {missing}").format(**names)
        ids = [identity for (identity,) in connection.execute(listed)]
        known = connection.execute(sql.SQL("SELECT {key}::text FROM {staged} LIMIT 1").format(**names)).fetchone()
        mark = sql.SQL("UPDATE {table} t SET {deleted} = {moment} WHERE t.{key} = ANY(%s::{type}[])").format(**names)
        return deleted + connection.execute(mark, [proof.ask(ids, known[0] if known else None)]).rowcount

    def _found(self, connection: Connection, table: RawTable, delivery: Delivery) -> Generator[_Found]:
        """The chunks with what the table has of them.

        The finder's session looks a chunk up while the one before is written. It sees nothing of this load, so a chunk with ids
        that came before is looked up here, once all before it are written.
        """
        if delivery.finder is None:
            for rows in delivery.chunks:
                yield self._find(connection, table, delivery, _newest(rows))
            return
        met = DistinctIds()
        waiting: Future[_Found] | None = None
        with delivery.finder() as finder, ThreadPoolExecutor(1) as ahead:
            for rows in delivery.chunks:
                came = _newest(rows)
                comes_again = bool(met.add(list(came)))
                found = None if comes_again else ahead.submit(self._find, finder, table, delivery, came)
                if waiting:
                    yield waiting.result()
                waiting = found
                if comes_again:
                    yield self._find(connection, table, delivery, came)
            if waiting:
                yield waiting.result()

    def _find(
        self, connection: Connection, table: RawTable, delivery: Delivery, came: Mapping[str, PackedRow]
    ) -> _Found:
        names = self._names(
            table,
            type=sql.SQL(_KEY_TYPES[table.columns[table.key]]),
            cursor=sql.Identifier("t", table.cursor) if table.cursor else sql.SQL("NULL::timestamptz"),
            moment=sql.Literal(delivery.moment),
        )
        rows = list(came.values())
        arrays = [
            TextArray(came),
            TextArray([row.content_hash for row in rows]),
            TimestampArray([row.cursor for row in rows]),
            BigintArray([row.page for row in rows]),
        ]
        states: dict[str, list[PackedRow]] = {}
        replaced = []
        for state, numbers, places in connection.execute(sql.SQL(_FIND).format(**names), arrays):
            states[state] = [rows[int(number) - 1] for number in numbers.split(" ")]
            if places and state != "older":
                replaced.append(places)
        return _Found(came, states, " ".join(replaced))

    def _replace(self, connection: Connection, table: RawTable, delivery: Delivery, found: _Found) -> Counter[str]:
        """Put rows that the table does not have, or not like this, in the place of what it has; counted by what became of them.

        What is older than the table's row was overtaken by a version that came before in this walk, or is a server's answer from
        the past: only a whole read, to which no other version came, takes it.
        """
        names = self._names(table, type=sql.SQL(_KEY_TYPES[table.columns[table.key]]))
        states = dict(found.states)
        if found.places:
            connection.execute(sql.SQL(_TAKE_OUT).format(**names), [found.places])
        older = {row.id: row for row in states.pop("older", ())}
        if delivery.may_be_whole:
            if older:
                gone = (
                    "DELETE FROM {table} WHERE {key} IN (SELECT id::{type} FROM unnest(%s::text[]) AS c (id)"
                    " EXCEPT SELECT {key} FROM {staged}) RETURNING {key}::text"
                )
                taken = connection.execute(sql.SQL(gone).format(**names), [TextArray(older)]).fetchall()
                states["changed"] = [*states.get("changed", ()), *(older[identity] for (identity,) in taken)]
            note = sql.SQL("INSERT INTO {staged} SELECT id::{type} FROM unnest(%s::text[]) AS c (id)").format(**names)
            connection.execute(note, [TextArray(found.rows)])
        newer = [row.data for rows in states.values() for row in rows]
        if newer:
            _copy(connection, names["table"], table, [b"".join(newer)], "")
        return Counter({state: len(rows) for state, rows in states.items()})

    def _finish(self, connection: Connection, table: RawTable, delivery: Delivery, bookmark: LoadState) -> None:
        self.remember(connection, table, bookmark, delivery.run_id)
        if not delivery.rejects.rows:
            return
        new = replace(REJECTED, name=f"{REJECTED.name}_{table.source}")
        names = self._names(REJECTED, columns=_columns(REJECTED.loaded)) | {"staged": self._names(new)["staged"]}
        for statement in ("DROP TABLE IF EXISTS {staged}", "CREATE UNLOGGED TABLE {staged} (LIKE {table})"):
            connection.execute(sql.SQL(statement).format(**names))
        _copy(connection, names["staged"], REJECTED, delivery.rejects.chunks(), "")
        for statement in (
            "INSERT INTO {table} ({columns}) SELECT {columns} FROM {staged} ON CONFLICT DO NOTHING",
            "DROP TABLE {staged}",
        ):
            connection.execute(sql.SQL(statement).format(**names))

    def prune(self, connection: Connection) -> None:
        """Forget dlt's history but for its end: it grows with every load."""
        for name, kept in (("_dlt_loads", _LOADS_KEPT), ("_dlt_version", _VERSIONS_KEPT)):
            connection.execute(
                sql.SQL(
                    "DELETE FROM {table} WHERE inserted_at < (SELECT min(inserted_at) FROM"
                    " (SELECT inserted_at FROM {table} ORDER BY 1 DESC LIMIT {kept}) newest)"
                ).format(table=sql.Identifier(self.dataset, name), kept=sql.Literal(kept))
            )
        # The cursors' place in older versions.
        connection.execute(
            sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(self.dataset, "_dlt_pipeline_state"))
        )

    def _can_be_replaced(self, connection: Connection, table: RawTable) -> bool:
        """Whether the table is empty and no view is built on it."""
        query = (
            "SELECT NOT EXISTS (SELECT FROM {table}) AND NOT EXISTS (SELECT FROM pg_depend"
            " WHERE refclassid = 'pg_class'::regclass AND refobjid = {literal}::regclass AND classid = 'pg_rewrite'::regclass)"
        )
        names = self._names(table)
        literal = sql.Literal(names["table"].as_string(connection))
        return _row(connection.execute(sql.SQL(query).format(literal=literal, **names))) == (True,)

    def _names(self, table: RawTable, **more: sql.Composable) -> dict[str, sql.Composable]:
        return {
            "schema": sql.Identifier(self.dataset),
            "table": sql.Identifier(self.dataset, table.name),
            "staged": sql.Identifier(f"{self.dataset}_staging", table.name),
            "key": sql.Identifier(table.key),
            "deleted": sql.Identifier(DELETED_COLUMN),
            "stored": sql.SQL(_STORED),
            **more,
        }


def _newest(rows: Iterable[PackedRow]) -> dict[str, PackedRow]:
    newest: dict[str, PackedRow] = {}
    keep_newest(newest, rows)
    return newest


def _copy(connection: Connection, target: sql.Composable, table: RawTable, chunks: Iterable[bytes], option: str) -> int:
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary{})")
    with connection.cursor() as cursor:
        with cursor.copy(statement.format(target, _columns(table.loaded), sql.SQL(option))) as copy:
            copy.write(COPY_HEADER)
            for chunk in chunks:
                copy.write(chunk)
            copy.write(COPY_TRAILER)
        return cursor.rowcount


def _columns(names: Iterable[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))


def _row(cursor: psycopg.Cursor[tuple[Any, ...]]) -> tuple[Any, ...]:
    row = cursor.fetchone()
    if row is None:
        raise psycopg.DataError("the query gave no row")
    return row
