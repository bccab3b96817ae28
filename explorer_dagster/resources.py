"""What does a step need to work for one tenant? Catalog entries, logins, folders, and the state of its schemas."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Self

import dagster as dg
import psycopg
from msgspec.structs import replace
from pydantic import PrivateAttr

from explorer.catalog import Catalog, State, Tenant, TenantSchema
from explorer.catalog.coordination.request_slots import RequestSlots
from explorer.contract.bookkeeping import holdings, run_changes, steps
from explorer.contract.bookkeeping.steps import Facts, Outcome, Step
from explorer.contract.tags import RunTags
from explorer.core.connect_guard import Address, ConnectGuard, address_of, proxies
from explorer.core.errors import ExplorerError
from explorer.core.settings import Settings, get_settings
from explorer.http.client import ApiClient, Usage
from explorer.http.limiter import RateLimiter
from explorer.marts import TenantDbt
from explorer.personal_data import align_reader
from explorer.postgres.connections import Connection, Connections, Login, load_connections
from explorer.postgres.errors import DatabaseUnreachable
from explorer.postgres.run_lock import Waiting, run_lock
from explorer.providers.base import Provider
from explorer.registry import Pipeline
from explorer.telemetry.logs import about
from explorer.telemetry.traces import parent_of, send_spans, span
from explorer.tenants import provision_schema
from explorer_dagster.runs import ended_with_its_run


class WrongPipeline(ExplorerError):
    """The run's tenant does not belong to the pipeline's provider."""

    code = "wrong_pipeline"


@dataclass
class Told:
    """What a step says of itself while it is at work."""

    facts: Facts = field(default_factory=Facts)


@dataclass(frozen=True)
class TenantSession:
    """One tenant during one step of a run. `full_refresh`: read everything again instead of only changes. `guard`: lets the run
    connect to the tenant's server while there is a client, and to nothing else."""

    guard: ConnectGuard | None = field(repr=False)
    context: dg.AssetExecutionContext
    settings: Settings
    catalog: Catalog
    connections: Connections
    tenant: Tenant
    schema: TenantSchema

    @property
    def run_id(self) -> str:
        return self.context.run.run_id

    @property
    def full_refresh(self) -> bool:
        return RunTags.from_tags(self.context.run.tags).full_refresh

    @property
    def is_by_need(self) -> bool:
        """Whether the run is of the whole job and does what is needed. What somebody chose is materialized in any case."""
        return not self.context.run.asset_selection and not self.full_refresh

    @cached_property
    def rw_database(self) -> Login:
        """The tenant's rw login: the only one that loads and transforms its data."""
        login = self.catalog.schemas.rw_login(self.tenant)
        return self.connections.tenant(login.user, login.password)

    @property
    def dbt(self) -> TenantDbt:
        """dbt as this tenant."""
        return TenantDbt(self.settings, self.tenant.provider, self.schema, self.rw_database)

    def work_dir(self, tool: str) -> Path:
        """`HOME/<tool>/<prefix>`: the tool's files of this tenant, kept between runs."""
        folder = self.settings.home / tool / self.schema.prefix
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @contextmanager
    def client(self, provider: Provider) -> Iterator[ApiClient]:
        """A client of the tenant's server. Renewed tokens are stored in the catalog, and all processes share the request rate.

        At the end of the block its cost is added to the run's tags.
        """
        tenant = self.tenant
        with (
            closing(
                RequestSlots(
                    self.connections.service, tenant.server, tenant.external_id, self.catalog.quotas.allowance(tenant)
                )
            ) as slots,
            provider.open_client(
                tenant.server,
                tenant.external_id,
                self.catalog.credentials.load(tenant),
                settings=self.settings,
                refresh=lambda stale, renew: self.catalog.credentials.refresh(tenant, stale, renew),
                limiter=RateLimiter(
                    self.settings.requests_per_second, slots, lifted_by=f"explorer tenants unblock {tenant.key}"
                ),
            ) as client,
            self._reaching(client),
        ):
            try:
                yield client
            finally:
                self._note_cost(client.total_usage)

    def _reaching(self, client: ApiClient) -> AbstractContextManager[None]:
        """The client's server, directly or by the proxies of the environment."""
        if self.guard is None:
            return nullcontext()
        return self.guard.allowing((client.server.host, client.server.port), *proxies())

    def _note_cost(self, usage: Usage) -> None:
        run = self.context.instance.get_run_by_id(self.run_id)
        before = RunTags.from_tags(run.tags if run else {})
        requests = (before.requests or 0) + usage.requests
        received = (before.bytes or 0) + usage.bytes
        self.context.instance.add_run_tags(self.run_id, RunTags(requests=requests, bytes=received).to_tags())

    @contextmanager
    def step(self, name: Step) -> Iterator["Told"]:
        """Write down beside the tables how this step of the run ends, and what it brought: the block says so in what is yielded.

        Also of a step that fails or is cancelled, as far as the database can be reached then.
        """
        told, began = Told(), time.monotonic()

        def note(outcome: Outcome) -> None:
            facts = replace(told.facts, full=self.full_refresh)
            seconds = round(time.monotonic() - began, 3)
            with self.rw_database.connect(autocommit=True) as connection:
                steps.write(connection, self.schema, self.run_id, name, seconds=seconds, outcome=outcome, facts=facts)
                if days := self.settings.run_retention_days:
                    for kept in (steps, run_changes):
                        kept.forget(connection, self.schema, datetime.now(UTC) - timedelta(days=days))

        try:
            yield told
        except BaseException as error:
            # What went wrong is told to the caller, whether it can be written down or not.
            with suppress(DatabaseUnreachable, psycopg.Error):
                note("failed" if isinstance(error, Exception) else "stopped")
            raise
        note("failed" if told.facts.failed else "done")

    @contextmanager
    def changing_tables(self) -> Iterator[Connection]:
        """Change the tenant's tables alone, with the schemas marked as being written. Yields the connection that has the lock.

        A killed worker leaves the mark; whoever has the lock next takes it over. At the end agents may read what the policy for
        personal data allows. Raises: TenantBusy.
        """
        database, holder = self.rw_database, f"run {self.run_id}"
        waiting = Waiting(self.settings.tenant_wait_s, self.context.log.info)
        with (
            run_lock(database, self.tenant.key, self.schema.prefix, holder=holder, waiting=waiting) as connection,
            self._marked(connection),
        ):
            yield connection
            align_reader(self.settings, self.catalog, self.connections, self.tenant, self.schema, connection)

    @contextmanager
    def _marked(self, connection: Connection) -> Iterator[None]:
        schemas = self.catalog.schemas
        schemas.transition(
            self.tenant, {State.ACTIVE, State.MATERIALIZING, State.EXPIRED}, State.MATERIALIZING, run_id=self.run_id
        )
        try:
            yield
        finally:
            # Whatever ended the work may have ended the connection, too.
            held = None
            with suppress(psycopg.Error):
                held = holdings.read(connection, self.schema)
            schemas.transition(self.tenant, {State.MATERIALIZING}, State.ACTIVE, run_id=self.run_id, holdings=held)


