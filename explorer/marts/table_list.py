"""What does a run record about each generated table: its source, its rows, the result of its build?"""

from collections.abc import Iterable, Sequence

from explorer.contract.materializations import ListedTable, RetiredTable, TypeChange
from explorer.marts.retirement import Retired
from explorer.marts.tenant_build import Built
from explorer.tables.values import TableSpec


def list_tables(built: Built, tables: Iterable[TableSpec]) -> tuple[ListedTable, ...]:
    """One entry per table."""
    return tuple(_listed(table, built) for table in tables)


def _listed(table: TableSpec, built: Built) -> ListedTable:
    result = built.models.get(table.name)
    unchanged = "success" if table.name in built.unchanged else "not built"
    return ListedTable(
        name=table.name,
        kind=table.kind,
        source=table.source,
        description=table.description,
        **table.origin,
        unfit_values=_unfit_values(table, built),
        row_count=result.rows if result else built.unchanged.get(table.name),
        status=result.status if result else unchanged,
        error=built.causes.get(table.name) if result else None,
    )


def _unfit_values(table: TableSpec, built: Built) -> dict[str, int] | None:
    return dict(built.unfit_values[table.name]) if table.name in built.unfit_values else None


def retired_tables(retired: Iterable[Retired], start: str) -> tuple[RetiredTable, ...]:
    """Retired tables whose names begin with `start`."""
    return tuple(
        RetiredTable(name=each.name, since=each.since.isoformat(), dropped_after=each.dropped_after.isoformat())
        for each in retired
        if each.name.startswith(start)
    )


def type_changes(built: Built, tables: Iterable[TableSpec]) -> tuple[TypeChange, ...]:
    """Columns of the tables whose type changed since it was last reported."""
    own = {table.name for table in tables}
    return tuple(change for change in built.type_changes if change.table in own)


def overview(listed: Sequence[ListedTable]) -> str:
    """The list for people, in Markdown; generated names are plain ASCII and safe in it."""
    lines = [f"| `{entry.name}` | {entry.kind} | {entry.row_count} | {entry.status} |" for entry in listed]
    return "\n".join(["| table | kind | rows | status |", "|---|---|---|---|", *lines])
