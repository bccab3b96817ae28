"""Which columns together identify a row of a table?"""

from collections.abc import Mapping
from typing import Any

from mcp_bridge.facts.pipelines import PipelineFiles
from mcp_bridge.facts.relations import Column
from mcp_bridge.facts.table_facts import TableFacts
from mcp_bridge.facts.tables import TenantTables


def key_of(
    files: PipelineFiles, known: TenantTables, facts: TableFacts, columns: list[Column], key_by_kind: Mapping[str, str]
) -> dict[str, Any]:
    """The columns that together identify a row: for static tables the key that dbt tests, for generated tables by their kind,
    for others PostgreSQL's primary key. Empty when no key is known."""
    declared = next((keys[facts.name] for p in known.pipelines if facts.name in (keys := files.keys[p.name])), ())
    raw = next((s.primary_key for p in known.pipelines for s in p.sources if s.table == facts.name), None)
    names = list(declared) or ([raw] if raw else []) or _key_of_generated(facts, columns, key_by_kind)
    present = {column.name for column in columns}
    if not names or not present.issuperset(names):
        names = [column.name for column in columns if column.in_primary_key]
    return {"primary_key": names} if names else {}


def _key_of_generated(facts: TableFacts, columns: list[Column], key_by_kind: Mapping[str, str]) -> list[str]:
    """The key by the table's kind. The kind is unknown without Dagster or when the source is gone; then the key is guessed from
    columns that only one kind has."""
    if facts.kind in key_by_kind:
        return [key_by_kind[facts.kind]]
    names = {column.name for column in columns}
    if facts.kind not in ("table", "retired") or not any(column.facts for column in columns):
        return []
    return [key for key in reversed(tuple(key_by_kind.values())) if key in names][:1]
