"""What would a run do, how long did it take the last time, and what does it conflict with? Nothing is launched."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from explorer.catalog import SchemaAbsent, Sync, Tenant
from explorer.catalog.coordination.quotas import QuotaExhausted
from explorer.contract.bookkeeping.steps import STEPS_IN_ORDER, Step
from explorer.contract.names import within_pipeline
from explorer.core.errors import ExplorerError
from mcp_bridge.answers.envelope import clipped, iso, without_nulls
from mcp_bridge.clients.dagster.client import DagsterClient
from mcp_bridge.clients.dagster.records import FINISHED, AssetState
from mcp_bridge.clients.platform_database import PlatformDatabase
from mcp_bridge.clients.timeouts import CATALOG_S, in_thread
from mcp_bridge.runs.comparison import RunComparisons
from mcp_bridge.runs.launches import KeyReused, Launched, Launches, Wish
from mcp_bridge.runs.summary import run_row

# The step that makes the assets of a group; those of all other groups are models of dbt.
_STEPS: dict[str, Step] = {"discovery": "discovery", "raw": "loading", "tables": "tables"}
_MAX_ASSETS = 25
_MAX_WHY_TOKENS = 80


@dataclass(frozen=True)
class RunPlans:
    """For use inside one event loop."""

    platform: PlatformDatabase
    dagster: DagsterClient
    launches: Launches
    comparisons: RunComparisons

    async def of(self, tenant: Tenant, wish: Wish) -> dict[str, Any]:
        """The plan of a run for an answer. Raises: DagsterUnavailable, CatalogUnavailable, LaunchBusy."""
        found, conflicts = await self._conflicts(tenant, wish)
        seconds: dict[Step, float] = {}
        # What runs wrote is gone with the schemas.
        with suppress(ExplorerError):
            seconds = await self.comparisons.last_seconds(tenant, full=wish.full_refresh)
        assets = await self.dagster.assets(wish.pipeline)
        steps = _steps([asset for asset in assets if wish.assets is None or asset.key in wish.assets], seconds)
        last = await self.dagster.runs(partition=tenant.key, job=wish.pipeline, statuses=FINISHED, limit=1)
        would_launch = found is None and not any(conflict["prevents"] for conflict in conflicts)
        known = [step["last_s"] for step in steps if "last_s" in step]
        return {
            "would_launch": would_launch,
            "pipeline": wish.pipeline,
            "full_refresh": wish.full_refresh,
            "steps": steps,
            "last_s": round(sum(known), 1) if known else None,
            "last_run": run_row(self.dagster, last[0]) if last else None,
            "conflicts": conflicts,
        }

    async def _conflicts(self, tenant: Tenant, wish: Wish) -> tuple[Launched | None, list[dict[str, Any]]]:
        """The run that would answer the request in the place of a new one, and what stands in the way."""
        found, told = None, list[dict[str, Any]]()
        try:
            found, note = await self.launches.foreseen(tenant, wish)
        except (SchemaAbsent, QuotaExhausted, KeyReused) as error:
            told.append(_conflict(error.code, f"{error.message} {error.next_step}", prevents=True))
        else:
            if found is not None:
                told.append(_answering(found))
            elif note:
                told.append(_conflict("earlier_run", note, prevents=False))
        sync = await in_thread(self.platform.catalog.syncs.of, tenant, wish.pipeline, within_s=CATALOG_S)
        return found, [*told, *_held_back(sync)]


def _steps(assets: list[AssetState], seconds: dict[Step, float]) -> list[dict[str, Any]]:
    found: dict[Step, list[str]] = {}
    for asset in assets:
        found.setdefault(_STEPS.get(asset.group, "dbt"), []).append(within_pipeline(asset.key))
    return [
        without_nulls(
            {
                "step": step,
                "assets": sorted(found[step])[:_MAX_ASSETS],
                "more_assets": len(found[step]) - _MAX_ASSETS if len(found[step]) > _MAX_ASSETS else None,
                "last_s": round(seconds[step], 1) if step in seconds else None,
            }
        )
        for step in STEPS_IN_ORDER
        if step in found
    ]


def _answering(found: Launched) -> dict[str, Any]:
    run = found.run
    what = "has done it already" if run.finished else "is at work or next in the queue"
    said = f"Run {run.run_id} ({run.status}) {what}: it would be the answer. {found.note or ''}"
    return _conflict("run_ended" if run.finished else "run_active", said.strip(), prevents=True) | {
        "run_id": run.run_id
    }


def _held_back(sync: Sync) -> Iterator[dict[str, Any]]:
    if sync.held_until is not None and sync.held_until > datetime.now(UTC):
        why = clipped(": ".join((sync.failure or {}).values()), _MAX_WHY_TOKENS)
        yield _conflict(
            "held_back",
            f"{sync.failures} failures in a row ({why}), so schedules leave the tenant alone until {iso(sync.held_until)}. A run "
            "that is asked for goes all the same, and fails again unless the cause is mended.",
            prevents=False,
        )


def _conflict(kind: str, said: str, *, prevents: bool) -> dict[str, Any]:
    """`prevents`: no new run would be launched."""
    return {"kind": kind, "prevents": prevents, "message": said}
