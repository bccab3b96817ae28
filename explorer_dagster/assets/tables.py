"""Assets of kind tables: tables generated per tenant from its own structure.

They differ from tenant to tenant, so that two static assets stand for them and list every table, with its result, in their
metadata.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import dagster as dg

from explorer.contract.materializations import GeneratedTables
from explorer.contract.names import MARTS, AssetKeys
from explorer.contract.records import Markdown
from explorer.marts.causes import FAILED
from explorer.marts.project import TenantProject
from explorer.marts.table_checks import DESCRIBED, TestedTable, check_tables
from explorer.marts.table_list import list_tables, overview, retired_tables, type_changes
from explorer.marts.tenant_build import Built
from explorer.registry import Pipeline
from explorer.tables.generate import GeneratedTable
from explorer_dagster import column_metadata
from explorer_dagster.checks import check_result, check_specs
from explorer_dagster.metadata import as_metadata
from explorer_dagster.partitions import tenants

Event = dg.MaterializeResult | dg.AssetCheckResult  # type: ignore[type-arg]
Keys = Mapping[str, dg.AssetKey]


@dataclass(frozen=True)
class TableFamily:
    """The tables that one asset stands for. `kinds`: of generated tables; `cut_from`: the mart; `start`: of their names."""

    name: str
    kinds: frozenset[str]
    cut_from: str
    start: str
    description: str

    def of(self, project: TenantProject) -> list[GeneratedTable]:
        """The tenant's tables of this family."""
        return [table for table in project.tables if table.kind in self.kinds]


FAMILIES = (
    TableFamily(
        "case_tables",
        frozenset({"case_type"}),
        "cases",
        "case_",
        "One table per case type (`case_<type>`): a row per case, a column per property.",
    ),
    TableFamily(
        "form_tables",
        frozenset({"form", "repeat"}),
        "forms",
        "form_",
        "One table per form (`form_<name>`) and repeat group (`form_<name>__<repeat>`): a column per question.",
    ),
)


class TenantTables:
    """The generated tables as assets. `keys`: by the family's name."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._named = AssetKeys(pipeline.asset_prefix)
        self.keys: Keys = {family.name: dg.AssetKey(self._named.marts(family.name)) for family in FAMILIES}

    @property
    def specs(self) -> list[dg.AssetSpec]:
        """The definitions."""
        return [self._spec(family) for family in FAMILIES]

    def _spec(self, family: TableFamily) -> dg.AssetSpec:
        discovered = self._named.discovery(self._pipeline.discovery[0].name)
        return dg.AssetSpec(
            self.keys[family.name],
            deps=[dg.AssetKey(discovered), dg.AssetKey(self._named.marts(family.cut_from))],
            group_name=MARTS,
            kinds={"dbt", "postgres"},
            owners=list(self._pipeline.owners),
            tags={"layer": MARTS},
            description=f"{family.description} Generated from the tenant's own applications; the tables are listed in each "
            "materialization.",
            partitions_def=tenants,
        )

    @property
    def check_specs(self) -> list[dg.AssetCheckSpec]:
        """One check per kind of test on each asset."""
        return [spec for key in self.keys.values() for spec in check_specs(key, DESCRIBED)]

    def models(self, project: TenantProject, selected: Collection[str]) -> set[str]:
        """The models behind the selected families."""
        return {table.name for family in FAMILIES if family.name in selected for table in family.of(project)}

    def key_of(self, table: str, project: TenantProject) -> dg.AssetKey:
        """The asset that stands for a generated table."""
        kind = next(each.kind for each in project.tables if each.name == table)
        return next(self.keys[family.name] for family in FAMILIES if kind in family.kinds)

    def materializations(self, built: Built, selected: Collection[str], made_from: Keys) -> Iterator[Event]:
        """Of the selected families. `made_from`: the assets that columns come from, by relation."""
        for family in FAMILIES:
            if family.name in selected:
                metadata = as_metadata(_facts(family, built, made_from))
                yield dg.MaterializeResult(asset_key=self.keys[family.name], metadata=metadata)

    def checks(
        self, built: Built, selected: Collection[str], checks: Collection[dg.AssetCheckKey]
    ) -> Iterator[dg.AssetCheckResult]:
        """Over the tables of the selected families that are there, as far as they are among `checks`."""
        for family in FAMILIES:
            if family.name in selected:
                key = self.keys[family.name]
                for outcome in check_tables(_tested(family, built)):
                    if dg.AssetCheckKey(key, outcome.name) in checks:
                        yield check_result(key, outcome)


def _facts(family: TableFamily, built: Built, made_from: Keys) -> GeneratedTables:
    tables = family.of(built.project)
    listed = list_tables(built, tables)
    types = {table.name: built.types.get(f"{built.project.schemas.marts}.{table.name}", ()) for table in tables}
    columns = column_metadata.of_generated(tables, types, made_from)
    return GeneratedTables(
        tables=listed,
        overview=Markdown(overview(listed)),
        table_count=len(listed),
        rebuilt=sum(table.name in built.models for table in tables),
        failed=sum(entry.status in FAILED for entry in listed),
        unfit_values=sum(sum((entry.unfit_values or {}).values()) for entry in listed),
        migrations=type_changes(built, tables),
        retired=retired_tables(built.project.retired, family.start),
        row_count=sum(entry.row_count or 0 for entry in listed),
        column_schema=columns.schema,
        column_lineage=columns.lineage,
        columns=columns.paths,
        columns_told=len(columns.schema.columns),
        columns_total=sum(len(table.columns) for table in tables),
    )


def _tested(family: TableFamily, built: Built) -> list[TestedTable]:
    return [
        TestedTable(table, built.findings.get(table.name, ()), built.unfit_values.get(table.name, {}))
        for table in family.of(built.project)
        if table.name in built.present
    ]
