"""Which models must be built again? Those whose definition or raw rows changed since the last build.

The tenant's staging schema records what each table was built from, beside the table itself, so that a restored database or a
dropped table is noticed. A model generated for a group of rows is stale only when rows of that group changed; a
view only when its tables were made or dropped. In doubt a model is stale.

A stale table with an unchanged definition need not be built again: `changes` can apply the changed rows, unless these are most
of the table. `dbt` runs dbt; `refresh` orders the steps.
"""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from explorer.contract.bookkeeping import builds as kept_builds
from explorer.contract.bookkeeping import loads, statements
from explorer.contract.bookkeeping.builds import Build, Finding
from explorer.contract.bookkeeping.statements import CompiledModel
from explorer.contract.schemas import TenantSchemas
from explorer.marts.changes.compiled import keep_compiled
from explorer.marts.changes.gathered import Change, Changes, is_small
from explorer.marts.dbt.results import NodeResult
from explorer.marts.project import TenantProject
from explorer.tables.values import TableSpec

Connection = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True)
class Model:
    """The facts that decide whether a model is stale. `relation`: schema and table; `raw`: raw tables that it reads, also
    indirectly; `kind`: `view`, `table`, or the kind of a generated table, which holds the rows of `group` and whose changes have
    the key `change_key`."""

    name: str
    definition: str
    relation: tuple[str, str]
    raw: frozenset[str]
    kind: str
    group: str | None = None
    change_key: str | None = None


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


def models_of(project: TenantProject, static: Mapping[str, Any]) -> dict[str, Model]:
    """All models of the project by name; `static`: dbt's manifest of the static ones."""
    shared = hashlib.sha256(project.static_hash.encode())
    models = {}
    for node in (node for node in static["nodes"].values() if node["resource_type"] == "model"):
        relation = (project.schemas.schema(node["config"]["schema"]), node["alias"])
        raw = _raw_tables(node, static)
        own = shared.copy()
        for name in node["config"]["meta"].get("made_from", ()):
            own.update(project.digests.get(name, b""))
        models[node["name"]] = Model(node["name"], own.hexdigest(), relation, raw, node["config"]["materialized"])
    for table in project.tables:
        own = shared.copy()
        own.update(table.sql.encode() + table.properties.encode())
        models[table.name] = _generated(table, own.hexdigest(), project)
    return models


def plan(connection: Connection, project: TenantProject, models: Mapping[str, Model]) -> Plan:
    """Compare the models with their last builds."""
    schemas = project.schemas
    versions = _versions(connection, schemas, {table for model in models.values() for table in model.raw})
    built = kept_builds.read(connection, schemas)
    oids = _oids(connection, schemas)
    same = {
        name: built[name]
        for name, model in models.items()
        if name in built
        and built[name].definition == model.definition
        and built[name].relation == oids.get(model.relation)
    }
    raw_tables = _raw_relations(connection, schemas)
    known = {
        name: each
        for name, each in statements.models(connection, schemas).items()
        if name in same and each.definition == same[name].definition and each.raw_tables == raw_tables
    }
    keys = {name: known[name].key if name in known else models[name].change_key for name in same}
    gathered = Changes(
        connection, schemas, project.change_keys, {name for schema, name in oids if schema == schemas.marts}
    )
    for key in sorted({key for key in keys.values() if key}):
        raw = project.change_keys[key].raw_table
        moments = {same[name].versions.get(raw) for name in same if keys[name] == key}
        if raw in versions and (since := moments - {None, versions[raw]}):
            gathered.gather(key, sorted(moment for moment in since if moment))
    stale = {
        name
        for name, model in models.items()
        if name not in same or not _is_fresh(model, same[name], versions, gathered)
    }
    rows = {name: built[name].rows for name in models if name not in stale}
    findings = {name: build.findings for name, build in built.items() if name in models}
    incremental = _incremental(project, models, stale, same, known, versions, gathered)
    return Plan(models, frozenset(stale), rows, versions, findings, incremental, raw_tables)


def begin(connection: Connection, project: TenantProject, models: Collection[str]) -> None:
    """Delete the records of these builds, so that a killed run leaves its models to be built as a whole."""
    kept_builds.forget(connection, project.schemas, models)


