"""How is one table described? A page of its columns with a sample; the first page also has the facts about the whole table."""

from typing import Any

from pydantic import Field

from explorer.contract.joins import Joinable
from explorer.providers.base import Provider
from mcp_bridge.answers.envelope import fit, room_left, shrunk, weight, without_nulls
from mcp_bridge.answers.paging import PAGING_TOKENS, next_place
from mcp_bridge.clients.loader_connections import Connection
from mcp_bridge.facts.columns.samples import sample_of
from mcp_bridge.facts.columns.statistics import SAMPLE_ROWS, ColumnStatistics, statistics_of
from mcp_bridge.facts.joins import joins_of
from mcp_bridge.facts.keys import key_of
from mcp_bridge.facts.pipelines import PipelineFiles
from mcp_bridge.facts.relations import Column, columns_of
from mcp_bridge.facts.semantic_layer import SemanticLayer, measure_sql
from mcp_bridge.facts.table_facts import TableFacts
from mcp_bridge.facts.tables import TenantTables
from mcp_bridge.gate.list_cursors import MAX_CHARS
from mcp_bridge.gate.tool import Format, TenantArguments
from mcp_bridge.tools.column_rows import COLUMN_TOKENS, column_row

# Tokens of the parts of an answer.
_HEAD_TOKENS, _SAMPLE_TOKENS, _JOINS_TOKENS, _EXAMPLES_TOKENS, _MEASURES_TOKENS = 1_000, 1_500, 1_500, 700, 600
_MAX_EXAMPLES = {True: 10, False: 2}
_MAX_JOINS = 15


class DescribeTable(TenantArguments):
    table: str = Field(min_length=1, max_length=200, description="Table name from list_tables.")
    sample_rows: int = Field(3, ge=0, le=10, description="Example rows.")
    response_format: Format = "concise"
    limit: int = Field(100, ge=1, le=200, description="Columns per page.")
    cursor: str | None = Field(None, max_length=MAX_CHARS, description="next_cursor of the page before.")


def describe(
    connection: Connection,
    files: PipelineFiles,
    known: TenantTables,
    layer: SemanticLayer,
    name: str,
    provider: Provider,
    args: DescribeTable,
    warnings: list[str],
) -> dict[str, Any]:
    """The data of `describe_table`, within the room that `warnings` leave. Blocks."""
    planner = provider.tables
    facts, relation = known.tables[name], known.live.relations[name]
    detailed = args.response_format == "detailed"
    columns = columns_of(connection, known.live, [name])[name]
    statistics = statistics_of(connection, relation, {column.name: column.type for column in columns})
    pii = {column.name: why for column in columns if (why := layer.pii(column))}
    key = key_of(files, known, facts, columns, provider)
    data: dict[str, Any] = shrunk(facts.row(detailed=True), _HEAD_TOKENS) | key
    data |= {"freshness_rule": known.rule.because, "column_count": len(columns)}
    if statistics and (relation.estimate or 0) > SAMPLE_ROWS:
        data["statistics"] = "approximate: from a sample of the rows"
    if args.cursor is None:
        tables, marts = _joinable(known, name, columns), {k: f.reads for f in planner.families for k in f.kinds}
        of_provider = planner.joins_of(name, tables, _common(statistics))
        joins = joins_of(name, tables, known.relationships, of_provider, marts)
        data |= _semantics_of_table(layer, name, detailed=detailed)
        data["joins"] = fit(joins[:_MAX_JOINS], _JOINS_TOKENS)
    page, more = _column_page(columns, args.cursor, args.limit)
    room = room_left(data, warnings) - PAGING_TOKENS
    described = (
        column_row(c, statistics.get(c.name), pii.get(c.name), detailed=detailed) | _unfit(facts, c) for c in page
    )
    rows = fit(described, room - (_SAMPLE_TOKENS if args.sample_rows else 0), COLUMN_TOKENS[detailed])
    left = max(_SAMPLE_TOKENS, room - weight(rows)) if args.sample_rows else 0
    sample = sample_of(connection, relation, page[: len(rows)], pii, args.sample_rows, min(left, 2 * _SAMPLE_TOKENS))
    cursor = next_place(page, len(rows), more, lambda column: column.name)
    return data | {"columns": rows, "next_cursor": cursor, "sample": sample}


def _unfit(facts: TableFacts, column: Column) -> dict[str, int]:
    return {"unfit": facts.unfit[column.name]} if column.name in facts.unfit else {}


def _joinable(known: TenantTables, wanted: str, columns: list[Column]) -> dict[str, Joinable]:
    """The table itself with these columns, and the tables that it may join. Raw and retired tables are left out."""
    blocks = {column.name: "/".join(block) for column in columns if (block := column.facts.get("case_block"))}
    return {
        name: Joinable(facts.kind, facts.source, known.live.relations[name].columns, blocks if name == wanted else {})
        for name, facts in known.tables.items()
        if name == wanted or facts.kind not in ("raw", "retired")
    }


def _common(statistics: dict[str, ColumnStatistics]) -> dict[str, list[str]]:
    """Frequent values by column."""
    return {name: [value for value, _ in known.common] for name, known in statistics.items()}


def _semantics_of_table(layer: SemanticLayer, name: str, *, detailed: bool) -> dict[str, Any]:
    """The table's part of the semantic layer; empty when there is none."""
    entity = next((entity for entity in layer.semantics.entities if entity.table == name), None)
    measures = [
        {"name": measure.name, "description": measure.description, "sql": measure_sql(name, measure.sql)}
        for measure in layer.semantics.measures
        if measure.table == name
    ]
    examples = [example.model_dump() for example in layer.examples_of(name)][: _MAX_EXAMPLES[detailed]]
    row = {
        "entity": {"name": entity.name, "key": entity.key, "description": entity.description} if entity else None,
        "synonyms": [word for word in layer.semantics.words_of(name) if entity is None or word != entity.name],
        "measures": fit(measures, _MEASURES_TOKENS) if measures else [],
        "examples": fit(examples, _EXAMPLES_TOKENS) if examples else [],
    }
    return without_nulls(row)


def _column_page(columns: list[Column], after: str | None, limit: int) -> tuple[list[Column], bool]:
    """The next columns in the table's order, and whether there are more. Starts again if the column `after` is gone."""
    names = [column.name for column in columns]
    start = names.index(after) + 1 if after in names else 0
    return columns[start : start + limit], start + limit < len(columns)
