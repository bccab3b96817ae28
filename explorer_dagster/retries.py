"""When does a run continue that used up the provider's allowance? Its step marks it, the sensor `throttled_runs` launches a
retry.

A run never sleeps for hours, which would block a worker. What it loaded stays, so that the retry reads only the rest.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import dagster as dg

from explorer.contract.tags import RunTags
from explorer.http.errors import Throttled

# The shortest wait, doubled with each retry: together an hour, the longest window but days in which servers count.
FIRST_DELAY_S = 60.0
MAX_RETRIES = 5


@dataclass(frozen=True)
class Retry:
    """The next retry of a run: `number` of MAX_RETRIES, at `at` or soon after."""

    number: int
    at: datetime

    def __str__(self) -> str:
        return f"The same run starts again at {self.at:%Y-%m-%d %H:%M:%S} UTC, retry {self.number} of {MAX_RETRIES}."


def postpone(context: dg.AssetExecutionContext, errors: Iterable[Mapping[str, Any]]) -> Retry | None:
    """Mark the run for a retry when the server allows it, if one of `errors` (`ExplorerError.as_dict()`) is Throttled.

    None if none is, and after the last retry.
    """
    waits = [_wait_s(error) for error in errors if Throttled.is_code(error.get("code"))]
    number = next_number(context.run)
    if not waits or number > MAX_RETRIES:
        return None
    wait_s = max(*waits, FIRST_DELAY_S * 2 ** (number - 1))
    retry = Retry(number, datetime.now(UTC) + timedelta(seconds=wait_s))
    context.instance.add_run_tags(context.run.run_id, RunTags(retry="waiting", retry_at=retry.at).to_tags())
    return retry


def _wait_s(error: Mapping[str, Any]) -> float:
    return float((error.get("details") or {}).get("retry_after_s") or 0.0)


def next_number(run: dg.DagsterRun) -> int:
    """The number of the run's next retry."""
    return (RunTags.from_tags(run.tags).retry_number or 0) + 1


def waiting_runs(instance: dg.DagsterInstance) -> list[tuple[dg.RunRecord, datetime]]:
    """Failed runs that wait for a retry, each with its time."""
    waiting = dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], tags=RunTags(retry="waiting").to_tags())
    records = instance.get_run_records(waiting)
    times = [RunTags.from_tags(record.dagster_run.tags).retry_at for record in records]
    return [(record, at) for record, at in zip(records, times, strict=True) if at is not None]


def is_waiting(run: dg.DagsterRun) -> bool:
    """Whether the run failed and waits for a retry."""
    return run.status == dg.DagsterRunStatus.FAILURE and RunTags.from_tags(run.tags).retry == "waiting"


def settle(instance: dg.DagsterInstance, run: dg.DagsterRun, outcome: Literal["started", "dropped"]) -> None:
    """Mark that the run no longer waits."""
    instance.add_run_tags(run.run_id, RunTags(retry=outcome).to_tags())


def was_started_again(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether the retry of `run` exists."""
    return bool(instance.get_runs(dg.RunsFilter(tags=RunTags(retry_of=run.run_id).to_tags()), limit=1))


def request(run: dg.DagsterRun) -> dg.RunRequest:
    """Launch the same run again, for the same requester. A second call launches nothing."""
    tags = RunTags.from_tags(run.tags)
    again = RunTags(
        full_refresh=tags.full_refresh,
        requested_by=tags.requested_by,
        retry_of=run.run_id,
        retry_number=next_number(run),
    )
    return dg.RunRequest(
        run_key=f"retry-of:{run.run_id}",
        job_name=run.job_name,
        partition_key=tags.partition_key,
        run_config=run.run_config,
        asset_selection=sorted(run.asset_selection) if run.asset_selection else None,
        asset_check_keys=sorted(run.asset_check_selection) if run.asset_check_selection else None,
        tags=again.to_tags(),
    )
