"""The tools with which people and agents keep a SELECT as a table, which each sync brings up to date.

A statement is checked and tried as a query is, before anything is kept. What a run then builds has the rights of the tenant's
reader, so that nothing can be saved that could not be asked.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from explorer.catalog import ProvisioningKind, Scope, Tenant, UnknownModel
from explorer.catalog.tenants.saved_models import ColumnTests, ModelText, Reference, SavedModel
from explorer.core.errors import ExplorerError
from explorer.core.settings import Settings
from explorer.core.toolsets import Toolset
from mcp_bridge.answers.envelope import Answer, age_s, fit, iso, room_left, unknown_name
from mcp_bridge.answers.paging import PAGING_TOKENS, next_place, page_after
from mcp_bridge.clients.platform_database import PlatformDatabase
from mcp_bridge.clients.timeouts import in_thread
from mcp_bridge.facts.relations import LiveTables, sql_type
from mcp_bridge.facts.tables import TenantTables
from mcp_bridge.facts.tenant_facts import TenantFacts
from mcp_bridge.gate.confirmation import Question
from mcp_bridge.gate.list_cursors import MAX_CHARS
from mcp_bridge.gate.tool import Call, TenantArguments, Tool
from mcp_bridge.query_path import QueryPath
from mcp_bridge.runs.provisioning import WAIT_S, ProvisioningJob
from mcp_bridge.sql import QueryLimits, QueryRejected, QueryResult, ValidatedQuery, validate

_NAME = re.compile(r"[a-z][a-z0-9_]{0,54}")
# Names that the platform, providers, dbt and PostgreSQL give by themselves.
_TAKEN = ("case_", "form_", "raw_", "stg_", "int_", "ucr_", "lookup_", "explorer_", "dbt_", "pg_", "_")
_COLUMN = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_SHOWN_ROWS = 5
# As much as is read of a trial; of its rows those are shown that fit.
_TRIAL_BYTES = 100_000
_WORDS_TOKENS = 200
_Value = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class ModelInvalid(ExplorerError):
    """The model cannot be saved as it is; nothing was changed."""

    code = "model_invalid"


class Tests(BaseModel):
    model_config = ConfigDict(extra="forbid")

    unique: bool = False
    not_null: bool = False
    accepted_values: list[_Value] = Field([], max_length=100)


class SaveModel(TenantArguments):
    name: str = Field(max_length=63, description="The table's name: small letters, digits, _.")
    sql: str = Field(min_length=1, max_length=100_000, description="One SELECT, as for query; each column has a name.")
    description: str = Field(min_length=1, max_length=1000, description="What one row is, and what for.")
    tests: dict[str, Tests] = Field({}, max_length=50, description="By column.")
    dry_run: bool = Field(False, description="Check and try it, and save nothing.")


class ListModels(TenantArguments):
    name: str | None = Field(None, max_length=63, description="Only this one, with SQL and versions.")
    limit: int = Field(50, ge=1, le=50, description="Models per page.")
    cursor: str | None = Field(None, max_length=MAX_CHARS, description="next_cursor of the page before.")


class DropModel(TenantArguments):
    name: str = Field(max_length=63, description="The model.")
    confirm: str | None = Field(None, max_length=200, description="The name again, where the host cannot ask the user.")


@dataclass(frozen=True)
class SavedModelTools:
    """`path` tries each statement; `job` makes the login that builds them."""

    facts: TenantFacts
    path: QueryPath
    platform: PlatformDatabase
    job: ProvisioningJob
    settings: Settings

    async def save_model(self, call: Call, args: SaveModel) -> Answer:
        """Raises: ModelInvalid, ModelLimitReached, QueryRejected, QueryFailed, and what `ProvisioningJob.done` does."""
        tenant, catalog = call.own_tenant, self.platform.catalog
        call.audit["statement_sha256"] = hashlib.sha256(args.sql.encode("utf-8", "surrogatepass")).hexdigest()
        known = await self.facts.tables(tenant)
        models = {
            name: text for name, (_, text) in (await in_thread(lambda: catalog.saved_models.current(tenant))).items()
        }
        _check_name(args.name, known, models)
        _check_texts(args)
        policy = call.budget.limits.personal_data or "mark"
        query = await self.path.checked(tenant, known.live, args.sql, policy)
        references = _references(query, known.live)
        if loop := _loop(args.name, {each.table for each in references}, models):
            raise ModelInvalid(
                f"The model would read itself: {' reads '.join(loop)}.",
                next_step="Leave out one of these; a model may read tables, marts and other models.",
            )
        limits = QueryLimits(max_rows=_SHOWN_ROWS, max_bytes=_TRIAL_BYTES, timeout_s=self.settings.query_timeout_s)
        result = await self.path.execute(call.own, known.live, query, limits, call.caller.identity, ran=call.budget.ran)
        columns = _columns(result)
        text = ModelText(
            query.text.strip(),
            args.description,
            columns,
            _moved(references, query.text),
            _tests(args.tests, columns),
            _personal(query, columns),
        )
        call.budget.returned(len(result.rows))
        data: dict[str, Any] = {
            "name": args.name,
            "columns": [
                {"name": name, "type": type_}
                | ({"pii": ", ".join(text.personal[name])} if name in text.personal else {})
                for name, type_ in columns
            ],
            "reads": sorted(text.reads),
        }
        data["first_rows"] = fit(result.rows, room_left(data, ()) - _WORDS_TOKENS)
        if args.dry_run:
            return Answer({**data, "saved": False, "next_step": "It can be saved: call again without dry_run."})
        if not await self._has_login(tenant):
            request = await self.job.done(ProvisioningKind.SAVED_MODELS, tenant, call.caller.actor, call.progress)
            if not request.has_ended:
                next_step = (
                    f"The provisioning job needs longer than {WAIT_S:.0f} s: call again to go on waiting for it."
                )
                return Answer({**data, "saved": False, "next_step": next_step})
        most = self.settings.saved_models_max
        saved = await in_thread(
            lambda: catalog.saved_models.save(tenant, args.name, text, call.caller.actor, most=most)
        )
        call.audit |= {"model": saved.name, "version": saved.version}
        next_step = "The next run builds it, and each sync brings it up to date: run_materialization, or wait."
        return Answer({**data, "saved": True, "version": saved.version, "owner": saved.owner, "next_step": next_step})

    async def list_models(self, call: Call, args: ListModels) -> Answer:
        tenant, store = call.own_tenant, self.platform.catalog.saved_models
        known = await self.facts.tables(tenant)
        if args.name is not None:
            name = args.name
            return self._one(known, await in_thread(lambda: store.versions(tenant, name)))
        current = await in_thread(lambda: store.current(tenant))
        page, more = page_after(list(current.values()), args.cursor, args.limit, lambda each: each[0].name)
        shown = fit((_row(known, *each) for each in page), room_left({}, ()) - PAGING_TOKENS)
        cursor = next_place(page, len(shown), more, lambda each: each[0].name)
        data = {"models": shown, "total": len(current), "most": self.settings.saved_models_max, "next_cursor": cursor}
        return Answer(data)

    def _one(self, known: TenantTables, versions: Sequence[SavedModel]) -> Answer:
        newest = versions[0]
        history = [
            {"version": each.version, "actor": each.actor, "saved_at": iso(each.saved_at)}
            | ({} if each.text else {"dropped": True})
            for each in versions
        ]
        text = newest.text or next((each.text for each in versions if each.text is not None), None)
        data = _row(known, newest, text) if text is not None else {"name": newest.name}
        if text is not None:
            data |= {"sql": text.sql, "columns": [{"name": n, "type": t} for n, t in text.columns]}
            data |= {"tests": {column: _as_object(tests) for column, tests in text.tests.items()}}
        if newest.text is None:
            data["state"] = "dropped"
        return Answer({**data, "versions": history})

    async def drop_model(self, call: Call, args: DropModel) -> Answer:
        tenant, store = call.own_tenant, self.platform.catalog.saved_models
        current = await in_thread(lambda: store.current(tenant))
        if args.name not in current:
            raise unknown_name(UnknownModel, "saved model", args.name, list(current), "list_models")
        readers = sorted(name for name, (_, text) in current.items() if args.name in text.reads and name != args.name)
        if readers:
            raise ModelInvalid(
                f"{', '.join(readers)} read {args.name}.", next_step="Drop or change these first; nothing was changed."
            )
        version = current[args.name][0].version
        question = Question(
            f"Drop the saved model {args.name} of {tenant.key}: the next run drops its table. Its versions stay.",
            args.name,
            str(version),
        )
        call.audit["confirmed_by"] = await call.user.confirm(question, args.confirm)
        dropped = await in_thread(lambda: store.drop(tenant, args.name, call.caller.actor))
        call.audit |= {"model": dropped.name, "version": dropped.version}
        return Answer(
            {
                "name": dropped.name,
                "dropped": True,
                "next_step": "The next run drops its table. save_model with the SQL of list_models brings it back.",
            }
        )

    async def _has_login(self, tenant: Tenant) -> bool:
        return await in_thread(lambda: self.platform.catalog.schemas.saved_login(tenant)) is not None

    TOOLS: ClassVar[tuple[Tool, ...]] = (
        Tool(
            "save_model",
            "Save a model",
            "Keeps a SELECT as a table of the tenant that each sync brings up to date, with tests, lineage and freshness as any "
            "mart. Checked and tried first; a new version where the name exists. For an answer that is needed once use query.",
            SaveModel,
            save_model,
            Scope.MODELS_WRITE,
            Toolset.MODELS,
            mutates=True,
        ),
        Tool(
            "list_models",
            "List saved models",
            "Lists the models that people and agents have saved for a tenant: owner, what each reads, when it was built, failing "
            "tests; of one also SQL and versions. For all tables use list_tables.",
            ListModels,
            list_models,
            Scope.METADATA_READ,
            Toolset.MODELS,
        ),
        Tool(
            "drop_model",
            "Drop a saved model",
            "Drops a saved model; the next run drops its table, and its versions stay. The user is asked; where the host "
            "cannot ask, you do, and repeat the name in confirm. Not for marts or tables of the source.",
            DropModel,
            drop_model,
            Scope.MODELS_WRITE,
            Toolset.MODELS,
            mutates=True,
            destructive=True,
        ),
    )


def _check_name(name: str, known: TenantTables, models: Mapping[str, ModelText]) -> None:
    if not _NAME.fullmatch(name) or name.endswith("_"):
        raise ModelInvalid(
            f"{name[:80]!r} cannot be a model's name.",
            next_step="Use small letters, digits and _, beginning with a letter: at most 55.",
        )
    begins = next((prefix for prefix in _TAKEN if name.startswith(prefix)), None)
    relation = known.live.relations.get(name)
    is_other = relation is not None and relation.schema != known.live.schema.saved
    if begins is not None or is_other or (name in known.not_built and name not in models):
        why = f"names with {begins} are the platform's own" if begins else "the tenant has a table of this name"
        raise ModelInvalid(f"The model cannot be called {name}: {why}.", next_step="Give it another name.")
    try:
        # A name of small letters, digits and _ alone.
        validate(f"SELECT a FROM {name}", schemas=frozenset({"any"}), relations={"any": {name: ("a",)}})  # noqa: S608
    except QueryRejected:
        raise ModelInvalid(
            f"{name} is a word of SQL's own: nobody could ask for it without quotes.", next_step="Give it another name."
        ) from None


def _check_texts(args: SaveModel) -> None:
    """dbt reads braces in these as templates."""
    values = [value for tests in args.tests.values() for value in tests.accepted_values]
    if any(sign in text for text in (args.description, *values) for sign in "{}"):
        raise ModelInvalid(
            "Descriptions and accepted values have no braces.",
            next_step="Write ( and ) instead; the SQL may have them.",
        )


def _references(query: ValidatedQuery, live: LiveTables) -> list[Reference]:
    if query.masked:
        raise ModelInvalid(
            f"The tenant masks {', '.join(sorted(query.masked)[:5])}: a model cannot keep personal data.",
            next_step="Leave these columns out.",
        )
    if query.references is None:
        raise ModelInvalid(
            "The names of tables cannot be told from the rest of the statement.",
            next_step="Write them plainly, without comments or escapes within, as list_tables shows them.",
        )
    raw = sorted(table for table in query.tables if live.relations[table].schema == live.schema.raw)
    if raw:
        raise ModelInvalid(
            f"Models do not read raw tables: {', '.join(raw)}.", next_step="Read the tables that are made from them."
        )
    return [Reference(*each) for each in query.references]


def _moved(references: Sequence[Reference], text: str) -> tuple[Reference, ...]:
    """As they are in the text without its blanks in front."""
    by = len(text) - len(text.lstrip())
    return tuple(Reference(each.start - by, each.end - by, each.table) for each in references)


def _loop(name: str, reads: set[str], models: Mapping[str, ModelText]) -> list[str]:
    """The way from the model to itself, empty where there is none."""
    ways = [[name, read] for read in sorted(reads)]
    seen = set[str]()
    while ways:
        way = ways.pop()
        if way[-1] == name:
            return way
        if way[-1] in models and way[-1] not in seen:
            seen.add(way[-1])
            ways += [[*way, read] for read in sorted(models[way[-1]].reads)]
    return []


def _columns(result: QueryResult) -> tuple[tuple[str, str], ...]:
    columns = tuple((column.name, sql_type(column.type)) for column in result.columns)
    names = [name for name, _ in columns]
    unnamed = [index for index, name in enumerate(names, start=1) if name == "?column?"]
    twice = sorted({name for name in names if names.count(name) > 1})
    if unnamed or twice or not names:
        what = f"Column {unnamed[0]} has no name" if unnamed else f"Two columns are called {', '.join(twice[:5])}"
        raise ModelInvalid(f"{what}.", next_step="Give each column a name of its own with AS.")
    return columns


def _tests(tests: Mapping[str, Tests], columns: Sequence[tuple[str, str]]) -> dict[str, ColumnTests]:
    names = [name for name, _ in columns]
    for column in tests:
        if column not in names:
            raise unknown_name(ModelInvalid, "column of the model", column, names, "save_model with dry_run")
        if not _COLUMN.fullmatch(column):
            raise ModelInvalid(
                f"Column {column[:80]!r} cannot have tests: dbt writes its name without quotes.",
                next_step="Name it with small letters, digits and _.",
            )
    return {
        column: ColumnTests(of.unique, of.not_null, tuple(of.accepted_values))
        for column, of in tests.items()
        if of != Tests()
    }


def _personal(query: ValidatedQuery, columns: Sequence[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    told = query.tells
    if told is None or len(told) != len(columns):
        told = (query.personal_read,) * len(columns)
    return {name: tuple(sorted(of)) for (name, _), of in zip(columns, told, strict=True) if of}


def _row(known: TenantTables, model: SavedModel, text: ModelText) -> dict[str, Any]:
    facts = known.tables.get(model.name)
    is_saved = facts is not None and facts.schema == known.live.schema.saved
    build = facts.provenance.build if facts is not None and is_saved else None
    row: dict[str, Any] = {
        "name": model.name,
        "description": text.description,
        "version": model.version,
        "owner": model.owner,
        "saved_at": iso(model.saved_at),
        "reads": sorted(text.reads),
        "state": _state(known, model.name, is_saved),
    }
    if build is not None:
        row |= {"rows": build.rows, "built_at": iso(build.changed_at), "as_of": iso(build.as_of)}
        row |= {"age_s": age_s(build.as_of), "run_id": build.run_id}
        row |= {"failing_tests": list(build.failing_checks)} if build.failing_checks else {}
    error = facts.provenance.error if facts is not None and is_saved else known.not_built.get(model.name)
    return row | ({"error": error} if error else {})


def _state(known: TenantTables, name: str, is_saved: bool) -> str:
    if is_saved:
        return "failed, with the rows of before" if known.tables[name].provenance.failed else "built"
    if name in known.live.relations:
        return "hidden by a table of the same name"
    return "failed" if name in known.not_built else "not built yet"


def _as_object(tests: ColumnTests) -> dict[str, Any]:
    return {name: value for name in tests.__struct_fields__ if (value := getattr(tests, name))}
