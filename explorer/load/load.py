"""One load of one tenant: extract the requested resources in parallel, write each table as soon as possible, and report.

A resource that fails or is not allowed does not stop the others; its own table stays unchanged.
"""

import shutil
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from queue import SimpleQueue

import psycopg

from explorer.extract.extract import Batch, Extract
from explorer.extract.proof import Proof
from explorer.http.client import ApiClient
from explorer.load.dlt_load import DltLoad
from explorer.load.errors import ResourceUnknownToPipeline
from explorer.load.load_job import Destination, LoadJob
from explorer.load.memory import return_large_blocks
from explorer.load.outcome import raise_if_all_failed
from explorer.load.raw.contents import RawSchema
from explorer.load.raw.load_input import ParentRows
from explorer.load.raw.rejects import RejectFile
from explorer.load.raw.rows import RowFormat
from explorer.load.raw.table import REJECTED, RawTable
from explorer.load.report import LoadProgress, LoadReport, ResourceReport
from explorer.load.row_buffer import BufferState, RowBuffer
from explorer.load.target import LoadTarget, database_errors, exclusive
from explorer.postgres.connections import Connection
from explorer.providers.paging import Styles
from explorer.registry import ForEach, Pipeline, Source

APPLICATION_NAME = "explorer-load"
# A tenant's login has 12 connections: each writer takes two; the load's lock, its values, dlt and the bridge need six.
_WRITERS = 3
PROOF_MAX_REQUESTS = 200
_END_OF_EXTRACT_S = 5.0
# How long a thread waits for the interpreter after its statement; with Python's default of 5 ms the database waits for parsing.
_SWITCH_S = 0.001

OnProgress = Callable[[LoadProgress], None]


@dataclass(frozen=True)
class _Order:
    """The arguments of a load."""

    target: LoadTarget
    client: ApiClient
    pipeline: Pipeline
    styles: Styles
    run_id: str
    full: bool
    folder: Path
    on_progress: OnProgress
    proof_max_requests: int


def load(
    target: LoadTarget,
    client: ApiClient,
    pipeline: Pipeline,
    resources: Sequence[str],
    *,
    styles: Styles,
    run_id: str,
    full: bool,
    work_dir: Path,
    on_progress: OnProgress,
    proof_max_requests: int = PROOF_MAX_REQUESTS,
) -> LoadReport:
    """Bring the raw tables of `resources` up to date with the server.

    `styles`: the provider's paging styles. `full`: read everything again and mark deleted rows, instead of reading only what
    changed since the stored cursor (resources without cursor are always read in full). `work_dir`: the tenant's folder for
    temporary files; it is emptied. `on_progress`: called after each page, from several threads. `proof_max_requests`: how many
    requests may be spent per resource to look for missing records.

    Raises:
        ApiError: every resource was refused or failed (the message names them all; the class is that of one of them), or the
            server cut the tenant off.
        LoadInProgress: another process loads this tenant.
        LoadFailed: the database accepted no data; no table is half changed.
    """
    sources = [_source(pipeline, name) for name in resources]
    return_large_blocks()
    sys.setswitchinterval(_SWITCH_S)
    with exclusive(target) as connection:
        folder = _fresh_folder(work_dir)
        try:
            order = _Order(target, client, pipeline, styles, run_id, full, folder, on_progress, proof_max_requests)
            return _Load(order, connection).run(sources)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


