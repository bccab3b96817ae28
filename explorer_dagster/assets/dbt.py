"""The step that builds dbt's models: an asset for each model of the dbt project, with dbt's tests as their checks."""

from collections.abc import Iterator, Mapping, Set
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DagsterDbtTranslatorSettings, dbt_assets

from explorer.contract.bookkeeping import lineage as lineage_records
from explorer.contract.checks import CheckOutcome, ModelTest
from explorer.contract.names import AssetKeys
from explorer.contract.observations import TableProgress
from explorer.contract.records import TABLE_NAME
from explorer.marts import Built, Models, TestResult, build
from explorer.marts.manifest import layer_of
from explorer.registry import Pipeline
from explorer.tables.engine import TableResult
from explorer.telemetry.traces import span
from explorer_dagster import column_metadata
from explorer_dagster.assets.progress import Progress
from explorer_dagster.assets.tables import TableAssets, facts_of, table_facts
from explorer_dagster.checks import check_result, check_spec
from explorer_dagster.documentation import documentation
from explorer_dagster.events import materialized
from explorer_dagster.failures import failures_explained, raise_failures
from explorer_dagster.metadata import Event
from explorer_dagster.partitions import tenants
from explorer_dagster.resources import Platform, TenantSession

Node = Mapping[str, Any]
Keys = Mapping[str, dg.AssetKey]
_SKIPPED = "skipped"


def dbt_models(pipeline: Pipeline, models: Models, tables: TableAssets) -> list[dg.AssetsDefinition]:
    """All models of the provider as one step that can be subset; nothing where it has none. `tables`: dbt's sources."""
    if not models.built:
        return []
    translator = Translator(pipeline, models, tables)
    keys = {name: translator.get_asset_key(models.by_name[name]) for name in models.built}

    @dbt_assets(  # type: ignore[untyped-decorator]
        manifest=models.document,
        dagster_dbt_translator=translator,
        name=f"{pipeline.asset_prefix}_dbt",
        partitions_def=tenants,
    )
    def dbt(context: dg.AssetExecutionContext, platform: Platform) -> Iterator[Event]:
        session = platform.session(context, pipeline)
        selected = {name for name, key in keys.items() if key in context.selected_asset_keys}
        with failures_explained(), span("dbt"), session.step("dbt") as told, session.changing_tables():
            built = _build(context, session, models, keys, selected)
            told.facts = facts_of(built.results.values())
        yield from _materializations(session, models, built, keys, tables.keys)
        yield from _checks(models, translator, built, context.selected_asset_check_keys)
        raise_failures(built.results.values())

    return [dbt]


def model_keys(pipeline: Pipeline, models: Models, tables: TableAssets) -> list[dg.AssetKey]:
    """The assets of all models of the provider."""
    translator = Translator(pipeline, models, tables)
    return [translator.get_asset_key(models.by_name[name]) for name in sorted(models.built)]