def record(connection: Connection, project: TenantProject, done: Plan, results: Sequence[NodeResult]) -> None:
    """Record the builds, and that models which were not stale are up to date; delete the records of failed models.

    Findings of earlier runs stay for tests that did not need to run again.
    """
    built = {result.name: result for result in results if result.resource_type == "model"}
    tests = {result.name: result for result in results if result.resource_type == "test"}
    standing = {
        name: tuple(finding for finding in findings if finding.test not in tests)
        for name, findings in done.findings.items()
    }
    good = {name: result.rows for name, result in built.items() if result.status == "success"}
    current = {**done.rows, **good}
    oids = _oids(connection, project.schemas)
    builds = {
        name: Build(
            model.definition,
            {table: done.versions[table] for table in sorted(model.raw) if table in done.versions},
            oids[model.relation],
            rows,
            (*standing.get(name, ()), *_findings(name, tests.values())),
        )
        for name, rows in current.items()
        if (model := done.models[name]).relation in oids
    }
    kept_builds.write(connection, project.schemas, builds, current)
    definitions = {name: model.definition for name, model in done.models.items()}
    keep_compiled(connection, project, definitions, done.raw_tables, results)


def _findings(model: str, tests: Iterable[NodeResult]) -> Iterator[Finding]:
    for test in tests:
        if test.tested_model == model and test.status not in ("pass", "skipped"):
            yield Finding(test.name, test.status, test.rows, test.message)


def _raw_tables(node: Mapping[str, Any], static: Mapping[str, Any]) -> frozenset[str]:
    found: set[str] = set(node["config"]["meta"].get("reads", ()))
    for parent in node["depends_on"]["nodes"]:
        if parent in static["sources"]:
            found.add(static["sources"][parent]["name"])
        else:
            found |= _raw_tables(static["nodes"][parent], static)
    return frozenset(found)


def _generated(table: TableSpec, definition: str, project: TenantProject) -> Model:
    raw = frozenset({project.change_keys[table.rows_of].raw_table})
    return Model(
        table.name, definition, (project.schemas.marts, table.name), raw, table.kind, table.group, table.rows_of
    )


def _is_fresh(model: Model, built: Build, versions: Mapping[str, str], gathered: Changes) -> bool:
    if model.kind == "view":
        return set(built.versions) == model.raw & set(versions)
    changed = {table for table in model.raw if built.versions.get(table) != versions.get(table)}
    if not changed or model.group is None or model.change_key is None:
        return not changed
    return built.versions.keys() >= changed and not gathered.touches(model.change_key, model.group)


def _incremental(
    project: TenantProject,
    models: Mapping[str, Model],
    stale: Collection[str],
    same: Mapping[str, Build],
    known: Mapping[str, CompiledModel],
    versions: Mapping[str, str],
    gathered: Changes,
) -> dict[str, Change]:
    """The stale models that need no dbt. A model that reads one built by dbt needs dbt too, since it comes later."""
    found: dict[str, Change] = {}
    for name, each in ((name, each) for name, each in known.items() if name in stale):
        model, rows = models[name], same[name].rows
        changed = {table for table in model.raw if same[name].versions.get(table) != versions.get(table)}
        if rows is None or not same[name].versions.keys() >= changed:
            continue
        if (
            each.key
            and changed == {project.change_keys[each.key].raw_table}
            and gathered.are_few(each.key, model.group, rows)
        ):
            found[name] = Change(model.relation, each.key, model.group, rows)
        elif not each.key and is_small(rows):
            found[name] = Change(model.relation, None, None, rows)
    while heavy := {name for name in found if known[name].parents & set(stale) - set(found)}:
        found = {name: change for name, change in found.items() if name not in heavy}
    return found


def _versions(connection: Connection, schemas: TenantSchemas, tables: Collection[str]) -> dict[str, str]:
    """The time of the latest load that changed each existing raw table: from the loader's records, else from the rows."""
    there = connection.execute(
        "select tablename from pg_tables where schemaname = %s and tablename = any(%s)", [schemas.raw, list(tables)]
    ).fetchall()
    names = {name for (name,) in there}
    versions = {table: moment for table, moment in loads.changes(connection, schemas.raw).items() if table in names}
    for table in names - versions.keys():
        query = sql.SQL("select coalesce(greatest(max(_loaded_at), max(_deleted_at)), 'epoch')::text from {}").format(
            sql.Identifier(schemas.raw, table)
        )
        row = connection.execute(query).fetchone()
        versions[table] = str(row[0]) if row else ""
    return versions


def _raw_relations(connection: Connection, schemas: TenantSchemas) -> frozenset[str]:
    query = (
        "select c.relname || ' ' || c.oid from pg_class c where c.relnamespace = to_regnamespace(%s)"
        " and c.relkind in ('r', 'p') and c.relname like 'raw\\_%%'"
    )
    return frozenset(name for (name,) in connection.execute(query, [schemas.raw]))


def _oids(connection: Connection, schemas: TenantSchemas) -> dict[tuple[str, str], int]:
    rows = connection.execute(
        "select n.nspname, c.relname, c.oid::bigint from pg_class c join pg_namespace n on n.oid = c.relnamespace"
        " where n.nspname = any(%s) and c.relkind in ('r', 'v')",
        [[schemas.staging, schemas.marts]],
    )
    return {(schema, name): oid for schema, name, oid in rows}
