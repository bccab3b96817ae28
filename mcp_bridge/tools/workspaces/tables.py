"""Which tables does a workspace have, and what are they made of? By the members that the gate has let in, as they are known."""

import asyncio
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from explorer.catalog import AsyncCatalog, SchemaAbsent
from explorer.core.errors import ExplorerError
from mcp_bridge.clients.timeouts import QUERY_S
from mcp_bridge.facts.relations import Relation
from mcp_bridge.facts.tables import TenantTables
from mcp_bridge.facts.tenant_facts import TenantFacts
from mcp_bridge.gate.tool import Call
from mcp_bridge.sql import TENANT, Arm, LiveColumn, Union, names_of, union

# PostgreSQL cuts longer names.
_NAME_BYTES = 63
# Of a union: PostgreSQL's own limit is 1,664.
_MAX_COLUMNS = 1_600


class WorkspaceNotReady(ExplorerError):
    """The workspace's login has no right to any tenant's table of this name yet."""

    code = "workspace_not_ready"


@dataclass(frozen=True)
class WorkspaceTables:
    """`members`: the tables of each tenant, by its key. `left_out`: why a tenant of the workspace is not among them, by key."""

    name: str
    role: str
    members: Mapping[str, TenantTables]
    left_out: Mapping[str, str]

    @cached_property
    def places(self) -> dict[str, list[tuple[str, str]]]:
        """Where each table of the workspace is: tenant's key and table. A tenant's table by itself, with its own types, is
        `<short>__<table>`, where no table has that name."""
        found: dict[str, list[tuple[str, str]]] = {}
        for key, known in self.members.items():
            for table in known.tables:
                found.setdefault(table, []).append((key, table))
        for key, short in self.shorts.items():
            for table in self.members[key].tables:
                name = f"{short}__{table}"
                if len(name.encode()) <= _NAME_BYTES:
                    found.setdefault(name, [(key, table)])
        return dict(sorted(found.items()))

    @cached_property
    def shorts(self) -> dict[str, str]:
        """A short name of each tenant, by key: what stands behind the colon, or the whole key where two have the same."""
        tails = [_word(key.rpartition(":")[2]) for key in self.members]
        return {
            key: tail if tails.count(tail) == 1 else _word(key) for key, tail in zip(self.members, tails, strict=True)
        }

    def is_alias(self, name: str) -> bool:
        """Whether the name is `<short>__<table>` and no table's own."""
        return all(table != name for _, table in self.places[name])

    @cached_property
    def names(self) -> dict[str, dict[str, str]]:
        """The columns of each table, as `names_of` gives them."""
        return {
            name: dict(list(names_of(self._relation(*place).columns for place in places).items())[:_MAX_COLUMNS])
            for name, places in self.places.items()
        }

    @property
    def relations(self) -> dict[str, dict[str, tuple[str, ...]]]:
        """As the validator takes them: in a schema that no statement can write."""
        return {"": {name: (TENANT, *columns) for name, columns in self.names.items()}}

    async def unions(
        self, calls: AsyncCatalog, tables: Iterable[str], hidden: Mapping[str, frozenset[str]]
    ) -> list[Union]:
        """The unions of these tables, of what the workspace's login may read at this moment. `hidden`: columns that are left
        empty, by table of the workspace.

        Raises: WorkspaceNotReady, CatalogUnavailable.
        """
        chosen = sorted(tables)
        wanted = {place for name in chosen for place in self.places[name]}
        schemas = {place: self._relation(*place).schema for place in wanted}
        found = await calls.readable(self.role, {(schemas[key, table], table) for key, table in wanted})
        readable = {
            (each.schema, each.table): {c.name: LiveColumn(c.name, c.type, c.is_own) for c in each.columns}
            for each in found
        }
        unions = []
        for name in chosen:
            arms = []
            for key, table in self.places[name]:
                schema = schemas[key, table]
                live = readable.get((schema, table), {})
                kept = {source: live[source] for column, source in self.names[name].items()
                        if source in live and column not in hidden.get(name, ())}  # fmt: skip
                arms += [Arm(key, schema, table, kept)] if live else []
            if not arms:
                raise WorkspaceNotReady(
                    f"The table {name} of {self.name} cannot be read yet: the rights of its login are being set.",
                    next_step="Try again in a few seconds; if it lasts, call set_workspace with the same tenants.",
                )
            unions.append(union(name, self.names[name], arms))
        return unions

    def _relation(self, key: str, table: str) -> Relation:
        return self.members[key].live.relations[table]


async def workspace_tables(call: Call, facts: TenantFacts) -> WorkspaceTables:
    """The tables of the call's workspace. A tenant whose schemas have just gone is left out.

    Raises: DatabaseUnreachable, DatabaseTimeout, CatalogUnavailable.
    """
    workspace = call.over

    async def read(member_key: str) -> TenantTables | None:
        admitted = next(m.admitted for m in call.members if m.admitted.tenant.key == member_key)
        try:
            return await facts.tables(admitted.tenant, QUERY_S, admitted.schema)
        except SchemaAbsent:
            return None

    keys = [member.admitted.tenant.key for member in call.members]
    known = dict(zip(keys, await asyncio.gather(*map(read, keys)), strict=True))
    there = {member.tenant.key for member in workspace.members}
    left_out = {
        key: "not yours, or without tables" if key in there else "removed"
        for key in workspace.keys
        if known.get(key) is None
    }
    return WorkspaceTables(
        workspace.name, workspace.role, {key: tables for key, tables in known.items() if tables is not None}, left_out
    )


def _word(text: str) -> str:
    word = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
    return f"t_{word}" if not word[:1].isalpha() or word.startswith("pg_") else word
