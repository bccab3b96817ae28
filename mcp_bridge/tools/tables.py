"""Tools about tables: which there are, what they hold, how they join; what an agent needs to write right SQL the first time."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import Field

from explorer.catalog import DiscoveredStructure, Scope
from explorer.contract.table_kinds import KEY_BY_KIND
from explorer.core.errors import ExplorerError
from explorer.core.words import fold
from explorer.providers.base import Provider
from mcp_bridge.answers.envelope import (
    Answer,
    fit,
    iso,
    page_after,
    room_left,
    shrunk,
    unknown_name,
    weight,
    without_nulls,
)
from mcp_bridge.clients.platform_database import PlatformDatabase
from mcp_bridge.clients.tenant_databases import TenantDatabases
from mcp_bridge.clients.timeouts import in_thread
from mcp_bridge.facts.joins import Joinable, joins_of
from mcp_bridge.facts.pipelines import PipelineFiles
from mcp_bridge.facts.relations import Column, columns_of
from mcp_bridge.facts.samples import sample_of
from mcp_bridge.facts.semantic_layer import SemanticLayer, SemanticLayers, measure_sql
from mcp_bridge.facts.statistics import SAMPLE_ROWS, ColumnStatistics, statistics_of
from mcp_bridge.facts.tables import (
    TableFacts,
    TenantTables,
    raw_layer,
    table_warnings,
)
from mcp_bridge.facts.tenant_facts import TenantFacts
from mcp_bridge.facts.value_samples import told_of_values
from mcp_bridge.gate.list_cursors import MAX_CHARS
from mcp_bridge.gate.tool import Call, Format, TenantArguments, Tool
from mcp_bridge.tools.overview import overview

# Tokens: of a table or a column in a list, and of the parts of an answer that stand beside the list.
_TABLE_TOKENS = {True: 1_000, False: 300}
_COLUMN_TOKENS = {True: 1_200, False: 300}
_TABLE_WITH_COLUMNS_TOKENS = 2_500
_SAMPLE_TOKENS, _JOINS_TOKENS, _EXAMPLES_TOKENS, _MEASURES_TOKENS = 1_500, 1_500, 700, 600
_HEAD_TOKENS, _STRUCTURE_TOKENS, _RELATIONSHIPS_TOKENS, _MEANING_TOKENS = 1_000, 900, 1_200, 450
_RAW_TOKENS, _NOT_BUILT_TOKENS = 900, 600
# The cursor and how to use it.
_PAGING_TOKENS = 250
_MAX_NOT_BUILT = 40
_MAX_CAUSE_CHARS = 200
_MAX_LABEL_CHARS = 160
_MAX_OPTIONS = {True: 100, False: 12}
_MAX_COMMON = {True: 10, False: 3}
_MAX_EXAMPLES = {True: 10, False: 2}
_MAX_JOINS = 15
# Below both, the common values of a column tell nothing: they are any of many.
_TELLING_SHARE, _TELLING_COUNT = 0.05, 20
_RAW_LAYER = "Loaded as the source sent them, not open to query, told by kind=raw: {}."
_CURSOR = Field(None, max_length=MAX_CHARS, description="next_cursor of the page before.")

Kind = Literal["mart", "case_type", "form", "repeat", "table", "retired", "raw"]


class UnknownTable(ExplorerError):
    """The tenant has no readable table of this name."""

    code = "unknown_table"


class ListTables(TenantArguments):
    search: str | None = Field(None, max_length=200, description="Only tables with this in name or description.")
    kind: Kind | None = Field(None, description="Only tables of this kind; table: of no known kind.")
    response_format: Format = "concise"
    limit: int = Field(50, ge=1, le=50, description="Tables per page.")
    cursor: str | None = _CURSOR


class DescribeTable(TenantArguments):
    table: str = Field(min_length=1, max_length=200, description="Table name from list_tables, without schema.")
    sample_rows: int = Field(3, ge=0, le=10, description="Example rows.")
    response_format: Format = "concise"
    limit: int = Field(100, ge=1, le=200, description="Columns per page.")
    cursor: str | None = _CURSOR


class GetMetadata(TenantArguments):
    response_format: Format = "concise"
    limit: int = Field(100, ge=1, le=200, description="Tables per page; with fewer, more columns of each.")
    cursor: str | None = _CURSOR


def _entity(name: str | None) -> dict[str, str]:
    return {"entity": name} if name else {}


def _warnings(known: TenantTables, facts: list[TableFacts]) -> list[str]:
    warnings = known.warnings + table_warnings(facts)
    if not known.tables:
        warnings.append("There are no tables yet: run_materialization brings the data.")
    if known.not_built:
        count = len(known.not_built)
        warnings.append(
            f"{count} generated table{'s' if count > 1 else ''} could not be built; list_tables names "
            f"{'them' if count <= _MAX_NOT_BUILT else f'{_MAX_NOT_BUILT} of them'} with the cause."
        )
    return warnings


def _key_of_generated(facts: TableFacts, columns: list[Column]) -> list[str]:
    """By its kind; where that is not known, as without Dagster or when its source is gone, by columns that only such have."""
    if facts.kind in KEY_BY_KIND:
        return [KEY_BY_KIND[facts.kind]]
    names = {column.name for column in columns}
    if facts.kind not in ("table", "retired") or not any(column.facts for column in columns):
        return []
    if KEY_BY_KIND["repeat"] in names:
        return [KEY_BY_KIND["repeat"]]
    return [KEY_BY_KIND["form"]] if KEY_BY_KIND["form"] in names else [KEY_BY_KIND["case_type"]]


def _joinable(known: TenantTables, wanted: str, columns: list[Column]) -> dict[str, Joinable]:
    """The table itself, of these columns, and what it may join: neither copies of the source nor what is no longer filled."""
    cases = {column.name: "/".join(block) for column in columns if (block := column.facts.get("case_block"))}
    return {
        name: Joinable(facts.kind, facts.source, known.live.relations[name].columns, cases if name == wanted else {})
        for name, facts in known.tables.items()
        if name == wanted or facts.kind not in ("raw", "retired")
    }


def _case_types(statistics: dict[str, ColumnStatistics]) -> dict[str, list[str]]:
    """Case types found in columns that name one beside the identifier of another case."""
    return {
        name: [value for value, _ in known.common] for name, known in statistics.items() if name.endswith("_case_type")
    }


def _relationships(known: TenantTables) -> list[tuple[str, str, str]]:
    return [(r.from_, r.to, r.description) for pipeline in known.pipelines for r in pipeline.relationships]


def _meaning_of_table(layer: SemanticLayer, name: str, *, detailed: bool) -> dict[str, Any]:
    """What the semantic layer says of a table; nothing where it says nothing."""
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
    """Columns keep the table's order; those of a table that lost the column to go on behind are given from the start."""
    names = [column.name for column in columns]
    start = names.index(after) + 1 if after in names else 0
    return columns[start : start + limit], start + limit < len(columns)


