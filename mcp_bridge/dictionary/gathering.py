"""Where does a tenant's data dictionary come from? From the same facts that the tools answer with.

Labels, options and lineage are those that the run which built the tables wrote beside them, from the plan that it built them by.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from explorer.catalog import DiscoveredStructure, PersonalDataPolicy, Tenant
from explorer.contract.bookkeeping import lineage as lineage_records
from explorer.contract.bookkeeping.lineage import ColumnLineage, Lineage, Origin
from explorer.providers.base import Provider
from mcp_bridge.clients.tenant_databases import TenantDatabases
from mcp_bridge.clients.timeouts import in_thread
from mcp_bridge.dictionary.contents import ColumnEntry, Dictionary, OptionEntry, TableEntry
from mcp_bridge.facts.columns.statistics import ColumnStatistics, statistics_of
from mcp_bridge.facts.columns.value_samples import about_values
from mcp_bridge.facts.keys import key_of
from mcp_bridge.facts.pipelines import PipelineFiles
from mcp_bridge.facts.relations import Column
from mcp_bridge.facts.semantic_layer import SemanticLayer, SemanticLayers
from mcp_bridge.facts.table_facts import TableFacts, table_warnings
from mcp_bridge.facts.tables import TenantTables
from mcp_bridge.facts.tenant_facts import TenantFacts

_MAX_EXAMPLES, _MAX_ORIGINS, _FEW = 5, 8, 20
_BOOLEANS = {"t": "true", "f": "false"}
# One statement for each table; a tenant may have hundreds.
_READ_S = 120.0


@dataclass(frozen=True)
class Dictionaries:
    """`discovered`: a tenant's structure as last discovered; blocks."""

    facts: TenantFacts
    layers: SemanticLayers
    files: PipelineFiles
    databases: TenantDatabases
    discovered: Callable[[Tenant], DiscoveredStructure | None]
    provider_named: Callable[[str], Provider]

    async def of(self, tenant: Tenant, policy: PersonalDataPolicy) -> Dictionary:
        """The dictionary of all tables that the tenant's agents may see. No row is read. `policy`: what holds for the caller.

        Raises:
            SchemaAbsent, DatabaseUnreachable, DatabaseTimeout, CatalogUnavailable, SemanticsInvalid.
        """
        known = await self.facts.tables_and_schedules(tenant)
        layer = await self.layers.of(tenant, known.live)
        columns = await self.facts.columns(tenant, known)
        found = await in_thread(self.discovered, tenant)
        structure = found.structure if found else None
        tables = await in_thread(self._tables, known, layer, columns, structure, within_s=_READ_S)
        warnings = (*known.warnings, *table_warnings(list(known.tables.values())))
        return Dictionary(tenant.key, tenant.display_name or tenant.key, datetime.now(UTC), policy, tables, warnings)

    def _tables(
        self,
        known: TenantTables,
        layer: SemanticLayer,
        columns: Mapping[str, list[Column]],
        structure: Mapping[str, Any] | None,
    ) -> tuple[TableEntry, ...]:
        """Blocks; raises as `TenantDatabases.connection`."""
        schema, provider = known.live.schema, self.provider_named(known.tenant.provider)
        with self.databases.connection(known.tenant, schema) as connection:
            lineage = lineage_records.read(connection, schema)
            entries = []
            for facts in known.tables.values():
                own, relation = columns[facts.name], known.live.relations[facts.name]
                statistics = statistics_of(connection, relation, {column.name: column.type for column in own})
                key = key_of(self.files, known, facts, own, provider).get("primary_key", [])
                of_columns = tuple(_column(facts, each, key, layer, lineage, statistics) for each in own)
                origin = provider.tables.origin_of(facts.kind, facts.source, structure) if facts.source else {}
                entries.append(_table(facts, layer, of_columns, origin))
        return tuple(entries)


def _table(
    facts: TableFacts, layer: SemanticLayer, columns: tuple[ColumnEntry, ...], origin: Mapping[str, Any] | str
) -> TableEntry:
    build, retired = facts.provenance.build, facts.retirement
    entity = next((entity for entity in layer.semantics.entities if entity.table == facts.name), None)
    return TableEntry(
        name=facts.name,
        kind=facts.kind,
        description=facts.description,
        rows=facts.row_count,
        as_of=build.as_of if build else None,
        freshness=facts.freshness,
        retired=f"since {retired.since}; dropped after {retired.dropped_after}" if retired else None,
        row_word=entity.name if entity else None,
        origin=tuple(_told(origin)) if isinstance(origin, Mapping) else (),
        made_from=tuple(sorted(facts.view_of or (build.made_from if build else ()))),
        failing_checks=tuple(facts.provenance.failing_checks) if build else None,
        columns=columns,
        queries=tuple((example.question, example.sql) for example in layer.examples_of(facts.name)),
    )


def _column(
    facts: TableFacts,
    column: Column,
    key: list[str],
    layer: SemanticLayer,
    lineage: Lineage,
    statistics: Mapping[str, ColumnStatistics],
) -> ColumnEntry:
    personal, known = layer.pii(column), statistics.get(column.name)
    # Whatever the policy: the page is handed on to people whom nobody asked for a right.
    shown = known if personal is None else None
    told = column.facts
    return ColumnEntry(
        name=column.name,
        type=column.type,
        is_key=column.name in key,
        description=column.comment or "",
        question=_question(told),
        translations=dict(told.get("translations", {})),
        question_type=told.get("question_type"),
        options=tuple(
            OptionEntry(each["value"], each.get("label", each["value"]), dict(each.get("translations", {})))
            for each in told.get("options", ())
        ),
        personal=personal,
        made_from=_made_from(lineage.get(facts.name, {}).get(column.name)),
        note=about_values(column, examples=personal is None),
        examples=tuple(_examples(column, shown)) if shown else (),
        null_share=known.null_share if known else None,
        distinct=known.distinct if known else None,
        least=shown.least if shown else None,
        greatest=shown.greatest if shown else None,
        unfit=facts.unfit.get(column.name, 0),
    )


def _question(told: Mapping[str, Any]) -> str | None:
    """The label, where it is more than the name of the question or its path, which applications give for hidden values."""
    label = told.get("label")
    is_words = label and label != told["path"][-1] and not label.startswith("/data/")
    return label if is_words else None


def _examples(column: Column, known: ColumnStatistics) -> Iterator[str]:
    """Of identifiers none tells anything; of dates and of many numbers the range does."""
    is_range = known.least is not None and (known.distinct is None or known.distinct > _FEW)
    if column.name.endswith("_id") or is_range or column.type in ("date", "time", "timestamp", "timestamptz"):
        return
    for value, _ in known.common[:_MAX_EXAMPLES]:
        yield _BOOLEANS.get(value, value) if column.type == "boolean" else value


def _made_from(known: ColumnLineage | None) -> tuple[str, ...]:
    if known is None:
        return ()
    named = [_named(origin) for origin in known.origins[:_MAX_ORIGINS]]
    more = len(known.origins) - len(named)
    return (*named, f"and {more} more") if more else tuple(named)


def _named(origin: Origin) -> str:
    return " / ".join((f"{origin.table}.{origin.column}", *origin.path))


def _told(origin: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The provider's words for the origin, one line each."""
    for name, value in origin.items():
        words = ", ".join(_words(each) for each in (value if isinstance(value, list) else [value]))
        if words:
            yield name.replace("_", " "), words


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return str(value.get("name") or " ".join(str(each) for each in value.values()))
    return "" if value is None else str(value)
