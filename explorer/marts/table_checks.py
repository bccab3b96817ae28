"""Which generated tables fail which kind of test? One check per kind, over all tables of one asset.

dbt has two tests per table. The second counts three kinds of values, which the counts per column tell apart. The table's profile
shows when a question's options do not match the data; the checks report that too.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from explorer.contract.bookkeeping.builds import Finding
from explorer.contract.checks import CheckOutcome, FailingTable, TableCheck, TableChecks
from explorer.contract.records import Markdown
from explorer.tables.values import ColumnSpec, TableSpec

UnfitValues = Mapping[str, int]

# How many failures a check lists, and how many columns per table.
_MAX_TABLES = 200
_MAX_COLUMNS = 10

_KINDS: tuple[TableCheck, ...] = get_args(TableCheck)
# Every check, with its description.
DESCRIBED: Mapping[str, str] = {
    "primary_keys": "In every table the key is unique and never NULL.",
    "relationships": "What points to a row of another table finds it.",
    "accepted_values": "Answers are among the choices of their question.",
    "values_fit": "Values are such numbers, dates, times and places as their columns hold.",
}


@dataclass(frozen=True)
class TestedTable:
    """An existing table, the findings of its last dbt tests, and its unfit values by column."""

    __test__ = False

    table: TableSpec
    findings: Sequence[Finding]
    unfit_values: UnfitValues


def check_tables(tested: Sequence[TestedTable]) -> Iterator[CheckOutcome]:
    """The four checks, each over all tables; only the check of keys is an error. Facts: `TableChecks`."""
    failing: dict[TableCheck, list[FailingTable]] = {kind: [] for kind in _KINDS}
    for each in tested:
        for kind, row in _failures(each):
            failing[kind].append(row)
    for kind, rows in failing.items():
        facts = TableChecks(
            tables_tested=sum(kind in _kinds_of(each.table) for each in tested),
            tables_failing=len(rows),
            failing=tuple(rows),
            overview=Markdown(_overview(rows)),
        )
        yield CheckOutcome(kind, not rows, kind == "primary_keys", facts, _sentence(rows))


def _failures(tested: TestedTable) -> Iterator[tuple[TableCheck, FailingTable]]:
    for finding in tested.findings:
        if finding.test.startswith("primary_key_"):
            yield "primary_keys", _row(tested, finding, finding.rows)
        elif finding.rows is None:
            for kind in _kinds_of(tested.table) - {"primary_keys"}:
                yield kind, _row(tested, finding, None)
        else:
            yield from _values(tested, finding, finding.rows)
    for column in _options_unfit(tested.table):
        yield "accepted_values", _options_row(tested.table.name, column)


def _values(tested: TestedTable, finding: Finding, values: int) -> Iterator[tuple[TableCheck, FailingTable]]:
    """What the test of values counted: none of the choices, unfit for the column's type, or else dangling references."""
    choices = {column.name for column in tested.table.columns if _has_choices(column)}
    unfit: dict[TableCheck, dict[str, int]] = {"accepted_values": {}, "values_fit": {}}
    for column, count in tested.unfit_values.items():
        unfit["accepted_values" if column in choices else "values_fit"][column] = count
    for kind, columns in unfit.items():
        if columns:
            yield kind, _row(tested, finding, sum(columns.values()), _most(columns))
    rest = values - sum(tested.unfit_values.values())
    if rest > 0:
        yield "relationships", _row(tested, finding, rest)


def _row(
    tested: TestedTable, finding: Finding, rows: int | None, columns: dict[str, int] | None = None
) -> FailingTable:
    return FailingTable(
        table=tested.table.name,
        test=finding.test,
        status=finding.status,
        failing_rows=rows,
        message=finding.message or "",
        columns=columns,
    )


def _options_row(table: str, column: ColumnSpec) -> FailingTable:
    """Options that do not match the data: one finding for the whole column, whose values are not counted as unfit."""
    count, total = column.values["options_unfit"], column.values["of"]
    return FailingTable(
        table=table,
        test="options_fit_the_data",
        status="warn",
        failing_rows=1,
        message=f"The options of {column.name} do not fit the data: {count} of {total} answers seen are none of them.",
    )


def _most(columns: UnfitValues) -> dict[str, int]:
    return dict(sorted(columns.items(), key=lambda item: (-item[1], item[0]))[:_MAX_COLUMNS])


def _kinds_of(table: TableSpec) -> set[TableCheck]:
    """The kinds of test that the table has."""
    kinds: set[TableCheck] = {"primary_keys"}
    if _points_elsewhere(table):
        kinds.add("relationships")
    kinds |= {"accepted_values" if _has_choices(column) else "values_fit" for column in table.columns if column.unfit}
    if _options_unfit(table):
        kinds.add("accepted_values")
    return kinds


def _points_elsewhere(table: TableSpec) -> bool:
    """Whether dbt tests references of the table: repeats to their form or outer repeat, cases to other cases."""
    return table.parent is not None


def _has_choices(column: ColumnSpec) -> bool:
    """Whether unfit values of the column are answers outside the choices: these stay, other unfit values are NULL."""
    return bool(column.unfit and column.options) and column.type in ("text", "text[]")


def _options_unfit(table: TableSpec) -> list[ColumnSpec]:
    """Questions whose answers are mostly outside the choices, so that single ones are not counted. For case properties the
    question of the same name reports it."""
    return [column for column in table.columns if "options_unfit" in column.values and table.kind != "case_type"]


def _sentence(rows: Sequence[FailingTable]) -> str:
    if not rows:
        return "No table fails."
    named = ", ".join(row.table for row in rows[:5])
    return f"{len(rows)} tables fail: {named}{' ...' if len(rows) > 5 else ''}." if len(rows) > 1 else f"{named} fails."


def _overview(rows: Iterable[FailingTable]) -> str:
    """Generated names of tables and columns are plain ASCII and safe in Markdown; the database's messages are not."""
    lines = [
        f"| `{row.table}` | {row.status} | {'' if row.failing_rows is None else row.failing_rows} "
        f"| {', '.join(f'`{column}`: {count}' for column, count in (row.columns or {}).items())} "
        f"| {_plain(row.message or '')} |"
        for row in list(rows)[:_MAX_TABLES]
    ]
    head = ["| table | status | failing | by column | message |", "|---|---|---|---|---|"]
    return "\n".join([*head, *lines]) if lines else "No table fails."


def _plain(text: str) -> str:
    return "".join(char if char.isalnum() or char in " .,:;!='\"()-" else " " for char in text)[:200]
