"""The state of a tenant's partition: from the last run, else from an earlier one; and whether a run is pending."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from explorer.catalog import State, Tenant, TenantSchema, TenantStatus
from explorer.contract.tags import RunTags
from explorer.registry import load_pipelines
from mcp_bridge.clients.dagster.client import DagsterClient
from mcp_bridge.clients.dagster.errors import DagsterUnavailable, UnknownRun
from mcp_bridge.clients.dagster.records import AssetState, CheckResult, Run, RunEvent, RunStatus
from mcp_bridge.facts.partition_state import PartitionState
from mcp_bridge.facts.pipelines import PipelineFiles
from mcp_bridge.provenance.states import DagsterStates
from mcp_bridge.runs.results import RunResults
from tests.explorer.registry.test_semantics import PIPELINES

TENANT = Tenant(
    UUID(int=1),
    "demo:one",
    "commcare",
    "https://example.org",
    "demo-one",
    "Demo",
    TenantStatus.ACTIVE,
    datetime.now(UTC),
)
FILES = PipelineFiles({"commcare_sync": load_pipelines(PIPELINES)["commcare_sync"]}, {}, {})
CASES, USERS = (("commcare", "raw", name) for name in ("cases", "users"))
CASE_TABLES = ("commcare", "marts", "case_tables")
NOW = datetime.now(UTC)
TENANT = Tenant(UUID(int=1), "demo:one", "commcare", "http://h", "demo-one", "Demo", TenantStatus.ACTIVE, NOW)


def schema(state: State = State.ACTIVE, run_id: str | None = "last") -> TenantSchema:
    return TenantSchema("t_1", state, NOW, None, run_id)


class Dagster(DagsterClient):
    """A Dagster with one pipeline of three assets, whose last run has made two of them so far."""

    def __init__(self, status: RunStatus = "SUCCESS") -> None:
        self.status, self.defined = status, 0
        self.missing = False

    async def assets(
        self, job: str, partition: str | None = None, keys: Sequence[Sequence[str]] | None = None
    ) -> list[AssetState]:
        assert job == "commcare_sync"
        if partition is None:
            self.defined += 1
            return [AssetState(key, "d", "marts", (), (), ()) for key in (CASES, USERS, CASE_TABLES)]
        assert (partition, keys) == ("demo:one", [USERS])
        return [AssetState(USERS, "d", "marts", (), (), (), "earlier", NOW)]

    async def results(self, run_id: str) -> tuple[Run, list[RunEvent]]:
        if self.missing or run_id != "last":
            raise UnknownRun("Gone.", next_step="Look.")
        run = Run("last", "commcare_sync", self.status, RunTags(partition_key="demo:one"), NOW, NOW, None)
        tables: dict[str, Any] = {"tables": [{"name": "case_child", "status": "success"}]}
        check = CheckResult("rows_match_api", CASES, False, "WARN", None, {})
        return run, [
            RunEvent("MaterializationEvent", NOW, "", "INFO", asset_key=CASES, partition="demo:one"),
            RunEvent("MaterializationEvent", NOW, "", "INFO", None, CASE_TABLES, "demo:one", tables),
            # Of another tenant: it is not this one's.
            RunEvent("MaterializationEvent", NOW, "", "INFO", asset_key=USERS, partition="demo:other"),
            RunEvent("AssetCheckEvaluationEvent", NOW, "", "INFO", check=check),
        ]


class NothingNew(Dagster):
    """The same after a run without news, which materialized nothing and checked what it looked at."""

    async def assets(
        self, job: str, partition: str | None = None, keys: Sequence[Sequence[str]] | None = None
    ) -> list[AssetState]:
        return [AssetState(CASES, "d", "raw", (), (), (), *(("earlier", NOW) if partition else ()))]

    async def results(self, run_id: str) -> tuple[Run, list[RunEvent]]:
        run = Run(run_id, "commcare_sync", "SUCCESS", RunTags(partition_key="demo:one"), NOW, NOW, None)
        check = CheckResult("load_is_sound", CASES, run_id == "last", "WARN", None, {})
        return run, [RunEvent("AssetCheckEvaluationEvent", NOW, "", "INFO", check=check)]


def test_what_the_last_run_checked_counts_also_where_nothing_came() -> None:
    found = state_of(NothingNew(), schema())
    assert found.assets[CASES].run_id == "earlier"
    assert found.failing == {CASES: ()}


def states(dagster: DagsterClient) -> DagsterStates:
    return DagsterStates(dagster, RunResults(dagster), FILES, with_raw=True)


def state_of(dagster: DagsterClient, schema: TenantSchema) -> PartitionState:
    return asyncio.run(states(dagster).of(TENANT, schema))


def test_assets_are_as_the_last_run_left_them_else_an_earlier_one() -> None:
    found = state_of(Dagster(), schema())
    assert {key: asset.run_id for key, asset in found.assets.items()} == {
        CASES: "last",
        CASE_TABLES: "last",
        USERS: "earlier",
    }
    assert [entry.name for entry in found.assets[CASE_TABLES].metadata.tables or ()] == ["case_child"]
    assert found.failing == {CASES: ("rows_match_api",), USERS: ()}


@pytest.mark.parametrize(
    ("status", "state", "settled", "unfinished"),
    [
        ("SUCCESS", State.ACTIVE, True, None),
        ("FAILURE", State.ACTIVE, True, None),
        # Between two of its steps, and between its last step and its end, a run has let go of the schemas.
        ("STARTED", State.ACTIVE, False, "last"),
        ("STARTED", State.MATERIALIZING, False, None),
    ],
)
def test_whether_more_is_to_come(status: RunStatus, state: State, settled: bool, unfinished: str | None) -> None:
    found = state_of(Dagster(status), schema(state))
    assert (found.settled, found.unfinished_run) == (settled, unfinished)


def test_a_run_that_dagster_has_forgotten_adds_nothing_any_more() -> None:
    dagster = Dagster()
    dagster.missing = True

    async def assets(job: str, partition: str | None = None, keys: Any = None) -> list[AssetState]:
        return [AssetState(CASES, "d", "marts", (), (), (), "earlier" if partition else None)]

    dagster.assets = assets  # type: ignore[method-assign]
    found = state_of(dagster, schema())
    assert (found.assets[CASES].run_id, found.settled) == ("earlier", True)


def test_without_dagster_the_reason_is_told_and_nothing_is_raised() -> None:
    class Gone(Dagster):
        async def results(self, run_id: str) -> tuple[Run, list[RunEvent]]:
            raise DagsterUnavailable("It is gone.", next_step="Start it.")

    assert state_of(Gone(), schema()) == PartitionState(problem="It is gone.")


def test_what_pipelines_define_is_read_once_for_all_tenants() -> None:
    dagster = Dagster()

    async def work() -> None:
        found = states(dagster)
        await found.prepare()
        await found.of(TENANT, schema())
        await found.of(TENANT, schema())

    asyncio.run(work())
    assert dagster.defined == 1
