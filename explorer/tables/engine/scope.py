"""Which rows of a table must be checked after an update? All that changes may have broken; all rows where the last checks found
something, or were never made."""

from collections.abc import Mapping, Set
from dataclasses import dataclass, field

from explorer.contract.bookkeeping.builds import Build
from explorer.tables.engine.changed import Changed
from explorer.tables.values import TableSpec

Builds = Mapping[str, Build]


@dataclass(frozen=True)
class Scope:
    """Which rows must be checked. `keys`, `references`: conditions on the table's own rows; `parents`: tables that it refers to
    and whose rows changed, with their changed records, None where any may have changed; `missing`: those that were never
    built."""

    keys: str = "true"
    references: str = "true"
    parents: Mapping[str, Changed | None] = field(default_factory=dict)
    missing: Set[str] = frozenset()


def versions_seen(table: TableSpec, builds: Builds) -> dict[str, int]:
    """What a check of the table sees: its version, and those of the tables that it refers to."""
    names = {table.name, *(parent.table for parent in table.parents)}
    return {name: builds[name].version for name in sorted(names) if name in builds}


def scope_of(table: TableSpec, before: Builds, now: Builds, applied: Mapping[str, Changed | None]) -> Scope | None:
    """What must be checked; None for nothing. `before`, `now`: builds of existing tables; `applied`: changes applied between."""
    last, seen = before.get(table.name), versions_seen(table, now)
    if now[table.name].checked == seen:
        return None
    parents = {parent.table for parent in table.parents}
    missing = parents - now.keys()
    if last is None or last.checked != versions_seen(table, before):
        return Scope(missing=missing)
    own = applied.get(table.name)
    rows = "false" if now[table.name].version == last.version else own.rows() if own else "true"
    # What was wrong elsewhere is counted again.
    found = {finding.check for finding in last.findings}
    return Scope(
        "true" if "primary_keys" in found else rows,
        "true" if "relationships" in found else rows,
        {
            name: applied.get(name)
            for name in parents - missing
            if name not in before or before[name].version != now[name].version
        },
        missing,
    )
