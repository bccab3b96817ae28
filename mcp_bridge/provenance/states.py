"""Reads the state of a tenant's partition from Dagster: latest materializations, and failed checks of loads."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace

from explorer.catalog import State, Tenant, TenantSchema
from explorer.contract.names import is_raw
from explorer.core.errors import ExplorerError
from explorer.registry import Pipeline
from mcp_bridge.clients.dagster.client import DagsterClient
from mcp_bridge.clients.dagster.records import AssetState
from mcp_bridge.facts.cache import Cache
from mcp_bridge.facts.partition_state import LATE, Failing, PartitionState
from mcp_bridge.facts.pipelines import PipelineFiles
from mcp_bridge.runs.results import RunResult, RunResults

_DAGSTER_TIMEOUT_S = 8.0
_CACHED_PIPELINES = 50
_DEFINITIONS_S = 60.0


class DagsterStates:
    """`PartitionStates` from run logs and Dagster's latest materializations. For use inside one event loop."""

    def __init__(
        self, dagster: DagsterClient, results: RunResults, files: PipelineFiles, *, with_raw: bool = False
    ) -> None:
        """`with_raw`: whether checks of raw tables are needed. Those of other tables are in the tables' own records."""
        self._dagster, self._results, self._files, self._with_raw = dagster, results, files, with_raw
        # The assets of each pipeline without materializations.
        self._definitions: Cache[list[AssetState]] = Cache(_CACHED_PIPELINES, _DEFINITIONS_S, 0.0)

    def close(self) -> None:
        """Stop refreshing in the background."""
        self._definitions.close()

    async def of(self, tenant: Tenant, schema: TenantSchema) -> PartitionState:
        """The state of the tenant's partition, or why it is unknown."""
        try:
            async with asyncio.timeout(_DAGSTER_TIMEOUT_S):
                # The log of the run that wrote the schemas last has nearly everything, in one request.
                last = await self._results.of(schema.run_id) if schema.run_id else RunResult(finished=True)
                found = await asyncio.gather(*(self._assets(p, tenant, last) for p in self._files.of(tenant)))
                assets = {asset.key: asset for states in found for asset in states}
                failing = await self._failing(assets.values(), last) if self._with_raw else {}
                written = schema.state is not State.MATERIALIZING
                return PartitionState(
                    assets,
                    failing,
                    settled=last.finished and written,
                    unfinished_run=schema.run_id if written and not last.finished else None,
                )
        except TimeoutError:
            return PartitionState(problem=LATE)
        except ExplorerError as error:
            return PartitionState(problem=error.message)

    async def prepare(self) -> None:
        """Read the assets that the pipelines define."""
        for pipeline in self._files.pipelines.values():
            await self._defined(pipeline)

    async def _defined(self, pipeline: Pipeline) -> list[AssetState]:
        """The pipeline's assets without materializations."""

        async def make() -> tuple[list[AssetState], bool]:
            return await self._dagster.assets(pipeline.name), True

        return await self._definitions.get(pipeline.name, None, make)

    async def _failing(self, assets: Iterable[AssetState], last: RunResult) -> Failing:
        """The failed checks of raw tables: in the run of `last`, which checks them also where nothing came, else in the tenant's
        own run that loaded it."""
        found = {}
        for asset in assets:
            if is_raw(asset.key) and (asset.run_id or last.checked(asset.key)):
                checked = last if last.checked(asset.key) else await self._results.of(asset.run_id or "")
                found[asset.key] = tuple(check.name for check in checked.failing if check.asset_key == asset.key)
        return found

    async def _assets(self, pipeline: Pipeline, tenant: Tenant, last: RunResult) -> list[AssetState]:
        """The pipeline's assets with their latest materialization: of the run of `last`, else the latest in Dagster."""
        defined = await self._defined(pipeline)
        other = [asset.key for asset in defined if asset.key not in last.materialized]
        earlier = {a.key: a for a in await self._dagster.assets(pipeline.name, tenant.key, other)} if other else {}
        return [_as_last_made(asset, last, earlier) for asset in defined]


def _as_last_made(asset: AssetState, last: RunResult, earlier: dict[tuple[str, ...], AssetState]) -> AssetState:
    found = last.materialized.get(asset.key)
    if found is not None:
        return replace(asset, run_id=found.run_id, materialized_at=found.at, metadata=found.metadata)
    return earlier.get(asset.key, asset)
