"""Dagster's schedules, and the age that they define as stale."""

import asyncio
from typing import Any

import pytest

from explorer.registry import load_pipelines
from mcp_bridge.clients.dagster.client import DagsterClient
from mcp_bridge.clients.dagster.records import Schedule
from mcp_bridge.facts.freshness import STALE_AFTER_S, FreshnessRule
from mcp_bridge.provenance.schedules import Schedules
from tests.explorer.registry.test_semantics import PIPELINES
from tests.mcp_bridge.clients.test_dagster_client import with_client

PIPELINE = load_pipelines(PIPELINES)["commcare_sync"]


class Scheduled(DagsterClient):
    """A Dagster that has this schedule."""

    def __init__(self, schedule: Schedule | None) -> None:
        self.found, self.asked = schedule, 0

    async def schedule(self, name: str) -> Schedule | None:
        assert name == "commcare_sync_schedule"
        self.asked += 1
        return self.found


@pytest.mark.parametrize(
    ("schedule", "stale_after_s", "said"),
    [
        (Schedule(True), 7 * 3600, "0 */6 * * *"),
        (Schedule(False), STALE_AFTER_S, "is stopped"),
        (None, STALE_AFTER_S, "is stopped"),
    ],
)
def test_a_running_schedule_says_how_old_is_stale(schedule: Schedule | None, stale_after_s: int, said: str) -> None:
    dagster = Scheduled(schedule)

    async def work() -> Any:
        rules = Schedules(dagster)
        await rules.of(PIPELINE)
        return await rules.of(PIPELINE)

    rule = asyncio.run(work())
    assert (rule.stale_after_s, dagster.asked) == (stale_after_s, 1)
    assert said in rule.because


def test_a_target_decides_whether_the_schedule_runs_or_not() -> None:
    described = PIPELINE.schedule
    assert described is not None
    pipeline = PIPELINE.model_copy(update={"schedule": described.model_copy(update={"fresh_within_minutes": 90})})

    async def rules() -> list[FreshnessRule]:
        return [await Schedules(Scheduled(Schedule(running))).of(pipeline) for running in (True, False)]

    running, stopped = asyncio.run(rules())
    assert running.stale_after_s == stopped.stale_after_s == 5400
    assert "1.5 h" in running.because


def test_schedules_are_read_from_dagster(dagster_url: str) -> None:
    async def work(client: DagsterClient) -> tuple[Schedule | None, Schedule | None]:
        return await client.schedule("commcare_sync_schedule"), await client.schedule("no_such_schedule")

    assert with_client(dagster_url, work) == (Schedule(False), None)
