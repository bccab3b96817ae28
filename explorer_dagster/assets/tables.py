"""The step that builds the tables of one row per record: an asset for each table that every tenant has, and one for each family.

The tables of a family differ between tenants. So its asset stands for all of them, and lists each with its rows, checks and last
change.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from datetime import UTC
from typing import Any

import dagster as dg

from explorer.contract.bookkeeping.builds import Build
from explorer.contract.bookkeeping.steps import Facts
from explorer.contract.checks import ROWS_ARE_SOUND
from explorer.contract.materializations import GeneratedTables, ListedTable, Table
from explorer.contract.names import AssetKeys
from explorer.contract.observations import TableProgress
from explorer.contract.records import COLUMN_SCHEMA, Markdown, RunId
from explorer.contract.schemas import TenantSchemas
from explorer.marts import read_ahead
from explorer.providers.base import Provider
from explorer.registry import Pipeline
from explorer.tables.engine import (
    DESCRIBED,
    TableResult,
    Updated,
    check_tables,
    checks_of,
    described,
    is_current,
    update,
)
from explorer.tables.plan import TableFamily, TablePlan
from explorer.tables.values import TableSpec
from explorer.telemetry.traces import span
from explorer_dagster import column_metadata
from explorer_dagster.assets.progress import Progress
from explorer_dagster.checks import check_result, check_spec
from explorer_dagster.documentation import documentation
from explorer_dagster.events import materialized
from explorer_dagster.failures import failures_explained, raise_failures
from explorer_dagster.metadata import Event, inert, markdown_table
from explorer_dagster.partitions import tenants
from explorer_dagster.resources import Platform, TenantSession

GROUP = "tables"
Keys = Mapping[str, dg.AssetKey]


def table_step(pipeline: Pipeline, assets: "TableAssets", taken: Collection[str]) -> list[dg.AssetsDefinition]:
    """All tables of the pipeline as one step that can be subset; nothing where the provider has none. `taken`: names that are not
    free, of dbt's models."""
    if not assets.keys:
        return []

    @dg.multi_asset(
        name=f"{pipeline.asset_prefix}_tables",
        specs=assets.specs,
        check_specs=assets.check_specs,
        partitions_def=tenants,
        can_subset=True,
    )
    def tables(context: dg.AssetExecutionContext, platform: Platform) -> Iterator[Event]:
        session = platform.session(context, pipeline)
        selected = {name for name, key in assets.keys.items() if key in context.selected_asset_keys}
        if pipeline.transforms:
            read_ahead(session.dbt)
        with (
            failures_explained(),
            span("tables"),
            session.step("tables") as told,
            session.changing_tables(),
        ):
            updated = _update(context, session, assets, selected, taken)
            told.facts = facts_of(updated.results.values())
        checks = context.selected_asset_check_keys
        yield from assets.events(session.schema, updated, selected, checks, by_need=session.is_by_need)
        raise_failures(updated.results.values())

    return [tables]


