"""Builds this provider's `TableSpec`s."""

from collections.abc import Sequence

from explorer.providers.commcare.joins import KEYS
from explorer.providers.commcare.tables.descriptions import Applications, one_line
from explorer.tables.dbt_model import properties_file
from explorer.tables.values import ColumnSpec, Parent, TableSpec


def table_spec(
    name: str,
    kind: str,
    source: str,
    about: str,
    columns: Sequence[ColumnSpec],
    sql: str,
    *,
    app_ids: tuple[str, ...],
    applications: Applications,
    part: int,
    parent: Parent | None = None,
) -> TableSpec:
    """`source`: the case type, the form's xmlns, or xmlns and path of the repeat group. `app_ids`: the applications that
    describe it; none for what only the data show."""
    is_cases = kind == "case_type"
    # A repeat group's source is the form's xmlns, which may be any text, and the group's path, which has no space.
    group = source.rpartition(" ")[0] if kind == "repeat" else source
    key, rows_of = KEYS[kind], "case_id" if is_cases else "form_id"
    properties = properties_file(
        name,
        one_line(about),
        columns,
        key=key,
        rows_of=rows_of,
        meta={"case_type" if is_cases else "xmlns": group, "app_ids": app_ids},
        parent=parent,
    )
    return TableSpec(
        name,
        kind,
        source,
        one_line(about),
        tuple(columns),
        sql,
        properties,
        key=key,
        mart="cases" if is_cases else "forms",
        document="properties" if is_cases else "form",
        rows_of=rows_of,
        group=group,
        origin=applications.origin(app_ids, None if is_cases else group),
        part=part,
        parent=parent,
    )
