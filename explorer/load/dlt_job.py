"""One source that dlt loads: which rows does dlt get, and what is written beside them?"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from explorer.load.dlt_rows import WaitingRow, WaitingRows
from explorer.load.dlt_run import TableFile
from explorer.load.load_job import LoadJob
from explorer.load.raw import finish as ending
from explorer.load.raw.cells import TextArray
from explorer.load.raw.contents import Difference
from explorer.load.raw.gone import mark_gone
from explorer.load.raw.load_input import RowCounts
from explorer.postgres.connections import Connection


class DltJob(LoadJob[WaitingRow]):
    """dlt writes the rows that differ. `write`, after dlt, marks rows that are gone and saves the state for the next load.

    The marks are one statement of ours: as rows for dlt to merge, all records that are gone would be read and written again.
    """

    def __init__(self, waiting: WaitingRows, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._waiting = waiting

    def file(self, folder: Path) -> TableFile | None:
        """The rows for dlt, in a new file of `folder`."""
        if not self.difference or not self.difference.ids:
            return None
        newest, table = self.buffer.newest(), self.destination.table
        path = folder / f"{table.name}.insert_values"
        self._waiting.write(path, [newest[identity] for identity in self.difference.ids])
        return TableFile(table, path, len(self.difference.ids))

    def close(self) -> None:
        super().close()
        self._waiting.close()

    def _write(self, connection: Connection, connect: Callable[[], Connection]) -> RowCounts:
        # Only a streaming extract has none, and dlt's rows do not stream.
        difference = cast(Difference, self.difference)
        destination, ids, new = self.destination, difference.ids, difference.new
        statements = destination.schema.statements(connection, destination.table)
        load_input = self._input([], self._end, self._reads_all)
        with connection.transaction():
            statements.index_loads(statements.place)
            statements.index_deleted(statements.place)
            deleted = 0
            if difference.gone:
                statements.execute("DROP TABLE IF EXISTS {staged}")
                statements.execute(
                    "CREATE UNLOGGED TABLE {staged} AS SELECT id::{type} AS {key} FROM unnest(%s::text[]) AS c (id)",
                    [TextArray(self.buffer.newest())],
                )
                deleted = mark_gone(statements, load_input, self._proof)
                statements.execute("DROP TABLE {staged}")
            counted = destination.schema.count(connection, destination.table)
            changed_at = load_input.moment if ids or deleted else difference.state.changed_at
            state = replace(counted, cursor=self._cursor(), changed_at=changed_at)
            ending.finish(destination.schema, statements, load_input, state)
        return RowCounts(new, len(ids) - new, deleted, state.live_rows)