class TableAssets:
    """The assets of a pipeline's tables. `keys`: by the name of the table or family; `raw`: of the raw tables, by their name."""

    def __init__(self, pipeline: Pipeline, provider: Provider) -> None:
        self.planner = provider.tables
        self._pipeline = pipeline
        self._named = AssetKeys(pipeline.asset_prefix)
        self._discovered = [dg.AssetKey(self._named.discovery(part.name)) for part in pipeline.discovery]
        self.raw = {source.table: dg.AssetKey(self._named.raw(source.name)) for source in pipeline.sources}
        self._fixed = {table.name: table for table in self.planner.fixed}
        names = [*self._fixed, *(family.name for family in self.planner.families)]
        self.keys = {name: dg.AssetKey(self._named.marts(name)) for name in names}

    @property
    def specs(self) -> list[dg.AssetSpec]:
        """Parents first, as Dagster wants the results."""
        return [*map(self._table_spec, self._fixed.values()), *map(self._family_spec, self.planner.families)]

    def _table_spec(self, table: TableSpec) -> dg.AssetSpec:
        read = [self._fixed[name] for name in table.reads]
        read_before = {raw for each in read for raw in each.inputs}
        direct = [raw for raw in self.raw if raw == table.rows.relation or raw in table.inputs - read_before]
        deps = [*(self.raw[raw] for raw in direct), *(self.keys[each.name] for each in read)]
        # One that is made from no records is made from the structure.
        deps = deps or self._discovered
        metadata = {COLUMN_SCHEMA: column_metadata.planned(table), **documentation("tables.md", table.name)}
        return self._spec(table.name, deps, table.description, metadata)

    def _family_spec(self, family: TableFamily) -> dg.AssetSpec:
        about = f"{family.description} Made from the tenant's own applications: each materialization lists the tables."
        metadata = documentation("tables.md", "Generated for each tenant")
        return self._spec(family.name, [*self._discovered, self.keys[family.reads]], about, metadata)

    def _spec(
        self, name: str, deps: Sequence[dg.AssetKey], description: str, metadata: Mapping[str, Any]
    ) -> dg.AssetSpec:
        return dg.AssetSpec(
            self.keys[name],
            deps=deps,
            group_name=GROUP,
            kinds={"sql", "postgres"},
            owners=list(self._pipeline.owners),
            tags={"layer": GROUP},
            description=description,
            metadata=metadata,
            partitions_def=tenants,
        )

    @property
    def check_specs(self) -> list[dg.AssetCheckSpec]:
        """One check per asset, over the kinds of checks that the table has, and all of them for a family."""
        kinds = {name: checks_of(table) for name, table in self._fixed.items()}
        kinds |= {family.name: set(DESCRIBED) for family in self.planner.families}
        return [check_spec(self.keys[name], ROWS_ARE_SOUND, described(own)) for name, own in kinds.items()]

    def asset_of(self, table: TableSpec) -> str:
        """The table's name, or that of its family."""
        return next((family.name for family in self.planner.families if table.kind in family.kinds), table.name)

    def key_of(self, name: str) -> dg.AssetKey:
        """The asset that stands for a table or raw table of this name, which a tenant may have or not."""
        family = next((family.name for family in self.planner.families if name.startswith(family.prefix)), name)
        known = self.keys.get(name) or self.keys.get(family) or self.raw.get(name)
        return known or dg.AssetKey(self._named.marts(name))

    def events(
        self,
        schemas: TenantSchemas,
        updated: Updated,
        selected: Set[str],
        checks: Set[dg.AssetCheckKey],
        *,
        by_need: bool,
    ) -> Iterator[Event]:
        """Materializations of the selected assets that are up to date, and results of the selected checks. `by_need`: what is as
        it was needs not to be told."""
        families = {family.name: family for family in self.planner.families}
        for name, key in self.keys.items():
            tables = [table for table in updated.tables.values() if self.asset_of(table) == name]
            if name in selected and name in families:
                family = _family(families[name], tables, updated, {**self.raw, **self.keys})
                yield materialized(key, family, is_as_before=by_need and _is_as_before(family))
            elif name in selected and updated.results[name].is_current:
                table = self._facts(tables[0], schemas, updated)
                yield materialized(key, table, is_as_before=by_need and table.verb == "unchanged")
            if dg.AssetCheckKey(key, ROWS_ARE_SOUND) in checks:
                yield check_result(key, check_tables(updated, [table.name for table in tables]))

    def _facts(self, table: TableSpec, schemas: TenantSchemas, updated: Updated) -> Table:
        """Columns only if they may have changed: the definition lists them too, and each takes 0.3 ms of a sync without news."""
        result, types = updated.results[table.name], updated.column_types.get(table.name, ())
        is_changed = result.verb != "unchanged"
        columns = column_metadata.of_table(table, types, {**self.raw, **self.keys}) if is_changed else None
        return table_facts(f"{schemas.marts}.{table.name}", result, updated.builds[table.name], columns)


def tables_are_current(session: TenantSession, assets: "TableAssets", taken: Collection[str]) -> bool:
    """Whether the step would find nothing to do. `taken`: as in `table_step`."""
    return is_current(session.rw_database, session.schema, _plan(session, assets, taken))


def _plan(session: TenantSession, assets: "TableAssets", taken: Collection[str]) -> TablePlan:
    latest = session.catalog.discovered.latest(session.tenant)
    with session.rw_database.connect() as connection:
        return assets.planner.plan_tables(latest.structure if latest else {}, connection, session.schema, taken=taken)


