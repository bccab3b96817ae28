"""Connects the tools to the SQL path: gives the validator a tenant's live names, and the executor its login.

`check` needs no database, and `QueryPath.checked` remembers what it found; `QueryPath.execute` runs a checked statement.
`mcp_bridge.sql` decides whether a statement may run, and how.
"""

import logging
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NoReturn

from explorer.catalog import AdmittedTenant, AdmittedWorkspace, AsyncCatalog, PersonalDataPolicy, Tenant, TenantLogin
from explorer.core.errors import ExplorerError
from explorer.postgres.connections import Login
from explorer.postgres.hardening import lets_readers_leave_traces
from explorer.registry import SemanticsInvalid
from mcp_bridge.clients.platform_database import PlatformDatabase
from mcp_bridge.clients.timeouts import CATALOG_S, in_thread
from mcp_bridge.facts.personal_columns import PersonalColumns, Reasons
from mcp_bridge.facts.relations import LiveTables
from mcp_bridge.metrics import BridgeMetrics
from mcp_bridge.sql import (
    MOST_SLOTS,
    Executor,
    KeptSessions,
    OverrunThrottle,
    Plan,
    QueryLimits,
    QueryRejected,
    QueryResult,
    RowStream,
    StreamedColumn,
    StreamLimits,
    Tenants,
    Termination,
    ValidatedQuery,
    masked,
    validate,
)

_log = logging.getLogger(__name__)
# Statements of dashboards and next pages come again and again.
_CHECKED = 200
# Columns in an error's message.
_NAMED = 10
# Columns with personal data named for one column of a result.
_TOLD = 3


def check(
    live: LiveTables, statement: str, personal: Mapping[str, Reasons] | None = None, policy: PersonalDataPolicy = "mark"
) -> ValidatedQuery:
    """Check a statement; `personal`: why columns are personal data, by table and column, for which the policy holds.

    Raises: QueryRejected.
    """
    return check_names(live.columns_by_schema, frozenset(live.schemas), statement, personal, policy)


def check_names(
    relations: Mapping[str, Mapping[str, Sequence[str]]],
    schemas: frozenset[str],
    statement: str,
    personal: Mapping[str, Reasons] | None = None,
    policy: PersonalDataPolicy = "mark",
) -> ValidatedQuery:
    """The same for any `relations`, by a first name that the statement may write before them where it is one of `schemas`.

    Raises: QueryRejected.
    """
    hidden = {table: frozenset(columns) for table, columns in (personal or {}).items()}
    names = partial(validate, schemas=schemas, relations=relations, personal=hidden)
    query = names(statement)
    if policy == "mark" or not query.personal_read:
        return query
    if policy == "mask" and (made := masked(query.text, relations, hidden)) is not None:
        query = replace(names(made.text), masked=made.columns, tells=query.tells)
    if query.personal_read:
        _refuse(query.personal_read, personal or {}, policy)
    return query


def _refuse(columns: Iterable[str], personal: Mapping[str, Reasons], policy: PersonalDataPolicy) -> NoReturn:
    """Raises: QueryRejected, with the columns, for the one who wrote the statement knows them."""
    shown = sorted(columns)
    named = ", ".join(
        f"{column} ({personal[column.rpartition('.')[0]][column.rpartition('.')[2]]})" for column in shown[:_NAMED]
    )
    more = f" and {len(shown) - _NAMED} more" if len(shown) > _NAMED else ""
    if policy == "mask":
        raise QueryRejected(
            "personal_data_masked",
            f"The statement uses columns with personal data elsewhere than by themselves in its select list: {named}{more}.",
            next_step="They are masked in this tenant: name them only as columns of the outermost SELECT, without DISTINCT, "
            "and filter, join, group and sort by other columns.",
            details={"columns": shown},
        )
    raise QueryRejected(
        "personal_data_refused",
        f"The statement reads columns with personal data, which this tenant does not give: {named}{more}.",
        next_step="Leave them out; instead of * name the columns that you need. describe_table tells which have pii.",
        details={"columns": shown},
    )


def personal_marks(query: ValidatedQuery, columns: int) -> list[dict[str, Any]]:
    """By column of the result, of which there are so many. `pii`: the columns with personal data that it is made of; `masked`: a
    mask stands there."""
    tells = query.tells
    if tells is None or len(tells) != columns:
        tells = (query.personal_read,) * columns
    return [
        ({"pii": ", ".join(sorted(told)[:_TOLD])} if told else {})
        | ({"masked": True} if told and told <= query.masked else {})
        for told in tells
    ]


