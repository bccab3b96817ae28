"""Which models must be built again? Those whose definition changed since they were built, or whose raw rows did.

What was built from what is kept in the tenant's staging schema, beside the tables it speaks of: a restored database, or a table
dropped by hand, is noticed. Models generated for a case type or a form are stale only when rows of that case type or form came,
changed or went, views only when their table came or went. In doubt a model is stale. Running dbt is `runner`.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import psycopg
from psycopg import sql

from explorer_dagster.transforms.generate import GeneratedTable
from explorer_dagster.transforms.project import TenantProject
from explorer_dagster.transforms.runner import NodeResult

Connection = psycopg.Connection[tuple[Any, ...]]
# The raw table a generated table is cut from, and the mart that tells which case type or form a row belonged to before.
_CUT_FROM = {
    "case_type": ("raw_cases", "cases", "case_id", "case_type"),
    "form": ("raw_forms", "forms", "form_id", "xmlns"),
    "repeat": ("raw_forms", "forms", "form_id", "xmlns"),
}
_GROUP_OF_RECORD = {"raw_cases": "r.case_type", "raw_forms": "r.record #>> '{form,@xmlns}'"}
_TABLE = "explorer_builds"
_CURSORS = "_explorer_cursors"


@dataclass(frozen=True)
class Model:
    """A model as far as being stale goes. `relation`: schema and table; `raw`: raw tables it reads, through others too; `kind`:
    `view`, `table`, or the kind of a generated table, whose `group` is the case type or xmlns it is cut by."""

    name: str
    definition: str
    relation: tuple[str, str]
    raw: frozenset[str]
    kind: str
    group: str | None = None


class Finding(msgspec.Struct, frozen=True):
    """A test that did not pass when it was last run. `status`, `rows`, `message`: as in `NodeResult`."""

    test: str
    status: str
    rows: int | None
    message: str | None


@dataclass(frozen=True)
class Plan:
    """What a run has to build. `stale`: names of models; `rows`: row counts of the others, None for views; `versions`: raw table
    to the instant of its latest change when the plan was made; `findings`: by model, of runs before."""

    models: Mapping[str, Model]
    stale: frozenset[str]
    rows: Mapping[str, int | None]
    versions: Mapping[str, str]
    findings: Mapping[str, tuple[Finding, ...]]


@dataclass(frozen=True)
class _Built:
    definition: str
    versions: Mapping[str, str]
    oid: int
    rows: int | None
    findings: tuple[Finding, ...]


def models_of(project: TenantProject, static: Mapping[str, Any]) -> dict[str, Model]:
    """All models of the project by name; `static`: dbt's manifest of the static ones."""
    shared = hashlib.sha256(project.static_hash.encode())
    models = {}
    for node in (node for node in static["nodes"].values() if node["resource_type"] == "model"):
        layer = node["fqn"][1]
        relation = (f"{project.prefix}_{layer}", node["alias"])
        raw = _raw_tables(node, static)
        models[node["name"]] = Model(node["name"], shared.hexdigest(), relation, raw, node["config"]["materialized"])
    for table in project.tables:
        own = shared.copy()
        own.update(table.sql.encode() + table.properties.encode())
        models[table.name] = _generated(table, own.hexdigest(), f"{project.prefix}_marts")
    return models


def plan(connection: Connection, project: TenantProject, models: Mapping[str, Model]) -> Plan:
    """Compare what is there with what was built."""
    schema = f"{project.prefix}_staging"
    connection.execute(
        sql.SQL(
            "create table if not exists {} (model text primary key, definition text not null, versions jsonb not null,"
            " relation oid not null, row_count bigint, findings jsonb not null, built_at timestamptz not null default now())"
        ).format(sql.Identifier(schema, _TABLE))
    )
    versions = _versions(
        connection, f"{project.prefix}_raw", {table for model in models.values() for table in model.raw}
    )
    built = _built(connection, schema)
    oids = _oids(connection, project.prefix)
    touched = _Touched(connection, project.prefix)
    stale = {
        name
        for name, model in models.items()
        if not _is_fresh(model, built.get(name), oids.get(model.relation), versions, touched)
    }
    rows = {name: built[name].rows for name in models if name not in stale}
    findings = {name: build.findings for name, build in built.items() if name in models}
    return Plan(models, frozenset(stale), rows, versions, findings)


def record(
    connection: Connection, project: TenantProject, done: Plan, results: Sequence[NodeResult]
) -> tuple[Finding, ...]:
    """Keep what was built, and that the models which were not stale are as of now too; models that failed are forgotten.

    Gives the findings of earlier runs that still stand: their tests had no need to be run again.
    """
    built = {result.name: result for result in results if result.resource_type == "model"}
    tests = {result.name: result for result in results if result.resource_type == "test"}
    standing = {
        name: tuple(finding for finding in findings if finding.test not in tests)
        for name, findings in done.findings.items()
    }
    good = {name: result.rows for name, result in built.items() if result.status == "success"}
    current = {**done.rows, **good}
    oids = _oids(connection, project.prefix)
    table = sql.Identifier(f"{project.prefix}_staging", _TABLE)
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(sql.SQL("delete from {} where model <> all(%s)").format(table), [list(current)])
        cursor.executemany(
            sql.SQL(
                "insert into {} as b (model, definition, versions, relation, row_count, findings)"
                " values (%s, %s, %s, %s, %s, %s) on conflict (model) do update set definition = excluded.definition,"
                " versions = excluded.versions, relation = excluded.relation, row_count = excluded.row_count,"
                " findings = excluded.findings,"
                " built_at = case when b.relation = excluded.relation then b.built_at else now() end"
            ).format(table),
            [
                (
                    name,
                    model.definition,
                    _json(model.raw, done.versions),
                    oids[model.relation],
                    rows,
                    msgspec.json.encode((*standing.get(name, ()), *_findings(name, tests.values()))).decode(),
                )
                for name, rows in current.items()
                if (model := done.models[name]).relation in oids
            ],
        )
    return tuple(finding for findings in standing.values() for finding in findings)


