"""The raw assets: one per source of the pipeline, loaded together in one step, and the checks on what landed."""

from collections.abc import Iterator

import dagster as dg
from psycopg import sql

from explorer.contract.bookkeeping import rejected
from explorer.core.errors import ExplorerError
from explorer.load import LoadProgress, LoadTarget, ResourceReport, load, name_failures
from explorer.load.raw.table import DELETED_COLUMN
from explorer.registry import Pipeline, Source
from explorer_dagster import failures as causes
from explorer_dagster.partitions import tenants
from explorer_dagster.progress import Progress
from explorer_dagster.resources import Platform, TenantSession, failure, retry_metadata
from explorer_dagster.retries import postpone

COUNT_CHECK = "rows_match_api"
UNIQUE_CHECK = "primary_key_unique"
REJECTS_CHECK = "no_rows_rejected"
GONE_CHECK = "missing_rows_are_gone"


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
        with causes.told():
            yield from loaded(context, platform)

    def loaded(
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
                    LoadTarget(session.tenant.key, session.schema, session.rw_database),
                    client,
                    pipeline,
                    selected,
                    styles=session.provider.styles,
                    run_id=context.run.run_id,
                    full=session.full_refresh,
                    work_dir=session.work_dir("dlt"),
                    on_progress=show,
                    proof_max_requests=session.settings.proof_max_requests,
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
            raise dg.Failure(
                description=f"{name_failures(errors)} {retry or ''}".strip(),
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
            description="The table holds what was walked: an error otherwise. The walk met as many records as the API counts: a "
            "warning otherwise, because that count may lag behind the data.",
        ),
        dg.AssetCheckSpec(UNIQUE_CHECK, asset=key, description=f"No two rows share one {source.primary_key}."),
        dg.AssetCheckSpec(
            REJECTS_CHECK,
            asset=key,
            description=f"Every record that came could be stored; others are in `{rejected.TABLE}`.",
        ),
        dg.AssetCheckSpec(
            GONE_CHECK,
            asset=key,
            description="Rows that a whole read did not bring are proven to be gone and marked. Others stay as they are, and the "
            "next load looks again.",
        ),
    ]


def _metadata(session: TenantSession, resource: ResourceReport) -> dict[str, dg.MetadataValue | str | int | float]:
    facts: dict[str, dg.MetadataValue | str | int | float | None] = {
        "dagster/row_count": resource.rows_total,
        "dagster/table_name": f"{session.schema.raw}.{resource.table}",
        "status": resource.status,
        "skipped_reason": resource.skipped_reason,
        "rows_landed": resource.rows_landed,
        "rows_new": resource.rows_new,
        "rows_changed": resource.rows_changed,
        "rows_deleted": resource.rows_deleted,
        "rows_missing": resource.rows_missing or None,
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
    """All checks. The table is looked at only when something was written: otherwise the last load's checks have seen it."""
    written = resource.rows_new + resource.rows_changed + resource.rows_deleted
    rows, duplicates = _counted(session, source) if written else (resource.rows_total, 0)
    yield _count_check(resource, rows, key)
    yield dg.AssetCheckResult(
        asset_key=key, check_name=UNIQUE_CHECK, passed=duplicates == 0, metadata={"duplicate_rows": duplicates}
    )
    yield dg.AssetCheckResult(
        asset_key=key,
        check_name=REJECTS_CHECK,
        passed=resource.rejected == 0,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"rows_rejected": resource.rejected, "reasons": dg.MetadataValue.json(resource.rejected_reasons)},
    )
    yield _gone_check(resource, source.name, key)


def _gone_check(resource: ResourceReport, name: str, key: dg.AssetKey) -> dg.AssetCheckResult:
    said = []
    if resource.rows_unproven:
        said.append(
            f"{resource.rows_unproven:,} records of {name} did not come, and it is not proven that they are gone"
            f" ({resource.missing_reason}): they were not marked. The next load that reads everything looks again; when more were"
            " deleted than it may ask for, raise EXPLORER_PROOF_MAX_REQUESTS."
        )
    there = resource.rows_missing - resource.rows_unproven
    if there:
        said.append(f"{there:,} records of {name} did not come, but the server has them when they are asked for alone.")
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=GONE_CHECK,
        passed=not said,
        severity=dg.AssetCheckSeverity.WARN,
        description=" ".join(said) or None,
        metadata={
            "rows_marked": resource.rows_deleted,
            "rows_unproven": resource.rows_unproven,
            "rows_overlooked": there,
            **({"reason": resource.missing_reason} if resource.missing_reason else {}),
        },
    )


def _count_check(resource: ResourceReport, rows: int, key: dg.AssetKey) -> dg.AssetCheckResult:
    """Three counts against each other: the table's, the walk's, the API's. `differs` says which do not agree.

    What the walk says the table holds is the records that it met when it read the whole resource, with those that it missed and
    that are not proven to be gone, else what was there before with what it changed. `compared` is False where the API gave no
    count of what was asked for. Records that came in while changes were read are more than it had counted at the start, which
    is no difference then.
    """
    was_whole = resource.status == "loaded" and resource.api_total is not None and resource.complete
    walked = resource.rows_landed + resource.rows_missing if was_whole else resource.rows_total
    facts: dict[str, int | bool | str] = {"rows": rows, "walked": walked, "compared": False}
    differs = []
    if rows != walked:
        differs.append("table vs walked")
    if resource.status == "loaded" and resource.window_total is not None:
        difference = resource.rows_landed + resource.rejected - resource.window_total
        facts |= {"compared": True, "api_total": resource.window_total, "difference": difference}
        if difference < 0 or (difference and resource.api_total is not None):
            differs.append("walked vs api")
    if differs:
        facts["differs"] = ", ".join(differs)
    is_ours = rows != walked
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=COUNT_CHECK,
        passed=not differs,
        severity=dg.AssetCheckSeverity.ERROR if is_ours else dg.AssetCheckSeverity.WARN,
        metadata=facts,
    )


def _counted(session: TenantSession, source: Source) -> tuple[int, int]:
    """Rows of the table that are not marked as gone, and how many of all share their key with another.

    Where a unique index keeps keys apart there is none to look for, which would sort the whole table. Counted apart, both counts
    come from indexes and not from the rows, which are a hundred times as large.
    """
    table, key = sql.Identifier(session.schema.raw, source.table), sql.Identifier(source.primary_key)
    unique = (
        "select from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]"
        " where i.indrelid = %s::regclass and i.indisunique and i.indisvalid and i.indnkeyatts = 1 and i.indpred is null"
        " and a.attname = %s"
    )
    with session.rw_database.connect() as connection:
        name = table.as_string(connection)
        is_unique = connection.execute(unique, [name, source.primary_key]).fetchone() is not None
        duplicates = sql.SQL("0") if is_unique else sql.SQL("count(*) - count(distinct {})").format(key)
        row = connection.execute(
            sql.SQL(
                "select count(*) - (select count(*) from {table} where {deleted} is not null), {duplicates} from {table}"
            ).format(deleted=sql.Identifier(DELETED_COLUMN), duplicates=duplicates, table=table)
        ).fetchone()
    return (int(row[0]), int(row[1])) if row else (0, 0)
