"""The raw assets: one per source of the pipeline, loaded together in one step, and the checks on what landed."""

from collections.abc import Iterator

import dagster as dg
from psycopg import sql

from explorer_dagster.errors import ExplorerError
from explorer_dagster.loading import LoadProgress, LoadTarget, ResourceReport, load
from explorer_dagster.orchestration.partitions import tenants
from explorer_dagster.orchestration.progress import Progress
from explorer_dagster.orchestration.retries import postpone
from explorer_dagster.orchestration.session import Platform, TenantSession, failure, retry_metadata
from explorer_dagster.registry import Pipeline, Source

COUNT_CHECK = "rows_match_api"
UNIQUE_CHECK = "primary_key_unique"


def raw_assets(pipeline: Pipeline) -> dg.AssetsDefinition:
    """`<prefix>/raw/<source>` for every source, in one step that can be subset: dlt's fixed cost is paid once."""
    discovered = dg.AssetKey([pipeline.asset_prefix, pipeline.discovery[0].name])
    keys = {source.name: dg.AssetKey([pipeline.asset_prefix, "raw", source.name]) for source in pipeline.sources}

    @dg.multi_asset(
        name=f"{pipeline.asset_prefix}_raw",
        specs=[_spec(pipeline, source, keys[source.name], discovered) for source in pipeline.sources],
        check_specs=[check for source in pipeline.sources for check in _check_specs(source, keys[source.name])],
        partitions_def=tenants,
        can_subset=True,
    )
    def raw(
        context: dg.AssetExecutionContext, platform: Platform
    ) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:  # type: ignore[type-arg]
        session = platform.session(context)
        selected = [name for name, key in keys.items() if key in context.selected_asset_keys]
        progress = Progress(context, per_asset=True)

        def show(state: LoadProgress) -> None:
            progress.report(
                keys[state.resource], {"rows": state.rows, "pages": state.pages, "expected": state.expected}
            )

        try:
            with session.materializing(), session.client() as client:
                report = load(
                    LoadTarget(session.tenant.key, session.schema.prefix, session.rw_login, session.connections),
                    client,
                    pipeline,
                    selected,
                    run_id=context.run.run_id,
                    full=session.full_refresh,
                    work_dir=session.work_dir("dlt"),
                    on_progress=show,
                )
        except ExplorerError as error:
            raise failure(error, postpone(context, [error.as_dict()])) from error
        failed: dict[str, ResourceReport] = {}
        for name in selected:
            resource = report.resources[name]
            if resource.status == "failed":
                failed[name] = resource
                continue
            if resource.status == "skipped":
                context.log.warning(f"{name} skipped: {resource.skipped_reason}")
            yield dg.MaterializeResult(asset_key=keys[name], metadata=_metadata(session, resource))
            yield from _check(session, pipeline.source(name), resource, keys[name])
        if failed:
            errors = {name: resource.error or {} for name, resource in failed.items()}
            retry = postpone(context, errors.values())
            said = "; ".join(f"{name}: {error.get('message')}" for name, error in errors.items())
            raise dg.Failure(
                description=f"{said} {retry or ''}".strip(),
                metadata={
                    **{name: dg.MetadataValue.json(error) for name, error in errors.items()},
                    **retry_metadata(retry),
                },
                allow_retries=retry is None,
            )

    return raw


def _spec(pipeline: Pipeline, source: Source, key: dg.AssetKey, discovered: dg.AssetKey) -> dg.AssetSpec:
    return dg.AssetSpec(
        key,
        deps=[discovered],
        group_name="raw",
        kinds={pipeline.provider, "dlt", "postgres"},
        owners=list(pipeline.owners),
        description=f"{source.description} One row per {source.primary_key}, with the full JSON of the record.",
        code_version="1",
        metadata={
            "endpoint": source.endpoint,
            "primary_key": source.primary_key,
            "incremental": source.cursor is not None,
        },
    )


def _check_specs(source: Source, key: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    return [
        dg.AssetCheckSpec(
            COUNT_CHECK,
            asset=key,
            description="The table holds as many rows as the API says there are. The API's count may lag behind its data.",
        ),
        dg.AssetCheckSpec(UNIQUE_CHECK, asset=key, description=f"No two rows share one {source.primary_key}."),
    ]


def _metadata(session: TenantSession, resource: ResourceReport) -> dict[str, dg.MetadataValue | str | int | float]:
    facts: dict[str, dg.MetadataValue | str | int | float | None] = {
        "dagster/row_count": resource.rows_total,
        "dagster/table_name": f"{session.schema.raw}.{resource.table}",
        "status": resource.status,
        "skipped_reason": resource.skipped_reason,
        "rows_landed": resource.rows_landed,
        "rows_rejected": resource.rejected,
        "values_repaired": resource.repaired,
        "api_total": resource.api_total,
        "cursor": resource.cursor_to,
        "cursor_before": resource.cursor_from,
        "requests": resource.requests,
        "bytes": resource.bytes,
        "duration_s": round(resource.duration_s, 3),
    }
    return {label: value for label, value in facts.items() if value is not None}


def _check(
    session: TenantSession, source: Source, resource: ResourceReport, key: dg.AssetKey
) -> Iterator[dg.AssetCheckResult]:
    """Both checks. Counts are `compared` when the whole resource was read: an incremental load does not ask for the total."""
    compared = resource.status == "loaded" and resource.api_total is not None
    facts: dict[str, int | bool] = {"rows": resource.rows_total, "compared": compared}
    difference = 0
    if resource.status == "loaded" and resource.api_total is not None:
        difference = resource.rows_total + resource.rejected - resource.api_total
        facts |= {"api_total": resource.api_total, "difference": difference}
    yield dg.AssetCheckResult(
        asset_key=key,
        check_name=COUNT_CHECK,
        passed=difference == 0,
        severity=dg.AssetCheckSeverity.WARN,
        metadata=facts,
    )
    duplicates = 0 if resource.status == "skipped" or not resource.rows_landed else _duplicates(session, source)
    yield dg.AssetCheckResult(
        asset_key=key, check_name=UNIQUE_CHECK, passed=duplicates == 0, metadata={"duplicate_rows": duplicates}
    )


def _duplicates(session: TenantSession, source: Source) -> int:
    query = sql.SQL("select count(*) - count(distinct {key}) from {table}").format(
        key=sql.Identifier(source.primary_key), table=sql.Identifier(session.schema.raw, source.table)
    )
    with session.rw_database.connect() as connection:
        row = connection.execute(query).fetchone()
    return int(row[0]) if row else 0
