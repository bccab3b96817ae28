"""Which models must be built again? Those whose definition or raw rows changed since the last build.

The tenant's staging schema records what each table was built from, beside the table itself, so that a restored database or a
dropped table is noticed. A model generated for one group of records, such as all of one kind, is stale only when records of
that group changed; a view only when its tables were made or dropped. In doubt a model is stale.

A stale table with an unchanged definition need not be built again: `changes` can apply the changed rows, unless these are most
of the table. `dbt` runs dbt; `refresh` orders the steps.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from explorer.contract.bookkeeping import builds as build_records
from explorer.contract.bookkeeping import statements
from explorer.contract.bookkeeping.builds import Build, Finding
from explorer.contract.bookkeeping.statements import CompiledModel
from explorer.marts import relations
from explorer.marts.changes.gathered import Change, Changes, is_small
from explorer.marts.models import Model
from explorer.marts.project import TenantProject
from explorer.postgres.connections import Connection


@dataclass(frozen=True)
class Plan:
    """What a run must build. `stale`: names of models; `rows`: row counts of the others, None for views; `versions`: time of
    each raw table's latest change when the plan was made; `findings`: of earlier runs, by model; `changes`: what to do with
    stale models that need no dbt; `raw_tables`: existing ones, with their oids."""

    models: Mapping[str, Model]
    stale: frozenset[str]
    rows: Mapping[str, int | None]
    versions: Mapping[str, str]
    findings: Mapping[str, tuple[Finding, ...]]
    changes: Mapping[str, Change]
    raw_tables: frozenset[str]


def plan(connection: Connection, project: TenantProject, models: Mapping[str, Model]) -> Plan:
    """Compare the models with their last builds."""
    schemas = project.schemas
    versions = relations.raw_versions(connection, schemas, {table for model in models.values() for table in model.raw})
    oids = relations.oids(connection, schemas)
    raw_tables = relations.raw_relations(connection, schemas)
    recorded = build_records.read(connection, schemas)
    builds = {
        name: recorded[name]
        for name, model in models.items()
        if name in recorded
        and recorded[name].definition == model.definition
        and recorded[name].relation == oids.get(model.relation)
    }
    compiled = {
        name: each
        for name, each in statements.models(connection, schemas).items()
        if name in builds and each.definition == builds[name].definition and each.raw_tables == raw_tables
    }
    changes = Changes(
        connection, schemas, project.change_keys, {name for schema, name in oids if schema == schemas.marts}
    )
    last = _LastBuilds(project, models, builds, compiled, versions, changes)
    last.gather_changes()
    stale = frozenset(name for name in models if not last.is_fresh(name))
    rows = {name: recorded[name].rows for name in models if name not in stale}
    findings = {name: build.findings for name, build in recorded.items() if name in models}
    return Plan(models, stale, rows, versions, findings, last.changes_without_dbt(stale), raw_tables)


@dataclass(frozen=True)
class _LastBuilds:
    """The last builds of models with the same definition and table as now, and what changed since. `compiled`: the SQL of those
    that dbt compiled for the same raw tables; `versions`: time of each raw table's latest change."""

    project: TenantProject
    models: Mapping[str, Model]
    builds: Mapping[str, Build]
    compiled: Mapping[str, CompiledModel]
    versions: Mapping[str, str]
    changes: Changes

    def gather_changes(self) -> None:
        """Gather the changed records of each key since the earliest of the builds."""
        keys = {
            name: self.compiled[name].key if name in self.compiled else self.models[name].change_key
            for name in self.builds
        }
        for key in sorted({key for key in keys.values() if key}):
            raw = self.project.change_keys[key].raw_table
            built_up_to = {self.builds[name].versions.get(raw) for name in self.builds if keys[name] == key}
            if raw in self.versions and (since := built_up_to - {None, self.versions[raw]}):
                self.changes.gather(key, sorted(moment for moment in since if moment))

    def is_fresh(self, name: str) -> bool:
        """Whether a build now would give the same rows."""
        if name not in self.builds:
            return False
        model, built = self.models[name], self.builds[name]
        if model.kind == "view":
            return set(built.versions) == model.raw & set(self.versions)
        changed = self._changed_raw_tables(name)
        if not changed or model.group is None or model.change_key is None:
            return not changed
        return built.versions.keys() >= changed and not self.changes.touches(model.change_key, model.group)

    def changes_without_dbt(self, stale: Collection[str]) -> dict[str, Change]:
        """The stale models that need no dbt. A model that reads one built by dbt needs dbt too, since it comes later."""
        found = {name: change for name in self.compiled if name in stale and (change := self._change(name))}
        while after_dbt := {name for name in found if self.compiled[name].parents & set(stale) - set(found)}:
            found = {name: change for name, change in found.items() if name not in after_dbt}
        return found

    def _change(self, name: str) -> Change | None:
        """How the table of a compiled model is brought up to date without dbt; None where dbt must build it."""
        model, key, rows = self.models[name], self.compiled[name].key, self.builds[name].rows
        changed = self._changed_raw_tables(name)
        if rows is None or not self.builds[name].versions.keys() >= changed:
            return None
        if key is None:
            return Change(model.relation, None, None, rows) if is_small(rows) else None
        is_cheaper = changed == {self.project.change_keys[key].raw_table} and self.changes.are_few(
            key, model.group, rows
        )
        return Change(model.relation, key, model.group, rows) if is_cheaper else None

    def _changed_raw_tables(self, name: str) -> set[str]:
        before = self.builds[name].versions
        return {table for table in self.models[name].raw if before.get(table) != self.versions.get(table)}
