"""One poller follows a run, and all its watchers get the error that stops it."""

import asyncio

import pytest

from mcp_bridge.clients.dagster.records import Run, RunEvent
from mcp_bridge.clients.dagster.watching import RunWatches


async def unreadable(run_id: str, cursor: str | None) -> tuple[Run, list[RunEvent], str | None, bool]:
    raise KeyError("jobName")


def test_an_answer_that_cannot_be_read_ends_the_watch() -> None:
    async def work() -> None:
        watches = RunWatches(unreadable, lambda run, events: None)
        async with watches.watch("r") as watch:
            with pytest.raises(KeyError, match="jobName"):
                await watch.events(timeout_s=10)
        assert watches._pollers == {}

    asyncio.run(work())