def _findings(model: str, tests: Iterable[NodeResult]) -> Iterator[Finding]:
    for test in tests:
        if (test.attached_node or "").rpartition(".")[2] == model and test.status not in ("pass", "skipped"):
            yield Finding(test.name, test.status, test.rows, test.message)


def _raw_tables(node: Mapping[str, Any], static: Mapping[str, Any]) -> frozenset[str]:
    found: set[str] = set()
    for parent in node["depends_on"]["nodes"]:
        if parent in static["sources"]:
            found.add(static["sources"][parent]["name"])
        else:
            found |= _raw_tables(static["nodes"][parent], static)
    return frozenset(found)


def _generated(table: GeneratedTable, definition: str, schema: str) -> Model:
    raw = _CUT_FROM[table.kind][0]
    # A repeat group's source is the form's xmlns, which may hold anything, and the path of the group, which holds no space.
    group = table.source.rpartition(" ")[0] if table.kind == "repeat" else table.source
    return Model(table.name, definition, (schema, table.name), frozenset({raw}), table.kind, group)


def _is_fresh(
    model: Model, built: _Built | None, oid: int | None, versions: Mapping[str, str], touched: "_Touched"
) -> bool:
    if built is None or built.definition != model.definition or built.oid != oid:
        return False
    if model.kind == "view":
        return set(built.versions) == model.raw & set(versions)
    changed = {table for table in model.raw if built.versions.get(table) != versions.get(table)}
    if not changed or model.group is None:
        return not changed
    since = built.versions.get(next(iter(changed)))
    return since is not None and model.group not in touched.groups(model.kind, since)


class _Touched:
    """Case types and forms with rows that came, changed or went since an instant; each question is asked once."""

    def __init__(self, connection: Connection, prefix: str) -> None:
        self._connection = connection
        self._prefix = prefix
        self._known: dict[tuple[str, str], Collection[str | None]] = {}

    def groups(self, kind: str, since: str) -> Collection[str | None]:
        raw, mart, key, column = _CUT_FROM[kind]
        if (raw, since) not in self._known:
            query = sql.SQL(
                "with changed as (select {key}, {group} as kind from {raw} r where _loaded_at > {since} or _deleted_at > {since})"
                " select kind from changed union select m.{column} from {mart} m join changed using ({key})"
            ).format(
                key=sql.Identifier(key),
                group=sql.SQL(_GROUP_OF_RECORD[raw]),
                raw=sql.Identifier(f"{self._prefix}_raw", raw),
                since=sql.Literal(since),
                column=sql.Identifier(column),
                mart=sql.Identifier(f"{self._prefix}_marts", mart),
            )
            self._known[(raw, since)] = {group for (group,) in self._connection.execute(query)}
        return self._known[(raw, since)]


def _versions(connection: Connection, schema: str, tables: Collection[str]) -> dict[str, str]:
    """The moment of the latest load that changed each raw table that is there: as the loader keeps it, else as its rows say."""
    there = connection.execute(
        "select tablename from pg_tables where schemaname = %s and tablename = any(%s)", [schema, [*tables, _CURSORS]]
    ).fetchall()
    versions: dict[str, str] = {}
    if (_CURSORS,) in there:
        changes = sql.SQL("select table_name, changed_at::text from {} where changed_at is not null")
        kept = connection.execute(changes.format(sql.Identifier(schema, _CURSORS)))
        versions = {table: moment for table, moment in kept if (table,) in there}
    for (table,) in there:
        if table in versions or table == _CURSORS:
            continue
        query = sql.SQL("select coalesce(greatest(max(_loaded_at), max(_deleted_at)), 'epoch')::text from {}").format(
            sql.Identifier(schema, table)
        )
        row = connection.execute(query).fetchone()
        versions[table] = str(row[0]) if row else ""
    return versions


def _built(connection: Connection, schema: str) -> dict[str, _Built]:
    query = sql.SQL("select model, definition, versions, relation::bigint, row_count, findings from {}").format(
        sql.Identifier(schema, _TABLE)
    )
    return {
        name: _Built(definition, versions, oid, rows, msgspec.convert(findings, tuple[Finding, ...]))
        for name, definition, versions, oid, rows, findings in connection.execute(query)
    }


def _oids(connection: Connection, prefix: str) -> dict[tuple[str, str], int]:
    rows = connection.execute(
        "select n.nspname, c.relname, c.oid::bigint from pg_class c join pg_namespace n on n.oid = c.relnamespace"
        " where n.nspname = any(%s) and c.relkind in ('r', 'v')",
        [[f"{prefix}_staging", f"{prefix}_marts"]],
    )
    return {(schema, name): oid for schema, name, oid in rows}


def _json(tables: Iterable[str], versions: Mapping[str, str]) -> str:
    return json.dumps({table: versions[table] for table in sorted(tables) if table in versions})
