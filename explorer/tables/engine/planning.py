"""What must an update do to each table? Nothing where neither its definition nor its records changed since the last build.

The tenant's bookkeeping says what each table was built from, beside the table itself, so that a restored database or a dropped
table is noticed. In doubt a table is built as a whole.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

from explorer.contract.bookkeeping.builds import Build
from explorer.contract.schemas import TenantSchemas
from explorer.postgres.connections import Connection
from explorer.tables.engine import state
from explorer.tables.engine.changed import Changed, Changes, Way
from explorer.tables.engine.definition import definitions, parents_first
from explorer.tables.values import TableSpec


@dataclass(frozen=True)
class Task:
    """One table of the plan. `built_from`: raw table to the time of its latest change that the rows will have; `before`: its last
    build, if the table is there; `changed`: the changed records, None where it is built as a whole."""

    table: TableSpec
    definition: str
    built_from: Mapping[str, str]
    before: Build | None
    changed: Changed | None = None


@dataclass(frozen=True)
class Plan:
    """Everything by the table's name. `todo`: tables to build or change; `current`: tables whose rows are up to date; `missing`:
    wanted tables whose raw tables do not exist, and these; `stale`: tables that are not up to date, wanted or not.
    """

    todo: Mapping[str, Task]
    current: Mapping[str, Task]
    missing: Mapping[str, Sequence[str]]
    stale: Set[str]
    definitions: Mapping[str, str]

    @property
    def sentence(self) -> str:
        """The plan in words."""
        applied = sum(task.changed is not None for task in self.todo.values())
        return (
            f"Of {len(self.todo) + len(self.current) + len(self.missing)} tables {applied} take up what changed,"
            f" {len(self.todo) - applied} are built."
        )


def plan(
    connection: Connection,
    schemas: TenantSchemas,
    tables: Mapping[str, TableSpec],
    builds: Mapping[str, Build],
    changes: Changes,
    *,
    wanted: Set[str],
    by_need: bool,
) -> Plan:
    """Compare the tables with their last `builds`; `by_need`: otherwise all that are wanted are built as a whole."""
    versions = state.raw_versions(connection, schemas, {raw for table in tables.values() for raw in table.inputs})
    last = _LastBuilds(tables, definitions(tables), builds, versions, changes)
    last.collect_changes()
    planned = _Planned()
    for table in parents_first(tables):
        _place(planned, last, table, is_wanted=table.name in wanted, by_need=by_need)
    return Plan(planned.todo, planned.current, planned.missing, planned.stale, last.definitions)


def is_same(build: Build | None, definition: str) -> bool:
    """Whether a table was built by this definition."""
    return build is not None and build.definition == definition


def changed_inputs(table: TableSpec, build: Build | None, versions: Mapping[str, str]) -> set[str]:
    """The raw tables of a table that changed since it was built. `versions`: the time of each raw table's latest change."""
    before = build.built_from if build else {}
    return {raw for raw in table.inputs if before.get(raw) != versions.get(raw)}


@dataclass
class _Planned:
    todo: dict[str, Task] = field(default_factory=dict)
    current: dict[str, Task] = field(default_factory=dict)
    missing: dict[str, list[str]] = field(default_factory=dict)
    stale: set[str] = field(default_factory=set)
    built_from: dict[str, Mapping[str, str]] = field(default_factory=dict)
    """What the rows of each table have after this update."""


def _place(planned: _Planned, last: "_LastBuilds", table: TableSpec, *, is_wanted: bool, by_need: bool) -> None:
    name, before = table.name, last.builds.get(table.name)
    task = Task(table, last.definitions[name], _built_from(planned, last, table), before, last.changed(table))
    is_current = last.is_current(table) or (task.changed is not None and not task.changed.count)
    if missing := sorted(table.inputs - last.versions.keys()):
        if is_wanted:
            planned.missing[name] = missing
        return
    if not is_current:
        planned.stale.add(name)
    if is_wanted and not (by_need and is_current):
        few = by_need and before and before.rows is not None and task.changed and task.changed.are_few(before.rows)
        planned.todo[name] = task if few else replace(task, changed=None)
        planned.built_from[name] = task.built_from
    elif is_current:
        planned.current[name] = task
        planned.built_from[name] = task.built_from
    else:
        planned.built_from[name] = before.built_from if before else {}


def _built_from(planned: _Planned, last: "_LastBuilds", table: TableSpec) -> dict[str, str]:
    """A table is not newer than those that it reads."""
    found = {raw: last.versions[raw] for raw in table.inputs if raw in last.versions}
    for read in (planned.built_from[each] for each in table.reads if each in planned.built_from):
        found |= {raw: version for raw, version in read.items() if raw in found and version != last.versions[raw]}
    return found


@dataclass(frozen=True)
class _LastBuilds:
    """The last builds of existing tables, and what changed since. `versions`: time of each raw table's latest change."""

    tables: Mapping[str, TableSpec]
    definitions: Mapping[str, str]
    builds: Mapping[str, Build]
    versions: Mapping[str, str]
    changes: Changes

    def collect_changes(self) -> None:
        """Collect the changed records for all tables that can take them up."""
        since: dict[Way, set[str]] = {}
        for name, table in self.tables.items():
            changed = self._changed_raw_tables(table)
            if self._can_change(table, changed):
                for raw in changed:
                    since.setdefault((table.rows.key, raw), set()).add(self.builds[name].built_from[raw])
        self.changes.collect(since)

    def is_current(self, table: TableSpec) -> bool:
        """Whether nothing changed that the table is made by or from."""
        return self._is_same(table) and not self._changed_raw_tables(table)

    def changed(self, table: TableSpec) -> Changed | None:
        """The changed records of the table, if these are all that it lacks."""
        raw_tables = self._changed_raw_tables(table)
        return self.changes.of(table, raw_tables) if self._can_change(table, raw_tables) else None

    def _is_same(self, table: TableSpec) -> bool:
        return is_same(self.builds.get(table.name), self.definitions[table.name])

    def _can_change(self, table: TableSpec, raw_tables: Set[str]) -> bool:
        return (
            bool(raw_tables)
            and self._is_same(table)
            and self.builds[table.name].built_from.keys() >= raw_tables
            and all(self.changes.knows(table, raw) for raw in raw_tables)
        )

    def _changed_raw_tables(self, table: TableSpec) -> set[str]:
        return changed_inputs(table, self.builds.get(table.name), self.versions)
