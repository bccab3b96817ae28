"""Tools about tables: which there are, what they hold, how they join; what an agent needs to write right SQL the first time."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from explorer_dagster.catalog import DiscoveredStructure, Scope, Tenant
from explorer_dagster.catalog.structure_diff import headline
from explorer_dagster.errors import ExplorerError
from explorer_dagster.words import fold
from mcp_bridge.bridge import Bridge
from mcp_bridge.envelope import (
    MAX_ANSWER_CHARS,
    Answer,
    InvalidCursor,
    fit,
    iso,
    page_after,
    unknown_name,
    weight,
    without_nulls,
)
from mcp_bridge.joins import KEYS, Joinable, joins_of
from mcp_bridge.list_cursors import MAX_CHARS
from mcp_bridge.meaning import Meaning, meaning_of, measure_sql
from mcp_bridge.overview import overview
from mcp_bridge.patience import in_thread
from mcp_bridge.relations import Column, columns_of, loader_connection, prepare_connection
from mcp_bridge.samples import sample_of
from mcp_bridge.statistics import SAMPLE_ROWS, ColumnStatistics, statistics_of
from mcp_bridge.tables import TableFacts, TenantTables, all_columns, raw_layer, table_warnings, tenant_tables
from mcp_bridge.tool import Call, Format, TenantArguments, Tool

_MAX_TABLE_CHARS = 8_000
_MAX_LABEL_CHARS = 160
_MAX_OPTIONS = {True: 100, False: 12}
_MAX_COMMON = {True: 10, False: 3}
_MAX_EXAMPLES = {True: 10, False: 2}
_MAX_JOINS = 15
# Below both, the common values of a column tell nothing: they are any of many.
_TELLING_SHARE, _TELLING_COUNT = 0.05, 20
_RAW_LAYER = "Loaded as the source sent them, not open to query, told by kind=raw: {}."
_CURSOR = Field(None, max_length=MAX_CHARS, description="next_cursor of the page before.")


class UnknownTable(ExplorerError):
    """The tenant has no readable table of this name."""

    code = "unknown_table"


class ListTables(TenantArguments):
    search: str | None = Field(None, max_length=200, description="Only tables with this in name or description.")
    kind: str | None = Field(None, max_length=40, description="mart, case_type, form, repeat, retired or raw.")
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


async def list_tables(call: Call, args: ListTables) -> Answer:
    tenant = call.own_tenant
    known = await tenant_tables(call.bridge, tenant)
    # Who looks at the list looks into a table next.
    prepare_connection(call.bridge, tenant, known.live.schema)
    meaning = await meaning_of(call.bridge, tenant, known.live)
    wanted = fold(args.search or "")
    matching = [
        facts
        for facts in known.tables.values()
        if args.kind in (None, facts.kind) and (not wanted or wanted in fold(f"{facts.name}\n{facts.description}"))
    ]
    page, cursor = page_after(matching, args.cursor, args.limit, lambda facts: facts.name)
    detailed = args.response_format == "detailed"
    entities = {entity.table: entity.name for entity in meaning.semantics.entities}
    listed = (facts.row(detailed=detailed) | _entity(entities.get(facts.name)) for facts in page)
    rows = fit(listed, MAX_ANSWER_CHARS - 2_000)
    if len(rows) < len(page):
        cursor = rows[-1]["name"]
    data: dict[str, Any] = {"tables": rows, "total": len(matching), "next_cursor": cursor}
    data["freshness_rule"] = known.rule.because
    if cursor:
        data["next_call"] = f"list_tables with cursor=next_cursor shows the next of {len(matching)}."
    if args.cursor is None and (raw := raw_layer(known)):
        data["raw_layer"] = raw if detailed or args.kind == "raw" else _RAW_LAYER.format(", ".join(raw))
    if known.not_built:
        data["not_built"] = [{"name": n, "error": e[:200]} for n, e in sorted(known.not_built.items())[:10]]
    return Answer(data, _warnings(known, page), known.live.schema.marts)


def _entity(name: str | None) -> dict[str, str]:
    return {"entity": name} if name else {}


def _warnings(known: TenantTables, facts: list[TableFacts]) -> list[str]:
    warnings = known.warnings + table_warnings(facts)
    if not known.tables:
        warnings.append("There are no tables yet: run_materialization brings the data.")
    if known.not_built:
        warnings.append(f"{len(known.not_built)} generated tables could not be built; list_tables names them.")
    return warnings


async def describe_table(call: Call, args: DescribeTable) -> Answer:
    tenant, name = call.own_tenant, args.table.strip().rpartition(".")[2].strip('"')
    known = await tenant_tables(call.bridge, tenant)
    if name not in known.tables:
        raise unknown_name(UnknownTable, "table", name, list(known.tables), "list_tables")
    facts = known.tables[name]
    meaning = await meaning_of(call.bridge, tenant, known.live)
    looked = await in_thread(_look, call.bridge, tenant, known, name, meaning, args.sample_rows)
    columns, statistics, pii = looked.columns, looked.statistics, looked.pii
    detailed = args.response_format == "detailed"
    data: dict[str, Any] = facts.row(detailed=True) | {"freshness_rule": known.rule.because}
    data |= {
        **_key_of(known, facts, columns, meaning),
        **_meaning_of_table(meaning, name, detailed=detailed),
        "joins": joins_of(name, _joinable(known, name), _relationships(known), _case_types(statistics))[:_MAX_JOINS],
        "sample": looked.sample,
    }
    if statistics and (known.live.relations[name].estimate or 0) > SAMPLE_ROWS:
        data["statistics"] = "approximate: from a sample of the rows"
    page, cursor = _column_page(columns, args.cursor, args.limit)
    rows = fit(
        (
            _column_row(c, statistics.get(c.name), pii.get(c.name), detailed=detailed)
            | ({"unfit": facts.unfit[c.name]} if c.name in facts.unfit else {})
            for c in page
        ),
        MAX_ANSWER_CHARS - 1_500 - weight(data),
    )
    if len(rows) < len(page):
        cursor = rows[-1]["name"]
    data |= {"columns": rows, "column_count": len(columns), "next_cursor": cursor}
    return Answer(data, known.warnings + table_warnings([facts]), known.live.schema.marts)


@dataclass(frozen=True)
class _Looked:
    """What the database says of a table; `pii`: why a column is masked, by its name."""

    columns: list[Column]
    statistics: dict[str, ColumnStatistics]
    pii: dict[str, str]
    sample: dict[str, Any] | None


def _look(bridge: Bridge, tenant: Tenant, known: TenantTables, name: str, meaning: Meaning, rows: int) -> _Looked:
    """Columns, what PostgreSQL knows of their values, and so many rows. Blocks."""
    relation = known.live.relations[name]
    with loader_connection(bridge, tenant, known.live.schema) as connection:
        columns = columns_of(connection, known.live, [name])[name]
        types = {column.name: column.type for column in columns}
        pii = {column.name: why for column in columns if (why := meaning.pii(column))}
        statistics = statistics_of(connection, relation, types)
        return _Looked(columns, statistics, pii, sample_of(connection, relation, columns, pii, rows))


def _key_of(known: TenantTables, facts: TableFacts, columns: list[Column], meaning: Meaning) -> dict[str, Any]:
    """The columns that name a row: PostgreSQL's primary key, else what the kind, a relationship or an entity says."""
    names = [column.name for column in columns if column.in_primary_key]
    pointed_at = [target.partition(".") for _, target, _ in _relationships(known)]
    said = [
        KEYS.get(facts.kind),
        *(column for table, _, column in pointed_at if table == facts.name and column.endswith("_id")),
        *(entity.key for entity in meaning.semantics.entities if entity.table == facts.name),
    ]
    present = {column.name for column in columns}
    names = names or [key for key in said if key in present][:1]
    return {"primary_key": names} if names else {}


