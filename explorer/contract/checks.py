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


# The check of a raw table, and what it may find.
LOAD_IS_SOUND = "load_is_sound"
LoadFinding = Literal["rows_match_api", "primary_key_unique", "no_rows_rejected", "missing_rows_are_gone"]
# The check of an asset of tables, and what it may find. Models have dbt's tests, under dbt's names.
ROWS_ARE_SOUND = "rows_are_sound"
# The check of the asset of saved models.
MODELS_ARE_SOUND = "models_are_sound"
TableCheck = Literal["primary_keys", "relationships", "accepted_values", "values_fit"]


class Load(Record, frozen=True, kw_only=True):
    """What the check of a raw table found.

    `failing`: names of `LoadFinding`, None for none. `rows`: of the table; `walked`: records read; `api_total`: the server's
    count of the same records; `compared`: whether it gave one; `difference`: records read beyond it; `differs`: which counts do
    not agree. `duplicate_rows`: rows that share their key with another; `rows_rejected`: records that could not be stored.
    Of rows that a full extract did not return, `rows_marked` are proven to be gone, `rows_unproven` are not, for
    `missing_reason`, and `rows_overlooked` are still on the server.
    """

    failing: str | None
    rows: int
    walked: int
    compared: bool
    api_total: int | None = None
    difference: int | None = None
    differs: str | None = None
    duplicate_rows: int = 0
    rows_rejected: int = 0
    rejected_reasons: dict[str, int] | None = None
    rows_marked: int = 0
    rows_unproven: int = 0
    rows_overlooked: int = 0
    missing_reason: str | None = None


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
    """A check over all tables of one asset. `tables_tested`: number of tables by `TableCheck`; `overview`: the failing ones for
    people."""

    tables_tested: dict[str, int] | None = None
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
