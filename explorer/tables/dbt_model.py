"""A generated table's properties file for dbt: tests, indexes and descriptions."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from explorer.tables.sql_text import description as yaml_text
from explorer.tables.sql_text import shown, yaml_document
from explorer.tables.values import UNFIT, ColumnSpec, Parent


def properties_file(
    name: str,
    about: str,
    columns: Sequence[ColumnSpec],
    *,
    key: str,
    rows_of: str,
    meta: Mapping[str, Any],
    parent: Parent | None,
) -> str:
    """The dbt properties of a model, YAML. `rows_of`: column with the record of a row; `parent`: columns that refer
    to another table, that model, and its key."""
    # Column origins are stored once per model: dbt takes twice as long with `meta` on each column.
    origin = {column.name: shown("/".join(column.path)) for column in columns if column.path is not None}
    origin_of_row = {"rows_of": rows_of} if rows_of != key else {}
    tests: list[dict[str, Any]] = [{"primary_key": {"arguments": {"columns": [key], **origin_of_row}}}]
    counts_unfit_values = any(column.name == UNFIT for column in columns)
    if counts_unfit_values or parent:
        arguments: dict[str, Any] = {"misfits": counts_unfit_values, "rows_of": rows_of}
        if parent:
            arguments |= {"columns": list(parent.columns), "parent": f"ref('{parent.table}')", "parent_key": parent.key}
        tests.append({"values_fit": {"arguments": arguments}})
    model = {
        "name": name,
        "description": yaml_text(about),
        "config": {
            "indexes": [
                {"columns": [column]} for column in dict.fromkeys((key, rows_of, *(parent.columns if parent else ())))
            ],
            "meta": _as_yaml({**meta, "columns": origin}),
        },
        "data_tests": tests,
        "columns": [{"name": column.name, "description": yaml_text(column.description)} for column in columns],
    }
    return yaml_document({"models": [model]})


def _as_yaml(value: Any) -> Any:
    if isinstance(value, str):
        return yaml_text(value)
    if isinstance(value, Mapping):
        return {key: _as_yaml(item) for key, item in value.items()}
    return [_as_yaml(item) for item in value] if isinstance(value, Collection) else value
