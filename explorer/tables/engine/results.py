"""What did an update do to each table, what is known of the tables afterwards, and what do their checks say to Dagster?"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from explorer.contract.bookkeeping.builds import Build, Finding
from explorer.contract.checks import ROWS_ARE_SOUND, CheckOutcome, FailingTable, TableCheck, TableChecks
from explorer.contract.materializations import ListedTable, RetiredTable, TypeChange
from explorer.contract.records import Markdown
from explorer.tables.engine.checking import DESCRIBED, checks_of
from explorer.tables.values import TableSpec

Verb = Literal["built", "applied", "unchanged", "failed", "skipped"]
# In the words of `contract.materializations.ListedTable`.
_STATUS = {"failed": "error", "skipped": "skipped"}

# How many failures a check lists, and how many columns per table.
_MAX_TABLES = 200
_MAX_COLUMNS = 10


@dataclass(frozen=True)
class TableResult:
    """What an update did to one table.

    `built`: made anew as a whole; `applied`: changed rows replaced; `failed`: the old table stays; `skipped`: not tried, since
    what it is made from is not there. `rows`: afterwards, None where it is not known; `message`: why it failed or was skipped, or
    what is to be known of its build; `roots`: the failed tables that are the reason.
    """

    table: str
    verb: Verb
    rows: int | None
    message: str | None = None
    duration_s: float = 0.0
    roots: tuple[str, ...] = ()

    @property
    def is_current(self) -> bool:
        """Whether the table is up to date with its source."""
        return self.verb in ("built", "applied", "unchanged")


@dataclass(frozen=True)
class Updated:
    """The result of an update. `tables`: all of the plan; `results`: of the tables that were wanted; `builds`: how each existing
    table came to its rows, and what its checks found; `column_types`: the columns that the database has now; `type_changes`:
    columns whose type changed since it was last reported."""

    tables: Mapping[str, TableSpec]
    results: Mapping[str, TableResult]
    builds: Mapping[str, Build]
    column_types: Mapping[str, Sequence[tuple[str, str]]]
    retired: Sequence[RetiredTable]
    type_changes: Sequence[TypeChange]

    def findings(self, table: str) -> Sequence[Finding]:
        """What the checks of the table found, in this run or in the last one that had to make them."""
        return self.builds[table].findings if table in self.builds else ()

    def unfit_values(self, table: str) -> dict[str, int]:
        """Number of values that do not fit, by column."""
        counts: dict[str, int] = {}
        for finding in self.findings(table):
            if finding.check in ("accepted_values", "values_fit"):
                counts |= finding.columns or {}
        return counts

    def listed(self, kinds: frozenset[str]) -> tuple[ListedTable, ...]:
        """The tables of these kinds, for the run's metadata."""
        return tuple(self._listed(table) for table in self.tables.values() if table.kind in kinds)

    def _listed(self, table: TableSpec) -> ListedTable:
        result = self.results.get(table.name)
        build = self.builds.get(table.name)
        return ListedTable(
            name=table.name,
            kind=table.kind,
            source=table.source,
            description=table.description,
            **table.origin,
            unfit_values=self.unfit_values(table.name) or None,
            row_count=build.rows if build else None,
            status=_STATUS.get(result.verb, "success") if result else "success" if build else "not built",
            error=result.message if result and not result.is_current else None,
        )

    def failures(self) -> Iterator[TableResult]:
        """The tables that failed or were skipped."""
        return (result for result in self.results.values() if not result.is_current)


def described(kinds: Collection[TableCheck]) -> str:
    """What the check of an asset compares: the asset's tables have these kinds of checks."""
    return "\n".join(f"- `{kind}`: {about}" for kind, about in DESCRIBED.items() if kind in kinds)


def check_tables(updated: Updated, names: Collection[str]) -> CheckOutcome:
    """The check of those of these tables that exist. Only a bad key is an error."""
    tested = [updated.tables[name] for name in names if name in updated.builds]
    kinds = {kind: sum(kind in checks_of(table) for table in tested) for kind in DESCRIBED}
    rows = [
        _row(table, finding)
        for table in tested
        for finding in updated.findings(table.name)
        if finding.check in DESCRIBED
    ]
    facts = TableChecks(
        tables_tested={kind: number for kind, number in kinds.items() if number},
        tables_failing=len({row.table for row in rows}),
        failing=tuple(rows),
        overview=Markdown(_overview(rows)),
    )
    is_error = any(row.test == "primary_keys" for row in rows)
    return CheckOutcome(ROWS_ARE_SOUND, not rows, is_error, facts, _sentence(rows))


def _row(table: TableSpec, finding: Finding) -> FailingTable:
    return FailingTable(
        table=table.name,
        test=finding.check,
        status=finding.status,
        failing_rows=finding.rows,
        message=finding.message or "",
        columns=_most(finding.columns) if finding.columns else None,
    )


def _most(columns: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(columns.items(), key=lambda item: (-item[1], item[0]))[:_MAX_COLUMNS])


def _sentence(rows: Sequence[FailingTable]) -> str:
    if not rows:
        return "No table fails."
    tables = list(dict.fromkeys(row.table for row in rows))
    named = f"{', '.join(tables[:5])}{' ...' if len(tables) > 5 else ''}"
    kinds = ", ".join(sorted({row.test or "" for row in rows}))
    return f"{len(tables)} tables fail: {named} ({kinds})." if len(tables) > 1 else f"{named} fails ({kinds})."


def _overview(rows: Iterable[FailingTable]) -> str:
    """Generated names of tables and columns are plain ASCII and safe in Markdown; the database's messages are not."""
    lines = [
        f"| `{row.table}` | {row.test} | {row.status} | {'' if row.failing_rows is None else row.failing_rows} "
        f"| {', '.join(f'`{column}`: {count}' for column, count in (row.columns or {}).items())} "
        f"| {_plain(row.message or '')} |"
        for row in list(rows)[:_MAX_TABLES]
    ]
    head = ["| table | check | status | failing | by column | message |", "|---|---|---|---|---|---|"]
    return "\n".join([*head, *lines]) if lines else "No table fails."


def _plain(text: str) -> str:
    return "".join(char if char.isalnum() or char in " .,:;!='\"()-" else " " for char in text)[:200]
