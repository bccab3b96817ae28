"""What is derived from a question's options: a column for each, unfit answers, and whether the options match the data?"""

from typing import Any

from msgspec.structs import replace

from explorer.providers.commcare.structure import Option, Question
from explorer.providers.commcare.tables.descriptions import MAX_DESCRIPTION, about_asked, one_line
from explorer.tables.column_types import Kind
from explorer.tables.memory import ColumnMemory
from explorer.tables.sql_text import literal, shown, text_array
from explorer.tables.value_counts import ValueCounts
from explorer.tables.values import ColumnSpec

# Multiple-select questions with more options than this get no column per option.
MAX_OPTION_COLUMNS = 12
# Options do not match the data when none of so many answers is an option, or when of many answers more than half are none.
_FEW_ANSWERS, _MANY_ANSWERS = 5, 20
_MAX_STRANGE = 3
OPTIONS_UNFIT = "The options of the application do not fit the data: most answers are none of them."


def watched(column: ColumnSpec, known: ColumnMemory) -> ColumnSpec:
    """The column, with unfit answers reported. Not if the question once had a type without choices."""
    if not set(known.types) <= {"Select", "MSelect"}:
        return column
    if column.type == "text" and column.options and len(known.types) > 1:
        options = text_array(option.value for option in column.options)
        return replace(column, unfit=f"not array_remove(string_to_array({{column}}, ' '), '') <@ {options}")
    return _among_options(column)


def _among_options(column: ColumnSpec) -> ColumnSpec:
    """The column of a question with choices, with answers outside the choices reported."""
    options = text_array(option.value for option in column.options)
    if column.options and column.type == "text[]":
        return replace(column, unfit=f"not {{column}} <@ {options}")
    if column.options and column.type == "text" and column.question_type == "Select":
        return replace(column, unfit=f"{{column}} <> all({options})")
    return column


def unfit_options(question: Question, seen: ValueCounts) -> dict[str, Any]:
    """By how much the question's options miss the data; empty when they match, or when there are too few answers."""
    options = {option.value for option in question.options}
    total = sum(seen.answers.values())
    strange = {answer: count for answer, count in seen.answers.items() if answer not in options}
    lost = sum(strange.values())
    if not options or total < _FEW_ANSWERS or not (lost == total or (total >= _MANY_ANSWERS and lost * 2 > total)):
        return {}
    most = sorted((answer for answer in strange if answer), key=lambda answer: (-strange[answer], answer))
    return {"options_unfit": lost, "of": total, "such_as": most[:_MAX_STRANGE]}


def option_column(column: ColumnSpec, option: Option, kind: Kind, removed: str) -> ColumnSpec:
    chosen = f"{literal(option.value)} = any({{of}})"
    if kind != "choices":
        chosen = f"{literal(option.value)} = any(string_to_array({{of}}, ' '))"
    about = f"Whether {one_line(option.label)} ({shown(option.value)}) was chosen; NULL without an answer."
    about += f" Removed from the application since {removed}." if removed else ""
    return replace(
        column,
        type="boolean",
        description=f"{about} {about_asked(column)}"[:MAX_DESCRIPTION],
        label=option.label,
        translations=dict(option.translations),
        options=(),
        question_type="MSelect",
        text="",
        value=chosen,
    )
