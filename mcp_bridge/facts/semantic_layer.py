"""A tenant's semantic layer: its own semantics over those of its pipelines, reduced to what fits its tables.

Entities and measures of tables that the tenant does not have, and SQL that does not run on its tables, are left out because
they would mislead.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

from anyio import to_thread

from explorer.catalog import SemanticsVersion, State, Tenant
from explorer.contract.bookkeeping.columns import ColumnFacts
from explorer.personal_data import reason
from explorer.registry import Example, Semantics, parse_semantics
from mcp_bridge.clients.platform_database import PlatformDatabase
from mcp_bridge.clients.timeouts import CATALOG_S, in_thread
from mcp_bridge.facts.cache import Cache
from mcp_bridge.facts.pipelines import PipelineFiles
from mcp_bridge.facts.relations import Column, LiveTables
from mcp_bridge.sql import QueryRejected, ValidatedQuery, validate

_CACHED_TENANTS = 1000


@dataclass(frozen=True, eq=False)
class SemanticLayer:
    """`semantics`: the semantics that fit the tenant's tables; `read_by`: the tables that each example reads, by question."""

    semantics: Semantics
    read_by: dict[str, frozenset[str]]
    _masked: dict[tuple[str, str, str], str | None] = field(default_factory=dict)

    def pii(self, column: Column) -> str | None:
        """The reason why the column is masked in samples and statistics; None when it is not."""
        place = (column.table, column.name, column.type)
        if place not in self._masked:
            self._masked[place] = reason(self.semantics, *place, cast(ColumnFacts, column.facts))
        return self._masked[place]

    def examples_of(self, table: str) -> list[Example]:
        """The examples that read the table."""
        return [example for example in self.semantics.examples if table in self.read_by[example.question]]


class SemanticLayers:
    """The semantic layer of each tenant, cached until its tables or its overlay change. For use inside one event loop."""

    def __init__(self, platform: PlatformDatabase, files: PipelineFiles) -> None:
        self._platform, self._files = platform, files
        self._cache: Cache[SemanticLayer] = Cache(_CACHED_TENANTS)

    def close(self) -> None:
        """Stop refreshing in the background."""
        self._cache.close()

    async def of(self, tenant: Tenant, live: LiveTables) -> SemanticLayer:
        """The semantic layer for the tenant's live tables. Raises: SemanticsInvalid, when the overlay was written for another
        version of the program."""
        overlay = await in_thread(lambda: self._platform.catalog.semantics.latest(tenant), within_s=CATALOG_S)

        async def make() -> tuple[SemanticLayer, bool]:
            made = await to_thread.run_sync(lambda: _fitting(self._merged(tenant, overlay), live))
            return made, live.schema.state is not State.MATERIALIZING

        # Which tables may be read can change between runs.
        made_of = live.schema, tuple(live.relations), overlay.version if overlay else 0
        return await self._cache.get(tenant.id, made_of, make)

    def of_files(self, tenant: Tenant) -> Semantics:
        """The semantics from the files, without the tenant's overlay."""
        return self._files.semantics_of(tenant)

    def _merged(self, tenant: Tenant, overlay: SemanticsVersion | None) -> Semantics:
        """The semantics of the tenant's pipelines with its overlay on top. Raises: SemanticsInvalid."""
        return self.of_files(tenant).under(parse_semantics(overlay.content) if overlay else Semantics())


def measure_sql(table: str, sql: str) -> str:
    """A measure as a complete statement, for the validator and for callers to build on."""
    return f"SELECT {sql} FROM {table}"  # noqa: S608


def _fitting(semantics: Semantics, live: LiveTables) -> SemanticLayer:
    examples = dict(_examples(semantics, live))
    present = live.relations
    fitting = Semantics.model_construct(
        entities=tuple(e for e in semantics.entities if e.table in present),
        measures=tuple(
            m for m in semantics.measures if m.table in present and _valid(live, measure_sql(m.table, m.sql))
        ),
        synonyms=semantics.synonyms,
        personal_data=semantics.personal_data,
        examples=tuple(examples),
    )
    return SemanticLayer(fitting, {example.question: query.tables for example, query in examples.items()})


def _examples(semantics: Semantics, live: LiveTables) -> Iterator[tuple[Example, ValidatedQuery]]:
    for example in semantics.examples:
        query = _valid(live, example.sql)
        if query is not None:
            yield example, query


def _valid(live: LiveTables, statement: str) -> ValidatedQuery | None:
    try:
        return validate(statement, schemas=frozenset(live.schemas), relations=live.columns_by_schema)
    except QueryRejected:
        return None
