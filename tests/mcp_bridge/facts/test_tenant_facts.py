"""Cached facts about a tenant's tables, and when they are refreshed."""

import asyncio
from datetime import UTC, datetime
from typing import Any

from explorer.catalog import Limits, Tenant, TenantSchema
from explorer.contract.materializations import Tables
from explorer.providers import faults_of
from explorer.registry import Pipeline
from mcp_bridge.clients.dagster.records import AssetState
from mcp_bridge.facts import tenant_facts
from mcp_bridge.facts.freshness import NO_SCHEDULE, FreshnessRule
from mcp_bridge.facts.partition_state import PartitionState
from mcp_bridge.facts.pipelines import PipelineFiles
from mcp_bridge.facts.tables import TenantTables
from mcp_bridge.facts.tenant_facts import TenantFacts
from tests.mcp_bridge.stage import Stage


def test_what_a_run_has_written_is_read_before_anybody_asks(stage: Stage) -> None:
    tenant = stage.tenants["demo:slow"]
    rw = stage.catalog.schemas.rw_login(tenant)

    async def work() -> None:
        services = stage.services()
        facts = services.facts
        await facts.catch_up()
        assert facts._tables.in_use(60) == []
        before = await facts.tables(tenant)
        await facts.catch_up()
        assert facts._tables.in_use(60) == [(before, True)]
        with stage.connections.tenant(rw.user, rw.password).connect() as connection:
            connection.execute(f"CREATE TABLE {before.live.schema.marts}.case_ahead (case_id text)".encode())
        stage.written("demo:slow", "run-ahead")
        await facts.catch_up()
        ((ahead, settled),) = facts._tables.in_use(60)
        assert (settled, ahead.live.schema.run_id, "case_ahead" in ahead.tables) == (True, "run-ahead", True)
        assert await facts.tables(tenant) is ahead
        await services.aclose()

    asyncio.run(work())


KEY = ("commcare", "marts", "case_tables")


class Rules:
    """No schedule runs."""

    async def of(self, pipeline: Pipeline, tenant: Tenant | None = None) -> FreshnessRule:
        return NO_SCHEDULE

    def latest(self, pipeline: Pipeline, tenant: Tenant) -> FreshnessRule:
        return NO_SCHEDULE


class States:
    """The states of runs, set by a test; `wait_s`: delay of the answer; `failure`: raised instead of an answer."""

    def __init__(self) -> None:
        self.state, self.wait_s, self.asked = PartitionState(settled=True), 0.0, 0
        self.failure: Exception | None = None

    async def of(self, tenant: Tenant, schema: TenantSchema) -> PartitionState:
        self.asked += 1
        said, failure = self.state, self.failure
        await asyncio.sleep(self.wait_s)
        if failure is not None:
            raise failure
        return said

    async def prepare(self) -> None:
        pass


def changed(*, finished: bool, change: str) -> PartitionState:
    """The table was changed by the run, as far as that is known."""
    change_of = {"table": "case_child", "column": "dob", "before": "date", "after": change}
    tables = Tables.from_metadata({"tables": [{"name": "case_child", "status": "success"}], "migrations": [change_of]})
    asset = AssetState(KEY, None, "marts", (), (), (), "run-types", datetime.now(UTC), tables)
    return PartitionState({KEY: asset}, settled=finished, unfinished_run=None if finished else "run-types")


def facts_of(stage: Stage, states: States) -> TenantFacts:
    services = stage.services()
    files = PipelineFiles.read(stage.settings.project_dir, faults_of)
    return TenantFacts(
        services.platform, services.databases, files, states, Rules(), lambda _: Limits(), with_raw=False
    )


def changes(known: TenantTables) -> list[str]:
    return list(known.tables["case_child"].type_changes)


def test_while_the_run_that_wrote_them_has_not_ended_answers_say_so_and_are_current_once_it_has(stage: Stage) -> None:
    """A run lets go of the schemas before it ends; what it says of the tables comes last."""
    tenant, states = stage.tenants["demo:second"], States()
    stage.written("demo:second", "run-types")

    async def work() -> None:
        facts = facts_of(stage, states)
        states.state = changed(finished=False, change="before")
        for within_s in (2.0, 0.5):
            early = await facts.tables(tenant, within_s)
            assert changes(early) == ["dob: date to before"]
            assert any("Run run-types has written these tables and has not ended" in text for text in early.warnings)
        states.state = changed(finished=True, change="after")
        # At once, not when what was found before has grown old.
        current = await facts.tables(tenant)
        assert (changes(current), current.warnings) == (["dob: date to after"], [])
        asked = states.asked
        assert await facts.tables(tenant) is current
        assert states.asked == asked
        facts.close()

    asyncio.run(work())


def test_an_answer_of_dagster_that_nobody_waited_for_is_given_for_a_while_and_not_for_ever(
    stage: Stage, monkeypatch: Any
) -> None:
    tenant, states = stage.tenants["demo:second"], States()
    monkeypatch.setattr(tenant_facts, "QUERY_S", 0.05)
    clock = [1000.0]

    class Clock:
        monotonic = staticmethod(lambda: clock[0])

    async def work() -> None:
        monkeypatch.setattr(tenant_facts, "time", Clock)
        facts = facts_of(stage, states)
        states.state, states.wait_s = changed(finished=False, change="before"), 0.5
        late = await facts.tables(tenant, 0.05)
        assert late.late
        assert late.warnings == ["Dagster does not answer in time. Failures of the latest run are unknown meanwhile."]
        await asyncio.sleep(0.6)
        states.state, states.wait_s = changed(finished=True, change="after"), 0.0
        clock[0] += 60
        await asyncio.sleep(2.1)
        assert changes(await facts.tables(tenant, 0.05)) == ["dob: date to after"]
        facts.close()

    asyncio.run(work())


def test_a_question_that_failed_for_whatever_reason_is_asked_again(stage: Stage, monkeypatch: Any) -> None:
    """Nobody waited for it: its failure is the next caller's only when that one's own question fails too."""
    tenant, states = stage.tenants["demo:second"], States()
    monkeypatch.setattr(tenant_facts, "QUERY_S", 0.05)

    async def work() -> None:
        facts = facts_of(stage, states)
        states.state, states.wait_s, states.failure = changed(finished=True, change="after"), 0.2, KeyError("metadata")
        assert (await facts.tables(tenant, 0.05)).late
        await asyncio.sleep(0.3)
        states.wait_s, states.failure = 0.0, None
        assert changes(await facts.tables(tenant)) == ["dob: date to after"]
        facts.close()

    asyncio.run(work())
