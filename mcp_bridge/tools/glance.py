"""How do many tenants stand, at a glance? One row each: how fresh, what is at work, how the last run ended, how much there is.

The catalog alone answers, in one statement for all of them; Dagster adds the runs that only wait, when it answers at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from explorer.catalog import Catalog, State, Tenant
from explorer.catalog.lifecycle.overviews import Overview
from mcp_bridge.answers.envelope import age_s, without_nulls
from mcp_bridge.clients.dagster.client import DagsterClient
from mcp_bridge.clients.dagster.errors import DagsterUnavailable, in_time
from mcp_bridge.clients.dagster.records import ACTIVE, Run
from mcp_bridge.clients.timeouts import QUERY_S
from mcp_bridge.facts.freshness import FreshnessRules, strictest
from mcp_bridge.facts.pipelines import PipelineFiles
from mcp_bridge.gate.access import Caller

_MAX_RUNS = 500
# What the tenants of a page often have in common is told once.
_OFTEN_EQUAL = ("provider", "server", "scopes")


def overviews_of(catalog: Catalog, tenants: Sequence[Tenant]) -> dict[UUID, Overview]:
    """What the catalog knows of these tenants. Blocks."""
    return catalog.overviews.of([tenant.id for tenant in tenants])


@dataclass(frozen=True)
class Glance:
    """`freshness`: the rules that follow from the schedules, as far as they are known."""

    files: PipelineFiles
    freshness: FreshnessRules
    dagster: DagsterClient

    async def active(self) -> tuple[Mapping[str, Run], list[str]]:
        """The unfinished run of each tenant that has one, by key: the one at work rather than one that waits. Without Dagster
        none, and a sentence that says so."""
        try:
            runs = await in_time(self.dagster.runs(statuses=ACTIVE, limit=_MAX_RUNS), QUERY_S)
        except DagsterUnavailable:
            return {}, ["Dagster does not answer at once: runs that wait to begin are not shown."]
        found: dict[str, Run] = {}
        for run in sorted(runs, key=lambda run: run.status in ("STARTED", "CANCELING")):
            if run.tenant is not None:
                found[run.tenant] = run
        return found, []

    def row(self, caller: Caller, tenant: Tenant, overview: Overview, active: Run | None) -> dict[str, Any]:
        """The tenant in a list."""
        rule = strictest([self.freshness.latest(pipeline, tenant) for pipeline in self.files.of(tenant)])
        held, looked_at = overview.holdings, overview.looked_at
        asked_at = max((at for at in (held and held.asked_at, looked_at) if at), default=None)
        row = {
            "key": tenant.key,
            "name": tenant.display_name,
            "domain": tenant.external_id if not tenant.key.endswith(f":{tenant.external_id}") else None,
            "provider": tenant.provider,
            "server": tenant.server,
            "schema_state": overview.state.value if overview.state is not State.ACTIVE else None,
            "freshness": rule.judge(held.read_at, asked_at) if held else "unknown",
            "age_s": age_s(asked_at) if held else None,
            "active_run": _active(overview, active),
            "last_run": _last(overview),
            "tables": held.tables if held else None,
            "rows": held.rows if held else None,
            "tables_with_failing_checks": (held.failing or None) if held else None,
            "scopes": sorted(scope.value for scope in caller.scopes(tenant.key)),
        }
        return without_nulls(row)


def told_once(rows: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """`(what all rows have in common, the rows without it)`."""
    common = {
        name: rows[0][name] for name in _OFTEN_EQUAL if rows and all(row.get(name) == rows[0].get(name) for row in rows)
    }
    return common, [{name: value for name, value in row.items() if name not in common} for row in rows]


def _active(overview: Overview, run: Run | None) -> dict[str, Any] | None:
    if run is not None:
        return {"run_id": run.run_id, "status": run.status}
    if overview.state is State.MATERIALIZING:
        return {"run_id": overview.run_id, "status": "STARTED"}
    return None


def _last(overview: Overview) -> dict[str, Any] | None:
    """How the last run of everything ended, and how long ago."""
    last = overview.last
    if last is None:
        return None
    failed = {"status": "FAILURE", "cause": last.failure.get("code")} if last.failure else {"status": "SUCCESS"}
    return failed | {"age_s": age_s(last.judged_at)}
