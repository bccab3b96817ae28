"""Which models must dbt build, and which tests run? Those whose definition changed, or that have not seen the newest rows. And
which models can replace those rows alone that a change concerns? Where keys tell all that changed since they were built."""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from math import inf, isinf
from typing import NamedTuple

from explorer.contract.bookkeeping import builds, changes, dbt_tests, loads
from explorer.contract.bookkeeping.builds import Build
from explorer.contract.bookkeeping.dbt_tests import TestRecord
from explorer.contract.bookkeeping.loads import Loaded
from explorer.contract.retirement import retirement_of
from explorer.contract.schemas import TenantSchemas
from explorer.marts.definitions import definition_of_test
from explorer.marts.manifest import EPHEMERAL, WITHOUT_ROWS, Models, Node, layer_of
from explorer.postgres.connections import Connection
from explorer.postgres.relations import Relation, relations

_BY_KEYS = "swapped_incremental"
_NEVER = datetime.min.replace(tzinfo=UTC)


class Age(NamedTuple):
    """How new rows are: `version` of tables and models, infinite where it is unknown; `changed_at`, of raw tables."""

    version: float
    changed_at: datetime


@dataclass(frozen=True)
class State:
    """What a tenant has: how its tables and models came to their rows, the last loads of its raw tables, what tests found, and
    the relations of staging and marts."""

    builds: Mapping[str, Build]
    loads: Mapping[str, Loaded]
    tests: Mapping[str, TestRecord]
    relations: Sequence[Relation]


@dataclass(frozen=True)
class Work:
    """`models`, `tests`: names of those for dbt; `excluded`: models that the tenant cannot have, with the reason; `retiring`:
    their relations that are not retired yet; `gone`: recorded models that the project no longer has; `state`: of the tenant
    before. It is false where there is nothing to do."""

    models: Set[str]
    tests: Set[str]
    excluded: Mapping[str, str]
    retiring: Sequence[Relation]
    gone: Set[str]
    state: State

    def __bool__(self) -> bool:
        return bool(self.models or self.tests or self.retiring or self.gone)


def find_work(
    connection: Connection,
    schemas: TenantSchemas,
    models: Models,
    definitions: Mapping[str, str],
    *,
    wanted: Set[str] | None = None,
    by_need: bool = True,
) -> Work:
    """What dbt must do for the models `wanted` (None: all), `by_need` only where something changed. `definitions`: of the models
    as they are now.

    Raises:
        psycopg.Error: the connection broke.
    """
    state = state_of(connection, schemas)
    excluded = _excluded(schemas, models, state)
    selected = (models.built if wanted is None else wanted & models.built) - excluded.keys()
    built = selected & _stale(schemas, models, state, definitions) if by_need else selected
    there = selected & (state.builds.keys() | built)
    tests = {
        name
        for name in _stale_tests(models, state.tests if by_need else {}, ages(models, state))
        if there >= {read for read in models.read_by(models.test_named[name]) if read in models.built}
    }
    return Work(built, tests, excluded, _retiring(schemas, models, excluded, state), gone(models, state), state)


def updates(
    connection: Connection, schemas: TenantSchemas, models: Models, state: State, definitions: Mapping[str, str]
) -> dict[str, int]:
    """Name of each such model to the version of its rows, which lack what changed later. Whichever of the stale models are built
    now, it is so: one that is built as a whole lets those that read it be, too. `state`: of the tenant now; `definitions`: of the
    models.

    Raises:
        psycopg.Error: the connection broke.
    """
    since = changes.known_since(connection, schemas)
    unbuilt = _unbuilt(schemas, models, state, definitions)
    whole = _stale(schemas, models, state, definitions)
    found: dict[str, int] = {}
    for name, node in models.by_name.items():
        build = state.builds.get(name)
        if node["config"]["materialized"] != _BY_KEYS or name in unbuilt or build is None:
            continue
        seen = partial(_is_told, models, state.builds, whole, build.version)
        if since is not None and since <= build.version and all(seen(each) for each in models.inputs(name)):
            found[name] = build.version
            whole.discard(name)
    return found


def _is_told(models: Models, builds: Mapping[str, Build], whole: set[str], since: int, name: str) -> bool:
    """Whether keys tell all that changed in a table or model since this version. `whole`: models that are built as a whole."""
    model, build = models.by_name.get(name), builds.get(name)
    if name in whole:
        return False
    if model is not None and model["config"]["materialized"] == EPHEMERAL:
        return all(_is_told(models, builds, whole, since, each) for each in models.inputs(name))
    if build is None:
        return False
    if model is not None and model["config"]["materialized"] in WITHOUT_ROWS:
        told = (_is_told(models, builds, whole, since, each) for each in models.inputs(name))
        return build.version <= since and all(told)
    return build.version <= since or (build.whole_version is not None and build.whole_version <= since)


def gone(models: Models, state: State) -> set[str]:
    """The recorded models that the project no longer has."""
    return {name for name, build in state.builds.items() if build.kind == "model"} - models.by_name.keys()


def left_out(schemas: TenantSchemas, models: Models, state: State) -> dict[str, str]:
    """The models and tests that a run leaves out for the tenant, which has not what they need, each with the reason."""
    there = {each.name for each in state.relations} | state.builds.keys() | state.loads.keys()
    found = _excluded(schemas, models, state)
    for name, test in models.test_named.items():
        if missing := sorted(models.sources_of(test) - there):
            found[name] = f"This tenant has no table {', '.join(missing)}, which the test reads."
    return found


