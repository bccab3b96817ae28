"""How is the SQL of a generated table's model written?

A model takes texts out of each row of its source (`answers`), casts them (`typed`) and then computes columns of typed values.
Names that begin with `_` are the model's own: no generated name does.
"""

from collections.abc import Iterable, Sequence

from explorer.tables.sql_text import literal, quoted
from explorer.tables.values import UNFIT, ColumnSpec

_ABOUT_UNFIT = (
    "Columns of this row whose value did not fit: NULL here because it is no such number, date or time, or kept although it is"
    " none of the question's choices. Of a place that is none, the latitude stands for all its parts. NULL when all fit. The"
    " value as it came is in {document}."
)


def unfit_column(document: str) -> ColumnSpec:
    """The column that lists unfit columns; `document`: the JSON column with the original values."""
    return ColumnSpec(UNFIT, "text[]", _ABOUT_UNFIT.format(document=document))


def select_sql(head: str, source: str, columns: Sequence[ColumnSpec]) -> str:
    own = {column.name: f"_{position}" for position, column in enumerate(columns) if column.cast}
    plain = [quoted(column.name) for column in columns if not column.text and not column.value and column.name != UNFIT]
    passed = [*plain, *(["_attachments"] if any(column.reads_attachments for column in columns) else [])]
    texts = [f"{column.text} as {own.get(column.name) or quoted(column.name)}" for column in columns if column.text]
    untyped = [quoted(column.name) for column in columns if column.text and not column.cast]
    casts = [
        f"{column.cast.format(text=own[column.name])} as {quoted(column.name)}" for column in columns if column.cast
    ]
    unfit = [
        f"case when {column.unfit.format(text=own.get(column.name, ''))} then {literal(column.name)} end"
        for column in columns
        if column.unfit
    ]
    values = [
        f"nullif(array_remove(array[\n{lines(unfit, indent=8)}\n    ]::text[], null), '{{}}') as {UNFIT}"
        if column.name == UNFIT
        else f"{column.value} as {quoted(column.name)}"
        if column.value
        else quoted(column.name)
        for column in columns
    ]
    return f"""with

{head}answers as (

    select
{lines([*passed, *texts], indent=8)}
    from {source}
    offset 0

),

typed as (

    select
{lines([*passed, *untyped, *own.values(), *casts], indent=8)}
    from answers
    offset 0

)

select
{lines(values)}
from typed
"""  # noqa: S608 - only literals and names made by sql_text


def lines(items: Iterable[str], *, indent: int = 4) -> str:
    """Items one per line, separated by commas."""
    return ",\n".join(" " * indent + item for item in items)