def _update(
    context: dg.AssetExecutionContext,
    session: TenantSession,
    assets: TableAssets,
    selected: Set[str],
    taken: Collection[str],
) -> Updated:
    """Bring the tables of the selected assets up to date."""
    planned = _plan(session, assets, taken)
    progress = Progress(context, per_asset=False)
    keys = {table.name: assets.keys[assets.asset_of(table)] for table in planned.tables}

    def report(result: TableResult) -> None:
        if result.verb == "built" and result.message:
            context.log.warning(f"{result.table} is built as a whole: {result.message}")
        progress.report(keys[result.table], TableProgress(table=result.table, state=result.verb, rows=result.rows))

    updated = update(
        session.rw_database,
        session.schema,
        planned,
        assets.planner.changed_records,
        wanted={table.name for table in planned.tables if assets.asset_of(table) in selected},
        by_need=len(selected) == len(assets.keys) and not session.full_refresh,
        run_id=session.run_id,
        on_plan=context.log.info,
        on_result=report,
    )
    if planned.type_changes:
        with session.rw_database.connect() as connection:
            assets.planner.mark_reported(connection, session.schema)
    return updated


def table_facts(relation: str, result: TableResult, build: Build, columns: column_metadata.Columns | None) -> Table:
    """What a materialization tells of one table. `relation`: schema and name."""
    return Table(
        table_name=relation,
        row_count=build.rows,
        verb=result.verb,
        last_change=build.changed_at,
        changed_by=RunId(build.run_id),
        duration_s=None if result.verb == "unchanged" else round(result.duration_s, 3),
        column_schema=columns.schema if columns else None,
        column_lineage=columns.lineage if columns else None,
    )


def facts_of(results: Collection[TableResult]) -> Facts:
    """What a step did to its tables or models, for who compares runs."""
    return Facts(
        built=sum(result.verb == "built" for result in results),
        applied=sum(result.verb == "applied" for result in results),
        failed={result.table: result.message or "no reason was given" for result in results if result.verb == "failed"},
    )


def _family(family: TableFamily, tables: Sequence[TableSpec], updated: Updated, made_from: Keys) -> GeneratedTables:
    results = [updated.results[table.name] for table in tables if table.name in updated.results]
    listed = updated.listed(family.kinds)
    columns = column_metadata.of_family(tables, updated.column_types, made_from)
    return GeneratedTables(
        overview=Markdown(_overview(listed, updated)),
        table_count=len(listed),
        rebuilt=sum(result.verb == "built" for result in results),
        applied=sum(result.verb == "applied" for result in results),
        failed=sum(not result.is_current for result in results),
        unfit_values=sum(sum((entry.unfit_values or {}).values()) for entry in listed),
        row_count=sum(entry.row_count or 0 for entry in listed),
        column_schema=columns.schema,
        column_lineage=columns.lineage,
        columns_told=len(columns.schema.columns),
        columns_total=sum(len(table.columns) for table in tables),
        migrations=tuple(change for change in updated.type_changes if change.table in {table.name for table in tables}),
        retired=tuple(each for each in updated.retired if each.name.startswith(family.prefix)),
        tables=listed,
    )


def _is_as_before(family: GeneratedTables) -> bool:
    return not (family.rebuilt or family.applied or family.failed or family.migrations or family.retired)


def _overview(listed: Sequence[ListedTable], updated: Updated) -> str:
    """The family's tables for people, with links to the runs that changed them last."""
    return markdown_table(
        ("table", "made from", "rows", "checks", "last change", "state"), (_line(entry, updated) for entry in listed)
    )


def _line(entry: ListedTable, updated: Updated) -> tuple[str, ...]:
    build = updated.builds.get(entry.name)
    failing = ", ".join(sorted({finding.check for finding in updated.findings(entry.name)}))
    return (
        inert(entry.name),
        inert(entry.form or entry.source or ""),
        "" if entry.row_count is None else str(entry.row_count),
        "" if build is None else f"failing: {failing}" if failing else "passed",
        f"{build.changed_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC, [run {build.run_id[:8]}](/runs/{build.run_id})"
        if build
        else "",
        inert(entry.error) if entry.error else "up to date" if build else "not built",
    )
