"""When does a pipeline start by itself, and for which tenants?

Dagster's schedules tick every minute and take the turns that have come: of each tenant by its own cron, the pipeline's unless
another was chosen for it. A sync is launched where a look finds news, a full read always.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from datetime import datetime

import dagster as dg

from explorer.catalog import Sync, Tenant
from explorer.contract.names import full_refresh_schedule_name, schedule_name
from explorer.contract.tags import RunTags
from explorer.providers.base import Provider
from explorer.registry import Pipeline, Schedule
from explorer.registry.moments import last_turn
from explorer_dagster.partitions import tenants
from explorer_dagster.resources import Platform
from explorer_dagster.runs import UNFINISHED
from explorer_dagster.turns.looking import Found, Looker, summary

EVERY_MINUTE = "* * * * *"
# Dagster waits a minute for an evaluation.
_MOST_S = 50.0
_log = logging.getLogger(__name__)


def schedules(pipeline: Pipeline, provider: Provider, version: str) -> list[dg.ScheduleDefinition]:
    """`<pipeline>_schedule` and `<pipeline>_full_refresh_schedule`, where the pipeline's file has them. `version`: of all that a
    run would use."""
    described = (
        (schedule_name(pipeline.name), pipeline.schedule, RunTags()),
        (full_refresh_schedule_name(pipeline.name), pipeline.full_refresh, RunTags(full_refresh=True)),
    )
    return [
        _schedule(pipeline, provider, version, name, schedule, tags)
        for name, schedule, tags in described
        if schedule is not None
    ]


def _schedule(
    pipeline: Pipeline, provider: Provider, version: str, name: str, schedule: Schedule, tags: RunTags
) -> dg.ScheduleDefinition:
    what = "with everything read again, so that what is gone is found" if tags.full_refresh else "where it has news"

    @dg.schedule(
        name=name,
        job_name=pipeline.name,
        cron_schedule=EVERY_MINUTE,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus[schedule.default_status.upper()],
        description=f"Starts {pipeline.name} for each active tenant whose turn has come, {what}. Turns: {schedule.cron} "
        f"({schedule.timezone}), spread over {schedule.spread_minutes} minutes, or what was chosen for a tenant.",
    )
    def turns(context: dg.ScheduleEvaluationContext, platform: Platform) -> Iterator[dg.RunRequest | dg.SkipReason]:
        began, at = time.monotonic(), context.scheduled_execution_time
        syncs = platform.catalog.syncs.all(pipeline.name)
        registered = set(context.instance.get_dynamic_partitions(tenants.name or ""))
        due = [
            tenant
            for tenant in platform.catalog.tenants.list()
            if tenant.provider == pipeline.provider
            and tenant.key in registered
            and _is_due(schedule, tenant, syncs.get(tenant.id, Sync(pipeline.name)), at, tags)
        ]
        # They have their turns when the day of their quota is over.
        exhausted = platform.catalog.quotas.exhausted([tenant.id for tenant in due])
        due = [tenant for tenant in due if tenant.id not in exhausted]
        if not due:
            waiting = f" {len(exhausted)} wait because their quotas are used up." if exhausted else ""
            yield dg.SkipReason(f"No tenant's turn has come.{waiting}")
            return
        busy = keys_at_work(context.instance, pipeline.name, tags)
        free = [tenant for tenant in due if tenant.key not in busy]
        found: dict[str, Found] = (
            {} if tags.full_refresh else Looker(platform, pipeline, provider, version).at(free, syncs)
        )
        if time.monotonic() - began > _MOST_S:
            # Dagster may not wait for what follows: a turn that is taken without its run would be lost.
            yield dg.SkipReason("The looks took too long. The turns are taken at the next tick.")
            return
        # Who failed has the turn when it is held back no longer.
        not_taken = {key for key, each in found.items() if each.outcome in ("late", "failed")}
        taken = [tenant.id for tenant in due if tenant.key not in not_taken]
        platform.catalog.syncs.follow(pipeline.name, taken, at, full_refresh=tags.full_refresh)
        launched = [tenant for tenant in free if tags.full_refresh or found[tenant.key].outcome == "news"]
        for tenant in launched:
            yield dg.RunRequest(run_key=f"{at:%Y%m%dT%H%M}:{tenant.key}", partition_key=tenant.key, tags=tags.to_tags())
        for words in _told(free, found):
            context.log.info(words)
        if not launched:
            yield dg.SkipReason(summary(found.values()))

    return turns


def _is_due(schedule: Schedule, tenant: Tenant, sync: Sync, at: datetime, tags: RunTags) -> bool:
    """Whether a turn of the tenant has come that was not taken, and nothing holds it back. What nobody foresaw in one tenant's
    choices must not keep the others from their turns."""
    try:
        return _has_come(schedule, tenant, sync, at, tags)
    except Exception:
        _log.exception("No turn of %s can be told.", tenant.key)
        return False


def _has_come(schedule: Schedule, tenant: Tenant, sync: Sync, at: datetime, tags: RunTags) -> bool:
    own = sync.schedule(schedule, full_refresh=tags.full_refresh)
    if own is None or (sync.held_until is not None and sync.held_until > at):
        return False
    followed = sync.full_refresh_followed_at if tags.full_refresh else sync.followed_at
    return last_turn(own, tenant.key, at) > max(followed or tenant.created_at, tenant.created_at)


def _told(free: Sequence[Tenant], found: dict[str, Found]) -> Iterator[str]:
    """What became of the looks, where that is worth a line."""
    for tenant in free:
        each = found.get(tenant.key)
        if each is not None and each.outcome not in ("nothing", "late"):
            yield f"{tenant.key}: {each.outcome}, {each.words}"


def keys_at_work(instance: dg.DagsterInstance, job: str, tags: RunTags) -> set[str | None]:
    """Keys of tenants with an active run that does what a run with these tags would do.

    A sync of changes does not find deleted records, so a full refresh queues behind it. One that waits may do so for days, as
    nobody waits for it, and syncs overtake it.
    """
    runs = instance.get_runs(dg.RunsFilter(job_name=job, statuses=UNFINISHED, tags=tags.to_tags()))
    found = [(RunTags.from_tags(run.tags), run.status) for run in runs]
    return {
        known.partition_key
        for known, status in found
        if tags.full_refresh or not known.full_refresh or status != dg.DagsterRunStatus.QUEUED
    }
