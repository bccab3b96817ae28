"""What do the checks of a table find: keys, references to other tables, values that do not fit?"""

from collections.abc import Iterator, Mapping, Sequence, Set

import psycopg

from explorer.contract.bookkeeping.builds import Finding
from explorer.contract.checks import TableCheck
from explorer.postgres.connections import Connection
from explorer.tables.engine.scope import Scope
from explorer.tables.sql_text import quoted
from explorer.tables.values import UNFIT, ColumnSpec, Parent, TableSpec

DESCRIBED: Mapping[TableCheck, str] = {
    "primary_keys": "In every table the key is unique and never NULL.",
    "relationships": "What points to a row of another table finds it.",
    "accepted_values": "Answers are among the choices of their question.",
    "values_fit": "Values are such numbers, dates, times and places as their columns hold.",
}
"""Every check, with its description."""
_SAID: Mapping[TableCheck, str] = {
    "accepted_values": "Answers that are none of the choices of their question",
    "values_fit": "Values that are no such number, date, time or place as their column holds",
}


def checks_of(table: TableSpec) -> set[TableCheck]:
    """The checks that the table has."""
    found: set[TableCheck] = {"primary_keys"}
    if table.parents:
        found.add("relationships")
    found |= {"accepted_values" if has_choices(column) else "values_fit" for column in table.columns if column.unfit}
    if any(has_unfit_options(table, column) for column in table.columns):
        found.add("accepted_values")
    return found


def has_choices(column: ColumnSpec) -> bool:
    """Whether unfit values of the column are answers outside the choices: these stay, other unfit values are NULL."""
    return bool(column.unfit and column.options) and column.type in ("text", "text[]")


def has_unfit_options(table: TableSpec, column: ColumnSpec) -> bool:
    """Whether a question's answers are mostly outside its choices, so that single ones are not counted. For case properties the
    question of the same name reports it."""
    return "options_unfit" in column.values and table.kind != "case_type"


def check(connection: Connection, *, table: TableSpec, scope: Scope) -> list[Finding]:
    """What is wrong with the table."""
    references = [reference for reference in _references(table) if reference[0].table not in scope.missing]
    counts = [_bad_keys(table, scope), _unfit_values(table)]
    counts += [_dangling(table, parent, column, scope) for parent, column in references]
    try:
        row = connection.execute(f"select {', '.join(f'({count})' for count in counts)}".encode()).fetchone()
    except psycopg.Error as error:
        if connection.broken:
            raise
        return [Finding(name, "error", None, str(error)) for name in DESCRIBED if name in checks_of(table)]
    bad_keys, unfit, *dangling = row or ()
    return [
        *_of_keys(bad_keys),
        *_of_references(list(zip(references, dangling, strict=True)), scope.missing),
        *_of_values(table, unfit or {}),
        *_of_options(table),
    ]


def _references(table: TableSpec) -> list[tuple[Parent, str]]:
    return [(parent, column) for parent in table.parents for column in parent.columns]


def _bad_keys(table: TableSpec, scope: Scope) -> str:
    keys = ", ".join(map(quoted, table.key))
    is_null = " or ".join(f"{quoted(column)} is null" for column in table.key)
    groups = f"select from {quoted(table.name)} where {scope.keys} group by {keys} having count(*) > 1 or {is_null}"
    return f"select count(*) from ({groups}) as bad"


def _unfit_values(table: TableSpec) -> str:
    """All of them, since a row's own list makes that cheap."""
    if not table.counts_unfit_values:
        return "null::jsonb"
    listed = (
        f"select unnest({UNFIT}) as name, count(*) as n from {quoted(table.name)} where {UNFIT} is not null group by 1"
    )
    return f"select jsonb_object_agg(name, n) from ({listed}) as unfit"


def _dangling(table: TableSpec, parent: Parent, column: str, scope: Scope) -> str:
    return (
        f"select count(*) from {quoted(table.name)} as child where ({_may_dangle(parent, column, scope)})"
        f" and child.{quoted(column)} is not null and not exists (select from {quoted(parent.table)} as parent"
        f" where parent.{quoted(parent.key)} = child.{quoted(column)})"
    )


def _may_dangle(parent: Parent, column: str, scope: Scope) -> str:
    if parent.table not in scope.parents:
        return scope.references
    changed = scope.parents[parent.table]
    if changed is None:
        return "true"
    # Otherwise both are parts of one record, as a repetition and the one around it: they change together.
    if parent.key != changed.key:
        return scope.references
    return f"{scope.references} or {changed.among(quoted(column))}"


def _of_keys(count: int) -> Iterator[Finding]:
    if count:
        yield Finding("primary_keys", "fail", count, f"Keys that are NULL or in more than one row: {count}.")


def _of_references(counted: Sequence[tuple[tuple[Parent, str], int]], missing: Set[str]) -> Iterator[Finding]:
    if missing:
        yield Finding("relationships", "error", None, f"There is no table {', '.join(sorted(missing))}.")
    lost = [(parent.table, column, count) for (parent, column), count in counted if count]
    if lost:
        said = "; ".join(f"{count} of {column} in no row of {parent}" for parent, column, count in lost)
        columns = {column: count for _, column, count in lost}
        yield Finding(
            "relationships", "warn", sum(count for *_, count in lost), f"Values that refer to nothing: {said}.", columns
        )


def _of_values(table: TableSpec, unfit: Mapping[str, int]) -> Iterator[Finding]:
    choices = {column.name for column in table.columns if has_choices(column)}
    for name, said in _SAID.items():
        columns = {
            column: count for column, count in unfit.items() if (column in choices) == (name == "accepted_values")
        }
        if columns:
            count = sum(columns.values())
            yield Finding(name, "warn", count, f"{said}: {count}.", columns)


def _of_options(table: TableSpec) -> Iterator[Finding]:
    """Options that do not match the data: one finding for the whole column, whose values are not counted as unfit."""
    for column in table.columns:
        if has_unfit_options(table, column):
            count, total = column.values["options_unfit"], column.values["of"]
            said = (
                f"The options of {column.name} do not fit the data: {count} of {total} answers seen are none of them."
            )
            yield Finding("accepted_values", "warn", 1, said)
