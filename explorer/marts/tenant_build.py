"""How are a tenant's models built? Plan, run dbt, and record what is known of the tables afterwards."""

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import psycopg

from explorer.contract.bookkeeping import columns as column_records
from explorer.contract.bookkeeping.builds import Finding
from explorer.contract.bookkeeping.lineage import Lineage
from explorer.contract.materializations import TypeChange
from explorer.contract.schemas import TenantSchemas
from explorer.marts import causes, column_lineage
from explorer.marts.dbt.results import NodeResult
from explorer.marts.models import models_of
from explorer.marts.planning import Plan, plan
from explorer.marts.project import TenantProject
from explorer.marts.refresh import refresh
from explorer.postgres.connections import Login
from explorer.tables.column_facts import facts_of
from explorer.tables.plan import TablePlanner
from explorer.tables.unfit_values import count_unfit_values

Manifest = Mapping[str, Any]
# schema.table to its columns in order: name and type.
ColumnTypes = Mapping[str, Sequence[tuple[str, str]]]


@dataclass(frozen=True)
class Built:
    """The result of a build. `results`: of models and tests that ran; `unchanged`: row counts of models that were not stale;
    `findings`: failed tests by model, of this build or an earlier one; `unfit_values`: number by table and column;
    `type_changes`: columns whose type changed since it was last reported; `lineage`: of static models."""

    project: TenantProject
    results: Sequence[NodeResult]
    unchanged: Mapping[str, int | None]
    findings: Mapping[str, Sequence[Finding]]
    types: ColumnTypes
    unfit_values: Mapping[str, Mapping[str, int]]
    type_changes: Sequence[TypeChange]
    lineage: Lineage

    @cached_property
    def models(self) -> Mapping[str, NodeResult]:
        """Results of the models that ran, by name."""
        return {result.name: result for result in self.results if result.resource_type == "model"}

    @cached_property
    def causes(self) -> Mapping[str, str]:
        """Why models were not built, by model."""
        return causes.causes(self.results)

    @cached_property
    def present(self) -> frozenset[str]:
        """Models that are up to date with their source."""
        return frozenset(name for name, result in self.models.items() if result.status == "success") | set(
            self.unchanged
        )


def build(
    project: TenantProject,
    planner: TablePlanner,
    wanted: Set[str],
    *,
    manifest: Manifest,
    lineage: Lineage,
    database: Login,
    by_need: bool,
    on_result: Callable[[NodeResult], None],
    on_plan: Callable[[str], None],
    on_fallback: Callable[[str, str], None],
) -> Built:
    """Build the `wanted` models; `by_need`: only those among them that are stale.

    `database`: the tenant's rw login. `on_plan`: called with a sentence about what will be done; `on_fallback`: called with each
    model whose changes could not be applied, and the reason.
    """
    with database.connect(autocommit=True) as connection:
        planned = plan(connection, project, models_of(project, manifest))
        on_plan(_sentence(planned, wanted, by_need=by_need))
        results = refresh(
            connection,
            project,
            planned,
            wanted,
            by_need=by_need,
            database=database,
            on_result=on_result,
            on_fallback=on_fallback,
        )
        column_records.write(connection, project.schemas, facts_of(project.tables))
        column_lineage.write(connection, project.schemas, lineage, project.tables, version=project.content_hash)
        if project.type_changes:
            planner.mark_reported(connection, project.schemas)
        return Built(
            project,
            results,
            {name: rows for name, rows in planned.rows.items() if by_need or name not in wanted},
            _findings(results, planned.findings),
            types=_column_types(connection, project.schemas),
            unfit_values=count_unfit_values(connection, project.schemas, project.tables),
            type_changes=project.type_changes,
            lineage=lineage,
        )


def _sentence(planned: Plan, wanted: Set[str], *, by_need: bool) -> str:
    if not by_need:
        return f"{len(wanted)} of {len(planned.models)} models are built."
    stale = wanted & planned.stale
    incremental = stale & planned.changes.keys()
    return f"Of {len(planned.models)} models {len(incremental)} take up what changed, {len(stale) - len(incremental)} are built."


def _findings(results: Sequence[NodeResult], before: Mapping[str, Sequence[Finding]]) -> dict[str, list[Finding]]:
    """The tests' findings by model: of this run, or of an earlier one for tests that were not run again."""
    ran = {result.name: result for result in results if result.resource_type == "test" and result.status != "skipped"}
    found = {model: [old for old in findings if old.test not in ran] for model, findings in before.items()}
    for test in ran.values():
        if test.status != "pass":
            found.setdefault(test.tested_model, []).append(Finding(test.name, test.status, test.rows, test.message))
    return found


def _column_types(connection: psycopg.Connection[tuple[Any, ...]], schemas: TenantSchemas) -> ColumnTypes:
    """The columns that the database has now."""
    types: dict[str, list[tuple[str, str]]] = {}
    for relation, column, type_name in connection.execute(
        "select n.nspname || '.' || c.relname, a.attname, format_type(a.atttypid, a.atttypmod)"
        " from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace"
        " where n.nspname = any(%s) and a.attnum > 0 and not a.attisdropped order by c.oid, a.attnum",
        ([schemas.staging, schemas.marts],),
    ):
        types.setdefault(relation, []).append((column, type_name))
    return types
