"""When does a run go on that CommCare's allowance has ended? Its step marks it, the sensor `throttled_runs` starts it again.

A run never sleeps for hours: it would hold a worker. What it had landed stays, so that the same run again reads only the rest.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from explorer.http.errors import Throttled

# `waiting` until the run was started again or is not needed any more; then `started` or `dropped`.
RETRY_TAG = "explorer/retry"
RETRY_AT_TAG = "explorer/retry_at"
RETRY_OF_TAG = "explorer/retry_of"
RETRY_NUMBER_TAG = "explorer/retry_number"
# Not sooner than this, doubled with each retry: together an hour, which is the longest window but days that servers count in.
FIRST_DELAY_S = 60.0
MAX_RETRIES = 5


@dataclass(frozen=True)
class Retry:
    """The next try of a run: `number` of MAX_RETRIES, at `at` or soon after."""

    number: int
    at: datetime

    def __str__(self) -> str:
        return f"The same run starts again at {self.at:%Y-%m-%d %H:%M:%S} UTC, retry {self.number} of {MAX_RETRIES}."


def postpone(context: dg.AssetExecutionContext, errors: Iterable[Mapping[str, Any]]) -> Retry | None:
    """Mark the run for another try when the server lets it, as far as one of `errors` (`ExplorerError.as_dict()`) is Throttled.

    None when none is, and after the last retry.
    """
    waits = [_wait_s(error) for error in errors if Throttled.is_code(error.get("code"))]
    number = int(context.run.tags.get(RETRY_NUMBER_TAG, "0")) + 1
    if not waits or number > MAX_RETRIES:
        return None
    wait_s = max(*waits, FIRST_DELAY_S * 2 ** (number - 1))
    retry = Retry(number, datetime.now(UTC) + timedelta(seconds=wait_s))
    context.instance.add_run_tags(context.run.run_id, {RETRY_TAG: "waiting", RETRY_AT_TAG: retry.at.isoformat()})
    return retry


def _wait_s(error: Mapping[str, Any]) -> float:
    return float((error.get("details") or {}).get("retry_after_s") or 0.0)


def waiting_runs(instance: dg.DagsterInstance) -> list[tuple[dg.RunRecord, datetime]]:
    """Failed runs that wait for another try, each with its time."""
    waiting = dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], tags={RETRY_TAG: "waiting"})
    return [
        (record, datetime.fromisoformat(record.dagster_run.tags[RETRY_AT_TAG]))
        for record in instance.get_run_records(waiting)
    ]


def is_waiting(run: dg.DagsterRun) -> bool:
    return run.status == dg.DagsterRunStatus.FAILURE and run.tags.get(RETRY_TAG) == "waiting"


def settle(instance: dg.DagsterInstance, run: dg.DagsterRun, outcome: str) -> None:
    """The run waits no more: `outcome` is `started` or `dropped`."""
    instance.add_run_tags(run.run_id, {RETRY_TAG: outcome})


def was_started_again(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether the try that `run` waits for exists."""
    return bool(instance.get_runs(dg.RunsFilter(tags={RETRY_OF_TAG: run.run_id}), limit=1))


def request(run: dg.DagsterRun, partition: str, keep: Iterable[str]) -> dg.RunRequest:
    """The same run again, with the tags `keep` of it. Asked for twice it starts once."""
    tags = {tag: run.tags[tag] for tag in keep if tag in run.tags}
    number = int(run.tags.get(RETRY_NUMBER_TAG, "0")) + 1
    return dg.RunRequest(
        run_key=f"retry-of:{run.run_id}",
        job_name=run.job_name,
        partition_key=partition,
        run_config=run.run_config,
        asset_selection=sorted(run.asset_selection) if run.asset_selection else None,
        asset_check_keys=sorted(run.asset_check_selection) if run.asset_check_selection else None,
        tags={**tags, RETRY_OF_TAG: run.run_id, RETRY_NUMBER_TAG: str(number)},
    )
