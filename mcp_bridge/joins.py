"""How does a table join to others? From the pipeline's relationships and from the keys that generated tables carry.

Only joins of which both columns exist are told, each with SQL that runs as it stands.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

# The mart that a generated table's rows belong to, by the kind of the table, and the key that both carry.
_PARENT = {"case_type": ("cases", "case_id"), "form": ("forms", "form_id"), "repeat": ("forms", "form_id")}


def joins_of(
    table: str,
    kind: str,
    columns: Mapping[str, Sequence[str]],
    relationships: Sequence[tuple[str, str, str]],
) -> list[dict[str, Any]]:
    """`[{to, on, description, sql}]` for `table`; `columns`: names of columns by table, `relationships`: `(from "t.c", to "t.c",
    description)`."""
    present = {f"{name}.{column}" for name, listed in columns.items() for column in listed}
    seen: set[str] = set()
    joins = []
    for left, right, why in [*_declared(table, relationships), *_of_family(table, kind, columns)]:
        condition = f"{left} = {right}"
        if left in present and right in present and condition not in seen:
            seen.add(condition)
            joins.append(_join(table, left, right, why))
    return joins


def _declared(table: str, relationships: Sequence[tuple[str, str, str]]) -> Iterator[tuple[str, str, str]]:
    for source, target, why in relationships:
        if source.partition(".")[0] == table:
            yield source, target, why
        elif target.partition(".")[0] == table:
            yield target, source, why


def _of_family(table: str, kind: str, columns: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str, str]]:
    if kind in _PARENT:
        mart, key = _PARENT[kind]
        yield f"{table}.{key}", f"{mart}.{key}", f"The row of {mart} that this row is cut from."
    if kind == "repeat":
        parent = table.rpartition("__")[0]
        yield f"{table}.form_id", f"{parent}.form_id", "The form submission that the repeat is part of."
    for other in columns:
        if kind in ("form", "repeat") and other.rpartition("__")[0] == table:
            yield f"{table}.form_id", f"{other}.form_id", "The entries of the repeat group, several per submission."


def _join(table: str, left: str, right: str, why: str) -> dict[str, Any]:
    other, _, other_column = right.partition(".")
    joined, condition = (other, f"{left} = {right}")
    if other == table:
        joined, condition = f"{table} AS other", f"{left} = other.{other_column}"
    # Text for the caller, who sends it through the validator like any statement; nothing here runs it.
    sql = f"SELECT * FROM {table} JOIN {joined} ON {condition} LIMIT 20"  # noqa: S608
    return {"to": other, "on": condition, "description": why, "sql": sql}
