"""The transform assets: staging views, mart tables and the tables generated per tenant, built by one dbt invocation in process.

Static models are assets of their own. Generated models differ from tenant to tenant, so that two static assets stand for them
(`case_tables`, `form_tables`) and list every table, with its result, in their metadata.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from graphlib import TopologicalSorter
from itertools import chain
from typing import Any

import dagster as dg
import msgspec
import psycopg
from dagster_dbt import DagsterDbtTranslator, build_dbt_asset_specs

from explorer.contract.bookkeeping import columns as kept_columns
from explorer.contract.bookkeeping.builds import Finding
from explorer.contract.bookkeeping.lineage import Lineage
from explorer.contract.schemas import SchemaKind, TenantSchemas
from explorer.core.settings import get_settings
from explorer.marts import causes as model_causes
from explorer.marts import column_lineage
from explorer.marts.builds import Plan, models_of, plan
from explorer.marts.manifest import static_lineage, static_manifest, static_parse
from explorer.marts.project import TenantProject, prepare
from explorer.marts.refresh import refresh
from explorer.marts.runner import NodeResult
from explorer.providers.commcare.tables.plan import CommCareTables
from explorer.registry import Pipeline
from explorer.tables.column_facts import facts_of
from explorer.tables.memory import TypeChange
from explorer.tables.plan import TableFamily, TablePlanner
from explorer.tables.unfit_values import count_unfit_values
from explorer.tables.values import TableSpec
from explorer_dagster import checks as table_checks
from explorer_dagster import column_metadata
from explorer_dagster import failures as causes
from explorer_dagster.partitions import tenants
from explorer_dagster.progress import Progress
from explorer_dagster.resources import Platform, TenantSession

Manifest = Mapping[str, Any]
ColumnTypes = Mapping[str, Sequence[tuple[str, str]]]
Event = dg.MaterializeResult | dg.AssetCheckResult  # type: ignore[type-arg]

PLANNER: TablePlanner = CommCareTables()
FAMILIES: Mapping[str, TableFamily] = {family.name: family for family in PLANNER.families}


class Translator(DagsterDbtTranslator):  # type: ignore[misc]
    """dbt's nodes as the pipeline's assets: `<prefix>/<layer>/<model>`, sources as `<prefix>/raw/<source>`."""

    def __init__(self, pipeline: Pipeline) -> None:
        super().__init__()
        self._pipeline = pipeline
        self._source_of_table = {source.table: source.name for source in pipeline.sources}

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        prefix, name = self._pipeline.asset_prefix, dbt_resource_props["name"]
        if dbt_resource_props["resource_type"] == "source":
            return dg.AssetKey([prefix, "raw", self._source_of_table[name]])
        return dg.AssetKey([prefix, _layer(dbt_resource_props), name])

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str:
        return _layer(dbt_resource_props)

    def get_owners(self, dbt_resource_props: Mapping[str, Any]) -> list[str]:
        return list(self._pipeline.owners)


def _layer(props: Mapping[str, Any]) -> SchemaKind:
    """`staging` or `marts`: the folder below models/."""
    layer: SchemaKind = props["fqn"][1]
    return layer


def transform_assets(pipeline: Pipeline) -> dg.AssetsDefinition:
    """All staging, mart and generated assets of the pipeline as one step that can be subset."""
    manifest, lineage = static_manifest(get_settings()), static_lineage(get_settings())
    translator = Translator(pipeline)
    models = {
        node["name"]: translator.get_asset_key(node)
        for node in manifest["nodes"].values()
        if node["resource_type"] == "model"
    }
    raw = {source["name"]: translator.get_asset_key(source) for source in manifest["sources"].values()}
    generated = {name: dg.AssetKey([pipeline.asset_prefix, "marts", name]) for name in FAMILIES}
    specs = [
        *(
            column_metadata.with_origins(spec.replace_attributes(partitions_def=tenants), lineage)
            for spec in build_dbt_asset_specs(manifest=manifest, dagster_dbt_translator=translator)
        ),
        *(_generated_spec(pipeline, name, key) for name, key in generated.items()),
    ]
    checks = _checks(manifest, models)

    @dg.multi_asset(
        name=f"{pipeline.asset_prefix}_transforms",
        specs=specs,
        check_specs=[
            *(check for check, _ in checks.values()),
            *(check for key in generated.values() for check in table_checks.specs(key)),
        ],
        partitions_def=tenants,
        can_subset=True,
    )
    def transforms(context: dg.AssetExecutionContext, platform: Platform) -> Iterator[Event]:
        session = platform.session(context)
        everything = models | generated
        selected = {name: key for name, key in everything.items() if key in context.selected_asset_keys}
        by_need = len(selected) == len(everything) and not session.full_refresh
        with causes.told(), session.materializing():
            built = _build(context, session, pipeline, manifest, lineage, selected, everything, by_need=by_need)
        keys = raw | models
        yield from _model_events(built, {n: k for n, k in selected.items() if n in models}, manifest, keys)
        listed = {name: key for name, key in generated.items() if name in selected}
        yield from _generated_events(built, listed, keys)
        yield from _check_events(built, checks, context.selected_asset_check_keys)
        for name, key in listed.items():
            yield from table_checks.results(key, _tested(built, name), context.selected_asset_check_keys)
        _raise_failures(built.results)

    return transforms


def _generated_spec(pipeline: Pipeline, name: str, key: dg.AssetKey) -> dg.AssetSpec:
    prefix = pipeline.asset_prefix
    return dg.AssetSpec(
        key,
        deps=[
            dg.AssetKey([prefix, pipeline.discovery[0].name]),
            dg.AssetKey([prefix, "marts", FAMILIES[name].mart]),
        ],
        group_name="marts",
        kinds={"dbt", "postgres"},
        owners=list(pipeline.owners),
        description=f"{FAMILIES[name].description} Generated from the tenant's own applications; the tables are listed in each"
        " materialization.",
        partitions_def=tenants,
    )


@dataclass(frozen=True)
class _Built:
    """What a step did. `results`: of the models and tests that ran; `unchanged`: row counts of the models that had no need to;
    `findings`: by model, of the tests that did not pass when they were last run, in this step or before; `unfit_values`: table to
    column to number of values that did not fit; `type_changes`: columns whose type changed since it was last reported;
    `lineage`: of static models."""

    project: TenantProject
    results: Sequence[NodeResult]
    unchanged: Mapping[str, int | None]
    findings: Mapping[str, Sequence[Finding]]
    types: ColumnTypes
    unfit_values: Mapping[str, Mapping[str, int]]
    type_changes: Sequence[TypeChange]
    lineage: Lineage

    @cached_property
    def causes(self) -> Mapping[str, str]:
        """Why models were not built, by model."""
        return model_causes.causes(self.results)


def _build(
    context: dg.AssetExecutionContext,
    session: TenantSession,
    pipeline: Pipeline,
    manifest: Manifest,
    lineage: Lineage,
    selected: Mapping[str, dg.AssetKey],
    everything: Mapping[str, dg.AssetKey],
    *,
    by_need: bool,
) -> _Built:
    """Run dbt on the selected models; `by_need`: on those among them that would come out otherwise than they are."""
    project = _prepare(session, pipeline)
    progress = Progress(context, per_asset=False)
    results: list[NodeResult] = []

    def collect(result: NodeResult) -> None:
        """Collects: to yield while dbt runs would let an interrupt between two yields leave its queries running."""
        results.append(result)
        if result.resource_type == "model":
            key = everything[result.name if result.name in everything else _asset_of(result, project)]
            progress.report(key, {"table": result.name, "state": result.status, "rows": result.rows})

    with session.rw_database.connect(autocommit=True) as connection:
        planned = plan(connection, project, models_of(project, manifest))
        wanted = _models_behind(project, selected)
        context.log.info(_told(planned, wanted, by_need=by_need))
        refresh(
            connection,
            project,
            planned,
            wanted,
            by_need=by_need,
            database=session.rw_database,
            address=session.connections.service,
            on_result=collect,
            on_fallback=lambda model, why: context.log.warning(
                f"{model} is built by dbt: its changes could not be taken up, {why}"
            ),
        )
        kept_columns.write(connection, project.schemas, facts_of(project.tables))
        column_lineage.write(connection, project.schemas, lineage, project.tables, version=project.content_hash)
        if project.type_changes:
            PLANNER.mark_reported(connection, project.schemas)
        unchanged = {name: rows for name, rows in planned.rows.items() if by_need or name not in wanted}
        return _Built(
            project,
            results,
            unchanged,
            _findings(results, planned.findings),
            types=_column_types(connection, session),
            unfit_values=count_unfit_values(connection, project.schemas, project.tables),
            type_changes=project.type_changes,
            lineage=lineage,
        )


def _told(planned: Plan, wanted: Set[str], *, by_need: bool) -> str:
    if not by_need:
        return f"{len(wanted)} of {len(planned.models)} models are built."
    stale = wanted & planned.stale
    light = stale & planned.changes.keys()
    return f"Of {len(planned.models)} models {len(light)} take up what changed, {len(stale) - len(light)} are built."


def _prepare(session: TenantSession, pipeline: Pipeline) -> TenantProject:
    latest = session.catalog.discovered.latest(session.tenant)
    return prepare(
        latest.structure if latest else {},
        PLANNER,
        dbt_project=session.settings.project_dir / pipeline.transforms.dbt_project,
        work_dir=session.work_dir("dbt"),
        schemas=TenantSchemas(session.schema.prefix),
        connection_rw=session.rw_database,
        parsed_before=static_parse(session.settings),
    )


def _models_behind(project: TenantProject, selected: Mapping[str, dg.AssetKey]) -> set[str]:
    """The models that stand behind the assets selected in the UI."""
    kinds = {kind for name in selected if name in FAMILIES for kind in FAMILIES[name].kinds}
    return {name for name in selected if name not in FAMILIES} | {t.name for t in project.tables if t.kind in kinds}


def _asset_of(result: NodeResult, project: TenantProject) -> str:
    kind = next(table.kind for table in project.tables if table.name == result.name)
    return next(name for name, family in FAMILIES.items() if kind in family.kinds)


def _findings(results: Sequence[NodeResult], before: Mapping[str, Sequence[Finding]]) -> dict[str, list[Finding]]:
    """What tests found, by model: now, or before where they had no need to be run again."""
    ran = {result.name: result for result in results if result.resource_type == "test" and result.status != "skipped"}
    found = {model: [old for old in findings if old.test not in ran] for model, findings in before.items()}
    for test in ran.values():
        if test.status != "pass":
            model = (test.attached_node or "").rpartition(".")[2]
            found.setdefault(model, []).append(Finding(test.name, test.status, test.rows, test.message))
    return found


def _column_types(connection: psycopg.Connection[tuple[Any, ...]], session: TenantSession) -> ColumnTypes:
    """Columns as they are in the database now, in order: schema.table to (name, type) pairs."""
    types: dict[str, list[tuple[str, str]]] = {}
    for relation, column, type_name in connection.execute(
        "select n.nspname || '.' || c.relname, a.attname, format_type(a.atttypid, a.atttypmod)"
        " from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace"
        " where n.nspname = any(%s) and a.attnum > 0 and not a.attisdropped order by c.oid, a.attnum",
        ([session.schema.staging, session.schema.marts],),
    ):
        types.setdefault(relation, []).append((column, type_name))
    return types


def _model_events(
    built: _Built, selected: Mapping[str, dg.AssetKey], manifest: Manifest, keys: Mapping[str, dg.AssetKey]
) -> Iterator[Event]:
    """Materializations of the static models that are as the source is now, whether they had to be built for that or not."""
    done = {result.name: result for result in built.results if result.resource_type == "model"}
    # Dagster takes the assets of one step in the order of their dependencies only.
    parents = {uid: node["depends_on"]["nodes"] for uid, node in manifest["nodes"].items()}
    for node in (manifest["nodes"][uid] for uid in TopologicalSorter(parents).static_order() if uid in parents):
        name, result = node["name"], done.get(node["name"])
        if name not in selected or not (result.status == "success" if result else name in built.unchanged):
            continue
        relation = f"{built.project.schemas.schema(_layer(node))}.{node['alias']}"
        rows = result.rows if result else built.unchanged[name]
        about = {column: facts["description"] for column, facts in node["columns"].items()}
        lineage = built.lineage.get(node["alias"], {})
        metadata: dict[str, Any] = {
            "dagster/table_name": relation,
            "rebuilt": result is not None,
        }
        # Columns are told by the definition too; to write them for what did not change would be a fifth of a sync without news.
        if result is not None:
            metadata |= column_metadata.of_model(built.types.get(relation, ()), about, lineage, keys)
            metadata["duration_s"] = round(result.duration_s, 3)
        if rows is not None:
            metadata["dagster/row_count"] = rows
        yield dg.MaterializeResult(asset_key=selected[name], metadata=metadata)


def _generated_events(
    built: _Built, selected: Mapping[str, dg.AssetKey], keys: Mapping[str, dg.AssetKey]
) -> Iterator[Event]:
    by_name = {result.name: result for result in built.results if result.resource_type == "model"}
    for name, key in selected.items():
        tables = [table for table in built.project.tables if table.kind in FAMILIES[name].kinds]
        listed = [_listed(table, by_name.get(table.name), built) for table in tables]
        own = {table.name for table in tables}
        types = {table.name: built.types.get(f"{built.project.schemas.marts}.{table.name}", ()) for table in tables}
        yield dg.MaterializeResult(
            asset_key=key,
            metadata={
                "tables": dg.MetadataValue.json(listed),
                "overview": dg.MetadataValue.md(_overview(listed)),
                "table_count": len(listed),
                "rebuilt": len(own & by_name.keys()),
                "failed": len([entry for entry in listed if entry["status"] in model_causes.FAILED]),
                "unfit_values": sum(sum(entry.get("unfit_values", {}).values()) for entry in listed),
                "migrations": dg.MetadataValue.json(
                    [msgspec.to_builtins(m) for m in built.type_changes if m.table in own]
                ),
                "retired": dg.MetadataValue.json(_retired(built.project, name)),
                "dagster/row_count": sum(entry["row_count"] or 0 for entry in listed),
                **column_metadata.of_generated(tables, types, keys),
            },
        )


def _retired(project: TenantProject, asset: str) -> list[dict[str, str]]:
    """Tables whose source is gone, which stay for a while as they are."""
    return [
        {"name": table.name, "since": table.since.isoformat(), "dropped_after": table.dropped_after.isoformat()}
        for table in project.retired
        if table.name.startswith(FAMILIES[asset].prefix)
    ]


def _listed(table: TableSpec, result: NodeResult | None, built: _Built) -> dict[str, Any]:
    """One generated table as the bridge reads it."""
    entry: dict[str, Any] = {
        "name": table.name,
        "kind": table.kind,
        "source": table.source,
        "description": table.description,
        **table.origin,
    }
    if table.name in built.unfit_values:
        entry |= {"unfit_values": built.unfit_values[table.name]}
    if result is None:
        status = "success" if table.name in built.unchanged else "not built"
        return entry | {"row_count": built.unchanged.get(table.name), "status": status}
    cause = {"error": built.causes[table.name]} if table.name in built.causes else {}
    return entry | {"row_count": result.rows, "status": result.status, **cause}


def _overview(listed: Iterable[Mapping[str, Any]]) -> str:
    """The same for a person in the UI; generated names are plain ASCII and safe in Markdown."""
    lines = [f"| `{entry['name']}` | {entry['kind']} | {entry['row_count']} | {entry['status']} |" for entry in listed]
    return "\n".join(["| table | kind | rows | status |", "|---|---|---|---|", *lines])


def _checks(
    manifest: Manifest, models: Mapping[str, dg.AssetKey]
) -> dict[str, tuple[dg.AssetCheckSpec, dg.AssetCheckSeverity]]:
    """dbt's tests of static models as asset checks, by the test's name."""
    found = {}
    for node in manifest["nodes"].values():
        attached = manifest["nodes"].get(node.get("attached_node") or "")
        if node["resource_type"] == "test" and attached:
            severity = (
                dg.AssetCheckSeverity.WARN
                if node["config"]["severity"].lower() == "warn"
                else dg.AssetCheckSeverity.ERROR
            )
            spec = dg.AssetCheckSpec(
                node["name"], asset=models[attached["name"]], description=node.get("description") or None
            )
            found[node["name"]] = (spec, severity)
    return found


def _tested(built: _Built, asset: str) -> list[table_checks.TestedTable]:
    """The asset's tables as far as they are there, with what their tests found."""
    there = {result.name for result in built.results if result.status == "success"} | built.unchanged.keys()
    return [
        table_checks.TestedTable(table, built.findings.get(table.name, ()), built.unfit_values.get(table.name, {}))
        for table in built.project.tables
        if table.kind in FAMILIES[asset].kinds and table.name in there
    ]


