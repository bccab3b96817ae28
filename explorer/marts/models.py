"""Which models does a tenant's project have, and what does each read?"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from explorer.marts.project import TenantProject
from explorer.tables.values import TableSpec


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
