"""Assets of kind tables: tables generated per tenant from its own structure.

They differ from tenant to tenant, so that two static assets stand for them and list every table, with its result, in their
metadata.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence

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
from explorer.tables.plan import TableFamily
from explorer.tables.values import TableSpec
from explorer_dagster import column_metadata
from explorer_dagster.checks import check_result, check_specs
from explorer_dagster.metadata import Event, as_metadata
from explorer_dagster.partitions import tenants

Keys = Mapping[str, dg.AssetKey]


class TenantTables:
    """The generated tables as assets. `keys`: by the family's name."""

    def __init__(self, pipeline: Pipeline, families: Sequence[TableFamily]) -> None:
        self._pipeline, self._families = pipeline, families
        self._named = AssetKeys(pipeline.asset_prefix)
        self.keys: Keys = {family.name: dg.AssetKey(self._named.marts(family.name)) for family in self._families}

    @property
    def specs(self) -> list[dg.AssetSpec]:
        """The definitions."""
        return [self._spec(family) for family in self._families]

    def _spec(self, family: TableFamily) -> dg.AssetSpec:
        discovered = [self._named.discovery(part.name) for part in self._pipeline.discovery]
        return dg.AssetSpec(
            self.keys[family.name],
            deps=[dg.AssetKey(key) for key in (*discovered, self._named.marts(family.mart))],
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
        return {
            table.name for family in self._families if family.name in selected for table in tables_of(family, project)
        }

    def key_of(self, table: str, project: TenantProject) -> dg.AssetKey:
        """The asset that stands for a generated table."""
        kind = next(each.kind for each in project.tables if each.name == table)
        return next(self.keys[family.name] for family in self._families if kind in family.kinds)

    def materializations(self, built: Built, selected: Collection[str], made_from: Keys) -> Iterator[Event]:
        """Of the selected families. `made_from`: the assets that columns come from, by relation."""
        for family in self._families:
            if family.name in selected:
                metadata = as_metadata(_facts(family, built, made_from))
                yield dg.MaterializeResult(asset_key=self.keys[family.name], metadata=metadata)

    def checks(
        self, built: Built, selected: Collection[str], checks: Collection[dg.AssetCheckKey]
    ) -> Iterator[dg.AssetCheckResult]:
        """Over the tables of the selected families that are there, as far as they are among `checks`."""
        for family in self._families:
            if family.name in selected:
                key = self.keys[family.name]
                for outcome in check_tables(_tested(family, built)):
                    if dg.AssetCheckKey(key, outcome.name) in checks:
                        yield check_result(key, outcome)


def tables_of(family: TableFamily, project: TenantProject) -> list[TableSpec]:
    """The tenant's tables of a family."""
    return [table for table in project.tables if table.kind in family.kinds]


def _facts(family: TableFamily, built: Built, made_from: Keys) -> GeneratedTables:
    tables = tables_of(family, built.project)
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
        retired=retired_tables(built.project.retired, family.prefix),
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
        for table in tables_of(family, built.project)
        if table.name in built.present
    ]
