"""What is too old, and who removes it? One asset, materialized every night: runs with their events and logs, schemas that nobody
asks any more, and folders of tenants whose schemas are gone. Dagster itself removes old ticks (`dagster.yaml`).
"""

import logging
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg

from explorer.catalog import Catalog, State
from explorer.contract.materializations import Retention
from explorer.contract.names import MAINTENANCE, RETENTION
from explorer.contract.tags import RunTags
from explorer.core.settings import Settings
from explorer.tenants import EXPIRY, WORK_DIRS, expire_schema
from explorer_dagster.documentation import documentation
from explorer_dagster.metadata import as_metadata
from explorer_dagster.resources import Platform
from explorer_dagster.runs import UNFINISHED

_log = logging.getLogger(__name__)
# Runs looked at in one night. Dagster lists the newest of the old ones first: the nights after see the rest.
_MOST_RUNS = 50_000
_PAGE = 500
# A folder may belong to a tenant that is being made.
_FOLDER_AGE_S = 86_400
_FINISHED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


@dg.asset(
    key=dg.AssetKey(RETENTION),
    group_name=RETENTION[0],
    kinds={"postgres"},
    owners=["team:data-engineering"],
    tags={"layer": RETENTION[0]},
    metadata=documentation("operations.md", "Running Dagster"),
    description="What was removed because it is too old: runs with their events and logs, and folders that no tenant has any"
    " more. A run that filled a table as it is now stays, however old.",
)
def retention(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult[None]:
    settings = platform.settings
    runs = _remove_runs(context.instance, settings.run_retention_days, context.run.run_id)
    expired = tuple(_expire_schemas(context.instance, platform))
    folders = _remove_folders(settings, platform.catalog)
    platform.catalog.usage.forget_ended()
    told = Retention(runs_removed=runs, folders_removed=folders, schemas_expired=expired)
    return dg.MaterializeResult(metadata=as_metadata(told))


def maintenance() -> dg.Definitions:
    """The asset, its job and its schedule, which runs unless somebody stops it."""
    job = dg.define_asset_job(
        MAINTENANCE,
        selection=dg.AssetSelection.assets(retention),
        description="Removes runs, events and logs that are too old.",
        executor_def=dg.in_process_executor,
    )
    nightly = dg.ScheduleDefinition(
        name=f"{MAINTENANCE}_schedule",
        job=job,
        cron_schedule="17 2 * * *",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Every night.",
    )
    return dg.Definitions(assets=[retention], jobs=[job], schedules=[nightly])


def _remove_runs(instance: dg.DagsterInstance, days: int, own: str) -> int:
    """Delete finished runs older than so many days (0: none), but for those that a latest materialization is of."""
    if days == 0:
        return 0
    latest, removed = _latest_materializations(instance), 0
    for run_id in list(_old_runs(instance, datetime.now(UTC) - timedelta(days=days))):
        if run_id != own and not _holds(instance, run_id, latest):
            instance.compute_log_manager.delete_logs(prefix=[run_id])
            instance.delete_run(run_id)
            removed += 1
    return removed


def _old_runs(instance: dg.DagsterInstance, before: datetime) -> Iterator[str]:
    cursor, seen = None, 0
    old = dg.RunsFilter(statuses=_FINISHED, created_before=before)
    while seen < _MOST_RUNS:
        page = instance.get_run_ids(old, cursor=cursor, limit=_PAGE)
        yield from page
        seen += len(page)
        if len(page) < _PAGE:
            return
        cursor = page[-1]


def _latest_materializations(instance: dg.DagsterInstance) -> set[int]:
    """Storage ids of the events that tell of each asset, in each partition, what it is now."""
    found: set[int] = set()
    for key in instance.all_asset_keys():
        by_partition = instance.event_log_storage.get_latest_storage_id_by_partition(
            key, dg.DagsterEventType.ASSET_MATERIALIZATION
        )
        found.update(by_partition.values())
        # Of an asset without partitions.
        found.update(record.storage_id for record in instance.fetch_materializations(key, limit=1).records)
    return found


def _holds(instance: dg.DagsterInstance, run_id: str, latest: set[int]) -> bool:
    told = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION).records
    return any(record.storage_id in latest for record in told)


def _expire_schemas(instance: dg.DagsterInstance, platform: Platform) -> Iterator[str]:
    """Drop the schemas of tenants that nobody asked for `EXPLORER_IDLE_SCHEMA_DAYS` (0: none); their keys. A call that names the
    tenant is in the audit trail; a run that somebody waits for is in Dagster."""
    settings, catalog = platform.settings, platform.catalog
    if settings.idle_schema_days == 0:
        return
    if 0 < settings.audit_retention_days < settings.idle_schema_days:
        _log.warning("No schemas are dropped: the audit trail has no calls of EXPLORER_IDLE_SCHEMA_DAYS days.")
        return
    since = datetime.now(UTC) - timedelta(days=settings.idle_schema_days)
    tenants = [tenant for tenant in catalog.tenants.list() if tenant.created_at < since]
    schemas = catalog.schemas.of([tenant.id for tenant in tenants])
    for tenant in tenants:

        def is_idle(key: str = tenant.key) -> bool:
            asked_at = catalog.audit.last_of(key, but_by=EXPIRY)
            return (asked_at is None or asked_at < since) and not _is_wanted(instance, key, since)

        schema = schemas[tenant.id]
        may_go = schema.state in (State.ACTIVE, State.EXPIRED) or schema.is_gone_for_now
        if may_go and is_idle() and expire_schema(settings, catalog, platform.connections, tenant, schema, is_idle):
            yield tenant.key


def _is_wanted(instance: dg.DagsterInstance, key: str, since: datetime) -> bool:
    """Whether a run of the tenant is at work or waits, or somebody waited for one since then."""
    own, waited_for = RunTags(partition_key=key), RunTags(partition_key=key, run_class="waited_for")
    return any(
        instance.get_run_ids(runs, limit=1)
        for runs in (
            dg.RunsFilter(statuses=[dg.DagsterRunStatus.NOT_STARTED, *UNFINISHED], tags=own.to_tags()),
            dg.RunsFilter(created_after=since, tags=waited_for.to_tags()),
        )
    )


def _remove_folders(settings: Settings, catalog: Catalog) -> int:
    """Delete the work folders of schemas that are not in the catalog any more."""
    tenants = catalog.tenants.list(include_removed=True)
    known = {schema.prefix for schema in catalog.schemas.of([tenant.id for tenant in tenants]).values()}
    gone = [
        folder
        for tool in WORK_DIRS
        for folder in _folders(settings.home / tool)
        if folder.name not in known and time.time() - folder.stat().st_mtime > _FOLDER_AGE_S
    ]
    for folder in gone:
        shutil.rmtree(folder, ignore_errors=True)
    return len(gone)


def _folders(parent: Path) -> list[Path]:
    """The tenants' folders in it: their names are prefixes of schemas."""
    return [each for each in parent.glob("t_*") if each.is_dir() and not each.is_symlink()]
