"""A query over a workspace: the same steps as over one tenant, with unions of the tables that it reads around the statement."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from explorer.catalog import PersonalDataPolicy
from explorer.registry import SemanticsInvalid
from mcp_bridge.answers.envelope import MAX_ANSWER_TOKENS, Answer, InvalidArgument, age_s, compact_json, fit, fits, iso
from mcp_bridge.clients.platform_database import PlatformDatabase
from mcp_bridge.facts.builds import TableBuild, versions_of
from mcp_bridge.facts.table_facts import TableFacts, table_warnings
from mcp_bridge.facts.tenant_facts import TenantFacts
from mcp_bridge.gate.tool import Call
from mcp_bridge.query_path import QueryPath, check_names
from mcp_bridge.sql import (
    PageBinding,
    PageCursors,
    QueryFailed,
    QueryLimits,
    QueryResult,
    Union,
    ValidatedQuery,
    around,
)
from mcp_bridge.tools.query import CHANGED, SOURCES_TOKENS, Query, fitted, limits_within, told
from mcp_bridge.tools.workspaces.tables import WorkspaceTables, workspace_tables

_TRIES = 3
_ALIGNED_TOKENS = 600
# What a swapped table or a right that was taken away meanwhile looks like.
_MOVED = ("unknown_relation", "unknown_column")

Builds = dict[str, Mapping[str, TableBuild]]
"""How the tables of each tenant came to their rows, by its key."""


@dataclass(frozen=True)
class _Page:
    """A page, the unions that it was read through, and how their tables came to their rows."""

    result: QueryResult
    unions: list[Union]
    builds: Builds
    binding: PageBinding
    changed: bool


@dataclass(frozen=True)
class WorkspaceQueries:
    """`cursors`, `most`: as for `QueryTools`. `noticed`: called with a call that does not see all tenants of its workspace."""

    platform: PlatformDatabase
    facts: TenantFacts
    path: QueryPath
    cursors: Callable[[], PageCursors]
    most: QueryLimits
    noticed: Callable[[Call], None]

    async def query(self, call: Call, args: Query) -> Answer:
        """The answer of `query` for the call's workspace. Raises as `QueryTools.query`."""
        if args.explain:
            raise InvalidArgument(
                "A statement over a workspace is not explained.", next_step="Explain it for one tenant, with tenant."
            )
        tables = await workspace_tables(call, self.facts)
        if tables.left_out:
            self.noticed(call)
        policy: PersonalDataPolicy = call.budget.limits.personal_data or "mark"
        statement, hidden = await self._checked(tables, args.sql, policy)
        page = await self._read(call, args, tables, statement, hidden)
        answer = self._answer(tables, statement, page)
        answer.bounded = args.response_format == "concise"
        if answer.bounded and not fits([answer.data, answer.warnings], MAX_ANSWER_TOKENS // 2):
            without = self._answer(tables, statement, replace(page, result=replace(page.result, rows=[])))
            answer = self._answer(tables, statement, replace(page, result=fitted(page.result, without)))
        rows = len(answer.data["rows"])
        call.budget.returned(rows)
        call.audit |= {"tables": sorted(statement.tables), "rows": rows, "tenants": sorted(tables.members)}
        return answer

    async def _checked(
        self, tables: WorkspaceTables, sql: str, policy: PersonalDataPolicy
    ) -> tuple[ValidatedQuery, dict[str, frozenset[str]]]:
        """The statement as it may run, and the columns that it is given empty, by table. A column that is personal data in one of
        the tenants is so in the union; the strictest policy holds.

        Raises: QueryRejected, SemanticsInvalid.
        """
        plain = check_names(tables.relations, frozenset(), sql)
        personal: dict[str, dict[str, str]] = {}
        for name in plain.tables:
            renamed = {source: column for column, source in tables.names[name].items()}
            for key, table in tables.places[name]:
                known = tables.members[key]
                try:
                    found = await self.path.personal.of(known.tenant, known.live, [table])
                except SemanticsInvalid:
                    if policy != "mark":
                        raise
                    found = {}
                for source, why in found.get(table, {}).items():
                    if source in renamed:
                        personal.setdefault(name, {})[renamed[source]] = why
        hidden = {name: frozenset(columns) for name, columns in personal.items()} if policy != "mark" else {}
        statement = check_names(tables.relations, frozenset(), sql, personal, policy) if personal else plain
        return statement, hidden

    async def _read(
        self,
        call: Call,
        args: Query,
        tables: WorkspaceTables,
        statement: ValidatedQuery,
        hidden: Mapping[str, frozenset[str]],
    ) -> _Page:
        """The page with the records of its tables that belong to its rows, as `QueryTools` reads it."""
        workspace, caller, calls = call.over, call.caller.identity, await self.platform.calls()
        limits = limits_within(self.most, args, call.budget.limits)
        builds = await self._builds(tables)
        for left in reversed(range(_TRIES)):
            versions = self._versions(tables, statement, builds)
            binding = PageBinding(caller, f"workspace {workspace.id}", args.sql, compact_json(versions))
            offset = self.cursors().offset(args.cursor, binding) if args.cursor is not None else 0
            unions = await tables.unions(calls, statement.tables, hidden)
            try:
                result = await self.path.execute_over(
                    workspace, around(statement, unions), limits, caller, offset, call.budget.ran
                )
            except QueryFailed as error:
                if (
                    error.code not in _MOVED
                    or not left
                    or unions == await tables.unions(calls, statement.tables, hidden)
                ):
                    raise
                continue
            builds = await self._builds(tables)
            changed = self._versions(tables, statement, builds) != versions
            if not changed or not left:
                break
        return _Page(result, unions, builds, binding, changed)

    async def _builds(self, tables: WorkspaceTables) -> Builds:
        known = tables.members.values()
        found = await asyncio.gather(*(self.facts.builds(each.tenant, each) for each in known))
        return dict(zip(tables.members, found, strict=True))

    def _versions(self, tables: WorkspaceTables, statement: ValidatedQuery, builds: Builds) -> list[Any]:
        """What grows with each change of what is read, and differs where a tenant came or left."""
        return [
            [key, known.live.schema.prefix, versions_of(builds[key], self._read_of(tables, statement, key))]
            for key, known in tables.members.items()
        ]

    def _read_of(self, tables: WorkspaceTables, statement: ValidatedQuery, key: str) -> list[str]:
        """The tables of one tenant that the statement reads, with those of its views."""
        names = [table for name in statement.tables for of, table in tables.places[name] if of == key]
        return tables.members[key].with_those_of_views(names)

    def _answer(self, tables: WorkspaceTables, statement: ValidatedQuery, page: _Page) -> Answer:
        offset = page.result.next_offset
        cursor = self.cursors().issue(page.binding, offset) if offset is not None else None
        data, said = told(statement, page.result, cursor)
        warnings: list[str] = []
        sources: list[tuple[str, TableFacts]] = []
        for key, known in tables.members.items():
            names = self._read_of(tables, statement, key)
            read = [known.as_built(known.tables[name], page.builds[key]) for name in names]
            sources += [(key, facts) for facts in read]
            warnings += [f"{key}: {warning}" for warning in [*known.warnings, *table_warnings(read)]]
        data |= {"workspace": tables.name, "tenants": sorted({arm.tenant for each in page.unions for arm in each.arms})}
        data |= _oldest(sources) | _aligned(page.unions)
        rows = ({"tenant": key, **facts.source_row()} for key, facts in sources)
        data["sources"] = fit(rows, SOURCES_TOKENS) if sources else []
        if len(data["sources"]) < len(sources):
            data["sources_omitted"] = len(sources) - len(data["sources"])
        warnings = [*_left_out(tables, page.unions), *warnings, *said, *([CHANGED] if page.changed else [])]
        return Answer(data, warnings)


def _oldest(sources: list[tuple[str, TableFacts]]) -> dict[str, Any]:
    """The table whose rows are the oldest: of that moment is the answer as a whole."""
    dated = [(facts.provenance.build.as_of, key, facts.name) for key, facts in sources if facts.provenance.build]
    known = [(moment, key, table) for moment, key, table in dated if moment is not None]
    if not known:
        return {}
    moment, key, table = min(known)
    return {"oldest": {"tenant": key, "table": table, "as_of": iso(moment), "age_s": age_s(moment)}}


def _aligned(unions: list[Union]) -> dict[str, Any]:
    """What was done to put the tables under each other: columns that became text, and columns that a tenant does not have."""
    found: dict[str, Any] = {}
    for each in unions:
        for column in each.columns:
            if column.differs:
                found.setdefault("as_text", {})[f"{each.name}.{column.name}"] = dict(column.types)
            if column.name != column.source:
                found.setdefault("renamed", {})[f"{each.name}.{column.source}"] = column.name
        for arm in each.arms:
            lacking = [column.name for column in each.columns if column.source not in arm.columns and column.types]
            if lacking:
                found.setdefault("null_for", {}).setdefault(arm.tenant, []).extend(f"{each.name}.{n}" for n in lacking)
    for part in found:
        items = list(found[part].items())
        found[part] = dict(fit(items, _ALIGNED_TOKENS))
    return {"aligned": found} if found else {}


def _left_out(tables: WorkspaceTables, unions: list[Union]) -> list[str]:
    """Tenants of the workspace without rows in the answer, and why."""
    said = [f"{key} ({why})" for key, why in sorted(tables.left_out.items())]
    for each in unions:
        wanted = {key for key, _ in tables.places[each.name]}
        missing = sorted(wanted - {arm.tenant for arm in each.arms})
        said += [f"{key} ({each.name} cannot be read just now)" for key in missing]
    return [f"Left out: {', '.join(said)}."] if said else []