def _column_row(
    column: Column, statistics: ColumnStatistics | None, pii: str | None, *, detailed: bool
) -> dict[str, Any]:
    """A column in full; values only where they are nobody's personal data."""
    row: dict[str, Any] = {"name": column.name, "type": column.type, "pii": pii}
    if detailed or not column.nullable:
        row["nullable"] = column.nullable
    row |= _words_of_column(column, detailed=detailed)
    row["values"] = told_of_values(column, examples=pii is None)
    if statistics is not None:
        row |= {"null_share": statistics.null_share, "distinct": statistics.distinct}
    if statistics is not None and pii is None:
        row |= {"min": statistics.least, "max": statistics.greatest}
        if detailed or (not column.name.endswith("_id") and _telling(statistics)):
            row["common"] = [[value, share] for value, share in statistics.common[: _MAX_COMMON[detailed]]]
    return without_nulls(row)


def _telling(statistics: ColumnStatistics) -> bool:
    few = statistics.distinct is not None and statistics.distinct <= _TELLING_COUNT
    return few or (bool(statistics.common) and statistics.common[0][1] >= _TELLING_SHARE)


def _words_of_column(column: Column, *, detailed: bool) -> dict[str, Any]:
    facts, options = column.facts, column.facts.get("options", [])
    label = facts.get("label")
    comment = column.comment or ""
    shown = options[: _MAX_OPTIONS[detailed]]
    more = {"options_omitted": len(options) - len(shown)} if len(shown) < len(options) else {}
    if detailed:
        path = "/".join(facts["path"]) if facts.get("path") else None
        words = {"label": label, "translations": facts.get("translations") or None, "path": path, "options": shown}
        return words | more | {"question_type": facts.get("question_type"), "description": comment}
    if label and label != facts["path"][-1] and not label.startswith("/data/"):
        named = [f"{option['value']}={option.get('label', '')[:60]}" for option in shown]
        return {"label": label[:_MAX_LABEL_CHARS], "options": "; ".join(named), **more}
    return {"description": comment[:_MAX_LABEL_CHARS]}


