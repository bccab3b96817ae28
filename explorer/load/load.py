"""One load of one tenant: walk the asked resources side by side, land each as soon as it can, and report.

A resource whose walk fails or that is not allowed does not keep the others from landing; its table stays as it was.
"""

import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol

import psycopg

from explorer.contract.schemas import TenantSchemas
from explorer.core.errors import ExplorerError
from explorer.extract.extract import Batch, Extract
from explorer.extract.proof import Proof
from explorer.http.client import ApiClient
from explorer.http.errors import ApiError, CutOff, PermissionMissing, Throttled
from explorer.load.copy_format import RejectFile, RowFormat
from explorer.load.dlt_load import DltLoad
from explorer.load.errors import LoadFailed, LoadInProgress, ResourceUnknownToPipeline
from explorer.load.feed import Feed, FeedState
from explorer.load.landing import Landing, Place
from explorer.load.memory import return_large_blocks
from explorer.load.report import LoadProgress, LoadReport, ResourceReport, name_failures
from explorer.load.warehouse import REJECTED, Connection, Owners, RawTable, Warehouse
from explorer.providers.paging import Styles
from explorer.registry import ForEach, Pipeline, Source

APPLICATION_NAME = "explorer-load"
# A tenant's login has 12 connections: a writer takes two, and the load's lock, its values, dlt and the bridge want six.
_WRITERS = 3
PROOF_MAX_REQUESTS = 200
_END_OF_WALK_S = 5.0
# A thread whose statement has ended gets the interpreter after this; with Python's own 5 ms the database waits for parsing.
_SWITCH_S = 0.001

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
        return TenantSchemas(self.prefix).raw

    def conninfo(self) -> dict[str, Any]:
        """libpq parameters of the rw login."""
        return self.connections.tenant(self.login.user, self.login.password).conninfo()


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
    """Bring the raw tables of `resources` to what the server has.

    `styles`: the provider's. `full`: read everything again and mark what is gone, instead of what changed since the stored cursor
    (resources without cursor are always read in full). `work_dir`: the tenant's folder for files of the load; emptied.
    `on_progress` is called after each page, from several threads. `proof_max_requests`: how many may be spent on one resource to
    ask for records that did not come.

    Raises:
        ApiError: every resource was refused or failed (the message names them all; the class is that of one of them), or the
            server cut the project space off.
        LoadInProgress: another process loads this tenant.
        LoadFailed: the database did not take any data; no table is half changed.
    """
    sources = [_source(pipeline, name) for name in resources]
    return_large_blocks()
    sys.setswitchinterval(_SWITCH_S)
    with _exclusive(target) as connection:
        folder = _fresh_folder(work_dir)
        try:
            return _Load(
                target, client, pipeline, styles=styles, run_id=run_id, full=full, folder=folder, on_progress=on_progress,
                connection=connection, proof_max_requests=proof_max_requests,
            ).run(sources)  # fmt: skip
        finally:
            shutil.rmtree(folder, ignore_errors=True)


