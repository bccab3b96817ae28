"""One load of one tenant: walk the asked resources side by side, land what came in one go, and report.

A resource whose walk fails or that is not allowed does not keep the others from landing; its table stays as it was.
"""

import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import psycopg
from dlt.common.exceptions import DltException
from psycopg import sql

from explorer_dagster.commcare.client import CommCareClient
from explorer_dagster.commcare.errors import CutOff, NoSubscription, PermissionMissing
from explorer_dagster.errors import ExplorerError
from explorer_dagster.loading.errors import LoadFailed, LoadInProgress, ResourceUnknownToPipeline
from explorer_dagster.loading.files import RecordFile, RejectFile
from explorer_dagster.loading.report import LoadProgress, LoadReport, ResourceReport
from explorer_dagster.loading.walk import Walk
from explorer_dagster.loading.warehouse import APPLICATION_NAME, DELETED_COLUMN, REJECTED_TABLE, TableFile, Warehouse
from explorer_dagster.registry import Pipeline, Source

_NOT_ALLOWED = (PermissionMissing, NoSubscription)
_PARALLEL_WALKS = 4

OnProgress = Callable[[LoadProgress], None]


class _HasConninfo(Protocol):
    def conninfo(self) -> dict[str, Any]: ...


class _Connections(Protocol):
    def tenant(self, user: str, password: str) -> _HasConninfo: ...


class _Login(Protocol):
    @property
    def user(self) -> str: ...
    @property
    def password(self) -> str: ...


@dataclass(frozen=True)
class LoadTarget:
    """Where a tenant's data goes. `prefix`: of its schemas (`t_<8 hex>`); `login`: its rw role; `connections`: the platform's."""

    tenant_key: str
    prefix: str
    login: _Login = field(repr=False)
    connections: _Connections = field(repr=False)

    @property
    def dataset(self) -> str:
        return f"{self.prefix}_raw"

    def conninfo(self) -> dict[str, Any]:
        """libpq parameters of the rw login."""
        return self.connections.tenant(self.login.user, self.login.password).conninfo()