def _metadata_row(facts: TableFacts, columns: list[Column], layer: SemanticLayer) -> dict[str, Any]:
    head: dict[str, Any] = shrunk(facts.row(detailed=True), _TABLE_TOKENS[False])
    listed = (_column_row(c, None, layer.pii(c), detailed=True) for c in columns)
    shown = fit(listed, _TABLE_WITH_COLUMNS_TOKENS - weight(head), _COLUMN_TOKENS[False])
    more = {"columns_omitted": len(columns) - len(shown)} if len(shown) < len(columns) else {}
    return head | {"columns": shown} | more


def _meaning_of_tenant(layer: SemanticLayer) -> dict[str, Any]:
    """Entities, measures and examples, as many of each as a plan needs."""
    semantics = layer.semantics
    parts: dict[str, Iterable[dict[str, Any]]] = {
        "entities": ({"name": e.name, "table": e.table, "synonyms": list(e.synonyms[:6])} for e in semantics.entities),
        "measures": ({"name": m.name, "sql": measure_sql(m.table, m.sql)} for m in semantics.measures),
        "examples": (example.model_dump() for example in semantics.examples),
    }
    return {name: rows for name, part in parts.items() if (rows := fit(part, _MEANING_TOKENS))}


def _joins_of_tenant(known: TenantTables) -> list[str]:
    """`cases.owner_id = users.user_id (why)`, for joins of which both sides exist; how generated tables join, once per kind."""
    present = {f"{name}.{column}" for name, relation in known.live.relations.items() for column in relation.columns}
    joins = [f"{a} = {b} ({why})" for a, b, why in _relationships(known) if a in present and b in present]
    kinds = {facts.kind for facts in known.tables.values()}
    of_kinds = [
        ("case_type", "cases.case_id", "case_<type>.case_id = cases.case_id"),
        (
            "case_type",
            "cases.case_id",
            "case_<type>.parent_case_id = cases.case_id (the parent; other relations alike)",
        ),
        ("form", "forms.form_id", "form_<name>.form_id = forms.form_id"),
        ("form", "cases.case_id", "form_<name>.case_id = cases.case_id"),
        (
            "repeat",
            "cases.case_id",
            "form_<name>__<repeat>.case_id = cases.case_id (where entries have cases of their own)",
        ),
        ("repeat", "forms.form_id", "form_<name>__<repeat>.form_id = form_<name>.form_id"),
    ]
    return joins + [join for kind, other, join in of_kinds if kind in kinds and other in present]


def _structure_row(provider: Provider, found: DiscoveredStructure | None) -> dict[str, Any] | None:
    """What the tenant is made of, in a few lines; details are in the columns' descriptions."""
    if found is None:
        return None
    return {
        "version": found.version,
        "discovered_at": iso(found.created_at),
        **provider.overview(found.structure),
        "brought": provider.headline(found.diff),
        "warnings": list(provider.outline(found.structure).warnings)[:5],
    }


