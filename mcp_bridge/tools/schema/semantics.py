"""The tool with which a tenant's admins set its semantics. Semantics whose SQL does not run are refused."""

import difflib
import hashlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import Field

from explorer.catalog import Scope, SemanticsVersion, Tenant
from explorer.core.settings import Settings
from explorer.core.toolsets import Toolset
from explorer.personal_data import realign
from explorer.registry import Semantics, SemanticsInvalid, parse_semantics
from mcp_bridge.answers.envelope import Answer, compact_json, iso, room_left, weight
from mcp_bridge.clients.platform_database import PlatformDatabase
from mcp_bridge.clients.timeouts import in_thread
from mcp_bridge.facts.relations import LiveTables
from mcp_bridge.facts.semantic_layer import SemanticLayers, measure_sql
from mcp_bridge.facts.tenant_facts import TenantFacts
from mcp_bridge.gate.tool import Call, TenantArguments, Tool
from mcp_bridge.query_path import QueryPath
from mcp_bridge.sql import QueryFailed, QueryLimits, QueryRejected

_MAX_OVERLAY_TOKENS = 6_000
_MAX_FAULTS = 5
_KEYS_TOKENS = 50
# One row shows whether a statement runs.
_TRIAL_BYTES = 100_000


class SetSemantics(TenantArguments):
    semantics: dict[str, Any] | None = Field(
        None,
        description="All of it, keys entities, measures, synonyms, personal_data, examples; {} takes it away.",
    )


def _in_order(content: dict[str, Any]) -> dict[str, Any]:
    """The overlay with its keys in their usual order, which jsonb does not keep. An overlay that is no longer valid is
    returned as it is."""
    try:
        return parse_semantics(content).as_dict()
    except SemanticsInvalid:
        return content


def _unknown(overlay: Semantics, live: LiveTables) -> Iterator[str]:
    """The overlay's tables and columns that the tenant does not have."""
    places: list[tuple[str, str, str | None]] = [(f"entities.{e.name}", e.table, e.key) for e in overlay.entities]
    places += [(f"measures.{m.name}", m.table, None) for m in overlay.measures]
    places += [(f"synonyms.{index}", s.table, s.column) for index, s in enumerate(overlay.synonyms)]
    for where, table, column in places:
        if table not in live.relations:
            yield f"{where}: there is no table {table!r}{_hint(table, list(live.relations))}"
        elif column is not None and column not in live.relations[table].columns:
            yield f"{where}: {table} has no column {column!r}{_hint(column, list(live.relations[table].columns))}"


def _hint(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f", did you mean {near[0]!r}?" if near else ""


class _Trial:
    """Runs every measure and example once, as the tenant's reader."""

    def __init__(self, path: QueryPath, call: Call, live: LiveTables, timeout_s: float) -> None:
        self._path, self._call, self._live = path, call, live
        self._limits = QueryLimits(max_rows=1, max_bytes=_TRIAL_BYTES, timeout_s=timeout_s)

    async def faults(self, overlay: Semantics) -> AsyncIterator[str]:
        """The statements that do not run, and why."""
        statements = [(f"measures.{m.name}", measure_sql(m.table, m.sql)) for m in overlay.measures]
        statements += [(f"examples.{index}", example.sql) for index, example in enumerate(overlay.examples)]
        for where, statement in statements:
            try:
                policy = self._call.budget.limits.personal_data or "mark"
                query = await self._path.checked(self._call.own_tenant, self._live, statement, policy)
                await self._path.execute(
                    self._call.own,
                    self._live,
                    query,
                    self._limits,
                    self._call.caller.identity,
                    ran=self._call.budget.ran,
                )
            except (QueryRejected, QueryFailed) as error:
                yield f"{where}: {error.message}"


def _raise_faults(faults: list[str]) -> None:
    if faults:
        raise SemanticsInvalid(
            "; ".join(faults[:_MAX_FAULTS]),
            next_step="Correct what is named; nothing was changed. describe_table shows columns.",
            details={"faults": len(faults)},
        )


@dataclass(frozen=True)
class SemanticsTools:
    """`path` tries each statement of an overlay."""

    facts: TenantFacts
    layers: SemanticLayers
    path: QueryPath
    platform: PlatformDatabase
    settings: Settings

    async def set_semantics(self, call: Call, args: SetSemantics) -> Answer:
        tenant = call.own_tenant
        if args.semantics is None:
            latest = await in_thread(lambda: self.platform.catalog.semantics.latest(tenant))
            return self._answer(call, latest, changed=False)
        overlay = parse_semantics(args.semantics)
        content = overlay.as_dict()
        if weight(content) > _MAX_OVERLAY_TOKENS:
            raise SemanticsInvalid(
                f"The overlay is longer than {_MAX_OVERLAY_TOKENS} tokens.", next_step="Keep what tells most."
            )
        known = await self.facts.tables(tenant)
        _raise_faults(list(_unknown(overlay, known.live)))
        _raise_faults(
            [
                fault
                async for fault in _Trial(self.path, call, known.live, self.settings.query_timeout_s).faults(overlay)
            ]
        )
        before = await in_thread(lambda: self.platform.catalog.semantics.latest(tenant))
        saved = await in_thread(
            lambda: self.platform.catalog.semantics.save(tenant, content, call.caller.actor),
        )
        await self._realigned(tenant)
        call.audit |= {
            "version": saved.version,
            "content_sha256": hashlib.sha256(compact_json(content).encode()).hexdigest(),
        }
        return self._answer(call, saved, changed=before is None or saved.version != before.version)

    async def _realigned(self, tenant: Tenant) -> None:
        """What is personal data may have changed: queries here, and the rights of the tenant's reader, follow."""
        self.path.personal.forget(tenant)
        platform = self.platform
        await in_thread(lambda: realign(self.settings, platform.catalog, platform.connections, tenant))

    def _answer(self, call: Call, version: SemanticsVersion | None, *, changed: bool) -> Answer:
        data: dict[str, Any] = {
            "changed": changed,
            "version": version.version if version else 0,
            "actor": version.actor if version else None,
            "set_at": iso(version.created_at) if version else None,
            "overlay": _in_order(version.content) if version else {},
        }
        own = self.layers.of_files(call.own_tenant).as_dict()
        # The pipeline's own semantics help to write an overlay. They are added as far as they fit.
        for part in ("entities", "measures", "examples", "synonyms", "personal_data") if not changed else ():
            if part in own and weight(own[part]) < room_left(data, ()) - _KEYS_TOKENS:
                data.setdefault("pipeline", {})[part] = own[part]
        # An overlay is not cut: to change it, the caller must send all of it again.
        return Answer(data, bounded=False)

    TOOLS: ClassVar[tuple[Tool, ...]] = (
        Tool(
            "set_semantics",
            "Set semantics",
            "Replaces the words in which a tenant's admins say what its tables mean: entities, measures, synonyms, flags "
            "of personal data (masked in samples), example queries. Tried before they count. Without "
            "semantics it shows what there is to edit. To only read use get_metadata.",
            SetSemantics,
            set_semantics,
            Scope.SEMANTICS_WRITE,
            Toolset.SCHEMA,
            mutates=True,
        ),
    )
