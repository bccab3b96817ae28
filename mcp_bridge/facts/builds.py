"""Which run made the rows of each table, what did its checks find, and up to which moment are the rows true?

The records lie beside the tables and are written in the transaction that changes a table (`contract.bookkeeping.builds`), so they
are true while a run is at work, and without Dagster. They are read as the loader, as the catalogs are.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from explorer.catalog import TenantSchema
from explorer.contract.bookkeeping import builds as records
from explorer.contract.bookkeeping import loads, provenance
from explorer.contract.bookkeeping.builds import Build
from explorer.contract.bookkeeping.loads import Loaded
from mcp_bridge.answers.envelope import iso
from mcp_bridge.clients.loader_connections import Connection

_UNFIT = ("accepted_values", "values_fit")


@dataclass(frozen=True)
class TableBuild:
    """How a table came to its rows.

    `run_id`, `changed_at`: of their last change; `as_of`: the source was read up to this moment, and the rows have all of it.
    `asked_at`: when the tenant's server was last asked for anything that came into its tables, or would have.
    `behind`: what the table is made from has changed since. `failing_checks`: with the number of rows or values that they found;
    `unfit`: number of values that did not fit, by column; `made_from`: raw tables or tables. `version` grows with each change.
    """

    run_id: str | None
    changed_at: datetime | None
    as_of: datetime | None
    asked_at: datetime | None = None
    rows: int | None = None
    version: int = 0
    behind: bool = False
    is_model: bool = False
    failing_checks: tuple[str, ...] = ()
    unfit: Mapping[str, int] = field(default_factory=dict)
    made_from: frozenset[str] = frozenset()


def builds_of(connection: Connection, schema: TenantSchema) -> dict[str, TableBuild]:
    """The builds of all tables, raw ones included, by name. Blocks."""
    recorded = records.read_provenance(connection, schema)
    return _Builds(recorded, loads.loaded(connection, schema.raw)).all()


def asking(schema: TenantSchema) -> bytes:
    """The statement that gives what `parsed` reads. It fails where nothing was loaded or built yet, which `builds_of` tells."""
    return provenance.statement(schema)


def parsed(text: bytes) -> dict[str, TableBuild]:
    """The builds of all tables, as `builds_of`, from the text of one statement."""
    found = provenance.parse(text)
    return _Builds(found.recorded, found.loaded).all()


def build_of_view(own: TableBuild | None, read: Iterable[TableBuild]) -> TableBuild | None:
    """The build of a view that reads these tables: its rows change with theirs. None where it reads no table with a build."""
    tables = sorted(read, key=lambda build: build.version)
    if not tables:
        return own
    moments = [build.as_of for build in tables if build.as_of]
    return replace(
        tables[-1],
        as_of=min(moments, default=None),
        rows=None,
        behind=any(build.behind for build in tables),
        is_model=own is not None,
        failing_checks=own.failing_checks if own else (),
        unfit={},
        made_from=frozenset().union(*(build.made_from for build in tables)),
    )


def versions_of(builds: Mapping[str, TableBuild], names: Iterable[str]) -> list[tuple[str, Any]]:
    """What grows with each change of these tables, by name and in their order."""
    found = ((name, builds[name]) for name in sorted(names) if name in builds)
    return [(name, build.version or iso(build.changed_at)) for name, build in found]


def raw_tables_of(builds: Mapping[str, TableBuild], name: str) -> set[str]:
    """The raw tables that a table is made from, also through other tables."""
    found, unread = set[str](), [name]
    for each in unread:
        made_from = builds[each].made_from - found if each in builds else frozenset[str]()
        found |= made_from
        unread += made_from
    return found


class _Builds:
    """Follows what tables are made from, down to the loads."""

    def __init__(self, recorded: Mapping[str, Build], loaded: Mapping[str, Loaded]) -> None:
        self._recorded, self._loaded = recorded, loaded
        self._found: dict[str, TableBuild] = {}
        self._asked_at = max((load.loaded_at for load in loaded.values()), default=None)

    def all(self) -> dict[str, TableBuild]:
        """The build of each raw table, table and model."""
        for name in (*self._loaded, *self._recorded):
            self._of(name)
        return self._found

    def _of(self, name: str) -> TableBuild | None:
        if name not in self._found:
            if name in self._recorded:
                self._found[name] = self._recorded_build(name, self._recorded[name])
            elif name in self._loaded:
                load = self._loaded[name]
                self._found[name] = TableBuild(
                    load.run_id, load.loaded_at, load.loaded_at, self._asked_at, load.live_rows
                )
        return self._found.get(name)

    def _recorded_build(self, name: str, build: Build) -> TableBuild:
        changed = [parent for parent, seen in build.built_from.items() if self._version(parent) not in (None, seen)]
        known = [self._of(parent) for parent in build.built_from if parent not in changed and parent != name]
        moments = [parent.as_of for parent in known if parent is not None and parent.as_of is not None]
        moments += [self._moment_of(build, parent) for parent in changed]
        # What is made from no records is made from the structure, which is discovered whenever the server is asked.
        unread = build.changed_at if build.built_from else max(build.changed_at, self._asked_at or build.changed_at)
        return TableBuild(
            build.run_id,
            build.changed_at,
            min(moments, default=unread),
            self._asked_at,
            build.rows,
            build.version,
            bool(changed) or any(parent.behind for parent in known if parent is not None),
            build.kind == "model",
            tuple(
                found.check if found.rows is None else f"{found.check} ({found.rows} found)" for found in build.findings
            ),
            _unfit(build.findings),
            frozenset(build.built_from),
        )

    def _version(self, name: str) -> str | None:
        """The current version of a raw table, or of a table that a model reads; None where it is not known."""
        if name in self._recorded:
            return str(self._recorded[name].version)
        return self._loaded[name].changed_at if name in self._loaded else None

    def _moment_of(self, build: Build, parent: str) -> datetime:
        """Up to when a table has what its parent had, which has changed since."""
        return build.changed_at if parent in self._recorded else datetime.fromisoformat(build.built_from[parent])


def _unfit(findings: Collection[records.Finding]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for finding in findings:
        if finding.check in _UNFIT:
            counts |= finding.columns or {}
    return counts
