"""One load of one tenant: extract the requested resources in parallel, write each table as soon as possible, and report.

A resource that fails or is not allowed does not stop the others; its own table stays unchanged.
"""

import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import psycopg

from explorer.extract.extract import Batch, Extract
from explorer.extract.proof import Proof
from explorer.http.client import ApiClient
from explorer.load import dlt_run
from explorer.load.copy.job import CopyJob
from explorer.load.dlt_job import DltJob
from explorer.load.dlt_rows import WaitingRows
from explorer.load.errors import LoadFailed, ResourceUnknownToPipeline
from explorer.load.load_job import Destination, LoadJob
from explorer.load.outcome import raise_if_all_failed
from explorer.load.raw.contents import RawSchema
from explorer.load.raw.load_input import ParentRows
from explorer.load.raw.rejects import RejectFile
from explorer.load.raw.rows import AnyRow, Pack, RowFormat
from explorer.load.raw.table import REJECTED, RawTable
from explorer.load.report import LoadProgress, LoadReport, ResourceReport
from explorer.load.row_buffer import RowBuffer
from explorer.load.target import LoadTarget, database_errors
from explorer.postgres.connections import Connection
from explorer.providers.paging import Styles
from explorer.registry import ForEach, Pipeline, Source
from explorer.telemetry.traces import carried

APPLICATION_NAME = "explorer-load"
# A tenant's login has 12 connections: each writer takes two; the load's lock, its values, dlt and the bridge need six.
_WRITERS = 3
PROOF_MAX_REQUESTS = 200
_END_OF_EXTRACT_S = 5.0

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
    connection: Connection,
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

    `connection`: holds the tenant's run lock (`postgres.run_lock`). `styles`: the provider's paging styles. `full`: read
    everything again and mark deleted rows, instead of reading only what changed since the stored cursor (resources without
    cursor are always read in full). `work_dir`: the tenant's folder for temporary files; it is emptied. `on_progress`: called
    after each page, from several threads. `proof_max_requests`: how many requests may be spent per resource to look for missing
    records.

    Raises:
        ApiError: every resource was refused or failed (the message names them all; the class is that of one of them), or the
            server cut the tenant off.
        LoadFailed: the database accepted no data; no table is half changed.
    """
    sources = [_source(pipeline, name) for name in resources]
    with database_errors():
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
        tables = [*map(RawTable.of_source, order.pipeline.sources), REJECTED]
        with database_errors():
            self._contents = self._schema.open(connection, tables, order.run_id)
        self._connect = partial(order.target.connect, application_name=APPLICATION_NAME)
        self._writers = ThreadPoolExecutor(_WRITERS, "writer")
        self._jobs: dict[str, LoadJob[Any]] = {}

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
            self._writers.shutdown()
            for job in self._jobs.values():
                job.buffer.join(_END_OF_EXTRACT_S)
                job.close()
        raise_if_all_failed({name: job.error for name, job in self._jobs.items()})
        return LoadReport({name: job.report for name, job in self._jobs.items()})

    def _job(self, source: Source) -> LoadJob[Any]:
        order, moment = self._order, self._contents.moment
        table = RawTable.of_source(source)
        destination = Destination(self._schema, self._contents, table, order.run_id)
        cursor = destination.before.cursor if destination.before and not order.full else None
        report = ResourceReport(table=table.name, cursor_from=cursor.isoformat() if cursor else None)
        extract = Extract(
            order.client, source, order.styles, since=_with_overlap(source, cursor), until=self._until(source)
        )
        parent = self._jobs.get(source.for_each.source) if source.for_each else None

        def note_cost() -> None:
            usage = order.client.usage(source.name)
            report.requests, report.bytes = usage.requests, usage.bytes

        rows = RowFormat(source.keys, source.primary_key, order.run_id, moment)
        more = (
            report,
            parent,
            Proof(extract, order.proof_max_requests),
            partial(self._parents, source, extract),
            note_cost,
        )
        if source.load == "copy":
            return CopyJob(destination, self._buffer(extract, rows.pack, parent, note_cost), *more)
        waiting = WaitingRows(table, rows, order.folder, order.run_id, moment)
        return DltJob(waiting, destination, self._buffer(extract, waiting.pack, parent, note_cost), *more)

    def _buffer(
        self, extract: Extract, pack: Pack[AnyRow], parent: LoadJob[Any] | None, on_end: Callable[[], None]
    ) -> RowBuffer[AnyRow]:
        order, source = self._order, extract.source

        def on_batch(batch: Batch) -> None:
            order.on_progress(LoadProgress(source.name, extract.record_count, extract.pages, batch.total))

        return RowBuffer(
            extract,
            pack,
            RejectFile(order.folder, order.run_id, self._contents.moment),
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
        """Copy as soon as it is clear that something must be written; dlt runs beside, once for all of its sources."""
        decided: SimpleQueue[LoadJob[Any]] = SimpleQueue()
        for job in self._jobs.values():
            job.buffer.start(partial(decided.put, job))
        writing: list[Future[None]] = []
        for_dlt: list[DltJob] = []
        for _ in self._jobs:
            job = decided.get()
            if not job.needs_write(self._connection):
                continue
            if isinstance(job, DltJob):
                for_dlt.append(job)
            else:
                writing.append(self._writers.submit(carried(job.write), self._connect))
        if for_dlt:
            writing += self._run_dlt(for_dlt)
        for future in writing:
            future.result()
        # It holds the tenant's lock: if it is lost, another load may have written.
        self._connection.execute("SELECT")

    def _run_dlt(self, jobs: Sequence[DltJob]) -> list[Future[None]]:
        target = self._order.target
        login = {**target.conninfo(), "application_name": APPLICATION_NAME}
        files = [file for job in jobs if (file := job.file(self._order.folder))]
        try:
            if files:
                dlt_run.run_dlt(self._order.pipeline.name, target.schemas.raw, login, self._order.folder / "dlt", files)
                self._schema.prune(self._connection)
        except LoadFailed as error:
            for job in jobs:
                job.fail(error)
            return []
        return [self._writers.submit(carried(job.write), self._connect) for job in jobs]

    def _values(self, each: ForEach, parent: LoadJob[Any] | None) -> list[str]:
        """The values of a `for_each` source: from the parent's records of this load, plus those of the table unless all were
        read."""
        values: set[str] = set()
        if parent:
            values |= parent.buffer.collected(each.key)
        if parent is None or parent.buffer.extract.since is not None:
            table = RawTable.of_source(self._order.pipeline.source(each.source))
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
