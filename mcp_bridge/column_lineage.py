"""From which columns is a column computed? Read from the SQL that dbt compiled for the tenant, and from the discovered structure.

What cannot be told for certain (a star over an unknown relation, SQL that the parser does not know) is left out, never guessed.
"""

import glob
import logging
from pathlib import Path
from typing import Any

_log = logging.getLogger(__name__)

_MAX_DEPTH = 6
_MAX_PARENTS = 10
_MAX_SQL_BYTES = 2_000_000
_MAX_EXPRESSION_CHARS = 400


Columns = dict[str, dict[str, dict[str, str]]]


class CompiledModels:
    """The compiled models of one tenant below `folder` (dbt's `target/compiled` somewhere in it).

    `columns`: the live relations that the models read, `{schema: {relation: {column: type}}}`; stars and unqualified names
    mean nothing without them.
    """

    def __init__(self, folder: Path, columns: Columns) -> None:
        self._folder = folder
        self._columns = columns

    def trace(self, table: str, column: str) -> list[dict[str, Any]] | None:
        """The nearest columns and, below each, what they come from in turn: `[{table, column, expression?, made_from?}]`.

        None when the model's SQL is not there or does not tell. Blocks.
        """
        return self._trace(table, column, _MAX_DEPTH)

    def _trace(self, table: str, column: str, depth: int) -> list[dict[str, Any]] | None:
        sql = self._sql(table)
        found = _parents(sql, column, self._columns) if sql and depth else None
        if found is None:
            return None
        expression, parents = found
        rows = []
        for parent_table, parent_column in parents:
            row: dict[str, Any] = {"table": parent_table, "column": parent_column, "expression": expression}
            further = self._trace(parent_table, parent_column, depth - 1) if parent_table != table else None
            if further:
                row["made_from"] = further
            rows.append(row)
        return rows

    def _sql(self, model: str) -> str | None:
        if not self._folder.is_dir():
            return None
        pattern = f"**/compiled/**/{glob.escape(model)}.sql"
        newest = max(self._folder.glob(pattern), key=lambda path: path.stat().st_mtime, default=None)
        if newest is None or newest.stat().st_size > _MAX_SQL_BYTES:
            return None
        return newest.read_text(encoding="utf-8")


def _parents(sql: str, column: str, columns: Columns) -> tuple[str, list[tuple[str, str]]] | None:
    """The expression that gives `column` and the table columns it reads; None when sqlglot cannot tell."""
    # Half a second of import that only this tool needs.
    from sqlglot import exp
    from sqlglot.errors import SqlglotError
    from sqlglot.lineage import lineage

    try:
        root = lineage(column, sql, columns, dialect="postgres")
    except (SqlglotError, ValueError, RecursionError, KeyError):
        _log.info("The origin of a column cannot be read from its model")
        return None
    parents = set()
    for node in root.walk():
        if node.downstream:
            continue
        if not isinstance(node.source, exp.Table):
            return None
        name = node.name.rpartition(".")[2].strip('"')
        if name == "*":
            return None
        parents.add((node.source.name, name))
    expression = root.expression.sql(dialect="postgres")[:_MAX_EXPRESSION_CHARS]
    return (expression, sorted(parents)[:_MAX_PARENTS]) if parents else None


def origin_of(kind: str, source: str | None, structure: dict[str, Any] | None) -> dict[str, Any] | str:
    """Which application, form or case type a generated table stands for; `unknown` when the structure does not tell."""
    if structure is None or source is None:
        return "unknown"
    apps = {app["id"]: app["name"] for app in structure.get("apps", ())}
    if kind == "case_type":
        for case_type in structure.get("case_types", ()):
            if case_type["name"] == source:
                return {"case_type": source, "apps": [apps.get(app_id, app_id) for app_id in case_type["app_ids"]]}
    for form in structure.get("forms", ()):
        if form["xmlns"] == source or (kind == "repeat" and source.startswith(f"{form['xmlns']}")):
            return {"form": form["title"], "xmlns": form["xmlns"], "module": form["module"], "app": form["app_name"]}
    return "unknown"
