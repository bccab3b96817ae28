"""From which columns is a column computed, and which are computed from it?

Follows the lineage of the models that the tenant's runs stored. Unknown lineage is reported as unknown, never guessed.
"""

from collections.abc import Mapping
from typing import Any

from explorer.contract.bookkeeping.lineage import Lineage
from mcp_bridge.answers.envelope import without_nulls

_MAX_DEPTH = 8
_MAX_PARENTS = 12
_MAX_COLUMNS = 15

Path = tuple[str, ...]
# Raw table name -> the resource that it is loaded from, {name, endpoint}.
Resources = Mapping[str, dict[str, str]]


def made_from(lineage: Lineage, resources: Resources, table: str, column: str) -> list[dict[str, Any]] | None:
    """The columns that this one is computed from, each with its own sources, down to the source system's resource:
    `[{table, column, path?, expression?, made_from?, resource?}]`.

    `path`: the value's place in a column that holds JSON. Empty for a constant or a count of rows; None when unknown.
    """
    return _above(lineage, resources, table, column, (), _MAX_DEPTH)


def _above(
    lineage: Lineage, resources: Resources, table: str, column: str, path: Path, depth: int
) -> list[dict[str, Any]] | None:
    known = lineage.get(table, {}).get(column)
    if known is None or not depth:
        return None
    rows = []
    for origin in known.origins[:_MAX_PARENTS]:
        inner = (*origin.path, *path)
        row = {
            "table": origin.table,
            "column": origin.column,
            "path": "/".join(inner) or None,
            "expression": known.expression,
            "resource": resources.get(origin.table),
            "made_from": _above(lineage, resources, origin.table, origin.column, inner, depth - 1) or None,
        }
        rows.append(without_nulls(row))
    if len(known.origins) > _MAX_PARENTS:
        rows.append({"more": len(known.origins) - _MAX_PARENTS})
    return rows


def used_by(lineage: Lineage, table: str, column: str) -> list[dict[str, Any]]:
    """The columns computed from this one, nearest tables first: `[{table, column_count, columns: [{column, path?}]}]`.

    `path`: the part of this column that is used, when it holds JSON.
    """
    below = _readers(lineage)
    found: dict[str, dict[str, str]] = {}
    found_before = {(table, column)}
    unread: list[tuple[str, str, Path]] = [(table, column, ())]
    for at_table, at_column, path in unread:
        for name, reader, inner in below.get((at_table, at_column), ()):
            if (name, reader) not in found_before:
                found_before.add((name, reader))
                found.setdefault(name, {})[reader] = "/".join((*path, *inner))
                unread.append((name, reader, (*path, *inner)))
    return [
        {
            "table": name,
            "column_count": len(columns),
            "columns": [
                without_nulls({"column": reader, "path": path or None})
                for reader, path in list(columns.items())[:_MAX_COLUMNS]
            ],
        }
        for name, columns in found.items()
    ]


def _readers(lineage: Lineage) -> dict[tuple[str, str], list[tuple[str, str, Path]]]:
    below: dict[tuple[str, str], list[tuple[str, str, Path]]] = {}
    for name, columns in lineage.items():
        for column, known in columns.items():
            for origin in known.origins:
                below.setdefault((origin.table, origin.column), []).append((name, column, origin.path))
    return below


def resources_of(lineage: Lineage, resources: Resources, table: str) -> list[dict[str, str]]:
    """The resources that a table's columns come from in the end."""
    found_before, unread = {table}, [table]
    for name in unread:
        parents = {origin.table for known in lineage.get(name, {}).values() for origin in known.origins}
        unread += sorted(parents - found_before)
        found_before |= parents
    return [resources[name] for name in unread if name in resources]
