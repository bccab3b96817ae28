"""Builds this provider's `TableSpec`s of case types, forms and repeat groups."""

from collections.abc import Iterable, Sequence

from explorer.providers.commcare.joins import KEYS
from explorer.providers.commcare.tables.descriptions import Applications, one_line
from explorer.tables.values import ColumnSpec, Parent, Rows, TableSpec


def table_spec(
    name: str,
    kind: str,
    source: str,
    about: str,
    columns: Sequence[ColumnSpec],
    rows: Rows,
    *,
    app_ids: tuple[str, ...],
    applications: Applications,
    part: int,
    parent: Parent | None = None,
    inputs: Iterable[str] = (),
) -> TableSpec:
    """`source`: the case type, the form's xmlns, or xmlns and path of the repeat group. `app_ids`: the applications that
    describe it; none for what only the data show. `inputs`: raw tables beside that of the records."""
    is_cases = kind == "case_type"
    # A repeat group's source is the form's xmlns, which may be any text, and the group's path, which has no space.
    group = source.rpartition(" ")[0] if kind == "repeat" else source
    return TableSpec(
        name,
        kind,
        source,
        one_line(about),
        tuple(columns),
        rows,
        key=(KEYS[kind],),
        inputs=frozenset({"raw_cases" if is_cases else "raw_forms", *inputs}),
        reads=("cases" if is_cases else "forms",),
        document="properties" if is_cases else "form",
        group=group,
        parents=(parent,) if parent else (),
        origin=applications.origin(app_ids, None if is_cases else group),
        part=part,
    )