class _Load:
    def __init__(
        self,
        target: LoadTarget,
        client: ApiClient,
        pipeline: Pipeline,
        *,
        styles: Styles,
        run_id: str,
        full: bool,
        folder: Path,
        on_progress: OnProgress,
        connection: Connection,
        proof_max_requests: int,
    ) -> None:
        self._target, self._client, self._pipeline = target, client, pipeline
        self._styles = styles
        self._run_id, self._full, self._folder = run_id, full, folder
        self._on_progress, self._connection = on_progress, connection
        self._proof_max_requests = proof_max_requests
        self._started = datetime.now(UTC)
        self._warehouse = Warehouse(target.dataset)
        with _database_errors():
            self._contents = self._warehouse.contents(connection)
        self._landings: dict[str, Landing] = {}

    def run(self, sources: Sequence[Source]) -> LoadReport:
        for source in sources:
            self._landings[source.name] = self._landing(source)
        try:
            with _database_errors():
                self._land_all()
        except BaseException:
            self._stop()
            raise
        finally:
            for landing in self._landings.values():
                landing.feed.join(_END_OF_WALK_S)
                landing.feed.rejects.close()
        self._raise_if_nothing_came()
        return LoadReport({name: landing.report for name, landing in self._landings.items()})

    def _landing(self, source: Source) -> Landing:
        table = RawTable.of_source(source)
        place = Place(self._warehouse, self._contents, table, self._run_id)
        cursor = place.before.cursor if place.before and not self._full else None
        report = ResourceReport(table=table.name, cursor_from=cursor.isoformat() if cursor else None)
        if place.exists and not place.before:
            with _database_errors():
                report.rows_total = self._warehouse.count(self._connection, table).live_rows
        parent = self._landings.get(source.for_each.source) if source.for_each else None
        extract = Extract(
            self._client, source, self._styles, since=_with_overlap(source, cursor), until=self._until(source)
        )

        def on_batch(batch: Batch) -> None:
            self._on_progress(LoadProgress(source.name, extract.record_count, extract.pages, batch.total))

        def note_cost() -> None:
            usage = self._client.usage(source.name)
            report.requests, report.bytes = usage.requests, usage.bytes

        feed = Feed(
            extract,
            RowFormat(source.keys, source.primary_key, self._run_id, self._contents.moment),
            RejectFile(self._folder, self._run_id, self._contents.moment),
            on_batch=on_batch,
            on_end=note_cost,
            values=partial(self._values, source.for_each, parent) if source.for_each else None,
            collect=[
                child.for_each.key
                for child in self._pipeline.sources
                if child.for_each and child.for_each.source == source.name
            ],
        )
        proof = Proof(extract, self._proof_max_requests)
        return Landing(place, feed, report, parent, proof, partial(self._owners, source, extract), note_cost)

    def _owners(self, source: Source, extract: Extract) -> Owners | None:
        each = source.for_each
        if each is None:
            return None
        owner = self._pipeline.source(each.source)
        return Owners(owner.table, each.key, each.column, extract.values)

    def _land_all(self) -> None:
        """Land what came as soon as it is clear that something is to be written. dlt runs only then, and once."""
        decided: SimpleQueue[Landing] = SimpleQueue()
        for landing in self._landings.values():
            landing.feed.start(partial(decided.put, landing))
        undecided = list(self._landings.values())
        to_write: list[Landing] = []
        while undecided:
            landing = decided.get()
            undecided.remove(landing)
            if landing.settle(self._connection):
                to_write.append(landing)
                if landing.feed.wait() is FeedState.STREAMING:
                    # It waits for the database from now on. The others' jobs wait until they know.
                    break
        tables = [*map(RawTable.of_source, self._pipeline.sources), REJECTED]
        is_incomplete = self._contents.lacks(tables)
        if to_write or is_incomplete:
            self._run_dlt(tables, to_write + undecided, is_incomplete)
            self._warehouse.prune(self._connection)

    def _run_dlt(self, tables: Sequence[RawTable], landings: Sequence[Landing], is_incomplete: bool) -> None:
        login = {**self._target.conninfo(), "application_name": APPLICATION_NAME}
        slots = threading.Semaphore(_WRITERS)

        def connect() -> Connection:
            return psycopg.connect(**login, autocommit=True)

        folder = self._folder / "dlt"
        folder.mkdir()
        load = DltLoad(self._pipeline.name, self._target.dataset, login, folder, tables)
        load.run(
            {landing.table: partial(landing.land, slots, connect) for landing in landings}, is_incomplete=is_incomplete
        )

    def _values(self, each: ForEach, parent: Landing | None) -> list[str]:
        """What a source is walked for: the parent's records of this load, with those of the table unless all were read."""
        values: set[str] = set()
        if parent:
            values |= parent.feed.collected(each.key)
        if parent is None or parent.feed.extract.since is not None:
            table = RawTable.of_source(self._pipeline.source(each.source))
            if table.name in self._contents.columns:
                with psycopg.connect(**self._target.conninfo(), autocommit=True) as connection:
                    values |= self._warehouse.values(connection, table, each.key)
        return sorted(values)

    def _stop(self) -> None:
        """End walks and statements: a thread that was left does not take its requests and its statement with it."""
        for landing in self._landings.values():
            landing.feed.abandon()
        self._client.stop()
        with suppress(psycopg.Error):
            self._connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE usename = current_user AND application_name = %s AND pid <> pg_backend_pid()",
                [APPLICATION_NAME],
            )

    def _until(self, source: Source) -> datetime | None:
        lag_s = source.cursor.lag_s if source.cursor else 0
        return self._started - timedelta(seconds=lag_s) if lag_s else None

    def _raise_if_nothing_came(self) -> None:
        errors = {name: landing.error for name, landing in self._landings.items() if landing.error}
        known: dict[str, ExplorerError] = {}
        for name, error in errors.items():
            if not isinstance(error, ExplorerError):
                raise error
            known[name] = error
        cut_off = next((error for error in known.values() if isinstance(error, CutOff)), None)
        if cut_off:
            raise cut_off
        if known and len(known) == len(self._landings):
            raise _together(known)


def _together(errors: Mapping[str, ExplorerError]) -> ExplorerError:
    """One error for all: of the class that says most about what to do next, with every cause in its message."""
    first = min(errors.values(), key=_rank)
    if len(errors) == 1:
        return first
    causes = {name: error.as_dict() for name, error in errors.items()}
    details = {**first.details, "resources": sorted(errors)}
    if isinstance(first, ApiError):
        return type(first)(name_failures(causes), provider=first.provider, next_step=first.next_step, details=details)
    return type(first)(name_failures(causes), next_step=first.next_step, details=details)


def _rank(error: ExplorerError) -> int:
    """An allowance that ended tells when to go on; a missing permission is what the others may not be."""
    return 0 if isinstance(error, Throttled) else 2 if isinstance(error, PermissionMissing) else 1


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
def _exclusive(target: LoadTarget) -> Iterator[Connection]:
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
    """Errors of the database as ours."""
    try:
        yield
    except psycopg.Error as error:
        raise LoadFailed.because_of(error) from error
