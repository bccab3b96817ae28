"""One source of a load and its table: what was read, whether it must be written, and the result.

A job that fails leaves its table unchanged and does not affect other jobs.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic

import psycopg

from explorer.contract.bookkeeping.loads import LoadState
from explorer.core.errors import ExplorerError
from explorer.extract.proof import Proof
from explorer.http.errors import NotAllowed
from explorer.load.errors import LoadFailed
from explorer.load.raw.contents import Contents, Difference, RawSchema
from explorer.load.raw.load_input import ExtractEnd, LoadInput, ParentRows, RowCounts
from explorer.load.raw.rows import AnyRow, PackedRow
from explorer.load.raw.table import RawTable
from explorer.load.report import ResourceReport
from explorer.load.row_buffer import BufferState, RowBuffer
from explorer.postgres.connections import Connection
from explorer.telemetry.traces import span


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
        return self.contents.states.get(self.table.source)


class LoadJob(ABC, Generic[AnyRow]):
    """`error`: why nothing was written. `parent`: the job whose records supply this one's values. `proof`: finds out which
    records are gone; `note_cost`: called when the proof has ended."""

    def __init__(
        self,
        destination: Destination,
        buffer: RowBuffer[AnyRow],
        report: ResourceReport,
        parent: "LoadJob[Any] | None",
        proof: Proof,
        parents: Callable[[], ParentRows | None],
        note_cost: Callable[[], None],
    ) -> None:
        self.buffer, self.report = buffer, report
        self._proof, self._parents, self._note_cost = proof, parents, note_cost
        self.error: BaseException | None = None
        self.destination = destination
        self._parent = parent
        self._began = time.monotonic()
        self.difference: Difference | None = None

    def needs_write(self, connection: Connection) -> bool:
        """Whether something must be written. Call it once the buffer is decided. If not, the job is done."""
        match self.buffer.wait():
            case BufferState.FAILED:
                self.fail(self.buffer.error)
                return False
            case BufferState.STREAMING:
                return True
        difference = self._compare(connection, self._end())
        if difference.ids or difference.gone or self._has_new_rejects(connection):
            self.difference = difference
            return True
        if difference.state != self.destination.before:
            self.destination.schema.save(connection, self.destination.table, difference.state, self.destination.run_id)
        else:
            self.destination.schema.read_again(connection, self.destination.table, self.destination.contents.moment)
        self._done(RowCounts(live=difference.state.live_rows))
        return False

    def write(self, connect: Callable[[], Connection]) -> None:
        """Write what must be written, once. Does not raise."""
        try:
            with span("load", table=self.destination.table.name), connect() as connection:
                self._done(self._write(connection, connect))
        except BaseException as error:
            self.fail(LoadFailed.because_of(error) if isinstance(error, psycopg.Error) else error)
        finally:
            self.buffer.abandon()

    @abstractmethod
    def _write(self, connection: Connection, connect: Callable[[], Connection]) -> RowCounts:
        """Write, in one transaction with the state for the next load."""

    def close(self) -> None:
        """Delete what waits on disk."""
        self.buffer.rejects.close()

    def _input(
        self,
        chunks: Iterable[Sequence[PackedRow]],
        end: Callable[[], ExtractEnd],
        may_be_whole: bool,
        connect: Callable[[], Connection] | None = None,
    ) -> LoadInput:
        run_id, moment = self.destination.run_id, self.destination.contents.moment
        rejects = self.buffer.rejects
        return LoadInput(chunks, end, may_be_whole, rejects, run_id, moment, connect, self._proof, self._parents)

    def _compare(self, connection: Connection, end: ExtractEnd) -> Difference:
        return self.destination.schema.compare(
            connection, self.destination.table, self.buffer.newest(), self.destination.before, end
        )

    def _has_new_rejects(self, connection: Connection) -> bool:
        rejects = self.buffer.rejects
        if not rejects.rows or rejects.ids is None:
            return rejects.rows > 0
        return not self.destination.schema.knows_rejects(connection, rejects.ids)

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
        known = [self.destination.before.cursor] if self.destination.before and self.buffer.extract.since else []
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

    def fail(self, error: BaseException | None) -> None:
        """End without having written anything."""
        self.error = error
        report = self.report
        report.complete = False
        report.duration_s = time.monotonic() - self._began
        if isinstance(error, NotAllowed):
            report.status, report.skipped_reason = "skipped", error.details.get("reason") or error.message
        elif isinstance(error, ExplorerError):
            report.status, report.error = "failed", error.as_dict()
        if self.destination.before:
            report.rows_total = self.destination.before.live_rows
