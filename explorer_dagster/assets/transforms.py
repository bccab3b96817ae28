"""The step that materializes the assets of kinds tables and dbt together: one run of dbt builds both."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import dagster as dg

from explorer.contract.observations import TableProgress
from explorer.contract.schemas import TenantSchemas
from explorer.core.settings import get_settings
from explorer.marts import causes
from explorer.marts.dbt.results import NodeResult
from explorer.marts.manifest import static_lineage, static_manifest, static_parse
from explorer.marts.project import TenantProject, prepare
from explorer.marts.tenant_build import Built, build
from explorer.postgres.storage_errors import next_step_after
from explorer.providers.base import Provider
from explorer.registry import Pipeline
from explorer.tables.plan import TablePlanner
from explorer_dagster.assets.dbt import StaticModels
from explorer_dagster.assets.tables import TenantTables
from explorer_dagster.failures import failures_explained
from explorer_dagster.metadata import Event
from explorer_dagster.partitions import tenants
from explorer_dagster.progress import Progress
from explorer_dagster.resources import Platform, TenantSession


def transform_assets(pipeline: Pipeline, provider: Provider) -> list[dg.AssetsDefinition]:
    """All staging, mart and generated assets of the pipeline as one step that can be subset; nothing where there are none."""
    if pipeline.transforms is None:
        return []
    settings = get_settings()
    manifest, lineage = static_manifest(settings, provider.name), static_lineage(settings, provider.name)
    models, tables = StaticModels(pipeline, manifest, lineage), TenantTables(pipeline, provider.tables.families)
    folder = settings.project_dir / pipeline.transforms.dbt_project
    return [_step(pipeline, provider.tables, folder, models, tables)] if models.keys or tables.keys else []


def _step(
    pipeline: Pipeline, planner: TablePlanner, dbt_project: Path, models: StaticModels, tables: TenantTables
) -> dg.AssetsDefinition:
    keys = {**models.keys, **tables.keys}

    @dg.multi_asset(
        name=f"{pipeline.asset_prefix}_transforms",
        specs=[*models.specs, *tables.specs],
        check_specs=[*models.check_specs, *tables.check_specs],
        partitions_def=tenants,
        can_subset=True,
    )
    def transforms(context: dg.AssetExecutionContext, platform: Platform) -> Iterator[Event]:
        session = platform.session(context, pipeline)
        selected = {name for name, key in keys.items() if key in context.selected_asset_keys}
        with failures_explained(), session.materializing():
            project = _project(session, pipeline, planner, dbt_project)
            built = build(
                project,
                planner,
                (selected & models.keys.keys()) | tables.models(project, selected),
                manifest=models.manifest,
                lineage=models.lineage,
                database=session.rw_database,
                by_need=len(selected) == len(keys) and not session.full_refresh,
                on_result=_reporter(context, project, models.keys, tables),
                on_plan=context.log.info,
                on_fallback=lambda model, why: context.log.warning(
                    f"{model} is built by dbt: its changes could not be taken up, {why}"
                ),
            )
        checks = context.selected_asset_check_keys
        yield from models.materializations(built, selected)
        yield from tables.materializations(built, selected, {**models.sources, **models.keys})
        yield from models.checks(built, checks)
        yield from tables.checks(built, selected, checks)
        _raise_failures(built)

    return transforms


def _project(session: TenantSession, pipeline: Pipeline, planner: TablePlanner, dbt_project: Path) -> TenantProject:
    latest = session.catalog.discovered.latest(session.tenant)
    return prepare(
        latest.structure if latest else {},
        planner,
        provider=pipeline.provider,
        dbt_project=dbt_project,
        work_dir=session.work_dir("dbt"),
        schemas=TenantSchemas(session.schema.prefix),
        connection_rw=session.rw_database,
        parsed_before=static_parse(session.settings, pipeline.provider),
    )


def _reporter(
    context: dg.AssetExecutionContext, project: TenantProject, models: Mapping[str, dg.AssetKey], tables: TenantTables
) -> Callable[[NodeResult], None]:
    """What shows each model that was built, or was not."""
    progress = Progress(context, per_asset=False)

    def report(result: NodeResult) -> None:
        if result.resource_type == "model":
            key = models.get(result.name) or tables.key_of(result.name, project)
            progress.report(key, TableProgress(table=result.name, state=result.status, rows=result.rows))

    return report


def _raise_failures(built: Built) -> None:
    """Models that failed fail the step, after everything that was built has been recorded."""
    said = causes.summary(built.results)
    if said:
        raise dg.Failure(
            description=f"{said} {next_step_after(said)}", metadata=dict(built.causes), allow_retries=False
        )