def _needed(settings: Settings, connections: Connections) -> list[Address]:
    """What a run's process itself needs: the servers of its databases, whose names psycopg looks up, the broker that gave it the
    run, and who collects its spans."""
    broker = settings.celery_broker_url.get_secret_value() if settings.celery_broker_url is not None else None
    urls = [address_of(url) for url in (broker, settings.otlp_endpoint) if url is not None]
    # A login may name several servers, as libpq allows.
    logins = (connections.service, *connections.more.values())
    return [*urls, *sorted({(host, login.port) for login in logins for host in login.host.split(",")})]


class Platform(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The platform's settings, database and catalog, opened at first use in the step's process.

    While a run works in this process, its lines of log and its spans are marked with the run and its tenant.
    """

    _guard: ConnectGuard | None = PrivateAttr(None)

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[Self]:
        """Called by Dagster around the steps of a run, and around each evaluation of a schedule or sensor, which has no run."""
        with ExitStack() as stack:
            run = context.run
            if run is not None and context.instance is not None:
                stack.callback(send_spans(self.settings, "explorer-run"))
                stack.enter_context(_told(run))
                stack.enter_context(ended_with_its_run(context.instance, run.run_id))
            if run is not None and RunTags.from_tags(run.tags).partition_key is not None:
                # A run of a tenant. Others, such as those that make tenants, may have more to do.
                self._guard = stack.enter_context(ConnectGuard(*_needed(self.settings, self.connections)))
            yield self

    @cached_property
    def settings(self) -> Settings:
        return get_settings()

    @cached_property
    def connections(self) -> Connections:
        return load_connections(self.settings)

    @cached_property
    def catalog(self) -> Catalog:
        return Catalog.open(self.settings)

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """Close the catalog's connections: each evaluation of a schedule or sensor, and each step, has a resource of its own."""
        opened: Catalog | None = self.__dict__.pop("catalog", None)
        if opened is not None:
            opened.close()

    def session(self, context: dg.AssetExecutionContext, pipeline: Pipeline) -> TenantSession:
        """The tenant of the run's partition. All pipelines share the partitions.

        Raises:
            UnknownTenant: the catalog has no tenant for the partition.
            WrongPipeline: the tenant belongs to another provider than the pipeline.
            LoginMissing: the tenant's schemas were dropped since nobody asked them, and this process cannot make them again.
        """
        tenant = self.catalog.tenants.get(context.partition_key)
        if tenant.provider != pipeline.provider:
            raise WrongPipeline(
                f"Tenant {tenant.key} is of provider {tenant.provider}, pipeline {pipeline.name} is of {pipeline.provider}.",
                next_step="Run a pipeline of the tenant's own provider.",
            )
        schema = self.catalog.schemas.get(tenant)
        if schema.is_gone_for_now:
            context.log.info(f"The schemas of {tenant.key} were dropped, since nobody asked them: they are made again.")
            schema = provision_schema(self.settings, self.catalog, self.connections, tenant)
        return TenantSession(
            guard=self._guard,
            context=context,
            settings=self.settings,
            catalog=self.catalog,
            connections=self.connections,
            tenant=tenant,
            schema=schema,
        )


@contextmanager
def _told(run: dg.DagsterRun) -> Iterator[None]:
    """Lines of log and spans in the block are those of the run; its span belongs to the one that asked for it."""
    tags = RunTags.from_tags(run.tags)
    named = {"explorer.run": run.run_id} | ({"explorer.tenant": tags.partition_key} if tags.partition_key else {})
    with (
        about(tenant=tags.partition_key, run=run.run_id),
        span(f"run {run.job_name}", parent_of(tags.traceparent), **named),
    ):
        yield