@dataclass(frozen=True)
class TableTools:
    """`databases`: for what is read of one table live."""

    facts: TenantFacts
    layers: SemanticLayers
    files: PipelineFiles
    platform: PlatformDatabase
    databases: TenantDatabases
    provider_named: Callable[[str], Provider]

    async def list_tables(self, call: Call, args: ListTables) -> Answer:
        tenant = call.own_tenant
        known = await self.facts.tables_and_schedules(tenant)
        # Who looks at the list looks into a table next.
        self.databases.prepare(tenant, known.live.schema)
        layer = await self.layers.of(tenant, known.live)
        wanted = fold(args.search or "")
        matching = [
            facts
            for facts in known.tables.values()
            if args.kind in (None, facts.kind) and (not wanted or wanted in fold(f"{facts.name}\n{facts.description}"))
        ]
        page, more = page_after(matching, args.cursor, args.limit, lambda facts: facts.name)
        detailed = args.response_format == "detailed"
        data: dict[str, Any] = {"total": len(matching), "freshness_rule": known.rule.because}
        if args.cursor is None and (raw := raw_layer(known)):
            told = detailed or args.kind == "raw"
            data["raw_layer"] = shrunk(raw, _RAW_TOKENS) if told else _RAW_LAYER.format(", ".join(raw))
        if known.not_built:
            failed = sorted(known.not_built.items())[:_MAX_NOT_BUILT]
            causes = ({"name": name, "error": cause[:_MAX_CAUSE_CHARS]} for name, cause in failed)
            data["not_built"] = fit(causes, _NOT_BUILT_TOKENS)
            data["not_built_total"] = len(known.not_built)
        warnings = _warnings(known, page)
        entities = {entity.table: entity.name for entity in layer.semantics.entities}
        listed = (facts.row(detailed=detailed) | _entity(entities.get(facts.name)) for facts in page)
        rows = fit(listed, room_left(data, warnings) - _PAGING_TOKENS, _TABLE_TOKENS[detailed])
        cursor = page[len(rows) - 1].name if more or len(rows) < len(page) else None
        data = {"tables": rows, "next_cursor": cursor, **data}
        if cursor:
            data["next_call"] = f"list_tables with cursor=next_cursor shows the next of {len(matching)}."
        return Answer(data, _warnings(known, page[: len(rows)]), known.live.schema.marts)

    async def describe_table(self, call: Call, args: DescribeTable) -> Answer:
        tenant, name = call.own_tenant, args.table.strip().rpartition(".")[2].strip('"')
        known = await self.facts.tables_and_schedules(tenant)
        if name not in known.tables:
            raise unknown_name(UnknownTable, "table", name, list(known.tables), "list_tables")
        layer = await self.layers.of(tenant, known.live)
        warnings = known.warnings + table_warnings([known.tables[name]])
        data = await in_thread(self._described, known, name, layer, args, warnings)
        return Answer(data, warnings, known.live.schema.marts)

    async def get_metadata(self, call: Call, args: GetMetadata) -> Answer:
        tenant = call.own_tenant
        known, structure = await asyncio.gather(
            self.facts.tables_and_schedules(tenant),
            in_thread(lambda: self.platform.catalog.discovered.latest(tenant)),
        )
        layer = await self.layers.of(tenant, known.live)
        columns = await self.facts.columns(tenant, known)
        page, more = page_after(list(known.tables.values()), args.cursor, args.limit, lambda facts: facts.name)
        data: dict[str, Any] = {"total": len(known.tables), "freshness_rule": known.rule.because}
        if args.cursor is None:
            data |= {
                "structure": shrunk(_structure_row(self.provider_named(tenant.provider), structure), _STRUCTURE_TOKENS),
                "relationships": fit(_joins_of_tenant(known), _RELATIONSHIPS_TOKENS),
            }
            data |= _meaning_of_tenant(layer)
        room = room_left(data, _warnings(known, page)) - _PAGING_TOKENS
        if args.response_format == "detailed":
            tables = (_metadata_row(facts, columns[facts.name], layer) for facts in page)
            shown: dict[str, Any] = {"tables": fit(tables, room, max(room // 2, _TABLE_WITH_COLUMNS_TOKENS))}
        else:
            shown = overview(page, list(known.tables.values()), columns, room)
        rows = shown["tables"]
        cursor = page[len(rows) - 1].name if more or len(rows) < len(page) else None
        data = {**data, **shown, "next_cursor": cursor}
        if cursor:
            data["next_call"] = f"get_metadata with cursor=next_cursor shows the next of {len(known.tables)}."
        return Answer(data, _warnings(known, page[: len(rows)]), known.live.schema.marts)

    def _described(
        self, known: TenantTables, name: str, layer: SemanticLayer, args: DescribeTable, warnings: list[str]
    ) -> dict[str, Any]:
        """One page of the table's columns with a sample; what is said of the table as a whole is on the first page. Blocks."""
        facts, relation = known.tables[name], known.live.relations[name]
        detailed = args.response_format == "detailed"
        with self.databases.connection(known.tenant, known.live.schema) as connection:
            columns = columns_of(connection, known.live, [name])[name]
            statistics = statistics_of(connection, relation, {column.name: column.type for column in columns})
            pii = {column.name: why for column in columns if (why := layer.pii(column))}
            data: dict[str, Any] = shrunk(facts.row(detailed=True), _HEAD_TOKENS) | self._key_of(known, facts, columns)
            data |= {"freshness_rule": known.rule.because, "column_count": len(columns)}
            if statistics and (relation.estimate or 0) > SAMPLE_ROWS:
                data["statistics"] = "approximate: from a sample of the rows"
            if args.cursor is None:
                joins = joins_of(name, _joinable(known, name, columns), _relationships(known), _case_types(statistics))
                data |= _meaning_of_table(layer, name, detailed=detailed)
                data["joins"] = fit(joins[:_MAX_JOINS], _JOINS_TOKENS)
            page, more = _column_page(columns, args.cursor, args.limit)
            room = room_left(data, warnings) - _PAGING_TOKENS
            described = (
                _column_row(c, statistics.get(c.name), pii.get(c.name), detailed=detailed)
                | ({"unfit": facts.unfit[c.name]} if c.name in facts.unfit else {})
                for c in page
            )
            rows = fit(described, room - (_SAMPLE_TOKENS if args.sample_rows else 0), _COLUMN_TOKENS[detailed])
            left = max(_SAMPLE_TOKENS, room - weight(rows)) if args.sample_rows else 0
            sample = sample_of(
                connection, relation, page[: len(rows)], pii, args.sample_rows, min(left, 2 * _SAMPLE_TOKENS)
            )
        cursor = page[len(rows) - 1].name if more or len(rows) < len(page) else None
        return data | {"columns": rows, "next_cursor": cursor, "sample": sample}

    def _key_of(self, known: TenantTables, facts: TableFacts, columns: list[Column]) -> dict[str, Any]:
        """The columns that together name a row: of static tables as dbt tests it, of generated ones by their kind, of others
        PostgreSQL's primary key. Nothing where no key is known."""
        declared = next(
            (keys[facts.name] for p in known.pipelines if facts.name in (keys := self.files.keys[p.name])), ()
        )
        raw = next((s.primary_key for p in known.pipelines for s in p.sources if s.table == facts.name), None)
        names = list(declared) or ([raw] if raw else []) or _key_of_generated(facts, columns)
        present = {column.name for column in columns}
        if not names or not present.issuperset(names):
            names = [column.name for column in columns if column.in_primary_key]
        return {"primary_key": names} if names else {}

    TOOLS: ClassVar[tuple[Tool, ...]] = (
        Tool(
            "list_tables",
            "List tables",
            "Lists the tables of a tenant that can be queried: rows, age, freshness, failing checks, what each row is. "
            "Use it to see what there is; to find something by words use search_metadata, for columns and joins "
            "describe_table, for everything at once get_metadata.",
            ListTables,
            list_tables,
            Scope.METADATA_READ,
        ),
        Tool(
            "describe_table",
            "Describe table",
            "One table in full: columns with type, question, options, null share, common values, range; "
            "joins with ready SQL, measures, sample rows, provenance. Use it before SQL on a table you do not "
            "know. For all tables use get_metadata.",
            DescribeTable,
            describe_table,
            Scope.METADATA_READ,
        ),
        Tool(
            "get_metadata",
            "Get metadata",
            "The whole tenant in one call: every table with its columns, joins, entities, measures, example queries, the "
            "applications behind them. Use it to plan a query over several tables. For one table's details use "
            "describe_table.",
            GetMetadata,
            get_metadata,
            Scope.METADATA_READ,
        ),
    )
