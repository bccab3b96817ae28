"""What a tenant's tables mean to its people, read by address: it is no tool that each conversation pays for."""

from dataclasses import dataclass
from typing import ClassVar

from explorer.catalog import Scope
from mcp_bridge.answers.envelope import Answer
from mcp_bridge.facts.semantic_layer import SemanticLayers
from mcp_bridge.facts.tenant_facts import TenantFacts
from mcp_bridge.gate.tool import Call, TenantArguments, Tool


class DescribeSemantics(TenantArguments):
    """Whose."""


@dataclass(frozen=True)
class Meanings:
    facts: TenantFacts
    layers: SemanticLayers

    async def describe_semantics(self, call: Call, args: DescribeSemantics) -> Answer:
        """`{entities, measures, synonyms, examples}` of the tables that the caller may read."""
        known = await self.facts.tables(call.own_tenant, schema=call.own.schema)
        layer = await self.layers.of(call.own_tenant, known.live)
        told = layer.semantics
        present = known.live.relations
        data = {
            "entities": [each.model_dump(exclude_none=True) for each in told.entities],
            "measures": [each.model_dump(exclude_none=True) for each in told.measures],
            "synonyms": [each.model_dump(exclude_none=True) for each in told.synonyms if each.table in present],
            "examples": [each.model_dump(exclude_none=True) for each in told.examples],
        }
        return Answer(data, known.warnings, known.live.schema.marts)

    TOOLS: ClassVar[tuple[Tool, ...]] = (
        Tool(
            "describe_semantics",
            "Describe meanings",
            "Entities, measures, synonyms and example queries of a tenant.",
            DescribeSemantics,
            describe_semantics,
            Scope.METADATA_READ,
            by_address=True,
        ),
    )
