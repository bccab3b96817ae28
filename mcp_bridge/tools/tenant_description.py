"""Describes a tenant as a whole: its structure, the joins of its tables, its semantics."""

from collections.abc import Iterable, Sequence
from typing import Any

from explorer.catalog import DiscoveredStructure
from explorer.providers.base import Provider
from mcp_bridge.answers.envelope import fit, iso, shrunk, weight
from mcp_bridge.facts.relations import Column
from mcp_bridge.facts.semantic_layer import SemanticLayer, measure_sql
from mcp_bridge.facts.table_facts import TableFacts
from mcp_bridge.facts.tables import TenantTables
from mcp_bridge.tools.column_rows import COLUMN_TOKENS, column_row

# Tokens of a table without and with its columns, and of the parts beside the tables.
_TABLE_TOKENS, _TABLE_WITH_COLUMNS_TOKENS = 300, 2_500
_STRUCTURE_TOKENS, _RELATIONSHIPS_TOKENS, _SEMANTICS_TOKENS = 900, 1_200, 450


def tenant_parts(
    known: TenantTables, layer: SemanticLayer, provider: Provider, found: DiscoveredStructure | None
) -> dict[str, Any]:
    """`{structure, relationships, entities?, measures?, examples?}`."""
    return {
        "structure": shrunk(_structure_row(provider, found), _STRUCTURE_TOKENS),
        "relationships": fit(_joins_of_tenant(known, provider.tables.join_patterns), _RELATIONSHIPS_TOKENS),
    } | _semantics_of_tenant(layer)


def tables_with_columns(
    page: Iterable[TableFacts], columns: dict[str, list[Column]], layer: SemanticLayer, room: int
) -> list[dict[str, Any]]:
    """As many tables as fit, each with its columns in the detailed form."""
    rows = (_metadata_row(facts, columns[facts.name], layer) for facts in page)
    return fit(rows, room, max(room // 2, _TABLE_WITH_COLUMNS_TOKENS))


def _metadata_row(facts: TableFacts, columns: list[Column], layer: SemanticLayer) -> dict[str, Any]:
    head: dict[str, Any] = shrunk(facts.row(detailed=True), _TABLE_TOKENS)
    listed = (column_row(c, None, layer.pii(c), detailed=True) for c in columns)
    shown = fit(listed, _TABLE_WITH_COLUMNS_TOKENS - weight(head), COLUMN_TOKENS[False])
    more = {"columns_omitted": len(columns) - len(shown)} if len(shown) < len(columns) else {}
    return head | {"columns": shown} | more


def _semantics_of_tenant(layer: SemanticLayer) -> dict[str, Any]:
    """Entities, measures and examples, as many of each as a caller needs to plan."""
    semantics = layer.semantics
    parts: dict[str, Iterable[dict[str, Any]]] = {
        "entities": ({"name": e.name, "table": e.table, "synonyms": list(e.synonyms[:6])} for e in semantics.entities),
        "measures": ({"name": m.name, "sql": measure_sql(m.table, m.sql)} for m in semantics.measures),
        "examples": (example.model_dump() for example in semantics.examples),
    }
    return {name: rows for name, part in parts.items() if (rows := fit(part, _SEMANTICS_TOKENS))}


def _joins_of_tenant(known: TenantTables, patterns: Sequence[tuple[str, str, str]]) -> list[str]:
    """`cases.owner_id = users.user_id (why)` for joins with two existing sides; joins of generated tables once per kind."""
    present = {f"{name}.{column}" for name, relation in known.live.relations.items() for column in relation.columns}
    joins = [f"{a} = {b} ({why})" for a, b, why in known.relationships if a in present and b in present]
    kinds = {facts.kind for facts in known.tables.values()}
    return joins + [join for kind, other, join in patterns if kind in kinds and other in present]


def _structure_row(provider: Provider, found: DiscoveredStructure | None) -> dict[str, Any] | None:
    """The tenant's structure in a few lines. The descriptions of columns have the details."""
    if found is None:
        return None
    return {
        "version": found.version,
        "discovered_at": iso(found.created_at),
        **provider.overview(found.structure),
        "brought": provider.headline(found.diff),
        "warnings": list(provider.outline(found.structure).warnings)[:5],
    }
