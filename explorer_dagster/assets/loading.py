"""The raw assets: one per source of the pipeline, loaded together in one step, and the checks on what was loaded."""

from collections.abc import Callable, Iterator, Mapping

import dagster as dg

from explorer.contract import observations
from explorer.contract.bookkeeping.run_changes import RowCounts
from explorer.contract.bookkeeping.steps import Facts
from explorer.contract.checks import LOAD_IS_SOUND
from explorer.contract.materializations import RawLoad, SourceDefinition
from explorer.contract.names import RAW, AssetKeys
from explorer.core.errors import ExplorerError
from explorer.load import LoadProgress, LoadReport, LoadTarget, ResourceReport, load, name_failures
from explorer.load.checks import check_load, described
from explorer.providers.base import Provider
from explorer.registry import Pipeline, Source
from explorer.telemetry.traces import span
from explorer_dagster.assets.progress import Progress
from explorer_dagster.checks import check_result, check_spec
from explorer_dagster.documentation import documentation
from explorer_dagster.events import materialized
from explorer_dagster.failures import failure, failure_of_sources, failures_explained
from explorer_dagster.metadata import Event, as_metadata
from explorer_dagster.partitions import tenants
from explorer_dagster.resources import Platform, TenantSession
from explorer_dagster.retries import postpone

Keys = Mapping[str, dg.AssetKey]


def raw_assets(
    pipeline: Pipeline, provider: Provider, is_up_to_date: Callable[[TenantSession], bool]
) -> dg.AssetsDefinition:
    """`<prefix>/raw/<source>` for every source, in one step that can be subset, so that dlt's fixed cost is paid once.

    `is_up_to_date`: whether all that is made from the raw tables is as they are. Where it is and nothing new came, a run of the
    whole job materializes no raw table, so that Dagster skips the steps after this one.
    """
    named = AssetKeys(pipeline.asset_prefix)
    keys = {source.name: dg.AssetKey(named.raw(source.name)) for source in pipeline.sources}
    discovered = [dg.AssetKey(named.discovery(part.name)) for part in pipeline.discovery]

    @dg.multi_asset(
        name=f"{pipeline.asset_prefix}_raw",
        specs=[_spec(pipeline, source, keys[source.name], discovered) for source in pipeline.sources],
        check_specs=[check_spec(keys[each.name], LOAD_IS_SOUND, described(each)) for each in pipeline.sources],
        partitions_def=tenants,
        can_subset=True,
    )
    def raw(context: dg.AssetExecutionContext, platform: Platform) -> Iterator[Event]:
        with failures_explained():
            session = platform.session(context, pipeline)
            selected = [name for name, key in keys.items() if key in context.selected_asset_keys]
            with session.step("loading") as told:
                report = _load(context, session, pipeline, provider, selected, keys)
                told.facts = _told(report)
            is_idle = session.is_by_need and not report.has_news and is_up_to_date(session)
            if is_idle:
                context.log.info("Nothing new came, and all tables are up to date: the next steps have nothing to do.")
            yield from _events(context, session, pipeline, report, keys, is_idle=is_idle)
            _raise_failures(context, report)

    return raw


def _spec(pipeline: Pipeline, source: Source, key: dg.AssetKey, discovered: list[dg.AssetKey]) -> dg.AssetSpec:
    definition = SourceDefinition(
        endpoint=source.endpoint, primary_key=source.primary_key, incremental=source.cursor is not None
    )
    return dg.AssetSpec(
        key,
        deps=discovered,
        group_name=RAW,
        kinds={pipeline.provider, "dlt", "postgres"},
        owners=list(pipeline.owners),
        tags={"layer": RAW},
        description=f"{source.description} One row per {source.primary_key}, with the full JSON of the record.",
        code_version="1",
        metadata={**as_metadata(definition), **documentation("loading.md", "What lands where")},
    )


def _load(
    context: dg.AssetExecutionContext,
    session: TenantSession,
    pipeline: Pipeline,
    provider: Provider,
    selected: list[str],
    keys: Keys,
) -> LoadReport:
    """Load the sources. Raises: dagster.Failure; the run is marked for a retry if the server asked to wait."""
    progress = Progress(context, per_asset=True)

    def show(state: LoadProgress) -> None:
        facts = observations.LoadProgress(rows=state.rows, pages=state.pages, expected=state.expected)
        progress.report(keys[state.resource], facts)

    try:
        with span("loading"), session.changing_tables() as connection, session.client(provider) as client:
            report = load(
                LoadTarget(session.schema, session.rw_database),
                connection,
                client,
                pipeline,
                selected,
                styles=provider.styles,
                run_id=session.run_id,
                full=session.full_refresh,
                work_dir=session.work_dir("dlt"),
                on_progress=show,
                proof_max_requests=session.settings.proof_max_requests,
            )
    except ExplorerError as error:
        raise failure(error, postpone(context, [error.as_dict()])) from error
    session.catalog.quotas.loaded(session.tenant, sum(each.rows_landed or 0 for each in report.resources.values()))
    return report


def _told(report: LoadReport) -> Facts:
    """What the load brought, for who compares runs."""
    return Facts(
        sources={
            name: RowCounts(each.rows_new, each.rows_changed, each.rows_deleted)
            for name, each in report.resources.items()
            if each.rows_written
        },
        failed={
            name: str((each.error or {}).get("message") or "no reason was given")
            for name, each in report.resources.items()
            if each.status == "failed"
        },
    )


def _events(
    context: dg.AssetExecutionContext,
    session: TenantSession,
    pipeline: Pipeline,
    report: LoadReport,
    keys: Keys,
    *,
    is_idle: bool,
) -> Iterator[Event]:
    """Checks of the sources that did not fail, and materializations unless the run has nothing to do.

    Without news only checks that fail are told: what was found of the others stands.
    """
    for name, resource in report.resources.items():
        if resource.status == "failed":
            continue
        if resource.status == "skipped":
            context.log.warning(f"{name} skipped: {resource.skipped_reason}")
        if not is_idle:
            table = f"{session.schema.raw}.{resource.table}"
            is_as_before = session.is_by_need and resource.status == "loaded" and not resource.rows_written
            yield materialized(keys[name], _facts(table, resource), is_as_before=is_as_before)
        outcome = check_load(session.rw_database, session.schema.raw, pipeline.source(name), resource)
        if not is_idle or not outcome.passed:
            yield check_result(keys[name], outcome)


def _raise_failures(context: dg.AssetExecutionContext, report: LoadReport) -> None:
    """Fail the step for failed sources, after everything that was loaded has been recorded."""
    errors = {name: each.error or {} for name, each in report.resources.items() if each.status == "failed"}
    if errors:
        raise failure_of_sources(name_failures(errors), errors, postpone(context, errors.values()))


def _facts(table: str, resource: ResourceReport) -> RawLoad:
    return RawLoad(
        row_count=resource.rows_total,
        table_name=table,
        status=resource.status,
        skipped_reason=resource.skipped_reason,
        rows_landed=resource.rows_landed,
        rows_new=resource.rows_new,
        rows_changed=resource.rows_changed,
        rows_deleted=resource.rows_deleted,
        rows_missing=resource.rows_missing or None,
        rows_rejected=resource.rejected,
        values_repaired=resource.repaired,
        api_total=resource.api_total,
        cursor=resource.cursor_to,
        cursor_before=resource.cursor_from,
        requests=resource.requests,
        bytes=resource.bytes,
        duration_s=round(resource.duration_s, 3),
    )
