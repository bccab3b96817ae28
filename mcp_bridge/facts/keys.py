"""Which columns together identify a row of a table?"""

from typing import Any

from explorer.providers.base import Provider
from mcp_bridge.facts.pipelines import PipelineFiles
from mcp_bridge.facts.relations import Column
from mcp_bridge.facts.table_facts import TableFacts
from mcp_bridge.facts.tables import TenantTables


def key_of(
    files: PipelineFiles, known: TenantTables, facts: TableFacts, columns: list[Column], provider: Provider
) -> dict[str, Any]:
    """The columns that together identify a row: for tables of records the key of their plan, for dbt's marts the key that dbt
    tests, for others PostgreSQL's primary key. Empty when no key is known."""
    names = _planned(facts, columns, provider) or _declared(files, known, facts.name)
    present = {column.name for column in columns}
    if not names or not present.issuperset(names):
        names = [column.name for column in columns if column.in_primary_key]
    return {"primary_key": names} if names else {}


def _declared(files: PipelineFiles, known: TenantTables, name: str) -> list[str]:
    """The key of a mart, or of a raw table."""
    raw = ([s.primary_key] for p in known.pipelines for s in p.sources if s.table == name)
    marts = (list(keys[name]) for p in known.pipelines if name in (keys := files.keys[p.name]))
    return next(raw, None) or next(marts, [])


def _planned(facts: TableFacts, columns: list[Column], provider: Provider) -> list[str]:
    """The key of a table of records, by its name or its kind. The kind is unknown without Dagster or when the source is gone;
    then the key is guessed from columns that only one kind has."""
    planner = provider.tables
    fixed = {table.name: list(table.key) for table in planner.fixed}
    if facts.name in fixed:
        return fixed[facts.name]
    if facts.kind in planner.key_by_kind:
        return [planner.key_by_kind[facts.kind]]
    names = {column.name for column in columns}
    if facts.kind not in ("table", "retired") or not any(column.facts for column in columns):
        return []
    return [key for key in reversed(tuple(planner.key_by_kind.values())) if key in names][:1]
