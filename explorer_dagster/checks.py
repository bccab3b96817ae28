"""Which of the generated tables fail which kind of test? One asset check per kind on each asset that stands for many tables.

dbt has two tests per table; the second one counts values of three kinds, which are told apart by what was counted per
column. That the options of a question are not those of the data is known from the values seen, and told here too.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import dagster as dg

from explorer.contract.bookkeeping.builds import Finding
from explorer.tables.values import ColumnSpec, TableSpec

Kind = Literal["primary_keys", "relationships", "accepted_values", "values_fit"]
UnfitValues = Mapping[str, int]

# What a check shows to people, and columns of a table that it names.
_MAX_TABLES = 200
_MAX_COLUMNS = 10

_KINDS: Mapping[Kind, tuple[dg.AssetCheckSeverity, str]] = {
    "primary_keys": (dg.AssetCheckSeverity.ERROR, "In every table the key is unique and never NULL."),
    "relationships": (dg.AssetCheckSeverity.WARN, "What points to a row of another table finds it."),
    "accepted_values": (dg.AssetCheckSeverity.WARN, "Answers are among the choices of their question."),
    "values_fit": (
        dg.AssetCheckSeverity.WARN,
        "Values are such numbers, dates, times and places as their columns hold.",
    ),
}


def specs(asset: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """The checks of an asset that stands for generated tables."""
    return [dg.AssetCheckSpec(kind, asset=asset, description=about) for kind, (_, about) in _KINDS.items()]


@dataclass(frozen=True)
class TestedTable:
    """A table that is there, what dbt's tests of it found when they were last run, and its unfit values by column."""

    __test__ = False

    table: TableSpec
    findings: Sequence[Finding]
    unfit_values: UnfitValues


def results(
    asset: dg.AssetKey, tested: Sequence[TestedTable], selected: Collection[dg.AssetCheckKey]
) -> Iterator[dg.AssetCheckResult]:
    """The checks of `asset` that are among `selected`, each over all of its tables.

    Metadata: `tables_tested`, `tables_failing`, `failing` (JSON: table, test, status, failing_rows, message and, where values
    were counted by column, the columns with most of them) and `overview`, the same for people.
    """
    failing: dict[Kind, list[dict[str, Any]]] = {kind: [] for kind in _KINDS}
    for each in tested:
        for kind, row in _failures(each):
            failing[kind].append(row)
    for kind, (severity, _) in _KINDS.items():
        if dg.AssetCheckKey(asset, kind) in selected:
            rows = failing[kind]
            yield dg.AssetCheckResult(
                asset_key=asset,
                check_name=kind,
                passed=not rows,
                severity=severity,
                description=_sentence(rows),
                metadata={
                    "tables_tested": sum(kind in _kinds_of(each.table) for each in tested),
                    "tables_failing": len(rows),
                    "failing": dg.MetadataValue.json(rows),
                    "overview": dg.MetadataValue.md(_overview(rows)),
                },
            )


def _failures(tested: TestedTable) -> Iterator[tuple[Kind, dict[str, Any]]]:
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


def _values(tested: TestedTable, finding: Finding, values: int) -> Iterator[tuple[Kind, dict[str, Any]]]:
    """What the test of values counted: none of the choices, unfit for the column's type, or else pointing nowhere."""
    choices = {column.name for column in tested.table.columns if _has_choices(column)}
    unfit: dict[Kind, dict[str, int]] = {"accepted_values": {}, "values_fit": {}}
    for column, count in tested.unfit_values.items():
        unfit["accepted_values" if column in choices else "values_fit"][column] = count
    for kind, columns in unfit.items():
        if columns:
            yield kind, _row(tested, finding, sum(columns.values())) | {"columns": _most(columns)}
    rest = values - sum(tested.unfit_values.values())
    if rest > 0:
        yield "relationships", _row(tested, finding, rest)


def _row(tested: TestedTable, finding: Finding, rows: int | None) -> dict[str, Any]:
    return {
        "table": tested.table.name,
        "test": finding.test,
        "status": finding.status,
        "failing_rows": rows,
        "message": finding.message or "",
    }


def _options_row(table: str, column: ColumnSpec) -> dict[str, Any]:
    """Options that are not those of the data: one finding for the whole column, whose answers are not unfit one by one."""
    count, total = column.values["options_unfit"], column.values["of"]
    return {
        "table": table,
        "test": "options_fit_the_data",
        "status": "warn",
        "failing_rows": 1,
        "message": f"The options of {column.name} do not fit the data: {count} of {total} answers seen are none of them.",
    }


def _most(columns: UnfitValues) -> dict[str, int]:
    return dict(sorted(columns.items(), key=lambda item: (-item[1], item[0]))[:_MAX_COLUMNS])


def _kinds_of(table: TableSpec) -> set[Kind]:
    """The kinds of test that the table has."""
    kinds: set[Kind] = {"primary_keys"}
    if _points_elsewhere(table):
        kinds.add("relationships")
    kinds |= {"accepted_values" if _has_choices(column) else "values_fit" for column in table.columns if column.unfit}
    if _options_unfit(table):
        kinds.add("accepted_values")
    return kinds


def _points_elsewhere(table: TableSpec) -> bool:
    """Whether rows belong to others, which dbt tests: repetitions to the form or repetition around them, cases to other cases."""
    return table.parent is not None


def _has_choices(column: ColumnSpec) -> bool:
    """Whether an unfit value of the column is an answer that is none of the choices: such are kept, others are NULL."""
    return bool(column.unfit and column.options) and column.type in ("text", "text[]")


def _options_unfit(table: TableSpec) -> list[ColumnSpec]:
    """Questions whose answers are mostly none of the choices, so that single ones are not counted. Of case properties it is told
    with the question that they are named after."""
    return [column for column in table.columns if "options_unfit" in column.values and table.kind != "case_type"]


def _sentence(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return "No table fails."
    named = ", ".join(row["table"] for row in rows[:5])
    return f"{len(rows)} tables fail: {named}{' ...' if len(rows) > 5 else ''}." if len(rows) > 1 else f"{named} fails."


def _overview(rows: Iterable[Mapping[str, Any]]) -> str:
    """Names of tables and columns are plain ASCII and safe in Markdown, messages of the database are not."""
    lines = [
        f"| `{row['table']}` | {row['status']} | {'' if row['failing_rows'] is None else row['failing_rows']} "
        f"| {', '.join(f'`{column}`: {count}' for column, count in row.get('columns', {}).items())} "
        f"| {_plain(row['message'])} |"
        for row in list(rows)[:_MAX_TABLES]
    ]
    head = ["| table | status | failing | by column | message |", "|---|---|---|---|---|"]
    return "\n".join([*head, *lines]) if lines else "No table fails."


def _plain(text: str) -> str:
    return "".join(char if char.isalnum() or char in " .,:;!='\"()-" else " " for char in text)[:200]