class QueryPath:
    """Runs validated statements, each as its tenant's reader. For use inside one event loop."""

    def __init__(
        self,
        platform: PlatformDatabase,
        end_session: Callable[[int], None],
        metrics: BridgeMetrics,
        personal: PersonalColumns,
        *,
        last_resort_s: float = 0.0,
        slots: int = MOST_SLOTS,
    ) -> None:
        """`end_session` ends the backend of a pid, and with it all other sessions of the server. It is called only for a backend
        that still runs `last_resort_s` after it was told to stop (0: never). `slots`: statements of one tenant at a time."""
        self._platform, self._end_session, self._last_resort_s = platform, end_session, last_resort_s
        self._metrics, self.personal, self._slots = metrics, personal, slots
        # One executor per tenant, by tenant key; replaced when the tenant's login changes.
        self._executors: dict[str, tuple[_MadeFor, Executor]] = {}
        self._throttle, self._kept, self._tenants = OverrunThrottle(), KeptSessions(), Tenants()
        # What was checked last, by schema and text.
        self._checked: OrderedDict[tuple[str, str], _Checked] = OrderedDict()
        self._hardened: tuple[Login, bool] | None = None
        self._name = secrets.token_hex(8)
        platform.on_wanted = self._give_up

    async def checked(
        self, tenant: Tenant, live: LiveTables, statement: str, policy: PersonalDataPolicy
    ) -> ValidatedQuery:
        """As `check`, at once for a statement that was checked lately against the same tables, by this policy for personal
        data.

        Raises:
            QueryRejected
            SemanticsInvalid: what is personal data is not known, and the policy needs it. Also as `PersonalColumns.of`.
        """
        key = live.schema.prefix, statement
        known = self._checked.pop(key, None)
        if known is None or known.live is not live:
            known = _Checked(live, check(live, statement))
        self._checked[key] = known
        if len(self._checked) > _CHECKED:
            self._checked.popitem(last=False)
        try:
            personal = await self.personal.of(tenant, live, known.plain.tables)
        except SemanticsInvalid:
            if policy != "mark":
                raise
            personal = {}
        if not personal:
            return known.plain
        if known.judged is None or known.judged[:2] != (policy, personal):
            known.judged = policy, personal, check(live, statement, personal, policy)
        return known.judged[2]

    async def execute(
        self,
        admitted: AdmittedTenant,
        live: LiveTables,
        query: ValidatedQuery,
        limits: QueryLimits,
        principal: str,
        offset: int = 0,
        ran: Callable[[int], None] = lambda _: None,
    ) -> QueryResult:
        """Run a validated statement as the tenant's reader, for `principal`. `ran`: as for `Executor.run`.

        Raises:
            QueryFailed: the database refused or stopped it.
            SchemaAbsent: the tenant had no schemas when the call came.
        """
        executor = await self._current_executor(admitted, live)
        return await self._run(executor, query, limits, principal, offset, ran)

    async def execute_over(
        self,
        workspace: AdmittedWorkspace,
        query: ValidatedQuery,
        limits: QueryLimits,
        principal: str,
        offset: int = 0,
        ran: Callable[[int], None] = lambda _: None,
    ) -> QueryResult:
        """Run a validated statement, with the unions of its tables around it, as the workspace's login. No schema is searched, so
        that a name which is no union is unknown.

        Raises:
            QueryFailed: the database refused or stopped it.
        """
        # Not the key of a tenant: those have no blanks.
        key = f"workspace {workspace.id}"
        executor = await self._executor(key, workspace.sealed, (), lambda calls: calls.workspace_login(workspace))
        return await self._run(executor, query, limits, principal, offset, ran)

    async def _run(
        self,
        executor: Executor,
        query: ValidatedQuery,
        limits: QueryLimits,
        principal: str,
        offset: int,
        ran: Callable[[int], None],
    ) -> QueryResult:
        def counted(ms: int) -> None:
            self._metrics.statement_ran(ms / 1000)
            ran(ms)

        return await executor.run(query, offset=offset, limits=limits, principal=principal, ran=counted)

    async def plan(
        self,
        admitted: AdmittedTenant,
        live: LiveTables,
        query: ValidatedQuery,
        limits: QueryLimits,
        principal: str,
        ran: Callable[[int], None] = lambda _: None,
    ) -> Plan:
        """How the database would run a validated statement. Errors as for `execute`."""
        executor = await self._current_executor(admitted, live)
        return await executor.plan(query, limits=limits, principal=principal, ran=ran)

    async def describe(
        self, admitted: AdmittedTenant, live: LiveTables, query: ValidatedQuery, limits: StreamLimits, principal: str
    ) -> list[StreamedColumn]:
        """The columns of a validated statement, which is not run. Raises as `execute`."""
        return await (await self._current_executor(admitted, live)).describe(query, limits, principal)

    @asynccontextmanager
    async def stream(
        self, admitted: AdmittedTenant, live: LiveTables, query: ValidatedQuery, limits: StreamLimits, principal: str
    ) -> AsyncIterator[RowStream]:
        """All rows of a validated statement, to be read within the block. Raises as `execute`."""
        executor = await self._current_executor(admitted, live)
        async with executor.stream(query, limits, principal) as rows:
            try:
                yield rows
            finally:
                self._metrics.statement_ran(rows.ran_ms / 1000)

    async def _current_executor(self, admitted: AdmittedTenant, live: LiveTables) -> Executor:
        return await self._executor(
            admitted.tenant.key, admitted.sealed, live.schemas, lambda calls: calls.reader(admitted)
        )

    def close(self) -> None:
        """End the idle sessions."""
        for _, executor in self._executors.values():
            executor.close()

    async def _want(self, key: str) -> None:
        """Ask the other bridges for a connection of the tenant's reader."""
        with suppress(ExplorerError):
            await (await self._platform.calls()).want(f"{self._name} {key}")

    def _give_up(self, wanted: str) -> None:
        """Give up a connection that another bridge waits for."""
        name, _, key = wanted.partition(" ")
        if name != self._name and key in self._executors:
            self._executors[key][1].give_up()

    async def _executor(
        self, key: str, sealed: bytes | None, schemas: tuple[str, ...], login: Callable[[AsyncCatalog], TenantLogin]
    ) -> Executor:
        """The executor of a tenant or workspace; a new one when its passwords, its schemas or the database's address have
        changed."""
        service = self._platform.connections.service
        if self._hardened is None or self._hardened[0] != service:
            self._hardened = service, await in_thread(_is_hardened, service, within_s=CATALOG_S)
        made_for = sealed, schemas, service
        known = self._executors.get(key)
        if known is not None and known[0] == made_for:
            return known[1]
        reader = login(await self._platform.calls())
        # No await from here on, because two executors would double the tenant's slots.
        known = self._executors.get(key)
        if known is None or known[0] != made_for:
            if known is not None:
                known[1].close()
            termination = Termination(
                partial(_terminate, service, reader.user),
                partial(_restart_sessions, self._end_session),
                self._last_resort_s,
            )
            executor = Executor(
                service.to(user=reader.user, password=reader.password),
                schemas,
                max_concurrent=self._slots,
                throttle=self._throttle,
                termination=termination,
                kept=self._kept,
                tenants=self._tenants,
                keeps_sessions=self._hardened == (service, True),
                want=partial(self._want, key),
                waited=self._metrics.turn_waited,
            )
            known = self._executors[key] = made_for, executor
        return known[1]


@dataclass
class _Checked:
    """A checked statement, with the names that it was checked against; and as it may run by a policy for these personal data."""

    live: LiveTables
    plain: ValidatedQuery
    judged: tuple[PersonalDataPolicy, dict[str, Reasons], ValidatedQuery] | None = None


_MadeFor = tuple[bytes | None, tuple[str, ...], Login]


def _is_hardened(service: Login) -> bool:
    with closing(service.connect(autocommit=True)) as connection:
        return not lets_readers_leave_traces(connection)


def _terminate(service: Login, reader: str, pid: int) -> None:
    with closing(service.connect(autocommit=True)) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %s AND usename = %s", [pid, reader]
        )


def _restart_sessions(end_session: Callable[[int], None], pid: int) -> None:
    _log.error("The database restarts its sessions, because backend %s cannot be interrupted", pid)
    end_session(pid)
