"""How is a column read from a record as the API sent it?

The raw table has the record as JSON, in `record`, and beside it the loader's typed keys.
"""

from collections.abc import Iterable

from explorer.contract.bookkeeping.lineage import Origin
from explorer.tables.sql_text import quoted, text_array
from explorer.tables.values import UNFIT, ColumnSpec, Parent, Path, Rows, TableSpec

KIND = "mart"
"""The kind of tables that every tenant has."""

PRESENT = "_deleted_at is null"
"""The condition for records that the source still has."""

_CASTS = {
    "bigint": "casts.safe_bigint",
    "boolean": "casts.safe_boolean",
    "numeric": "casts.safe_numeric",
    "timestamptz": "casts.safe_timestamptz",
}


def unchanged(name: str, sql_type: str, about: str, *origins: Origin) -> ColumnSpec:
    """A column of the rows, unchanged: a typed key of the loader, or with `origins` what a query made."""
    return ColumnSpec(name, sql_type, about, origins=origins)


def computed(name: str, sql_type: str, about: str, sql: str, *origins: Origin) -> ColumnSpec:
    """SQL on the row. `origins` are not needed where the SQL reads `record` by plain keys."""
    return ColumnSpec(name, sql_type, about, text=sql, origins=origins)


def text(name: str, about: str, *path: str) -> ColumnSpec:
    """The text at `path` (by default under the column's name); NULL when it is blank."""
    path = path or (name,)
    return ColumnSpec(name, "text", about, path=path, text=blank_to_null(as_text(path)))


def typed(name: str, sql_type: str, about: str, *path: str) -> ColumnSpec:
    """The value at `path` (by default under the column's name); what is no such value is NULL and named as unfit."""
    path = path or (name,)
    return ColumnSpec(
        name,
        sql_type,
        about,
        path=path,
        text=as_text(path),
        cast=f"{_CASTS[sql_type]}({{text}})",
        unfit=rf"{quoted(name)} is null and {{text}} ~ '[^ \t\n\r\f\v]'",
    )


def json_object(name: str, about: str, *path: str) -> ColumnSpec:
    """The JSON object at `path`; anything else gives an empty one."""
    path = path or (name,)
    return ColumnSpec(name, "jsonb", about, path=path, text=object_or_empty(as_json(path)))


def json_array(name: str, about: str, *path: str) -> ColumnSpec:
    """The JSON array at `path`; anything else gives an empty one."""
    path = path or (name,)
    return ColumnSpec(name, "jsonb", about, path=path, text=array_or_empty(as_json(path)))


def texts(name: str, about: str, *path: str) -> ColumnSpec:
    """The texts of the JSON array at `path`; anything else gives none."""
    path = path or (name,)
    return ColumnSpec(name, "text[]", about, path=path, text=elements(as_json(path)))


def unfit(where: str = "") -> ColumnSpec:
    """The column that lists unfit columns. `where`: where the values are as they came, in words."""
    about = (
        "Columns of this row whose value did not fit: NULL here because it is no such number, date or truth value. NULL when"
        " all fit."
    )
    return ColumnSpec(UNFIT, "text[]", f"{about} {where}".strip())


def unpacked(*keys: str) -> tuple[str, str]:
    """A query that unpacks each long record once, not once for each column. `keys`: the typed keys that the columns read."""
    columns = ",\n".join(f"    {column}" for column in (*keys, "record || '{}'::jsonb as record"))
    return "unpacked", f"select\n{columns}\nfrom source\noffset 0"


def as_text(path: Path) -> str:
    """SQL of the text at `path`."""
    return f"record ->> '{path[0]}'" if len(path) == 1 else f"record #>> '{{{','.join(path)}}}'"


def as_json(path: Path) -> str:
    """SQL of the JSON value at `path`."""
    return f"record -> '{path[0]}'" if len(path) == 1 else f"record #> {text_array(path)}"


def blank_to_null(sql: str) -> str:
    """SQL of a text that is NULL when it is blank."""
    return f"nullif({sql}, '')"


def object_or_empty(sql: str) -> str:
    """SQL of a JSON value if it is an object, else of an empty object."""
    return f"case when jsonb_typeof({sql}) = 'object' then {sql} else '{{}}'::jsonb end"


def array_or_empty(sql: str) -> str:
    """SQL of a JSON value if it is an array, else of an empty array."""
    return f"case when jsonb_typeof({sql}) = 'array' then {sql} else '[]'::jsonb end"


def elements(sql: str) -> str:
    """SQL of the texts in a JSON array."""
    return f"array(select jsonb_array_elements_text({array_or_empty(sql)}))"


def table(
    name: str,
    about: str,
    columns: Iterable[ColumnSpec],
    rows: Rows,
    *,
    key: tuple[str, ...],
    inputs: Iterable[str],
    reads: tuple[str, ...] = (),
    indexes: tuple[str, ...] = (),
    parents: tuple[Parent, ...] = (),
) -> TableSpec:
    """A table that every tenant has. Arguments as in `TableSpec`."""
    return TableSpec(
        name,
        KIND,
        name,
        about,
        tuple(columns),
        rows,
        key,
        frozenset(inputs),
        reads=reads,
        indexes=indexes,
        parents=parents,
    )