def _check_events(
    built: _Built,
    checks: Mapping[str, tuple[dg.AssetCheckSpec, dg.AssetCheckSeverity]],
    selected: Iterable[dg.AssetCheckKey],
) -> Iterator[Event]:
    """Results of the tests that ran; of the others those that failed before, so that a run without news hides none."""
    wanted = set(selected)
    passed = [
        Finding(result.name, result.status, result.rows, result.message)
        for result in built.results
        if result.resource_type == "test" and result.status == "pass"
    ]
    for result in (*passed, *chain.from_iterable(built.findings.values())):
        spec, severity = checks.get(result.test, (None, dg.AssetCheckSeverity.ERROR))
        if spec and spec.key in wanted:
            yield dg.AssetCheckResult(
                asset_key=spec.asset_key,
                check_name=spec.name,
                passed=result.status == "pass",
                severity=severity,
                metadata={"status": result.status, "failing_rows": result.rows or 0, "message": result.message or ""},
            )


def _raise_failures(results: Sequence[NodeResult]) -> None:
    """Models that failed fail the step, after everything that was built has been recorded."""
    said = model_causes.summary(results)
    if said:
        raise dg.Failure(
            description=f"{said} {causes.next_step_of(said)}",
            metadata=dict(model_causes.causes(results)),
            allow_retries=False,
        )