class _Load:
    def __init__(self, order: _Order, connection: Connection) -> None:
        self._order = order
        self._connection = connection
        self._started = datetime.now(UTC)
        self._schema = RawSchema(order.target.schemas)
        with database_errors():
            self._contents = self._schema.contents(connection)
        self._jobs: dict[str, LoadJob] = {}

    def run(self, sources: Sequence[Source]) -> LoadReport:
        for source in sources:
            self._jobs[source.name] = self._job(source)
        try:
            with database_errors():
                self._run_jobs()
        except BaseException:
            self._stop()
            raise
        finally:
            for job in self._jobs.values():
                job.buffer.join(_END_OF_EXTRACT_S)
                job.buffer.rejects.close()
        raise_if_all_failed({name: job.error for name, job in self._jobs.items()})
        return LoadReport({name: job.report for name, job in self._jobs.items()})

    def _job(self, source: Source) -> LoadJob:
        order = self._order
        table = RawTable.of_source(source)
        destination = Destination(self._schema, self._contents, table, order.run_id)
        cursor = destination.before.cursor if destination.before and not order.full else None
        report = ResourceReport(table=table.name, cursor_from=cursor.isoformat() if cursor else None)
        if destination.exists and not destination.before:
            with database_errors():
                report.rows_total = self._schema.count(self._connection, table).live_rows
        extract = Extract(
            order.client, source, order.styles, since=_with_overlap(source, cursor), until=self._until(source)
        )
        parent = self._jobs.get(source.for_each.source) if source.for_each else None

        def note_cost() -> None:
            usage = order.client.usage(source.name)
            report.requests, report.bytes = usage.requests, usage.bytes

        return LoadJob(
            destination,
            self._buffer(extract, parent, note_cost),
            report,
            parent,
            Proof(extract, order.proof_max_requests),
            partial(self._parents, source, extract),
            note_cost,
        )

    def _buffer(self, extract: Extract, parent: LoadJob | None, on_end: Callable[[], None]) -> RowBuffer:
        order, source, moment = self._order, extract.source, self._contents.moment

        def on_batch(batch: Batch) -> None:
            order.on_progress(LoadProgress(source.name, extract.record_count, extract.pages, batch.total))

        return RowBuffer(
            extract,
            RowFormat(source.keys, source.primary_key, order.run_id, moment),
            RejectFile(order.folder, order.run_id, moment),
            on_batch=on_batch,
            on_end=on_end,
            values=partial(self._values, source.for_each, parent) if source.for_each else None,
            collect=[
                child.for_each.key
                for child in order.pipeline.sources
                if child.for_each and child.for_each.source == source.name
            ],
        )

    def _parents(self, source: Source, extract: Extract) -> ParentRows | None:
        each = source.for_each
        if each is None:
            return None
        parent = self._order.pipeline.source(each.source)
        return ParentRows(parent.table, each.key, each.column, extract.values)

    def _run_jobs(self) -> None:
        """Write as soon as it is clear that something must be written. Only then dlt runs, and only once."""
        decided: SimpleQueue[LoadJob] = SimpleQueue()
        for job in self._jobs.values():
            job.buffer.start(partial(decided.put, job))
        undecided = list(self._jobs.values())
        to_write: list[LoadJob] = []
        while undecided:
            job = decided.get()
            undecided.remove(job)
            if job.needs_write(self._connection):
                to_write.append(job)
                if job.buffer.wait() is BufferState.STREAMING:
                    # This job waits for the database from now on. The others wait for their buffers.
                    break
        tables = [*map(RawTable.of_source, self._order.pipeline.sources), REJECTED]
        is_incomplete = self._contents.lacks(tables)
        if to_write or is_incomplete:
            self._run_dlt(tables, to_write + undecided, is_incomplete)
            self._schema.prune(self._connection)

    def _run_dlt(self, tables: Sequence[RawTable], jobs: Sequence[LoadJob], is_incomplete: bool) -> None:
        target = self._order.target
        login = {**target.conninfo(), "application_name": APPLICATION_NAME}
        slots = threading.Semaphore(_WRITERS)
        connect = partial(target.connect, application_name=APPLICATION_NAME)
        folder = self._order.folder / "dlt"
        folder.mkdir()
        load = DltLoad(self._order.pipeline.name, target.schemas.raw, login, folder, tables)
        load.run({job.table: partial(job.run, slots, connect) for job in jobs}, is_incomplete=is_incomplete)

    def _values(self, each: ForEach, parent: LoadJob | None) -> list[str]:
        """The values of a `for_each` source: from the parent's records of this load, plus those of the table unless all were
        read."""
        values: set[str] = set()
        if parent:
            values |= parent.buffer.collected(each.key)
        if parent is None or parent.buffer.extract.since is not None:
            table = RawTable.of_source(self._order.pipeline.source(each.source))
            if table.name in self._contents.columns:
                with self._order.target.connect() as connection:
                    values |= self._schema.values(connection, table, each.key)
        return sorted(values)

    def _stop(self) -> None:
        """End extracts and statements: an abandoned thread would go on with its requests and its statement."""
        for job in self._jobs.values():
            job.buffer.abandon()
        self._order.client.stop()
        with suppress(psycopg.Error):
            self._connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE usename = current_user AND application_name = %s AND pid <> pg_backend_pid()",
                [APPLICATION_NAME],
            )

    def _until(self, source: Source) -> datetime | None:
        lag_s = source.cursor.lag_s if source.cursor else 0
        return self._started - timedelta(seconds=lag_s) if lag_s else None


def _source(pipeline: Pipeline, name: str) -> Source:
    try:
        return pipeline.source(name)
    except KeyError:
        raise ResourceUnknownToPipeline(
            f"Pipeline {pipeline.name} has no resource {name!r}.",
            next_step=f"It has: {', '.join(pipeline.source_names)}.",
        ) from None


def _with_overlap(source: Source, cursor: datetime | None) -> datetime | None:
    return cursor - timedelta(seconds=source.cursor.overlap_s) if source.cursor and cursor else None


def _fresh_folder(work_dir: Path) -> Path:
    """An empty folder inside `work_dir`, without remains of a killed load."""
    folder = work_dir / "load"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)
    return folder
