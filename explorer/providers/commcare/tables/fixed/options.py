"""What is in `question_options`?"""

from collections.abc import Iterable, Iterator

from explorer.providers.commcare.tables.fixed.columns import table, unchanged
from explorer.tables.select import lines
from explorer.tables.sql_text import literal
from explorer.tables.values import Option, Rows, TableSpec

DEFAULT = "default"
"""The language of an option's own label, which each option has."""
_COLUMNS = "table_name, column_name, value, label, language, position"
_NONE = "select null::text, null::text, null::text, null::text, null::text, null::integer where false"


def question_options(tables: Iterable[TableSpec] = ()) -> TableSpec:
    """The options of the questions behind the columns of these tables."""
    rows = list(dict.fromkeys(_rows(tables)))
    values = f"values\n{lines(f'({row})' for row in rows)}" if rows else _NONE
    query = f"select * from (\n{values}\n) as listed ({_COLUMNS})"  # noqa: S608 (literals of ours)
    return table(
        "question_options",
        "One row per option of a question with choices and language: what the values of a column mean, in words. Options that"
        " were taken out of the application are here too. Join it by table_name, column_name and value, and choose one language:"
        " each option has one label with language 'default'.",
        (
            unchanged("table_name", "text", "The table of the answers: of a form, a repeat group or a case type."),
            unchanged("column_name", "text", "Its column."),
            unchanged(
                "value", "text", "The value as it stands in that column; one element of it where it is an array."
            ),
            unchanged("label", "text", "The option's label in this language."),
            unchanged(
                "language",
                "text",
                "Language code, such as en or hin; 'default' is the label that the application names first.",
            ),
            unchanged("position", "integer", "Position of the option in its question, from 1."),
        ),
        Rows(None, queries=(("options", query),)),
        key=("table_name", "column_name", "value", "language"),
        inputs=(),
        indexes=("column_name",),
    )


def _rows(tables: Iterable[TableSpec]) -> Iterator[str]:
    """SQL of the values of each row. An application may list a value twice: the first one counts."""
    for each in tables:
        for column in each.columns:
            seen = set[str]()
            for position, option in enumerate(column.options, start=1):
                value = literal(option.value)
                if value in seen:
                    continue
                seen.add(value)
                for language, label in _labels(option):
                    of_place = f"{literal(each.name)}, {literal(column.name)}, {value}"
                    yield f"{of_place}, {literal(label)}, {literal(language)}, {position}"


def _labels(option: Option) -> Iterator[tuple[str, str]]:
    yield DEFAULT, option.label or option.value
    for language, label in option.translations.items():
        if language != DEFAULT:
            yield language, label
