"""How does a table join to others? From the pipeline's relationships and from the keys that generated tables carry.

Only joins of which both columns exist are given, each with SQL that runs as it stands.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from explorer.contract.table_kinds import KEY_BY_KIND

# What the rows of a generated table are cut from, by its kind; it carries the key of that mart, and columns of it.
_MART = {"case_type": "cases", "form": "forms", "repeat": "forms"}
_MART_KEY = {"cases": "case_id", "forms": "form_id"}
_INDEX = "_case_id"

Join = tuple[str, str, str]


@dataclass(frozen=True)
class Joinable:
    """A table as far as joins need it. `source`: the case type, the form's xmlns, or that and the repeat group's path; `cases`:
    columns with the case of a block that stands below the row, with the path of the block."""

    kind: str
    source: str | None
    columns: Sequence[str]
    cases: Mapping[str, str] = field(default_factory=dict)


def joins_of(
    table: str,
    tables: Mapping[str, Joinable],
    relationships: Sequence[Join],
    indexed: Mapping[str, Sequence[str]],
) -> list[dict[str, Any]]:
    """`[{to, on, description, sql}]` for `table`, those to what it is made of first.

    Args:
        tables: all tables of the tenant, by name.
        relationships: of the pipeline, `(from "t.c", to "t.c", description)`.
        indexed: case types that occur in a column such as `parent_case_type`, by the column's name.
    """
    given: set[str] = set()
    joins = []
    for left, right, why in [
        *_to_mart(table, tables[table]),
        *_within_form(table, tables),
        *_to_other_cases(table, tables, indexed),
        *_declared(table, relationships),
        *_as_its_mart(table, tables[table], relationships),
    ]:
        condition = f"{left} = {right}"
        if condition not in given and _exists(left, tables) and _exists(right, tables):
            given.add(condition)
            joins.append(_join(table, left, right, why))
    return joins


def _exists(place: str, tables: Mapping[str, Joinable]) -> bool:
    table, _, column = place.partition(".")
    return table in tables and column in tables[table].columns


def _to_mart(table: str, own: Joinable) -> Iterator[Join]:
    if own.kind in _MART:
        mart = _MART[own.kind]
        yield f"{table}.{_MART_KEY[mart]}", f"{mart}.{_MART_KEY[mart]}", f"The row of {mart} that this row is cut from."
    if own.kind in ("form", "repeat"):
        what = "submission as a whole" if own.kind == "form" else "entry"
        yield f"{table}.case_id", "cases.case_id", f"The case that the {what} is about."
        for column, path in own.cases.items():
            yield f"{table}.{column}", "cases.case_id", f"The case of the block at {path}."
        key = KEY_BY_KIND[own.kind]
        yield (
            f"{table}.{key}",
            f"form_cases.{key}",
            f"What the {what} did to which cases, one row per block and action.",
        )


def _within_form(table: str, tables: Mapping[str, Joinable]) -> Iterator[Join]:
    """From a form to its repeat groups and back, from a repeat group to those inside it and back."""
    own = tables[table]
    if own.kind not in ("form", "repeat") or own.source is None:
        return
    by_source = {other.source: name for name, other in tables.items() if other.kind in ("form", "repeat")}
    if own.kind == "repeat":
        form, _, path = own.source.rpartition(" ")
        if form in by_source:
            yield f"{table}.form_id", f"{by_source[form]}.form_id", "The form submission that the entry is part of."
        outer = _outer(form, path, by_source)
        if outer is not None:
            yield f"{table}.parent_repeat_id", f"{outer}.repeat_id", "The entry of the group around it."
    for name, other in tables.items():
        if other.kind != "repeat" or other.source is None or name == table:
            continue
        form, _, path = other.source.rpartition(" ")
        if own.kind == "form" and form == own.source:
            yield f"{table}.form_id", f"{name}.form_id", "The entries of the repeat group, several per submission."
        elif own.kind == "repeat" and _outer(form, path, by_source) == table:
            yield (
                f"{table}.repeat_id",
                f"{name}.parent_repeat_id",
                "The entries of the group inside, several per entry.",
            )


def _outer(form: str, path: str, by_source: Mapping[str | None, str]) -> str | None:
    """The table of the nearest repeat group around the one at `path`."""
    while "/" in path:
        path = path.rpartition("/")[0]
        if f"{form} {path}" in by_source:
            return by_source[f"{form} {path}"]
    return None


def _to_other_cases(table: str, tables: Mapping[str, Joinable], indexed: Mapping[str, Sequence[str]]) -> Iterator[Join]:
    """Along the relations between cases: `parent_case_id` and its like."""
    if tables[table].kind != "case_type":
        return
    of_type = {other.source: name for name, other in tables.items() if other.kind == "case_type"}
    for column in tables[table].columns:
        if column.endswith(_INDEX):
            relation = column.removesuffix(_INDEX)
            for case_type in indexed.get(f"{relation}_case_type", ()):
                if case_type in of_type:
                    yield (
                        f"{table}.{column}",
                        f"{of_type[case_type]}.case_id",
                        f"Its {relation}, when that is a {case_type}.",
                    )
            yield f"{table}.{column}", "cases.case_id", f"The case that this one has as its {relation}."


def _declared(table: str, relationships: Sequence[Join]) -> Iterator[Join]:
    for source, target, why in relationships:
        if source.partition(".")[0] == table:
            yield source, target, why
        elif target.partition(".")[0] == table:
            yield target, source, why


def _as_its_mart(table: str, own: Joinable, relationships: Sequence[Join]) -> Iterator[Join]:
    """What the mart joins by, by the same columns of the table that is cut from it."""
    for source, target, why in relationships:
        mart, _, column = source.partition(".")
        if _MART.get(own.kind) == mart:
            yield f"{table}.{column}", target, why


def _join(table: str, left: str, right: str, why: str) -> dict[str, Any]:
    other, _, other_column = right.partition(".")
    joined, condition = (other, f"{left} = {right}")
    if other == table:
        joined, condition = f"{table} AS other", f"{left} = other.{other_column}"
    # Text for the caller, who sends it through the validator like any statement; nothing here runs it.
    sql = f"SELECT * FROM {table} JOIN {joined} ON {condition} LIMIT 20"  # noqa: S608
    return {"to": other, "on": condition, "description": why, "sql": sql}
