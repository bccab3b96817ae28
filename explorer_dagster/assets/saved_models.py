"""The step that builds the models that people and agents have saved: one asset for all of them, as each tenant has its own.

A model that cannot be built, or whose tests fail, is told by the asset's check, as a warning: it is somebody's own, and the
tenant's run has done its work.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC

import dagster as dg

from explorer.catalog.tenants.saved_models import ModelText, SavedModel
from explorer.contract.checks import MODELS_ARE_SOUND, CheckOutcome, FailingTable, TableChecks
from explorer.contract.materializations import ListedTable, SavedModels
from explorer.contract.names import SAVED_MODELS, AssetKeys
from explorer.contract.observations import TableProgress
from explorer.contract.records import Markdown
from explorer.personal_data import saved_models_database
from explorer.registry import Pipeline
from explorer.saved_models import BuiltModels, SavedModelsDbt, build, is_current
from explorer.tables.engine import TableResult
from explorer.telemetry.traces import span
from explorer_dagster.assets.progress import Progress
from explorer_dagster.assets.tables import facts_of
from explorer_dagster.checks import check_result, check_spec
from explorer_dagster.documentation import documentation
from explorer_dagster.events import materialized
from explorer_dagster.failures import failures_explained
from explorer_dagster.metadata import Event, inert, markdown_table
from explorer_dagster.partitions import tenants
from explorer_dagster.resources import Platform, TenantSession

Models = dict[str, tuple[SavedModel, ModelText]]
# In the words of `contract.materializations.ListedTable`.
_STATUS = {"failed": "error", "skipped": "skipped"}
_ABOUT = "Every saved model was built, and its tests passed. A warning: saved models are their owners' own."


def saved_models(pipeline: Pipeline, reads: Sequence[dg.AssetKey]) -> dg.AssetsDefinition:
    """The saved models of each tenant. `reads`: the assets of all that they may read."""
    key = dg.AssetKey(AssetKeys(pipeline.asset_prefix).marts(SAVED_MODELS))
    spec = dg.AssetSpec(
        key,
        deps=reads,
        group_name=SAVED_MODELS,
        kinds={"dbt", "postgres"},
        owners=list(pipeline.owners),
        tags={"layer": SAVED_MODELS},
        description="The models that people and agents have saved for the tenant: each materialization lists them.",
        metadata=documentation("models.md", "Saved models"),
        partitions_def=tenants,
        skippable=True,
    )

    @dg.multi_asset(
        name=f"{pipeline.asset_prefix}_saved_models",
        specs=[spec],
        check_specs=[check_spec(key, MODELS_ARE_SOUND, _ABOUT)],
        partitions_def=tenants,
        can_subset=True,
    )
    def saved(context: dg.AssetExecutionContext, platform: Platform) -> Iterator[Event]:
        session = platform.session(context, pipeline)
        dbt, models, built = _dbt(session), Models(), BuiltModels({}, {}, ())
        if dbt is not None:
            models = session.catalog.saved_models.current(session.tenant)
            with (
                failures_explained(),
                span("saved_models"),
                session.step("saved_models") as told,
                session.changing_tables(),
            ):
                built = _build(context, session, dbt, models, key)
                told.facts = facts_of(built.results.values())
        if key in context.selected_asset_keys:
            unchanged = not built.dropped and all(each.verb == "unchanged" for each in built.results.values())
            yield materialized(key, _facts(models, built), is_as_before=session.is_by_need and unchanged)
        if dg.AssetCheckKey(key, MODELS_ARE_SOUND) in context.selected_asset_check_keys:
            yield check_result(key, _outcome(built))

    return saved


def saved_models_are_current(session: TenantSession) -> bool:
    """Whether the step would find nothing to do."""
    if _dbt(session) is None:
        return True
    models = session.catalog.saved_models.current(session.tenant)
    return is_current(session.rw_database, session.schema, {name: text for name, (_, text) in models.items()})


def _dbt(session: TenantSession) -> SavedModelsDbt | None:
    """None where the tenant has no login for saved models."""
    own = saved_models_database(session.catalog, session.connections, session.tenant)
    if own is None:
        return None
    return SavedModelsDbt(session.settings, session.tenant.provider, session.schema, session.rw_database, own)


def _build(
    context: dg.AssetExecutionContext, session: TenantSession, dbt: SavedModelsDbt, models: Models, key: dg.AssetKey
) -> BuiltModels:
    progress = Progress(context, per_asset=False)

    def report(result: TableResult) -> None:
        progress.report(key, TableProgress(table=result.table, state=result.verb, rows=result.rows))

    return build(
        dbt,
        {name: text for name, (_, text) in models.items()},
        by_need=not session.full_refresh,
        run_id=session.run_id,
        on_plan=context.log.info,
        on_result=report,
    )


def _facts(models: Models, built: BuiltModels) -> SavedModels:
    listed = tuple(_listed(name, text, built.results[name]) for name, (_, text) in models.items())
    return SavedModels(
        overview=Markdown(_overview(models, built)),
        table_count=len(listed),
        rebuilt=sum(result.verb == "built" for result in built.results.values()),
        failed=sum(not result.is_current for result in built.results.values()),
        row_count=sum(entry.row_count or 0 for entry in listed),
        dropped=tuple(built.dropped),
        tables=listed,
    )


def _listed(name: str, text: ModelText, result: TableResult) -> ListedTable:
    return ListedTable(
        name=name,
        description=text.description,
        row_count=result.rows,
        status=_STATUS.get(result.verb, "success"),
        error=None if result.is_current else result.message,
    )


def _overview(models: Models, built: BuiltModels) -> str:
    return markdown_table(
        ("model", "version", "owner", "reads", "rows", "tests", "last change", "state"),
        (_line(model, text, built) for model, text in models.values()),
    )


def _line(model: SavedModel, text: ModelText, built: BuiltModels) -> tuple[str, ...]:
    result, build = built.results[model.name], built.builds.get(model.name)
    failing = ", ".join(finding.check for finding in build.findings) if build else ""
    return (
        inert(model.name),
        str(model.version),
        inert(model.owner),
        inert(", ".join(sorted(text.reads))),
        "" if result.rows is None else str(result.rows),
        "" if build is None else f"failing: {inert(failing)}" if failing else "passed",
        f"{build.changed_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if build else "",
        "up to date" if result.is_current else inert(result.message or result.verb),
    )


def _outcome(built: BuiltModels) -> CheckOutcome:
    failing = [
        FailingTable(table=name, status=result.verb, message=result.message)
        for name, result in built.results.items()
        if not result.is_current
    ]
    failing += [
        FailingTable(table=name, test=found.check, status=found.status, failing_rows=found.rows, message=found.message)
        for name, build in built.builds.items()
        for found in build.findings
    ]
    facts = TableChecks(tables_failing=len({each.table for each in failing}), failing=tuple(failing))
    return CheckOutcome(MODELS_ARE_SOUND, not failing, False, facts)
