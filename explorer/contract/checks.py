"""Which checks exist, and what do their results say?"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from explorer.contract.records import Record


@dataclass(frozen=True)
class CheckOutcome:
    """The result of a check. `is_error`: a failure means that the data is wrong; otherwise it is a warning."""

    name: str
    passed: bool
    is_error: bool
    facts: Record
    description: str | None = None


# Checks of raw tables.
COUNTS_MATCH = "rows_match_api"
KEYS_UNIQUE = "primary_key_unique"
NONE_REJECTED = "no_rows_rejected"
MISSING_GONE = "missing_rows_are_gone"
# Checks of the assets that stand for many generated tables. Static models have dbt's tests, under dbt's names.
TableCheck = Literal["primary_keys", "relationships", "accepted_values", "values_fit"]


class Counts(Record, frozen=True, kw_only=True):
    """Three counts: rows of the table, records read, and the server's count of the same records.

    `compared`: whether the server gave a count; `difference`: records read beyond it; `differs`: which counts do not agree.
    """

    rows: int
    walked: int
    compared: bool
    api_total: int | None = None
    difference: int | None = None
    differs: str | None = None


class Duplicates(Record, frozen=True, kw_only=True):
    """How many rows share their key with another row."""

    duplicate_rows: int


class Rejected(Record, frozen=True, kw_only=True):
    """How many records could not be stored, by reason."""

    rows_rejected: int
    reasons: dict[str, int]


class Missing(Record, frozen=True, kw_only=True):
    """Rows that a full extract did not return: proven to be gone and marked, not proven for the `reason`, or still on the
    server."""

    rows_marked: int
    rows_unproven: int
    rows_overlooked: int
    reason: str | None = None


class ModelTest(Record, frozen=True, kw_only=True):
    """A dbt test of a static model. `status`: pass, warn, fail, error."""

    status: str
    failing_rows: int
    message: str


class FailingTable(Record, frozen=True, kw_only=True):
    """A generated table that fails a check. `failing_rows`: rows or values, None where they could not be counted; `columns`:
    those with the most failures."""

    written_as_null: ClassVar[frozenset[str]] = frozenset({"failing_rows"})

    table: str
    test: str | None = None
    status: str | None = None
    failing_rows: int | None = None
    message: str | None = None
    columns: dict[str, int] | None = None


class TableChecks(Record, frozen=True, kw_only=True):
    """A check over all tables of one asset. `failing` is None where a check is of one table; `overview`: the same facts for
    people."""

    tables_tested: int | None = None
    tables_failing: int | None = None
    failing: tuple[FailingTable, ...] | None = None
    overview: str | None = None


# Tables for people: not part of the facts.
FOR_PEOPLE = frozenset({"overview"})


def facts_of(metadata: dict[str, Any]) -> dict[str, Any]:
    """The numbers and texts of a check's metadata, without the tables for people."""
    return {
        label: value
        for label, value in metadata.items()
        if isinstance(value, int | float | str) and label not in FOR_PEOPLE
    }
