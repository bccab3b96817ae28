"""What do rows change in a table that has rows? Each chunk is looked up, and only differences are written."""

from collections import Counter
from collections.abc import Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace

from psycopg import sql

from explorer.contract.bookkeeping.loads import LoadState
from explorer.extract.distinct import DistinctIds
from explorer.load.raw import finish as ending
from explorer.load.raw import statements as sending
from explorer.load.raw.cells import BigintArray, TextArray, TimestampArray
from explorer.load.raw.contents import RawSchema
from explorer.load.raw.gone import mark_gone
from explorer.load.raw.load_input import LoadInput, RowCounts
from explorer.load.raw.rows import PackedRow, keep_newest
from explorer.load.raw.statements import TableStatements

# Compares incoming rows with the table: numbers of the rows to write, and the places (ctid) of the rows that they replace.
# `again`: the table's row is of this very load, which read the record before it changed.
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
# Joined by ctid, each row is fetched without a search; only this load writes to the table.
_TAKE_OUT = "DELETE FROM {table} t USING unnest(string_to_array(%s, ' ')::tid[]) AS c (place) WHERE t.ctid = c.place"


@dataclass(frozen=True)
class _Found:
    """Rows, one per id, by how they compare with the table, and the places of the table's versions."""

    rows: Mapping[str, PackedRow]
    states: Mapping[str, Sequence[PackedRow]]
    places: str


class Merge:
    """One load into one table that has rows, inside a transaction."""

    def __init__(
        self, schema: RawSchema, statements: TableStatements, load_input: LoadInput, before: LoadState | None
    ) -> None:
        self._schema, self._statements = schema, statements
        self._input, self._before = load_input, before

    def run(self) -> RowCounts:
        """Write the differences; see `writer.write_table`."""
        statements, load_input = self._statements, self._input
        statements.index_loads(statements.place)
        statements.index_deleted(statements.place)
        if load_input.may_be_whole:
            # The ids that were read, to find the missing ones.
            statements.execute("DROP TABLE IF EXISTS {staged}")
            statements.execute("CREATE UNLOGGED TABLE {staged} AS SELECT {key} FROM {table} LIMIT 0")
        done = Counter[str]()
        with closing(self._lookups()) as chunks:
            for found in chunks:
                done += self.write_chunk(found)
        deleted = 0
        if load_input.end().whole and load_input.proof:
            deleted = mark_gone(statements, load_input, load_input.proof)
        if load_input.may_be_whole:
            statements.execute("DROP TABLE {staged}")
        state = self._state(done, deleted)
        ending.finish(self._schema, statements, load_input, state)
        return RowCounts(done["new"], done["changed"] + done["revived"], deleted, state.live_rows)

    def _state(self, done: Counter[str], deleted: int) -> LoadState:
        before, end = self._before, self._input.end()
        new, changed, revived = done["new"], done["changed"], done["revived"]
        has_changed = new or changed or revived or deleted
        changed_at = self._input.moment if has_changed else before.changed_at if before else None
        # After a full extract rows are counted, not added up, so that the check compares the real table with the server.
        if before is None or end.whole:
            counted = self._schema.count(self._statements.connection, self._statements.table)
            return replace(counted, cursor=end.cursor, changed_at=changed_at)
        live, marked = before.live_rows + new + revived, before.deleted_rows - revived
        return LoadState(end.cursor, live, marked, changed_at)

    def _lookups(self) -> Generator[_Found]:
        """The chunks, each with the table's versions of its rows.

        A second session looks a chunk up while the one before is written. It cannot see this load's rows, so a chunk with ids
        that came before is looked up in this session, after all earlier chunks are written.
        """
        if self._input.connect is None:
            for rows in self._input.chunks:
                yield self._find(self._statements, _newest(rows))
            return
        known = DistinctIds()
        waiting: Future[_Found] | None = None
        with self._input.connect() as connection, ThreadPoolExecutor(1) as second:
            elsewhere = self._statements.over(connection)
            for rows in self._input.chunks:
                came = _newest(rows)
                is_repeated = bool(known.add(list(came)))
                found = None if is_repeated else second.submit(self._find, elsewhere, came)
                if waiting:
                    yield waiting.result()
                waiting = found
                if is_repeated:
                    yield self._find(self._statements, came)
            if waiting:
                yield waiting.result()

    def _find(self, statements: TableStatements, came: Mapping[str, PackedRow]) -> _Found:
        rows = list(came.values())
        arrays = [
            TextArray(came),
            TextArray([row.content_hash for row in rows]),
            TimestampArray([row.cursor for row in rows]),
            BigintArray([row.page for row in rows]),
        ]
        found = statements.execute(
            _FIND,
            arrays,
            cursor=statements.cursor,
            moment=sql.Literal(self._input.moment),
        )
        states: dict[str, list[PackedRow]] = {}
        replaced = []
        for state, numbers, places in found:
            states[state] = [rows[int(number) - 1] for number in numbers.split(" ")]
            if places and state != "older":
                replaced.append(places)
        return _Found(came, states, " ".join(replaced))

    def write_chunk(self, found: _Found) -> Counter[str]:
        """Write new and changed rows and replace the table's versions. Returns counts by outcome.

        A row older than the table's was overtaken by a version that came earlier in this extract, or is a stale answer of the
        server. Only a full extract that read no other version writes it.
        """
        statements = self._statements
        states = dict(found.states)
        if found.places:
            statements.execute(_TAKE_OUT, [found.places])
        older = {row.id: row for row in states.pop("older", ())}
        if self._input.may_be_whole:
            if older:
                taken = statements.execute(
                    "DELETE FROM {table} WHERE {key} IN (SELECT id::{type} FROM unnest(%s::text[]) AS c (id)"
                    " EXCEPT SELECT {key} FROM {staged}) RETURNING {key}::text",
                    [TextArray(older)],
                ).fetchall()
                states["changed"] = [*states.get("changed", ()), *(older[identity] for (identity,) in taken)]
            note = "INSERT INTO {staged} SELECT id::{type} FROM unnest(%s::text[]) AS c (id)"
            statements.execute(note, [TextArray(found.rows)])
        newer = [row.data for rows in states.values() for row in rows]
        if newer:
            sending.copy_rows(statements.connection, statements.place, statements.table, [b"".join(newer)])
        return Counter({state: len(rows) for state, rows in states.items()})


def _newest(rows: Iterable[PackedRow]) -> dict[str, PackedRow]:
    newest: dict[str, PackedRow] = {}
    keep_newest(newest, rows)
    return newest
