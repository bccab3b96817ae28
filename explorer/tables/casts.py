"""Which SQL type and which cast does each kind of column have?"""

from collections.abc import Mapping

from msgspec.structs import replace

from explorer.tables.column_types import Kind
from explorer.tables.values import ColumnSpec

_TYPES: Mapping[Kind, tuple[str, str]] = {
    "integer": ("bigint", "casts.safe_bigint"),
    "decimal": ("numeric", "casts.safe_numeric"),
    "date": ("date", "casts.safe_date"),
    "datetime": ("timestamptz", "casts.safe_timestamptz"),
    "time": ("time", "casts.safe_time"),
    "choices": ("text[]", "casts.choices"),
}


def typed(column: ColumnSpec, kind: Kind) -> ColumnSpec:
    if kind not in _TYPES:
        return column
    sql_type, cast = _TYPES[kind]
    lost = "" if kind == "choices" else r"{column} is null and {text} ~ '[^ \t\n\r\f\v]'"
    return replace(column, type=sql_type, cast=f"{cast}({{text}})", unfit=lost)