def state_of(connection: Connection, schemas: TenantSchemas) -> State:
    """The tenant's state now."""
    return State(
        builds.read(connection, schemas),
        loads.loaded(connection, schemas.raw),
        dbt_tests.read(connection, schemas),
        relations(connection, [schemas.staging, schemas.marts]),
    )


def _stale(schemas: TenantSchemas, models: Models, state: State, definitions: Mapping[str, str]) -> set[str]:
    """The models that are not there as they are defined, or have not seen the newest rows."""
    unbuilt = _unbuilt(schemas, models, state, definitions)
    stale: set[str] = set()
    changing: set[str] = set()
    newest = ages(models, state)
    for name, node in models.by_name.items():
        build, inputs = state.builds.get(name), models.inputs(name)
        reads_changes = not changing.isdisjoint(inputs)
        has_rows = node["config"]["materialized"] not in WITHOUT_ROWS
        is_late = reads_changes or build is None or _is_late(build, _newest(newest, inputs))
        if name in models.built and (name in unbuilt or (has_rows and is_late)):
            stale.add(name)
        if name in stale or reads_changes:
            changing.add(name)
    return stale


def _unbuilt(schemas: TenantSchemas, models: Models, state: State, definitions: Mapping[str, str]) -> set[str]:
    """The models that are not there, or by another definition."""
    oids = {(each.schema, each.name): each.oid for each in state.relations}
    found = set()
    for name, node in models.by_name.items():
        build, relation = state.builds.get(name), oids.get((schemas.schema(layer_of(node)), node["alias"]))
        has_rows = node["config"]["materialized"] not in WITHOUT_ROWS
        # A view is made anew, under its name, when a table that it reads is.
        is_there = build is not None and relation is not None and (not has_rows or build.relation == relation)
        if not is_there or build is None or build.definition != definitions[name]:
            found.add(name)
    return found


def ages(models: Models, state: State) -> dict[str, Age]:
    """How new the rows are that each table and model has, or a view shows."""
    found = {name: Age(0, _moment(load.changed_at)) for name, load in state.loads.items()}
    found |= {name: Age(build.version, _NEVER) for name, build in state.builds.items() if build.kind == "table"}
    for name, node in models.by_name.items():
        build = state.builds.get(name)
        has_rows = build is not None and node["config"]["materialized"] not in WITHOUT_ROWS
        found[name] = Age(build.version, _NEVER) if build and has_rows else _newest(found, models.inputs(name))
    return found


def seen_by(models: Models, test: Node, newest: Mapping[str, Age]) -> dict[str, str] | None:
    """What a test sees that runs now: the version of the test, and of the rows of all that it reads; None where these are
    unknown, or not there."""
    read = {name: newest.get(name, Age(inf, _NEVER)) for name in models.read_by(test)}
    if any(isinf(age.version) for age in read.values()):
        return None
    versions = {name: f"{age.version:.0f} {age.changed_at:%Y-%m-%d %H:%M:%S.%f}" for name, age in read.items()}
    return {**versions, "": definition_of_test(models, test)}


def _stale_tests(models: Models, records: Mapping[str, TestRecord], newest: Mapping[str, Age]) -> Iterator[str]:
    """The tests that never ran as they are now over the rows that are there now."""
    for name, test in models.test_named.items():
        saw = seen_by(models, test, newest)
        if saw is not None and (name not in records or records[name].saw != saw):
            yield name


def _newest(found: Mapping[str, Age], inputs: Iterable[str]) -> Age:
    read = [found.get(each, Age(inf, _NEVER)) for each in inputs]
    return Age(max((age.version for age in read), default=0), max((age.changed_at for age in read), default=_NEVER))


def _is_late(build: Build, read: Age) -> bool:
    return read.version > build.version or read.changed_at > build.changed_at


def _moment(text: str | None) -> datetime:
    return datetime.fromisoformat(text) if text else _NEVER


def names_of(schemas: TenantSchemas, models: Models) -> dict[tuple[str, str], str]:
    """The models' names, by schema and name of what they build."""
    return {(schemas.schema(layer_of(node)), node["alias"]): name for name, node in models.by_name.items()}


def _retiring(schemas: TenantSchemas, models: Models, excluded: Mapping[str, str], state: State) -> list[Relation]:
    names = names_of(schemas, models)
    return [
        each
        for each in state.relations
        if names.get((each.schema, each.name)) in excluded and not retirement_of(each.comment)
    ]


def _excluded(schemas: TenantSchemas, models: Models, state: State) -> dict[str, str]:
    tables = {each.name for each in state.relations if each.schema == schemas.marts and not retirement_of(each.comment)}
    found: dict[str, str] = {}
    for name, node in models.by_name.items():
        missing = [table for table in node["config"]["meta"].get("requires", ()) if table not in tables]
        parent = next((each for each in models.inputs(name) if each in found), None)
        if missing:
            found[name] = f"This tenant has no table {', '.join(missing)}, which the model requires."
        elif parent:
            found[name] = f"It reads {parent}, which this tenant cannot have: {found[parent]}"
    return found
