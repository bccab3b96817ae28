"""Which checks there are, and what their results say."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from explorer.contract.records import Record


@dataclass(frozen=True)
class CheckOutcome:
    """What a check found. `is_error`: when it did not pass, the data is wrong; otherwise it is a warning."""

    name: str
    passed: bool
    is_error: bool
    facts: Record
    description: str | None = None


# Of raw tables.
COUNTS_MATCH = "rows_match_api"
KEYS_UNIQUE = "primary_key_unique"
NONE_REJECTED = "no_rows_rejected"
MISSING_GONE = "missing_rows_are_gone"
# Of the assets that stand for many generated tables; static models have dbt's tests, under their names.
TableCheck = Literal["primary_keys", "relationships", "accepted_values", "values_fit"]


class Counts(Record, frozen=True, kw_only=True):
    """Three counts against each other: rows of the table, records read, and the server's count of what was asked for.

    `compared`: whether the server gave one; `difference`: records read more than that; `differs`: which counts do not agree.
    """

    rows: int
    walked: int
    compared: bool
    api_total: int | None = None
    difference: int | None = None
    differs: str | None = None


class Duplicates(Record, frozen=True, kw_only=True):
    """How many rows share their key with another."""

    duplicate_rows: int


class Rejected(Record, frozen=True, kw_only=True):
    """How many records could not be stored, by reason."""

    rows_rejected: int
    reasons: dict[str, int]


class Missing(Record, frozen=True, kw_only=True):
    """Rows that a whole read did not bring: proven to be gone and marked, not proven for the `reason`, or there after all."""

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
    those with most of them."""

    written_as_null: ClassVar[frozenset[str]] = frozenset({"failing_rows"})

    table: str
    test: str | None = None
    status: str | None = None
    failing_rows: int | None = None
    message: str | None = None
    columns: dict[str, int] | None = None


class TableChecks(Record, frozen=True, kw_only=True):
    """A check over all tables that one asset stands for. `failing` is None where a check is of one table itself; `overview`: the
    same for people."""

    tables_tested: int | None = None
    tables_failing: int | None = None
    failing: tuple[FailingTable, ...] | None = None
    overview: str | None = None


# Tables for people, which lists of facts leave out.
FOR_PEOPLE = frozenset({"overview"})


def facts_of(metadata: dict[str, Any]) -> dict[str, Any]:
    """The numbers and texts of a check's metadata, without what is for people."""
    return {
        label: value
        for label, value in metadata.items()
        if isinstance(value, int | float | str) and label not in FOR_PEOPLE
    }