def load(
    target: LoadTarget,
    client: CommCareClient,
    pipeline: Pipeline,
    resources: Sequence[str],
    *,
    run_id: str,
    full: bool,
    work_dir: Path,
    on_progress: OnProgress,
) -> LoadReport:
    """Bring the raw tables of `resources` to what the server has.

    `full`: read everything again and mark what is gone, instead of what changed since the stored cursor (resources without
    cursor are always read in full). `work_dir`: the tenant's folder for files of the load; emptied. `on_progress` is called
    after each page, from several threads.

    Raises:
        CommCareError: every resource was refused or failed, for the first one's reason; or the server cut the project space off.
        LoadInProgress: another process loads this tenant.
        LoadFailed: the database did not take the data; no table is half changed.
    """
    sources = [_source(pipeline, name) for name in resources]
    with _exclusive(target) as connection:
        folder = _fresh_folder(work_dir)
        try:
            return _Load(target, client, pipeline, sources, run_id, full, folder, on_progress, connection).run()
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@dataclass
class _Load:
    target: LoadTarget
    client: CommCareClient
    pipeline: Pipeline
    sources: list[Source]
    run_id: str
    full: bool
    folder: Path
    on_progress: OnProgress
    connection: psycopg.Connection[tuple[Any, ...]]
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> LoadReport:
        with _database_errors():
            warehouse = Warehouse(self.pipeline.name, self.target.dataset, self.target.conninfo(), self._make("dlt"))
            cursors = {} if self.full else warehouse.cursors()
        reports = {source.name: ResourceReport(table=source.table) for source in self.sources}
        with RejectFile(self.folder / "rejected.csv", self.run_id) as rejects:
            outcomes = self._walk_all(reports, cursors, rejects)
        self._raise_if_nothing_came(outcomes)
        files = [outcome for outcome in outcomes.values() if isinstance(outcome, TableFile)]
        if rejects.rows:
            files.append(TableFile.of_rejects(rejects.path, rejects.rows))
        files += self._empty_tables({file.table for file in files})
        with _database_errors():
            try:
                warehouse.load(files)
            except BaseException:
                self._end_statements()
                raise
            self._count(reports)
        return LoadReport(reports)

    def _end_statements(self) -> None:
        """End what the loader's own sessions still run: a thread that was left does not take its statement with it."""
        self.connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE usename = current_user AND application_name = %s AND pid <> pg_backend_pid()",
            [APPLICATION_NAME],
        )

    def _walk_all(
        self, reports: dict[str, ResourceReport], cursors: dict[str, datetime], rejects: RejectFile
    ) -> dict[str, "TableFile | ExplorerError"]:
        """The file or the failure of each source, walked in parallel. An interrupt stops all walks at their next page."""
        lock = threading.Lock()
        with ThreadPoolExecutor(_PARALLEL_WALKS, thread_name_prefix="walk") as pool:
            try:
                futures = {
                    source.name: pool.submit(
                        self._walk, source, reports[source.name], cursors.get(source.name), rejects, lock
                    )
                    for source in self.sources
                }
                return {name: future.result() for name, future in futures.items()}
            except BaseException:
                self.stop.set()
                self.client.stop()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _walk(
        self, source: Source, report: ResourceReport, cursor: datetime | None, rejects: RejectFile, lock: threading.Lock
    ) -> "TableFile | ExplorerError":
        began = time.monotonic()
        try:
            return self._walk_to_file(source, report, cursor, rejects, lock)
        except _NOT_ALLOWED as error:
            report.status, report.skipped_reason = "skipped", error.details.get("reason") or error.message
            report.complete = False
            return error
        except ExplorerError as error:
            report.status, report.error, report.complete = "failed", error.as_dict(), False
            return error
        finally:
            usage = self.client.usage(source.name)
            report.requests, report.bytes = usage.requests, usage.bytes
            report.duration_s = time.monotonic() - began

    def _walk_to_file(
        self, source: Source, report: ResourceReport, cursor: datetime | None, rejects: RejectFile, lock: threading.Lock
    ) -> TableFile:
        walk = Walk(self.client, source, since=_with_overlap(source, cursor), until=self._until(source))
        latest = cursor
        with RecordFile(self.folder / f"{source.table}.csv", tuple(source.keys), self.run_id) as file:
            for batch in walk.batches():
                for row in batch.rows:
                    file.write(row, batch.page)
                    if row.cursor is not None and (latest is None or row.cursor > latest):
                        latest = row.cursor
                with lock:
                    for reject in batch.rejects:
                        rejects.write(source.name, reject, batch.page)
                self.on_progress(LoadProgress(source.name, walk.seen, walk.pages, batch.total))
                if self.stop.is_set():
                    raise LoadFailed("The load was stopped.", next_step="Start it again.")
        whole = walk.since is None and walk.until is None
        self._report_walk(report, walk, whole)
        report.cursor_from = cursor.isoformat() if cursor else None
        report.cursor_to = latest.isoformat() if source.cursor and latest else None
        return TableFile.of_source(
            source,
            file.path,
            file.rows,
            has_repeats=file.rows > walk.seen,
            is_everything=whole and report.complete,
            cursor_to=latest if source.cursor else None,
        )

    def _report_walk(self, report: ResourceReport, walk: Walk, whole: bool) -> None:
        report.rows_landed, report.pages = walk.seen, walk.pages
        report.repaired = walk.losses.repaired
        report.rejected, report.rejected_reasons = walk.losses.rejected.total(), dict(walk.losses.rejected)
        report.api_total = walk.api_total if whole else None
        # A record that could not be read may be one that the table has: nothing is known to be gone then.
        report.complete = not report.rejected and (report.api_total is None or walk.seen >= report.api_total)

    def _until(self, source: Source) -> datetime | None:
        lag_s = source.cursor.lag_s if source.cursor else 0
        return self.started - timedelta(seconds=lag_s) if lag_s else None

    def _raise_if_nothing_came(self, outcomes: dict[str, "TableFile | ExplorerError"]) -> None:
        errors = [outcome for outcome in outcomes.values() if isinstance(outcome, ExplorerError)]
        cut_off = next((error for error in errors if isinstance(error, CutOff)), None)
        if cut_off or (errors and len(errors) == len(outcomes)):
            raise cut_off or next((e for e in errors if not isinstance(e, PermissionMissing)), errors[0])

    def _empty_tables(self, present: set[str]) -> Iterator[TableFile]:
        """Files without rows for tables that do not exist yet, so that the transforms find every table of the pipeline."""
        query = "SELECT tablename FROM pg_tables WHERE schemaname = %s"
        present = present | {name for (name,) in self.connection.execute(query, [self.target.dataset])}
        for source in self.pipeline.sources:
            if source.table not in present:
                with RecordFile(self.folder / f"{source.table}.empty.csv", tuple(source.keys), self.run_id) as file:
                    yield TableFile.of_source(source, file.path, 0)
        if REJECTED_TABLE not in present:
            with RejectFile(self.folder / "rejected.empty.csv", self.run_id) as empty:
                yield TableFile.of_rejects(empty.path, 0)

    def _count(self, reports: dict[str, ResourceReport]) -> None:
        for report in reports.values():
            query = sql.SQL("SELECT count(*) FROM {} WHERE {} IS NULL").format(
                sql.Identifier(self.target.dataset, report.table), sql.Identifier(DELETED_COLUMN)
            )
            row = self.connection.execute(query).fetchone()
            report.rows_total = int(row[0]) if row else 0

    def _make(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir()
        return folder


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
    """An empty folder inside `work_dir`; what a killed load left there is removed."""
    folder = work_dir / "load"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)
    return folder


@contextmanager
def _exclusive(target: LoadTarget) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """A connection that holds the tenant's load lock; the lock goes with the connection, however the process ends."""
    with _database_errors(), psycopg.connect(**target.conninfo(), autocommit=True) as connection:
        lock = "SELECT pg_try_advisory_lock(hashtext(%s), hashtext('load'))"
        row = connection.execute(lock, [target.prefix]).fetchone()
        if row != (True,):
            raise LoadInProgress(
                f"Tenant {target.tenant_key} is being loaded by another process.",
                next_step="Wait for that run to end, then try again.",
            )
        yield connection


@contextmanager
def _database_errors() -> Iterator[None]:
    """Errors of dlt and the database as ours, without connection strings or row contents."""
    try:
        yield
    except (DltException, psycopg.Error) as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        sqlstate = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
        first_line = str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__
        raise LoadFailed(
            f"The data could not be written: {first_line[:300]}",
            next_step="No table is half changed. Try again; the database's log tells more.",
            details={"sqlstate": sqlstate} if sqlstate else {},
        ) from error
