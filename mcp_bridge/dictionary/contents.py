"""What stands in a tenant's data dictionary? Plain values, for whatever writes them: a page, Markdown, CSV."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from explorer.catalog import PersonalDataPolicy

POLICIES: Mapping[PersonalDataPolicy, str] = {
    "mark": "Agents may read columns with personal data; answers mark them.",
    "refuse": "Agents may not read columns with personal data.",
    "mask": "Agents are shown *** in the place of personal data.",
}
"""What the policies mean, in words."""


@dataclass(frozen=True)
class OptionEntry:
    """One choice of a question. `translations`: language to label."""

    value: str
    label: str
    translations: Mapping[str, str]


@dataclass(frozen=True)
class ColumnEntry:
    """A column. `question`, `translations`: the label of the question behind it, as the application names it first and by
    language; `personal`: why it holds personal data, None where it does not; `made_from`: the columns and JSON paths that it is
    computed from; `note`: why it is text, or that its options do not fit.

    `examples`: values that many rows have, most common first; `least`, `greatest`: of numbers and dates; of a personal column
    there are none. `null_share`: 0..1; `unfit`: number of values that did not fit.
    """

    name: str
    type: str
    is_key: bool
    description: str
    question: str | None
    translations: Mapping[str, str]
    question_type: str | None
    options: tuple[OptionEntry, ...]
    personal: str | None
    made_from: tuple[str, ...]
    note: str | None
    examples: tuple[str, ...]
    null_share: float | None
    distinct: int | None
    least: str | None
    greatest: str | None
    unfit: int


@dataclass(frozen=True)
class TableEntry:
    """A table. `row_word`: what a row is called; `origin`: where in the source it comes from, as name and value; `made_from`: the
    tables and raw tables that it is built from; `failing_checks`: None where no build is recorded; `queries`: question and SQL.
    """

    name: str
    kind: str
    description: str
    rows: int | None
    as_of: datetime | None
    freshness: str
    retired: str | None
    row_word: str | None
    origin: tuple[tuple[str, str], ...]
    made_from: tuple[str, ...]
    failing_checks: tuple[str, ...] | None
    columns: tuple[ColumnEntry, ...]
    queries: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Dictionary:
    """A tenant's data dictionary, as of `made_at`. `warnings`: what readers must know of all of it."""

    tenant: str
    title: str
    made_at: datetime
    policy: PersonalDataPolicy
    tables: tuple[TableEntry, ...]
    warnings: tuple[str, ...]

    @property
    def languages(self) -> list[str]:
        """The languages in which questions or options are labelled."""
        return sorted({language for table in self.tables for column in table.columns for language in _spoken(column)})


def _spoken(column: ColumnEntry) -> Iterable[str]:
    yield from column.translations
    for option in column.options:
        yield from option.translations
