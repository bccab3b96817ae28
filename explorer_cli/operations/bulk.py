"""`explorer sync --all`: a run for each tenant, in the background of those that somebody waits for."""

import asyncio
from collections.abc import Sequence

from explorer.catalog import Sync, Tenant
from explorer.contract.tags import RunTags
from explorer.core.settings import Settings
from explorer.providers import faults_of
from explorer.registry import Pipeline, load_pipelines
from explorer_cli.output.terminal import answer_json, say
from explorer_cli.platform.context import open_settings
from explorer_cli.platform.store import open_store
from mcp_bridge.clients.dagster.client import DagsterClient
from mcp_bridge.clients.dagster.records import ACTIVE

# Dagster takes a launch in a tenth of a second; more at a time only make it slower for others.
_AT_A_TIME = 4
_LIMIT = 10_000

_Wanted = Sequence[tuple[Tenant, Pipeline]]


def sync_all(*, full: bool, failed: bool, as_json: bool) -> int:
    """Launch the runs. Tenants that are at work or queued already are left alone."""
    settings = open_settings()
    pipelines = load_pipelines(settings.project_dir / "pipelines", faults_of).values()
    with open_store(settings) as store:
        tenants = store.catalog.tenants.list()
        wanted: list[tuple[Tenant, Pipeline]] = []
        for pipeline in pipelines:
            syncs = store.catalog.syncs.all(pipeline.name)
            wanted += [
                (tenant, pipeline)
                for tenant in tenants
                if tenant.provider == pipeline.provider
                and (not failed or syncs.get(tenant.id, Sync(pipeline.name)).failures)
            ]
    launched, busy = asyncio.run(_launch(settings, wanted, full=full))
    if as_json:
        answer_json({"launched": launched, "at_work_already": busy})
    else:
        say(
            f"{len(launched)} runs are queued; {len(busy)} tenants were at work already. `explorer status` follows them."
        )
    return 0


async def _launch(settings: Settings, wanted: _Wanted, *, full: bool) -> tuple[dict[str, str], list[str]]:
    """Tenant to run id, and the tenants that had a run. Raises: DagsterUnavailable."""
    places = asyncio.Semaphore(_AT_A_TIME)
    tags = RunTags(full_refresh=full, requested_by="operator", run_class="background")
    async with DagsterClient.from_settings(settings) as dagster:
        active = await dagster.runs(statuses=ACTIVE, limit=_LIMIT)
        at_work = {(run.tenant, run.job) for run in active}

        async def one(tenant: Tenant, pipeline: Pipeline) -> tuple[str, str]:
            async with places:
                return tenant.key, (await dagster.launch(pipeline.name, tenant.key, tags=tags)).run_id

        free = [(tenant, pipeline) for tenant, pipeline in wanted if (tenant.key, pipeline.name) not in at_work]
        launched = dict(await asyncio.gather(*(one(*each) for each in free)))
    return launched, sorted({tenant.key for tenant, _ in wanted} - launched.keys())