def _joinable(known: TenantTables, wanted: str) -> dict[str, Joinable]:
    """The table itself, and what may be joined to: neither copies of the source nor what is no longer filled."""
    return {
        name: Joinable(facts.kind, facts.source, known.live.relations[name].columns)
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


def _meaning_of_table(meaning: Meaning, name: str, *, detailed: bool) -> dict[str, Any]:
    """What the semantic layer says of a table; nothing where it says nothing."""
    entity = next((entity for entity in meaning.semantics.entities if entity.table == name), None)
    measures = [
        {"name": measure.name, "description": measure.description, "sql": measure_sql(name, measure.sql)}
        for measure in meaning.semantics.measures
        if measure.table == name
    ]
    examples = [example.model_dump() for example in meaning.examples_of(name)][: _MAX_EXAMPLES[detailed]]
    row = {
        "entity": {"name": entity.name, "key": entity.key, "description": entity.description} if entity else None,
        "synonyms": [word for word in meaning.semantics.words_of(name) if entity is None or word != entity.name],
        "measures": fit(measures, 2_000) if measures else [],
        "examples": fit(examples, 2_500) if examples else [],
    }
    return without_nulls(row)


def _column_page(columns: list[Column], cursor: str | None, limit: int) -> tuple[list[Column], str | None]:
    """Columns keep the table's order, so the cursor is a name to go on behind."""
    names = [column.name for column in columns]
    if cursor is not None and cursor not in names:
        raise InvalidCursor("The cursor names no column of this table.", next_step="Call again without a cursor.")
    start = names.index(cursor) + 1 if cursor is not None else 0
    page = columns[start : start + limit]
    return page, page[-1].name if page and start + limit < len(columns) else None


def _column_row(
    column: Column, statistics: ColumnStatistics | None, pii: str | None, *, detailed: bool
) -> dict[str, Any]:
    """A column in full; values only where they are nobody's personal data."""
    row: dict[str, Any] = {"name": column.name, "type": column.type, "pii": pii}
    if detailed or not column.nullable:
        row["nullable"] = column.nullable
    row |= _words_of_column(column, detailed=detailed)
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


async def get_metadata(call: Call, args: GetMetadata) -> Answer:
    tenant = call.own_tenant
    known, structure = await asyncio.gather(
        tenant_tables(call.bridge, tenant),
        in_thread(lambda: call.bridge.catalog.discovered.latest(tenant)),
    )
    meaning = await meaning_of(call.bridge, tenant, known.live)
    columns = await all_columns(call.bridge, tenant, known)
    page, cursor = page_after(list(known.tables.values()), args.cursor, args.limit, lambda facts: facts.name)
    data: dict[str, Any] = {}
    if args.cursor is None:
        data = {"structure": _structure_row(structure), "relationships": _joins_of_tenant(known)}
        data |= _meaning_of_tenant(meaning)
    room = MAX_ANSWER_CHARS - 2_000 - weight(data)
    if args.response_format == "detailed":
        listed = fit((_metadata_row(facts, columns[facts.name], meaning) for facts in page), room)
        shown: dict[str, Any] = {"tables": listed}
    else:
        shown = overview(page, list(known.tables.values()), columns, room)
    rows = shown["tables"]
    if len(rows) < len(page):
        cursor = rows[-1]["name"]
    data |= {**shown, "total": len(known.tables), "next_cursor": cursor}
    if cursor:
        data["next_call"] = f"get_metadata with cursor=next_cursor shows the next of {len(known.tables)}."
    return Answer(data, _warnings(known, page), known.live.schema.marts)


def _metadata_row(facts: TableFacts, columns: list[Column], meaning: Meaning) -> dict[str, Any]:
    shown = fit((_column_row(c, None, meaning.pii(c), detailed=True) for c in columns), _MAX_TABLE_CHARS)
    more = {"columns_omitted": len(columns) - len(shown)} if len(shown) < len(columns) else {}
    return facts.row(detailed=True) | {"columns": shown} | more


def _meaning_of_tenant(meaning: Meaning) -> dict[str, Any]:
    """Entities, measures and examples, as many of each as a plan needs."""
    semantics = meaning.semantics
    parts: dict[str, Iterable[dict[str, Any]]] = {
        "entities": ({"name": e.name, "table": e.table, "synonyms": list(e.synonyms[:6])} for e in semantics.entities),
        "measures": ({"name": m.name, "sql": measure_sql(m.table, m.sql)} for m in semantics.measures),
        "examples": (example.model_dump() for example in semantics.examples),
    }
    return {name: rows for name, part in parts.items() if (rows := fit(part, 1_500))}


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
        ("repeat", "forms.form_id", "form_<name>__<repeat>.form_id = form_<name>.form_id"),
    ]
    return joins + [join for kind, other, join in of_kinds if kind in kinds and other in present]


def _structure_row(found: DiscoveredStructure | None) -> dict[str, Any] | None:
    """What the project space consists of, in a few lines; the questions are in the columns' descriptions."""
    if found is None:
        return None
    structure = found.structure
    return {
        "version": found.version,
        "discovered_at": iso(found.created_at),
        "apps": [app["name"] for app in structure.get("apps", ())][:20],
        "case_types": [case_type["name"] for case_type in structure.get("case_types", ())][:60],
        "forms": len(structure.get("forms", ())),
        "brought": headline(found.diff),
        "warnings": list(structure.get("warnings", ()))[:5],
    }


TOOLS = (
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
