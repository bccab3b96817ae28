"""One source of a load and its table: what was read, whether it must be written, and the result.

A job that fails leaves its table unchanged and does not affect other jobs.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

import psycopg

from explorer.contract.bookkeeping.loads import LoadState
from explorer.core.errors import ExplorerError
from explorer.extract.proof import Proof
from explorer.http.errors import NotAllowed
from explorer.load.errors import LoadFailed
from explorer.load.raw.contents import Contents, Difference, RawSchema
from explorer.load.raw.load_input import ExtractEnd, LoadInput, ParentRows, RowCounts
from explorer.load.raw.table import REJECTED, RawTable
from explorer.load.raw.writer import write_table
from explorer.load.report import ResourceReport
from explorer.load.row_buffer import BufferState, RowBuffer
from explorer.postgres.connections import Connection


@dataclass(frozen=True)
class Destination:
    """Where a job writes, and what was there when the load began."""

    schema: RawSchema
    contents: Contents
    table: RawTable
    run_id: str

    @property
    def before(self) -> LoadState | None:
        """The state that the last load left."""
        return self.contents.states.get(self.table.source) if self.exists else None

    @property
    def exists(self) -> bool:
        """Whether the table existed."""
        return self.table.name in self.contents.columns


class LoadJob:
    """`error`: why nothing was written. `parent`: the job whose records supply this one's values. `proof`: finds out which
    records are gone; `note_cost`: called when the proof has ended."""

    def __init__(
        self,
        destination: Destination,
        buffer: RowBuffer,
        report: ResourceReport,
        parent: "LoadJob | None",
        proof: Proof,
        parents: Callable[[], ParentRows | None],
        note_cost: Callable[[], None],
    ) -> None:
        self.buffer, self.report = buffer, report
        self._proof, self._parents, self._note_cost = proof, parents, note_cost
        self.error: BaseException | None = None
        self._destination = destination
        self._parent = parent
        self._began = time.monotonic()
        self._difference: Difference | None = None

    @property
    def table(self) -> str:
        """The table's name."""
        return self._destination.table.name

    def needs_write(self, connection: Connection) -> bool:
        """Whether something must be written. Call it once the buffer is decided. If not, the job is done."""
        match self.buffer.wait():
            case BufferState.FAILED:
                self._fail(self.buffer.error)
                return False
            case BufferState.STREAMING:
                return True
        before, end = self._destination.before, self._end()
        difference = self._compare(connection, end)
        if difference.ids or difference.gone or self._has_new_rejects(connection):
            self._difference = difference
            return True
        if difference.state != before:
            self._destination.schema.save(
                connection, self._destination.table, difference.state, self._destination.run_id
            )
        self._done(RowCounts(live=difference.state.live_rows))
        return False

    def run(self, slots: threading.Semaphore, connect: Callable[[], Connection]) -> None:
        """Write what must be written. Call it once the buffer is decided. `slots` bounds the number of writers. Does not
        raise."""
        try:
            state = self.buffer.wait()
            if state is BufferState.FAILED:
                self._fail(self.buffer.error)
                return
            with slots, connect() as connection:
                if state is BufferState.STREAMING or self._difference or self.needs_write(connection):
                    self._write(connection, connect)
        except BaseException as error:
            self._fail(LoadFailed.because_of(error) if isinstance(error, psycopg.Error) else error)
        finally:
            self.buffer.abandon()

    def _write(self, connection: Connection, connect: Callable[[], Connection]) -> None:
        load_input = LoadInput(
            self.buffer.stream(),
            self._end,
            self._reads_all,
            self.buffer.rejects,
            self._destination.run_id,
            self._destination.contents.moment,
            connect,
            self._proof,
            self._parents,
        )
        before = self._destination.before
        difference = self._difference
        if difference:
            # All rows are needed only where missing ones are to be marked.
            is_all = difference.gone > 0
            rows = self.buffer.rows_of(self.buffer.hashes() if is_all else difference.ids)
            before = difference.state
            end = replace(self._end(), whole=is_all, repeated=())
            load_input = replace(load_input, chunks=[rows], end=lambda: end, may_be_whole=is_all, connect=None)
        self._done(write_table(self._destination.schema, connection, self._destination.table, load_input, before))

    def _compare(self, connection: Connection, end: ExtractEnd) -> Difference:
        hashes = self.buffer.hashes()
        if not self._destination.exists:
            return Difference(list(hashes), 0, LoadState(end.cursor, 0, 0, None))
        return self._destination.schema.compare(
            connection, self._destination.table, hashes, self._destination.before, end
        )

    def _has_new_rejects(self, connection: Connection) -> bool:
        rejects = self.buffer.rejects
        if not rejects.rows or rejects.ids is None or REJECTED.name not in self._destination.contents.columns:
            return rejects.rows > 0
        return not self._destination.schema.knows_rejects(connection, rejects.ids)

    def _end(self) -> ExtractEnd:
        """What the finished extract says about the whole resource."""
        extract, report = self.buffer.extract, self.report
        report.rows_landed, report.pages = extract.record_count, extract.pages
        report.repaired = extract.losses.repaired
        report.rejected, report.rejected_reasons = extract.losses.rejected.total(), dict(extract.losses.rejected)
        report.api_total, report.window_total = extract.api_total, extract.window_total
        report.complete = not report.rejected and (report.api_total is None or extract.record_count >= report.api_total)
        if self._parent:
            report.complete = report.complete and self._parent.report.complete
        return ExtractEnd(self._cursor(), self._reads_all, extract.repeated)

    @property
    def _reads_all(self) -> bool:
        return self.buffer.extract.since is None and self.buffer.extract.until is None

    def _cursor(self) -> datetime | None:
        """The highest cursor value so far; only this load's when it read from the beginning."""
        if self.buffer.extract.source.cursor is None:
            return None
        known = [self._destination.before.cursor] if self._destination.before and self.buffer.extract.since else []
        return max((moment for moment in (*known, self.buffer.latest) if moment), default=None)

    def _done(self, counts: RowCounts) -> None:
        report, cursor = self.report, self._cursor()
        report.rows_new, report.rows_changed, report.rows_deleted = counts.new, counts.changed, counts.deleted
        report.rows_total = counts.live
        proof = self._proof
        report.rows_missing, report.rows_unproven, report.missing_reason = (
            proof.present + proof.open,
            proof.open,
            proof.why,
        )
        self._note_cost()
        report.cursor_to = cursor.isoformat() if cursor else None
        report.duration_s = time.monotonic() - self._began

    def _fail(self, error: BaseException | None) -> None:
        self.error = error
        report = self.report
        report.complete = False
        report.duration_s = time.monotonic() - self._began
        if isinstance(error, NotAllowed):
            report.status, report.skipped_reason = "skipped", error.details.get("reason") or error.message
        elif isinstance(error, ExplorerError):
            report.status, report.error = "failed", error.as_dict()
        if self._destination.before:
            report.rows_total = self._destination.before.live_rows
