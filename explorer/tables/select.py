"""What is the SQL of a table's rows?

The records (`source`) go through the table's own queries; then texts are taken out of each row's JSON (`answers`) and cast
(`typed`), and columns are computed of typed values. Names that begin with `_` are the SQL's own: no generated name does.
"""

from collections.abc import Iterable, Sequence

from explorer.tables.sql_text import literal, quoted
from explorer.tables.values import UNFIT, ColumnSpec, Rows, TableSpec

_ABOUT_UNFIT = (
    "Columns of this row whose value did not fit: NULL here because it is no such number, date or time, or kept although it is"
    " none of the question's choices. Of a place that is none, the latitude stands for all its parts. NULL when all fit. The"
    " value as it came is in {document}."
)


def unfit_column(document: str) -> ColumnSpec:
    """The column that lists unfit columns; `document`: the JSON column with the original values."""
    return ColumnSpec(UNFIT, "text[]", _ABOUT_UNFIT.format(document=document))


def select_sql(spec: TableSpec, only: str = "") -> str:
    """The SELECT of a table; `only`: a condition on its records, to read a part of them."""
    queries = _queries(spec.rows, only)
    # The casts' own names, so that a typed column may have the name of the text that it is made from.
    own = {column.name: f"_{position}" for position, column in enumerate(spec.columns) if column.cast}
    if any(column.text for column in spec.columns):
        queries.append(("answers", _texts(spec.columns, own, queries[-1][0])))
    if own:
        queries.append(("typed", _casts(spec.columns, own)))
    head = "with recursive" if spec.rows.is_recursive else "with"
    parts = ",\n\n".join(f"{name} as (\n{sql}\n)" for name, sql in queries)
    return f"{head}\n\n{parts}\n\nselect\n{lines(_values(spec.columns, own))}\nfrom {queries[-1][0]}"


def lines(items: Iterable[str], *, indent: int = 4) -> str:
    """Items one per line, separated by commas."""
    return ",\n".join(" " * indent + item for item in items)


def _queries(rows: Rows, only: str) -> list[tuple[str, str]]:
    if rows.relation is None:
        return list(rows.queries)
    conditions = [f"({condition})" for condition in (rows.where, only) if condition]
    where = f" where {' and '.join(conditions)}" if conditions else ""
    return [("source", f"select * from {quoted(rows.relation)}{where}"), *rows.queries]


def _passed(columns: Sequence[ColumnSpec]) -> list[str]:
    """Columns that go through unchanged."""
    plain = [quoted(column.name) for column in columns if not column.text and not column.value and column.name != UNFIT]
    return [*plain, "_attachments"] if any(column.reads_attachments for column in columns) else plain


def _texts(columns: Sequence[ColumnSpec], own: dict[str, str], source: str) -> str:
    # With `offset 0` PostgreSQL computes each text once, not once for each use of it.
    texts = [f"{column.text} as {own.get(column.name) or quoted(column.name)}" for column in columns if column.text]
    return f"select\n{lines([*_passed(columns), *texts])}\nfrom {source}\noffset 0"


def _casts(columns: Sequence[ColumnSpec], own: dict[str, str]) -> str:
    untyped = [quoted(column.name) for column in columns if column.text and not column.cast]
    casts = [
        f"{column.cast.format(text=own[column.name])} as {quoted(column.name)}" for column in columns if column.cast
    ]
    return f"select\n{lines([*_passed(columns), *untyped, *own.values(), *casts])}\nfrom answers\noffset 0"


def _values(columns: Sequence[ColumnSpec], own: dict[str, str]) -> list[str]:
    unfit = [
        f"case when {column.unfit.format(text=own.get(column.name, ''))} then {literal(column.name)} end"
        for column in columns
        if column.unfit
    ]
    listed = f"nullif(array_remove(array[\n{lines(unfit, indent=8)}\n    ]::text[], null), '{{}}') as {UNFIT}"
    return [
        listed if column.name == UNFIT else f"{column.value} as {name}" if column.value else name
        for column in columns
        for name in [quoted(column.name)]
    ]
