"""How does a table join to others? By the pipeline's relationships and the provider's joins of its generated tables.

A join is listed only if both columns exist, with SQL that runs as it is.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from explorer.contract.joins import Join, Joinable


def joins_of(
    table: str,
    tables: Mapping[str, Joinable],
    relationships: Sequence[Join],
    of_provider: Iterable[Join],
    marts: Mapping[str, str],
) -> list[dict[str, Any]]:
    """`[{to, on, description, sql}]` for `table`; the tables that it is made from come first.

    Args:
        tables: all tables of the tenant, by name.
        relationships: the pipeline's, `(from "t.c", to "t.c", description)`.
        of_provider: the joins that the table's provider knows.
        marts: kind of generated tables -> the mart that they are made from.
    """
    given: set[str] = set()
    joins = []
    for left, right, why in [
        *of_provider,
        *_declared(table, relationships),
        *_as_its_mart(table, marts.get(tables[table].kind), relationships),
    ]:
        condition = f"{left} = {right}"
        if condition not in given and _exists(left, tables) and _exists(right, tables):
            given.add(condition)
            joins.append(_join(table, left, right, why))
    return joins


def _exists(place: str, tables: Mapping[str, Joinable]) -> bool:
    table, _, column = place.partition(".")
    return table in tables and column in tables[table].columns


def _declared(table: str, relationships: Sequence[Join]) -> Iterator[Join]:
    for source, target, why in relationships:
        if source.partition(".")[0] == table:
            yield source, target, why
        elif target.partition(".")[0] == table:
            yield target, source, why


def _as_its_mart(table: str, own_mart: str | None, relationships: Sequence[Join]) -> Iterator[Join]:
    """The mart's joins, by the same columns of the table that is made from it."""
    for source, target, why in relationships:
        mart, _, column = source.partition(".")
        if mart == own_mart:
            yield f"{table}.{column}", target, why


def _join(table: str, left: str, right: str, why: str) -> dict[str, Any]:
    other, _, other_column = right.partition(".")
    joined, condition = (other, f"{left} = {right}")
    if other == table:
        joined, condition = f"{table} AS other", f"{left} = other.{other_column}"
    # Text for the caller. It is not run here; if the caller sends it, it passes the validator like any statement.
    sql = f"SELECT * FROM {table} JOIN {joined} ON {condition} LIMIT 20"  # noqa: S608
    return {"to": other, "on": condition, "description": why, "sql": sql}