class Translator(DagsterDbtTranslator):  # type: ignore[misc]
    """dbt's nodes as the pipeline's assets: models as `<prefix>/<layer>/<model>`, sources as the assets of the tenant's tables.

    A test belongs to the model or table that dbt attaches it to, or else to the last one that it reads.
    """

    def __init__(self, pipeline: Pipeline, models: Models, tables: TableAssets) -> None:
        # Several tables of a tenant may be one asset.
        super().__init__(
            DagsterDbtTranslatorSettings(
                enable_source_tests_as_checks=True,
                enable_duplicate_source_asset_keys=True,
                enable_source_metadata=False,
            )
        )
        self._pipeline, self._models, self._tables = pipeline, models, tables

    def get_asset_key(self, dbt_resource_props: Node) -> dg.AssetKey:
        name = dbt_resource_props["name"]
        if dbt_resource_props["resource_type"] == "source":
            return self._tables.key_of(name)
        return dg.AssetKey(AssetKeys(self._pipeline.asset_prefix).of(layer_of(dbt_resource_props), name))

    def get_metadata(self, dbt_resource_props: Node) -> Mapping[str, Any]:
        """A link too; no name of a relation: each tenant has its own, which materializations tell."""
        found = {
            label: value for label, value in super().get_metadata(dbt_resource_props).items() if label != TABLE_NAME
        }
        return {**found, **documentation("tables.md", dbt_resource_props["name"])}

    def get_group_name(self, dbt_resource_props: Node) -> str:
        return layer_of(dbt_resource_props)

    def get_tags(self, dbt_resource_props: Node) -> Mapping[str, str]:
        return {**super().get_tags(dbt_resource_props), "layer": layer_of(dbt_resource_props)}

    def get_owners(self, dbt_resource_props: Node) -> list[str]:
        return list(self._pipeline.owners)

    def get_partitions_def(self, dbt_resource_props: Node) -> dg.PartitionsDefinition:
        return tenants

    def get_asset_check_spec(
        self, asset_spec: dg.AssetSpec, manifest: Node, unique_id: str, project: Any
    ) -> dg.AssetCheckSpec | None:
        """A check with a state for each tenant. It blocks nothing: dbt itself decides what a failed test stops."""
        test = self._models.tests[unique_id]
        is_own = self.tested(test) == asset_spec.key
        return check_spec(asset_spec.key, test["name"], test["description"] or None) if is_own else None

    def tested(self, test: Node) -> dg.AssetKey:
        """The asset that a test belongs to."""
        name = self._models.tested(test)
        model = self._models.by_name.get(name)
        return self.get_asset_key(model) if model else self._tables.key_of(name)


def _build(
    context: dg.AssetExecutionContext, session: TenantSession, models: Models, keys: Keys, selected: Set[str]
) -> Built:
    progress = Progress(context, per_asset=False)

    def report(result: TableResult) -> None:
        progress.report(keys[result.table], TableProgress(table=result.table, state=result.verb, rows=result.rows))

    return build(
        session.dbt,
        models,
        wanted=selected,
        by_need=len(selected) == len(keys) and not session.full_refresh,
        run_id=session.run_id,
        on_plan=context.log.info,
        on_result=report,
    )


def _materializations(
    session: TenantSession, models: Models, built: Built, keys: Keys, tables: Keys
) -> Iterator[Event]:
    """Of the models that are up to date, parents first, as Dagster wants them within a step. All tell their columns' types, which
    the project's files do not know."""
    current = {name: result for name, result in built.results.items() if result.is_current}
    with session.rw_database.connect() as connection:
        changed = any(result.verb != "unchanged" for result in current.values())
        lineage = lineage_records.read(connection, session.schema) if changed else {}
    for name in (name for name in models.by_name if name in current):
        node = models.by_name[name]
        schema, relation = session.schema.schema(layer_of(node)), node["alias"]
        about = {column: facts["description"] for column, facts in node["columns"].items()}
        types = built.columns[schema][relation]
        columns = column_metadata.of_relation(types, about, lineage.get(relation, {}), {**tables, **keys})
        facts = table_facts(f"{schema}.{relation}", current[name], built.builds[name], columns)
        yield materialized(keys[name], facts, is_as_before=session.is_by_need and facts.verb == "unchanged")


def _checks(models: Models, translator: Translator, built: Built, selected: Set[dg.AssetCheckKey]) -> Iterator[Event]:
    """Of the selected tests: what they found in this run, or in the last one that had to run them. One that could not run, since
    the tenant has not what it reads, passes with words."""
    for test in models.tests.values():
        key, result = translator.tested(test), built.tests[test["name"]]
        if dg.AssetCheckKey(key, result.name) in selected:
            yield check_result(key, _outcome(result, is_error=test["config"]["severity"].lower() == "error"))


def _outcome(result: TestResult, *, is_error: bool) -> CheckOutcome:
    facts = ModelTest(status=result.status, failing_rows=result.rows or 0, message=result.message or "")
    return CheckOutcome(result.name, result.status in ("pass", _SKIPPED), is_error, facts, result.message)
