"""The data dictionary as CSV, a row for each column of each table, for spreadsheets.

What a spreadsheet would take for a formula begins with `'`.
"""

import csv
import io
import re
from collections.abc import Iterator
from datetime import UTC

from mcp_bridge.dictionary.contents import ColumnEntry, Dictionary, TableEntry

# OWASP, CSV injection; the wide forms of East Asian fonts too.
_FORMULA = re.compile("[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_HEAD = (
    "table", "kind", "table_description", "rows", "as_of", "table_made_from", "failing_checks", "column", "position", "type",
    "key", "personal_data", "description", "question_type", "question", "options",
)  # fmt: skip
_TAIL = ("made_from", "examples", "least", "greatest", "null_share", "distinct", "unfit", "note")


def as_csv(dictionary: Dictionary) -> str:
    """RFC 4180 with a header; the questions and options of each language are columns of their own, such as `question_fr`."""
    languages = dictionary.languages
    of_languages = [f"{what}_{language}" for language in languages for what in ("question", "options")]
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([_safe(name) for name in (*_HEAD, *of_languages, *_TAIL)])
    for table in dictionary.tables:
        for position, column in enumerate(table.columns, start=1):
            writer.writerow([_safe(cell) for cell in _cells(table, column, position, languages)])
    return text.getvalue()


def _cells(table: TableEntry, column: ColumnEntry, position: int, languages: list[str]) -> Iterator[str]:
    yield from (table.name, table.kind, table.description, _number(table.rows))
    yield table.as_of.astimezone(UTC).isoformat(timespec="seconds") if table.as_of else ""
    yield ", ".join(table.made_from)
    yield ", ".join(table.failing_checks or ())
    yield from (column.name, str(position), column.type, "key" if column.is_key else "", column.personal or "")
    yield from (column.description, column.question_type or "", column.question or "")
    yield "; ".join(f"{option.value} = {option.label}" for option in column.options)
    for language in languages:
        yield column.translations.get(language, "")
        labelled = [option for option in column.options if language in option.translations]
        yield "; ".join(f"{option.value} = {option.translations[language]}" for option in labelled)
    yield from (", ".join(column.made_from), ", ".join(column.examples), column.least or "", column.greatest or "")
    yield from (_number(column.null_share), _number(column.distinct), _number(column.unfit), column.note or "")


def _number(value: float | None) -> str:
    return "" if value is None else str(value)


def _safe(cell: str) -> str:
    return f"'{cell}" if _FORMULA.match(cell) and not _NUMBER.fullmatch(cell) else cell
