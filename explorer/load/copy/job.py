"""One source with `load: copy`: how do its rows get into its table?"""

from collections.abc import Callable
from dataclasses import replace

from explorer.load.copy.writer import write_table
from explorer.load.load_job import LoadJob
from explorer.load.raw.load_input import RowCounts
from explorer.load.raw.rows import PackedRow
from explorer.postgres.connections import Connection


class CopyJob(LoadJob[PackedRow]):
    """Writes rows as they come, or those that differ when all are in memory."""

    def _write(self, connection: Connection, connect: Callable[[], Connection]) -> RowCounts:
        destination, before, difference = self.destination, self.destination.before, self.difference
        if difference:
            # All rows are needed only where missing ones are to be marked.
            is_all = difference.gone > 0
            newest = self.buffer.newest()
            rows = list(newest.values()) if is_all else [newest[identity] for identity in difference.ids]
            end = replace(self._end(), whole=is_all, repeated=())
            before = difference.state
            load_input = self._input([rows], lambda: end, is_all)
        else:
            load_input = self._input(self.buffer.stream(), self._end, self._reads_all, connect)
        return write_table(destination.schema, connection, destination.table, load_input, before)
