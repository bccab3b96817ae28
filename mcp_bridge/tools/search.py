"""The tool that finds tables and columns by words of any language."""

import difflib
from dataclasses import dataclass, field
from typing import Any, ClassVar

from anyio import to_thread
from pydantic import Field

from explorer.catalog import Scope
from explorer.core.words import words
from mcp_bridge.answers.envelope import Answer, fit, room_left, without_nulls
from mcp_bridge.facts.cache import Cache
from mcp_bridge.facts.relations import Column
from mcp_bridge.facts.search import Hit, Item, Place, index, search, snippet
from mcp_bridge.facts.semantic_layer import SemanticLayer, SemanticLayers
from mcp_bridge.facts.tables import TenantTables
from mcp_bridge.facts.tenant_facts import TenantFacts
from mcp_bridge.gate.list_cursors import MAX_CHARS
from mcp_bridge.gate.tool import Call, TenantArguments, Tool

# About 5 MB each.
_CACHED_INDEXES = 20
_SEPARATOR = "|"
_NEXT_CALLS = 3
# Tokens: one hit; words similar to the question's; the next page and the next calls.
_HIT_TOKENS, _NEAR_TOKENS, _PAGING_TOKENS = 500, 500, 600


class SearchMetadata(TenantArguments):
    search: str = Field(
        min_length=1,
        max_length=200,
        description="Words in any language.",
    )
    limit: int = Field(20, ge=1, le=50, description="Hits per page.")
    cursor: str | None = Field(None, max_length=MAX_CHARS, description="next_cursor of the page before.")


def _row(
    hit: Hit, known: TenantTables, columns: dict[str, list[Column]], layer: SemanticLayer, question: str
) -> dict[str, Any]:
    asked = len(dict.fromkeys(words(question)))
    column = next((column for column in columns[hit.table] if column.name == hit.column), None)
    return without_nulls(
        {
            "table": hit.table,
            "column": hit.column,
            "type": column.type if column else None,
            "kind": None if column else known.tables[hit.table].kind,
            "found_in": hit.found_in,
            "text": snippet(hit.text, question) if hit.found_in != "name" else None,
            "pii": layer.pii(column) if column else None,
            "words_found": f"{hit.matched} of {asked}" if hit.matched < asked else None,
        }
    )


def _written(place: Place) -> str:
    return _SEPARATOR.join(str(part) for part in place)


def _place(written: str | None) -> Place | None:
    """The place of the last hit of the page before."""
    if written is None:
        return None
    matched, score, table, column = written.split(_SEPARATOR)
    return int(matched), int(score), table, column


def _near(question: str, columns: dict[str, list[Column]]) -> list[str]:
    """Words of names and labels that are similar to those of the question."""
    known = {word for table in columns for word in words(table)}
    known |= {
        word for listed in columns.values() for c in listed for text in (c.name, *c.labels) for word in words(text)
    }
    near = (difflib.get_close_matches(word, known, n=2, cutoff=0.6) for word in words(question))
    return list(dict.fromkeys(word for found in near for word in found))


@dataclass(frozen=True)
class SearchTools:
    """`indexes`: the indexes used lately, cached until the tenant's tables or texts change."""

    facts: TenantFacts
    layers: SemanticLayers
    indexes: Cache[list[Item]] = field(default_factory=lambda: Cache(_CACHED_INDEXES))

    async def search_metadata(self, call: Call, args: SearchMetadata) -> Answer:
        tenant = call.own_tenant
        known = await self.facts.tables(tenant)
        layer = await self.layers.of(tenant, known.live)
        columns = await self.facts.columns(tenant, known)

        async def make() -> tuple[list[Item], bool]:
            return await to_thread.run_sync(index, known.tables.values(), columns, layer), True

        items = await self.indexes.get(tenant.id, (known, layer), make)
        hits, total = await to_thread.run_sync(search, args.search, items, _place(args.cursor), args.limit)
        room = room_left({}, known.warnings) - _PAGING_TOKENS
        rows = fit((_row(hit, known, columns, layer, args.search) for hit in hits[: args.limit]), room, _HIT_TOKENS)
        shown = hits[: len(rows)]
        data: dict[str, Any] = {
            "hits": rows,
            "total": total,
            "next_cursor": _written(shown[-1].order) if len(shown) < len(hits) else None,
            "next_calls": [
                {"tool": "describe_table", "arguments": {"tenant": tenant.key, "table": table}}
                for table in list(dict.fromkeys(hit.table for hit in shown))[:_NEXT_CALLS]
            ],
        }
        if not total:
            near = _near(args.search, columns)
            data["did_you_mean"] = fit(near, _NEAR_TOKENS) if near else []
        return Answer(data, known.warnings, known.live.schema.marts)

    TOOLS: ClassVar[tuple[Tool, ...]] = (
        Tool(
            "search_metadata",
            "Search metadata",
            "Finds tables and columns by words in any language, in names, labels, translations, options, synonyms and "
            "descriptions; case and accents do not matter. Use it to learn where something is, then "
            "describe_table. It searches no rows: for values use query.",
            SearchMetadata,
            search_metadata,
            Scope.METADATA_READ,
        ),
    )
