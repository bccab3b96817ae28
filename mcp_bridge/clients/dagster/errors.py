"""The errors of calls to Dagster, in words for the caller."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from explorer.core.errors import ExplorerError, TransientError

T = TypeVar("T")


class DagsterUnavailable(TransientError):
    """No Dagster webserver answers, or its code location is not loaded."""

    code = "dagster_unavailable"


class DagsterUnauthorized(ExplorerError):
    """The webserver refused a mutation because the token is wrong."""

    code = "dagster_unauthorized"


class UnknownRun(ExplorerError):
    """No run has this id."""

    code = "unknown_run"


class LaunchRefused(ExplorerError):
    """Dagster did not accept the run: unknown job, unknown asset, invalid configuration."""

    code = "launch_refused"


class CancelRefused(ExplorerError):
    """The run could not be cancelled; most often because it has ended."""

    code = "cancel_refused"


async def in_time(asked: Awaitable[T], within_s: float) -> T:
    """Dagster's answer. Raises: DagsterUnavailable, also when it takes longer than `within_s`."""
    try:
        async with asyncio.timeout(within_s):
            return await asked
    except TimeoutError:
        raise unavailable(f"it has not answered for {within_s:g} s") from None


def unknown_run(run_id: str) -> UnknownRun:
    return UnknownRun(f"There is no run {run_id[:64]!r}.", next_step="list_runs shows the runs.")


def unavailable(why: str) -> DagsterUnavailable:
    return DagsterUnavailable(
        f"Dagster is not available: {why}.",
        next_step="Tables can be queried meanwhile. The operator starts it with `explorer up`, or sets EXPLORER_DAGSTER_URL.",
    )
