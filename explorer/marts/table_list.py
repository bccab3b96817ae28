"""What is told of each generated table after a build: what it is cut from, its rows, how its build ended."""

from collections.abc import Iterable, Sequence

from explorer.contract.materializations import App, ListedTable, RetiredTable, TypeChange
from explorer.marts.retirement import Retired
from explorer.marts.tenant_build import Built
from explorer.providers.commcare.structure import Structure
from explorer.tables.generate import GeneratedTable


def list_tables(built: Built, tables: Iterable[GeneratedTable]) -> tuple[ListedTable, ...]:
    """One entry per table."""
    return tuple(_listed(table, built) for table in tables)


def _listed(table: GeneratedTable, built: Built) -> ListedTable:
    result = built.models.get(table.name)
    apps, xmlns, form = _origin(table, built.structure)
    unchanged = "success" if table.name in built.unchanged else "not built"
    return ListedTable(
        name=table.name,
        kind=table.kind,
        source=table.source,
        description=table.description,
        apps=apps,
        xmlns=xmlns,
        form=form,
        unfit_values=_unfit_values(table, built),
        row_count=result.rows if result else built.unchanged.get(table.name),
        status=result.status if result else unchanged,
        error=built.causes.get(table.name) if result else None,
    )


def _unfit_values(table: GeneratedTable, built: Built) -> dict[str, int] | None:
    return dict(built.unfit_values[table.name]) if table.name in built.unfit_values else None


def _origin(table: GeneratedTable, structure: Structure) -> tuple[tuple[App, ...], str | None, str | None]:
    """The applications that describe the table, and the identifier and title of its form."""
    names = {app.id: app.name for app in structure.apps}
    apps = tuple(App(id=app_id, name=names.get(app_id, app_id)) for app_id in table.app_ids)
    if table.kind == "case_type":
        return apps, None, None
    # A repeat group's source is the form's xmlns, which may hold anything, and the path of the group, which holds no space.
    xmlns = table.source.rpartition(" ")[0] if table.kind == "repeat" else table.source
    title = next((form.title for form in structure.forms if form.xmlns == xmlns), None)
    return apps, xmlns, title or None


def retired_tables(retired: Iterable[Retired], start: str) -> tuple[RetiredTable, ...]:
    """Tables whose source is gone, which stay for a while as they are; those whose names begin with `start`."""
    return tuple(
        RetiredTable(name=each.name, since=each.since.isoformat(), dropped_after=each.dropped_after.isoformat())
        for each in retired
        if each.name.startswith(start)
    )


def type_changes(built: Built, tables: Iterable[GeneratedTable]) -> tuple[TypeChange, ...]:
    """Columns of the tables whose type changed since it was last told."""
    own = {table.name for table in tables}
    return tuple(
        TypeChange(table=m.table, column=m.column, before=m.before, after=m.after, at=m.at, reason=m.reason)
        for m in built.migrations
        if m.table in own
    )


def overview(listed: Sequence[ListedTable]) -> str:
    """The list for a person, in Markdown; generated names are plain ASCII and safe in it."""
    lines = [f"| `{entry.name}` | {entry.kind} | {entry.row_count} | {entry.status} |" for entry in listed]
    return "\n".join(["| table | kind | rows | status |", "|---|---|---|---|", *lines])
